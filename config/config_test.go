package config

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write docs/configuration.md and the expected mistakes anew")

// hidden is in every secret of the tests and must be in no error.
const hidden = "hunter2"

func testEnv(name string) (string, bool) {
	v, ok := map[string]string{
		"ESP_PASSWORD":     "esp-" + hidden,
		"CRM_PASSWORD":     "crm-" + hidden,
		"HEED_ADMIN_TOKEN": "admin-" + hidden,
		"RECIPIENTS":       "50",
		"SPOOL":            "false",
		"HOST":             "opt.acme.example",
	}[name]
	return v, ok
}

func mistakes(t *testing.T, err error) []Mistake {
	t.Helper()
	var e *Errors
	if !errors.As(err, &e) {
		t.Fatalf("got %v (%T), want *Errors", err, err)
	}
	return e.Mistakes
}

// TestBroken: each file has the mistakes that the .want beside it tells, and no other.
func TestBroken(t *testing.T) {
	files, err := filepath.Glob("testdata/broken/*.yaml")
	if err != nil || len(files) < 100 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			_, err := Load(file, testEnv)
			if err == nil {
				t.Fatal("no mistake found")
			}
			got := strings.ReplaceAll(err.Error(), file, "gateway.yaml") + "\n"
			if strings.Contains(got, hidden) {
				t.Errorf("shows a secret: %s", got)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".want"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

func TestTenMistakesAtOnce(t *testing.T) {
	_, err := Load("testdata/broken/ten-mistakes.yaml", testEnv)
	list := mistakes(t, err)
	want := []string{
		"2 public_url", "3 durability", "6 listen.proxy", "7 limits.message", "7 limits.recipients", "10 upstreams[0].url",
		"15 senders[0].country", "18 accounts[0].password", "19 accounts[0].upstream[0]", "20 accounts[0].suspect_transactional",
	}
	var got []string
	for _, m := range list {
		if m.File != "testdata/broken/ten-mistakes.yaml" || m.Text == "" || m.Remedy == "" {
			t.Errorf("incomplete: %+v", m)
		}
		got = append(got, fmt.Sprintf("%d %s", m.Line, m.Key))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if len(strings.Split(err.Error(), "\n")) != len(list) {
		t.Errorf("not one line for each mistake:\n%s", err)
	}
}

func TestMinimal(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	c, err := Load("testdata/minimal.yaml", testEnv)
	if err != nil {
		t.Fatal(err)
	}
	checks := []struct {
		name      string
		got, want any
	}{
		{"keys, beside the file", c.Keys, filepath.Join(here, "testdata/data/keys.json")},
		{"state, beside the file", c.State, "sqlite:" + filepath.Join(here, "testdata/data/state.db")},
		{"durability", c.Durability, "strict"},
		{"smtp", c.Listen.SMTP, []string{"127.0.0.1:2525"}},
		{"http", c.Listen.HTTP, "127.0.0.1:8025"},
		{"message", c.Limits.Message, Size(25 << 20)},
		{"in flight", c.Limits.InFlight, Size(256 << 20)},
		{"data timeout", c.Limits.DataTimeout, 5 * time.Minute},
		{"url", c.Upstreams[0].URL, URL{ImplicitTLS, "smtp.esp.example:465"}},
		{"connections", c.Upstreams[0].Connections, 20},
		{"messages of a connection", c.Upstreams[0].PerConnection, 100},
		{"reply budget", c.ReplyBudget, 30 * time.Second},
		{"duplicate guard", c.DuplicateGuard, 24 * time.Hour},
		{"spool", c.Spool, Spool{true, 10 << 30, []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 4 * time.Hour}, 48 * time.Hour}},
		{"bounces", c.Bounces, Bounces{Upstream: "esp"}},
		{"journal", c.Retention.Journal, 26280 * time.Hour},
		{"sender", c.Accounts[0].Sender, "acme"},
		{"upstream", c.Accounts[0].Upstream, []string{"esp"}},
		{"category", c.Accounts[0].Category, "marketing"},
		{"password", string(c.Accounts[0].Password), "crm-" + hidden},
		{"policy", c.Policy, Policy{
			Packs: []string{"guide"}, UnlistedCountry: "opt-in", Freemail: "consumer", OneClickScope: "auto", Language: "auto",
			SignedMail: "refuse", ExistingUnsubscribe: "replace", OptOutCheck: "off", SubjectChecks: "off",
		}},
	}
	for _, x := range checks {
		if !reflect.DeepEqual(x.got, x.want) {
			t.Errorf("%s: got %v, want %v", x.name, x.got, x.want)
		}
	}
}

func TestFull(t *testing.T) {
	c, err := Load("testdata/full.yaml", testEnv)
	if err != nil {
		t.Fatal(err)
	}
	day := func(y, m, d int) time.Time { return time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC) }
	passed := Test{Passed: true, Finding: "..."}
	want := []Assessment{{
		ID: "LIA-1", Sender: "acme", Interest: "offering logistics software to haulage companies", Purpose: passed, Necessity: passed,
		Balancing: Balancing{Passed: true, Finding: "...", Risks: []string{}}, Covers: Covers{Countries: []string{}, Topics: []string{}},
		AssessedBy: "J. Doe", AssessedOn: day(2026, 1, 10), ExpiresOn: day(2027, 1, 10),
	}}
	if !reflect.DeepEqual(c.Assessments, want) {
		t.Errorf("got %+v\nwant %+v", c.Assessments, want)
	}
	if got := c.Senders[0].Families; !reflect.DeepEqual(got, map[string][]string{"logistics": {"crm", "routing"}}) {
		t.Errorf("product_families: %v", got)
	}
	if got := string(c.Accounts[0].PasswordHash); !strings.HasPrefix(got, "$argon2id$v=19$m=65536,t=3,p=4$") {
		t.Errorf("password_hash: %s", got)
	}
	if got := string(c.Admin.Token); got != "admin-"+hidden {
		t.Errorf("admin.token: %s", got)
	}
}

// with is the minimal file with more at its end.
func with(t *testing.T, more string) (*Config, error) {
	t.Helper()
	src, err := os.ReadFile("testdata/minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return Parse("gateway.yaml", []byte(string(src)+more), testEnv)
}

func TestValues(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "token")
	if err := os.WriteFile(secret, []byte("from-a-file\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, more string
		get        func(*Config) any
		want       any
	}{
		{"number from the environment", "limits: {recipients: \"${RECIPIENTS}\"}", func(c *Config) any { return c.Limits.Recipients }, 50},
		{"truth from the environment", "spool: {enabled: \"${SPOOL}\"}", func(c *Config) any { return c.Spool.Enabled }, false},
		{"environment in the middle", "data_dir: /srv/${HOST}/x", func(c *Config) any { return c.DataDir + " " + c.Keys + " " + c.State }, "/srv/opt.acme.example/x /srv/opt.acme.example/x/keys.json sqlite:/srv/opt.acme.example/x/state.db"},
		{"escaped brace", "data_dir: /srv/$${HOST}", func(c *Config) any { return c.DataDir }, "/srv/${HOST}"},
		{"dollar without brace", "data_dir: /srv/$HOST$", func(c *Config) any { return c.DataDir }, "/srv/$HOST$"},
		{"file without its line end", "admin: {token: \"file:" + secret + "\"}", func(c *Config) any { return string(c.Admin.Token) }, "from-a-file"},
		{"number as text", "admin: {token: 0123456789}", func(c *Config) any { return string(c.Admin.Token) }, "0123456789"},
		{"key without a value", "limits:\nreply_budget:\n", func(c *Config) any { return c.Limits.Recipients + int(c.ReplyBudget/time.Second) }, 1030},
		{"CRLF and byte order mark", "reply_budget: 5s\r\n", func(c *Config) any { return c.ReplyBudget }, 5 * time.Second},
		{"alias", "limits: {command_timeout: &t 7s, data_timeout: *t}", func(c *Config) any { return c.Limits.DataTimeout }, 7 * time.Second},
		{"neutral values of what is not built", "unsubscribe_mailbox: \"\"\nfeedback: {ses: {}}\nwebhook: {url: \"\"}\npolicy: {do_not_mail: [], signed_mail: refuse}", func(c *Config) any { return c.UnsubscribeMailbox }, ""},
		{"guard off", "duplicate_guard: off", func(c *Config) any { return c.DuplicateGuard }, time.Duration(0)},
		{"guard", "duplicate_guard: 90m", func(c *Config) any { return c.DuplicateGuard }, 90 * time.Minute},
		{"fraction", "retention: {journal: 1.5h}", func(c *Config) any { return c.Retention.Journal }, 90 * time.Minute},
		{"redis", "state: rediss://:pw@h:6380/2", func(c *Config) any { return c.State }, "rediss://:pw@h:6380/2"},
		{"sentinels", "state: redis+sentinel://u:p%40w@h1,h2:26380,[2001:db8::1]:26379/main/2", func(c *Config) any { return c.State }, "redis+sentinel://u:p%40w@h1,h2:26380,[2001:db8::1]:26379/main/2"},
		{"cluster", "state: rediss+cluster://:pw@10.0.0.1:7000,h2", func(c *Config) any { return c.State }, "rediss+cluster://:pw@10.0.0.1:7000,h2"},
		{"accounts' networks", "    networks: [10.1.0.0/16, 10.1.2.0/24, \"2001:db8::1\"]\n  - {name: shop, networks: [10.2.0.0/16]}", func(c *Config) any { return c.Accounts[0].Networks[2].String() }, "2001:db8::1/128"},
		{"wildcard listener with a token", "admin: {token: t}", func(c *Config) any { return c.Listen.SMTPS }, []string(nil)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, err := with(t, test.more)
			if err != nil {
				t.Fatal(err)
			}
			if got := test.get(c); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestCertificate(t *testing.T) {
	cert, key := writeCertificate(t)
	c, err := with(t, "tls: {cert: "+cert+", key: "+key+"}\nlimits: {message: 1MiB}")
	if err != nil || c.TLS.Cert != cert || c.TLS.Key != key {
		t.Fatalf("%v %+v", err, c)
	}
	other, _ := writeCertificate(t)
	_, err = with(t, "tls: {cert: "+other+", key: "+key+"}")
	if list := mistakes(t, err); len(list) != 1 || list[0].Key != "tls.cert" {
		t.Errorf("certificate of another key: %v", err)
	}
}

// writeCertificate makes a self-signed certificate.
func writeCertificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"gw.acme.example"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// TestLoopbackUpstream: credentials in the clear do not leave the machine.
func TestLoopbackUpstream(t *testing.T) {
	for url, ok := range map[string]bool{
		"smtp://127.0.0.1:2526": true, "smtp://[::1]:2526": true, "smtp://localhost": true, "smtp://127.9.9.9": true,
		"smtp+starttls://esp.example": true, "smtp://10.0.0.1": false, "smtp://localhost.example": false, "smtp://[::]:25": false,
	} {
		src, _ := os.ReadFile("testdata/minimal.yaml")
		_, err := Parse("x", []byte(strings.Replace(string(src), "smtps://smtp.esp.example", url, 1)), testEnv)
		if (err == nil) != ok {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestLoadWithoutFile(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "none.yaml"), testEnv)
	list := mistakes(t, err)
	if len(list) != 1 || !strings.Contains(err.Error(), "config init") || strings.Count(err.Error(), "none.yaml") != 1 {
		t.Errorf("%v", err)
	}
}

// TestSecretsDoNotPrint: not by fmt, slog or JSON.
func TestSecretsDoNotPrint(t *testing.T) {
	c, err := Load("testdata/full.yaml", testEnv)
	if err != nil {
		t.Fatal(err)
	}
	c.State = "redis://u:" + hidden + "@h/0"
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "a", c.Admin, "t", c.Admin.Token)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "a", c.Admin, "t", c.Admin.Token)
	fmt.Fprintf(&out, "%v %+v %#v %s %q", c.Admin, c.Upstreams, c.Accounts, c.Admin.Token, c.Admin.Token)
	if err := c.Print(&out); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), hidden) || strings.Contains(out.String(), "argon2id$") {
		t.Errorf("shows a secret: %s", out.String())
	}
	if !strings.Contains(out.String(), "redis://u:***@h/0") {
		t.Error("the state's URL is not shown")
	}
}

// TestHostile: what would cost much is refused, not worked through.
func TestHostile(t *testing.T) {
	var bomb strings.Builder
	bomb.WriteString("senders:\n  - id: acme\n    product_families:\n      f0: &a [" + strings.Repeat("x, ", 2000) + "x]\n")
	for i := range 2000 {
		fmt.Fprintf(&bomb, "      f%d: *a\n", i+1)
	}
	for name, src := range map[string]string{
		"aliases":          bomb.String(),
		"alias of itself":  "senders: &a [*a]\n",
		"nested brackets":  strings.Repeat("[", 200_000),
		"nested hyphens":   strings.Repeat("- ", 200_000),
		"nested braces":    strings.Repeat("{a: ", 100_000),
		"nested questions": strings.Repeat("? ", 200_000),
		"many keys":        strings.Repeat("a: b\n", 100_000),
		"large":            strings.Repeat("# x\n", 1<<20),
		"not UTF-8":        "hostname: \xff\n",
		"many mistakes":    strings.Repeat("a: b\n", 2_000),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(name, []byte(src), testEnv)
			if name == "aliases" && !strings.Contains(err.Error(), "once its aliases are followed") {
				t.Errorf("worked through: %.200s", err)
			}
			if list := mistakes(t, err); len(list) > maxMistakes {
				t.Errorf("%d mistakes", len(list))
			}
		})
	}
}
