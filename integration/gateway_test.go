// Package integration runs the built binary against real clients, real servers and a real browser.
package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary is the gateway, built once by TestMain.
var binary string

func TestMain(m *testing.M) {
	if address := os.Getenv(sinkAddress); address != "" {
		os.Exit(sink(address, os.Getenv(sinkFile)))
	}
	dir, err := os.MkdirTemp("", "heed-integration-")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "gateway")
	if out, err := exec.Command("go", "build", "-o", binary, "../cmd/gateway").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// gateway is one running node and its configuration.
type gateway struct {
	t                 *testing.T
	dir, config       string
	state             string // URL
	smtp, http, admin string // host:port
	smtps, ca         string // of newSecureGateway: host:port, and the PEM file that clients trust
	cmd               *exec.Cmd
	done              chan struct{}
	log               lockedBuffer
	env               []string // beside the test's own
}

// setting is one placeholder of the configuration template that a test sets.
type setting struct{ key, value string }

// configTemplate is a whole configuration; tests replace @KEY@.
const configTemplate = `
hostname: gw.acme.example
data_dir: @DIR@/data
keys: file:@KEYS@
public_url: http://@HTTP@
state: @STATE@
durability: @DURABILITY@
listen: {smtp: ["@SMTP@"], smtps: [@SMTPS@], http: "@HTTP@", admin: "@ADMIN@"}
upstreams:
  - {name: esp, url: "smtp://@UPSTREAM@", timeout: 10s, rewrites: [@REWRITES@]}
reply_budget: @BUDGET@
spool: {retry: [1s], give_up: @GIVEUP@}
senders:
  - id: acme
    name: Acme Ltd
    postal_address: 1 High Street, London EC1A 1AA, United Kingdom
    country: @SENDER_COUNTRY@
    contact: privacy@acme.example
    domains: @DOMAINS@
    dkim: [@DKIM@]
    product_families: {logistics: [crm, routing]}
assessments:
  - {id: passed, sender: acme, interest: offering logistics software, purpose: {passed: true}, necessity: {passed: true}, balancing: {passed: true}, assessed_by: J. Doe, assessed_on: 2020-01-10, expires_on: 2099-01-10}
  - {id: failed, sender: acme, interest: offering logistics software, purpose: {passed: true}, necessity: {passed: true}, balancing: {passed: false}, assessed_by: J. Doe, assessed_on: 2020-01-10, expires_on: 2099-01-10}
accounts:
  - {name: crm, password: secret, sender: acme, topic: newsletter, product: crm, assessment: passed}
  - {name: crm-failed, password: secret, sender: acme, topic: newsletter, product: crm, assessment: failed}
  - {name: crm-none, password: secret, sender: acme, topic: newsletter, product: crm}
  - {name: open, password: secret, sender: acme, assessment: passed}
  - {name: shop, password: secret, sender: acme, category: transactional}
  - {name: both, password: secret, sender: acme, category: header, topic: newsletter, product: crm}
  - {name: look, password: secret, sender: acme, topic: newsletter, product: crm, enforcement: observe}
  - {name: firm, password: secret, sender: acme, topic: newsletter, product: crm, on_partial: reject}
@ACCOUNTS@
admin: {token: admin-secret}
@MORE@
`

// newGateway writes a configuration; start runs it. Unset placeholders take working defaults: SQLite, no upstream.
func newGateway(t *testing.T, settings ...setting) *gateway {
	t.Helper()
	g := &gateway{t: t, dir: t.TempDir(), smtp: freePort(t), http: freePort(t), admin: freePort(t)}
	values := map[string]string{
		"DIR": g.dir, "KEYS": g.dir + "/keys.json", "SMTP": g.smtp, "HTTP": g.http, "ADMIN": g.admin, "STATE": "sqlite:" + g.dir + "/state.db",
		"DURABILITY": "strict", "UPSTREAM": "127.0.0.1:1", "BUDGET": "30s", "GIVEUP": "48h", "SENDER_COUNTRY": "GB", "DOMAINS": "[acme.example]", "DKIM": "", "REWRITES": "", "SMTPS": "", "ACCOUNTS": "", "MORE": "",
	}
	for _, s := range settings {
		values[s.key] = s.value
	}
	g.state = strings.ReplaceAll(values["STATE"], "@DIR@", g.dir)
	text := configTemplate
	for key, value := range values {
		text = strings.ReplaceAll(text, "@"+key+"@", value)
	}
	g.config = filepath.Join(g.dir, "gateway.yaml")
	if err := os.WriteFile(g.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return g
}

// given are the addresses freePort gave out: tests run side by side, and a port is not in use until its process listens.
var given sync.Map

func freePort(t *testing.T) string {
	t.Helper()
	for {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ln.Close()
		if _, taken := given.LoadOrStore(ln.Addr().String(), true); !taken {
			return ln.Addr().String()
		}
	}
}

// awaitListener waits until an SMTP server greets.
func awaitListener(t *testing.T, address, what string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !greets(address); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not greet on %s", what, address)
		}
	}
}

func greets(address string) bool {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 3)
	n, _ := c.Read(b)
	return string(b[:n]) == "220"
}

// start runs serve and waits until it is ready; the test's end drains it.
func (g *gateway) start() *gateway {
	g.t.Helper()
	g.cmd = exec.Command(binary, "serve", "--config", g.config)
	g.cmd.Stderr, g.cmd.Stdout = &g.log, &g.log
	g.cmd.Env = append(os.Environ(), g.env...)
	if err := g.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) { cmd.Wait(); close(done) }(g.cmd, g.done)
	g.t.Cleanup(func() {
		g.stop(syscall.SIGTERM)
		if g.t.Failed() {
			g.t.Logf("gateway said:\n%s", g.log.String())
		}
	})
	for deadline := time.Now().Add(30 * time.Second); ; {
		r, err := http.Get("http://" + g.admin + "/readyz")
		if err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK && g.listens() {
				return g
			}
		}
		select {
		case <-g.done:
			g.t.Fatalf("the gateway ended: %v\n%s", g.cmd.ProcessState, g.log.String())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			g.t.Fatalf("not ready:\n%s", g.log.String())
		}
	}
}

func (g *gateway) listens() bool {
	c, err := net.Dial("tcp", g.smtp)
	if err == nil {
		c.Close()
	}
	return err == nil
}

// stop ends the process by a signal and waits for its end.
func (g *gateway) stop(sig syscall.Signal) {
	g.cmd.Process.Signal(sig)
	select {
	case <-g.done:
	case <-time.After(90 * time.Second):
		g.cmd.Process.Kill()
		g.t.Errorf("the gateway did not end by %s", sig)
	}
}

// run runs another command of the binary on the same configuration.
func (g *gateway) run(args ...string) (out string, code int) {
	g.t.Helper()
	cmd := exec.Command(binary, append([]string{"--config", g.config}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	b, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		g.t.Fatal(err)
	}
	return string(b) + stderr.String(), cmd.ProcessState.ExitCode()
}

// must is run for commands that have to succeed.
func (g *gateway) must(args ...string) string {
	g.t.Helper()
	out, code := g.run(args...)
	if code != 0 {
		g.t.Fatalf("gateway %v: exit %d\n%s", args, code, out)
	}
	return out
}

// contacts imports rows under a header.
func (g *gateway) contacts(header string, rows ...string) {
	g.t.Helper()
	file := filepath.Join(g.t.TempDir(), "contacts.csv")
	if err := os.WriteFile(file, []byte(header+"\n"+strings.Join(rows, "\n")+"\n"), 0o600); err != nil {
		g.t.Fatal(err)
	}
	g.must("contacts", "import", file)
}

// consented gives addresses a confirmed consent in Germany.
func (g *gateway) consented(addresses ...string) {
	g.t.Helper()
	var rows []string
	for _, a := range addresses {
		rows = append(rows, a+",DE,acme,2025-01-01,double,2025-01-01")
	}
	g.contacts("email,country,collected_by,collected_at,consent,consent_at", rows...)
}

// api posts JSON to the admin listener and decodes the answer.
func (g *gateway) api(path string, question, answer any) int {
	g.t.Helper()
	b, err := json.Marshal(question)
	if err != nil {
		g.t.Fatal(err)
	}
	r, err := http.NewRequest(http.MethodPost, "http://"+g.admin+path, bytes.NewReader(b))
	if err != nil {
		g.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer admin-secret")
	r.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		g.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	if answer != nil {
		if err := json.Unmarshal(body, answer); err != nil {
			g.t.Fatalf("%s: %v", body, err)
		}
	}
	return response.StatusCode
}

// lockedBuffer collects a process's output while tests read it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
