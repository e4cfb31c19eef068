package integration

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// mistake is file:line, key, what is wrong and the remedy; the file as a whole has no key.
var mistake = regexp.MustCompile(`^[^:]+\.yaml:\d+: ([a-z_]+(\[\d+\])?(\.[A-Za-z0-9_-]+(\[\d+\])?)*: )?.+; .+$`)

// TestBrokenConfig: each mistake stops `config check` and `serve` with exit 2 and says where it stands and what to do.
func TestBrokenConfig(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../config/testdata/broken/*.yaml")
	if err != nil || len(files) < 100 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			want, err := os.ReadFile(strings.TrimSuffix(file, ".yaml") + ".want")
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(want)) {
				if !mistake.MatchString(strings.TrimSpace(line)) && !strings.HasPrefix(line, "gateway.yaml: ") {
					t.Errorf("not file:line, key and remedy: %s", line)
				}
			}
			for _, command := range [][]string{{"config", "check"}, {"serve"}} {
				out, code := inConfig(t, append([]string{"--config", "testdata/broken/" + name + ".yaml"}, command...)...)
				out = strings.ReplaceAll(out, "testdata/broken/"+name+".yaml", "gateway.yaml")
				if code != 2 || out != string(want) {
					t.Errorf("%v: exit %d\n%swant exit 2\n%s", command, code, out, want)
				}
				if strings.Contains(out, "hunter2") {
					t.Errorf("%v shows a secret: %s", command, out)
				}
			}
		})
	}
}

// refused runs serve where it must not start; a gateway that starts all the same is killed, exit -1.
func (g *gateway) refused() (string, int) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), wirePatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "serve", "--config", g.config)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		g.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// inConfig runs the binary where the relative paths of the broken files begin.
func inConfig(t *testing.T, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wirePatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir = "../config"
	cmd.Env = append(os.Environ(), "ESP_PASSWORD=esp-hunter2", "CRM_PASSWORD=crm-hunter2", "HEED_ADMIN_TOKEN=admin-hunter2", "RECIPIENTS=50", "SPOOL=false", "HOST=opt.acme.example")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// TestCannotStart: what only the machine can tell also ends serve, before it takes mail, with what to do.
func TestCannotStart(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() }) // the parallel subtests outlast this function
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cases := []struct {
		name     string
		settings []setting
		code     int
		say      []string
	}{
		{"smtp port taken", []setting{{"SMTP", taken.Addr().String()}}, 1, []string{"listen.smtp", taken.Addr().String()}},
		{"http port taken", []setting{{"HTTP", taken.Addr().String()}}, 1, []string{"listen.http", taken.Addr().String()}},
		{"admin port taken", []setting{{"ADMIN", taken.Addr().String()}}, 1, []string{"listen.admin", taken.Addr().String()}},
		{"key file that is none", []setting{{"KEYS", file("garbage.json", "{")}}, 2, []string{"key file", "garbage.json"}},
		{"empty key file", []setting{{"KEYS", file("empty.json", "")}}, 2, []string{"key file", "empty.json"}},
		{"state that is no database", []setting{{"STATE", "sqlite:" + file("text.db", strings.Repeat("text ", 2000))}}, -1, []string{"text.db"}},
		{"state in a file's place", []setting{{"STATE", "sqlite:" + file("plain", "") + "/state.db"}}, -1, []string{"state"}},
		{"no Redis", []setting{{"STATE", "redis://127.0.0.1:1/0"}}, -1, []string{"redis", "127.0.0.1:1"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, c.settings...)
			out, code := g.refused()
			if code == 0 || c.code > 0 && code != c.code {
				t.Errorf("exit %d, want %d", code, c.code)
			}
			for _, s := range c.say {
				if !strings.Contains(out, s) {
					t.Errorf("does not name %q", s)
				}
			}
			if strings.Contains(out, "goroutine ") {
				t.Error("it crashes")
			}
			t.Logf("exit %d: %s", code, out)
		})
	}
	t.Run("no configuration file", func(t *testing.T) {
		for _, command := range [][]string{{"config", "check"}, {"serve"}} {
			out, code := inConfig(t, append([]string{"--config", "none.yaml"}, command...)...)
			if code != 2 || !strings.Contains(out, "none.yaml") || !strings.Contains(out, "config init") {
				t.Errorf("%v: exit %d, %s", command, code, out)
			}
		}
	})
}
