package integration

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"heed/policy"
	"heed/smtp/smtptest"
)

// decode is a command's --json output.
func decode[T any](t *testing.T, out string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	return v
}

// wantAll wants every text in out.
func wantAll(t *testing.T, out string, texts ...string) {
	t.Helper()
	for _, s := range texts {
		if !strings.Contains(out, s) {
			t.Errorf("%q is missing in\n%s", s, out)
		}
	}
}

type checked struct {
	Decisions []policy.Decision
	Findings  []struct{ Field, Code string }
}

func TestCheckCommand(t *testing.T) {
	t.Parallel()
	up := smtptest.New(t, smtptest.Script{})
	g := newGateway(t, setting{"UPSTREAM", up.Addr()}).start()
	const to = "klaus@spedition.example"
	g.consented(to)
	file, raw := letterFile(t, mixed(t, to, "checked", 3000))

	t.Run("text", func(t *testing.T) {
		out := g.must("check", "--account", "crm", "--to", to)
		wantAll(t, out, to+": ALLOW", "country DE (contact)", "regime double-opt-in", "legal basis consent", "rules: guide@1", "notices: ")
		out, code := g.run("check", "--account", "crm", "--to", "max@spediteur.de", "--to", to)
		if code != 1 {
			t.Errorf("exit %d", code)
		}
		wantAll(t, out, "max@spediteur.de: BLOCK [consent.missing]", to+": ALLOW", "FAIL consent.missing")
	})
	t.Run("JSON", func(t *testing.T) {
		d := decode[checked](t, g.must("check", "--json", "--account", "crm", "--to", to)).Decisions
		if len(d) != 1 || d[0].Action != "allow" || !d[0].Enforced || d[0].Recipient != to || d[0].LegalBasis != "consent" || d[0].Rules != "guide@1" || len(d[0].Checks) == 0 || len(d[0].Notices) == 0 {
			t.Errorf("%+v", d)
		}
	})
	t.Run("at another time", func(t *testing.T) {
		if out, code := g.run("check", "--account", "crm", "--to", to, "--at", "2024-01-01T00:00:00Z"); code != 1 || !strings.Contains(out, "[consent.missing]") {
			t.Errorf("before the consent: exit %d\n%s", code, out)
		}
	})
	t.Run("country", func(t *testing.T) {
		if out, code := g.run("check", "--account", "crm", "--to", "someone@corp.example", "--country", "Germany"); code != 2 {
			t.Errorf("Germany: exit %d\n%s", code, out)
		}
		wantAll(t, g.must("check", "--account", "crm", "--to", "someone@corp.example", "--country", "uk"), "ALLOW", "country GB (header)")
	})
	t.Run("rewritten is what is sent", func(t *testing.T) {
		out := filepath.Join(t.TempDir(), "out.eml")
		wantAll(t, g.must("check", "--account", "crm", "--to", to, "--rewritten", out, file), "ALLOW")
		shown, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		g.tool(t, "crm").sent(string(raw), to)
		got := up.Await(t, 1)[0]
		wantCopy(t, raw, got, to)
		if a, b := withoutIDs(shown), withoutIDs(got.Data); !bytes.Equal(a, b) {
			t.Errorf("shown\n%s\nsent\n%s", a, b)
		}
	})
	t.Run("message that is refused", func(t *testing.T) {
		bad, _ := letterFile(t, plainMail(to, "hidden recipients", `X-SMTPAPI: {"to": ["other@corp.example"]}`))
		out := filepath.Join(t.TempDir(), "out.eml")
		text, code := g.run("check", "--account", "crm", "--to", to, "--rewritten", out, bad)
		if code != 1 {
			t.Errorf("exit %d", code)
		}
		wantAll(t, text, "BLOCK [esp.recipients]", "control field X-SMTPAPI")
		if _, err := os.Stat(out); err == nil {
			t.Error("a copy was written of what would not be sent")
		}
		shown, _ := g.run("check", "--json", "--account", "crm", "--to", to, bad)
		if f := decode[checked](t, shown).Findings; len(f) == 0 || f[0].Field != "X-SMTPAPI" || f[0].Code != "esp.recipients" {
			t.Errorf("findings %+v", f)
		}
		foreign, _ := letterFile(t, strings.Replace(plainMail(to, "foreign"), "news@acme.example", "news@other.example", 1))
		if text, code = g.run("check", "--account", "crm", "--to", to, foreign); code != 1 || !strings.Contains(text, "[sender.domain]") {
			t.Errorf("foreign From: exit %d\n%s", code, text)
		}
	})
	t.Run("message that is refused as a whole", func(t *testing.T) {
		looping, _ := letterFile(t, strings.Repeat("Received: from a by b; Mon, 05 Jan 2026 10:00:00 +0000\r\n", 51)+plainMail(to, "loop"))
		if out, code := g.run("check", "--account", "crm", "--to", to, looping); code != 1 || !strings.Contains(out, "554 5.4.6") {
			t.Errorf("exit %d\n%s", code, out)
		}
	})
	t.Run("no such file", func(t *testing.T) {
		if out, code := g.run("check", "--account", "crm", "--to", to, "no-such.eml"); code != 2 {
			t.Errorf("exit %d\n%s", code, out)
		}
	})
	if out, code := g.run("check", "--account", "nobody", "--to", to); code != 2 || !strings.Contains(out, "nobody") {
		t.Errorf("unknown account: exit %d\n%s", code, out)
	}
	if out, _ := g.run("journal"); strings.Contains(out, "stage=rcpt") {
		t.Errorf("check was journaled:\n%s", out)
	}
}

var token = regexp.MustCompile(`/u/[A-Za-z0-9_=\r\n-]{60,}`)

// withoutIDs is a copy without what differs between any two: this hop's trace field and the token.
func withoutIDs(raw []byte) []byte {
	p := split(raw)
	for i, f := range p.fields {
		if strings.HasPrefix(f, "Received:") {
			p.fields = append(p.fields[:i], p.fields[i+1:]...)
			break
		}
	}
	return token.ReplaceAll([]byte(strings.Join(p.fields, "")+"\r\n"+string(p.body)), []byte("/u/TOKEN"))
}

func TestContactsCommand(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, state []setting) {
		up := smtptest.New(t, smtptest.Script{})
		g := newGateway(t, append(state, setting{"UPSTREAM", up.Addr()})...).start()
		file := filepath.Join(t.TempDir(), "contacts.csv")
		const to = "eva.lang@spedition.example"
		rows := "email,country,collected_by,relationship,consent,consent_at,consent_place,language\n" +
			"Eva.Lang@Spedition.example,DE,acme,sale,double,2025-03-04,trade fair,de\n" +
			"not an address,DE,acme,,,,,\n" +
			"b@spedition.example,Germany,acme,,,,,\n" +
			"c@spedition.example,AT,acme,friend,,,,\n" +
			"d@spedition.example,FR,acme,,,,,fr\n"
		if err := os.WriteFile(file, []byte(rows), 0o600); err != nil {
			t.Fatal(err)
		}
		out, code := g.run("contacts", "import", file)
		if code != 1 {
			t.Errorf("exit %d", code)
		}
		bad := strings.TrimSuffix(file, ".csv") + ".rejected.csv"
		wantAll(t, out, "2 rows imported, 3 rejected", bad)
		rejected, err := os.ReadFile(bad)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(rejected)), "\n")
		if len(lines) != 4 || !strings.HasPrefix(lines[0], "line,reason,email,country") {
			t.Errorf("rejected:\n%s", rejected)
		}
		for i, want := range []string{"3,", "4,", "5,"} {
			if len(lines) > i+1 && (!strings.HasPrefix(lines[i+1], want) || !strings.Contains(lines[i+1], strings.Split(strings.Split(rows, "\n")[i+2], ",")[0])) {
				t.Errorf("rejected line %q, want line %s", lines[i+1], want)
			}
		}
		if err := os.WriteFile(file, []byte("email,favourite_colour\na@b.example,red\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, code := g.run("contacts", "import", file); code != 2 || !strings.Contains(out, "favourite_colour") {
			t.Errorf("unknown column: exit %d\n%s", code, out)
		}

		wantAll(t, g.must("contacts", "show", to), to, "DE", "sale", "consent to acme, double opt-in, all topics", "trade fair", "2025-03-04")
		shown := decode[struct {
			Contact policy.Contact
			Optouts []policy.OptOut
		}](t, g.must("contacts", "show", "--json", to))
		if len(shown.Contact.Consents) != 1 || shown.Optouts == nil {
			t.Errorf("%+v", shown)
		}

		m := g.tool(t, "crm")
		m.sent(plainMail(to, "one"), to)
		press(t, link(t, up.Await(t, 1)[0]), "scope", "sender")
		wantAll(t, g.must("contacts", "show", to), "opt-out [optout.sender] all of acme")
		wantAll(t, g.must("journal"), to)
		g.must("contacts", "erase", to)
		if out, code := g.run("contacts", "show", to); strings.Contains(out, "trade fair") {
			t.Errorf("after erasure: exit %d\n%s", code, out)
		}
		for _, args := range [][]string{{"journal"}, {"journal", "--json"}, {"journal", "--recipient", to}, {"optouts", "list"}, {"optouts", "list", "--json"}} {
			if out := g.must(args...); strings.Contains(strings.ToLower(out), "eva.lang") {
				t.Errorf("%v after erasure:\n%s", args, out)
			}
		}
		wantAll(t, g.must("journal", "--recipient", to), "decision", "fate=sent", "erased")
		if out, code := g.run("optouts", "check", to); code != 1 || !strings.Contains(out, "[optout.sender]") {
			t.Errorf("the opt-out did not survive: exit %d\n%s", code, out)
		}
		g.consented(to) // no import removes an opt-out
		m.blocked(plainMail(to, "two"), to, "optout.sender")
		if out, code := g.run("contacts", "erase", "stranger@nowhere.example"); code != 1 {
			t.Errorf("stranger: exit %d\n%s", code, out)
		}
	})
}

func TestJournalCommand(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, state []setting) {
		up := smtptest.New(t, smtptest.Script{Answers: map[string][]string{".": {"", "554 5.7.1 not this one"}}})
		g := newGateway(t, append(state, setting{"UPSTREAM", up.Addr()})...).start()
		const a, b = "a@spedition.example", "b@spedition.example"
		g.consented(a, b)
		m := g.tool(t, "crm")
		m.sent(plainMail(a, "first"), a)
		if _, dot := m.send(plainMail(b, "second"), b); dot != "554 5.7.1 not this one" {
			t.Errorf("handed through: %q", dot)
		}
		m.blocked(plainMail("x@strange.de", "third"), "x@strange.de", "consent.missing")
		for _, tt := range []struct {
			name string
			args []string
			want []string // by line
		}{
			{"all", nil, []string{"decision", "outcome", "decision", "outcome", "decision"}},
			{"recipient", []string{"--recipient", "A@Spedition.example"}, []string{"action=allow", "fate=sent"}},
			{"message-id", []string{"--message-id", "second@acme.example"}, []string{"action=allow", `fate=failed reply="554 5.7.1 not this one"`}},
			{"message-id in brackets", []string{"--message-id", "<second@acme.example>"}, []string{"decision", "outcome"}},
			{"blocked", []string{"--action", "block"}, []string{"stage=rcpt action=block code=consent.missing"}},
			{"recently", []string{"--since", "1h", "--action", "allow"}, []string{a, b}},
			{"today", []string{"--since", "2020-01-01", "--recipient", b}, []string{"decision", "fate=failed"}},
			{"later", []string{"--since", "2099-01-01"}, nil},
		} {
			t.Run(tt.name, func(t *testing.T) {
				out := g.must(append([]string{"journal"}, tt.args...)...)
				lines := strings.Split(strings.TrimSpace(out), "\n")
				if out == "" {
					lines = nil
				}
				if len(lines) != len(tt.want) {
					t.Fatalf("%d lines, want %d\n%s", len(lines), len(tt.want), out)
				}
				for i, want := range tt.want {
					if !strings.Contains(lines[i], want) {
						t.Errorf("line %q, want %q", lines[i], want)
					}
				}
				found := decode[struct{ Entries []policy.Entry }](t, g.must(append([]string{"journal", "--json"}, tt.args...)...))
				if len(found.Entries) != len(tt.want) {
					t.Errorf("JSON has %d entries, want %d", len(found.Entries), len(tt.want))
				}
			})
		}
		if out, code := g.run("journal", "--recipient", "nobody@nowhere.example"); code != 1 || strings.TrimSpace(out) != "gateway: no entries" {
			t.Errorf("nobody: exit %d\n%s", code, out)
		}
		if out, code := g.run("journal", "--since", "yesterday-ish"); code != 2 {
			t.Errorf("exit %d\n%s", code, out)
		}
	})
}

func TestSpoolCommand(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, state []setting) {
		g := newGateway(t, state...).start() // its upstream is dead
		const to = "a@spedition.example"
		g.consented(to)
		if out := g.must("spool", "list"); out != "" {
			t.Errorf("spool:\n%s", out)
		}
		_, dot := g.tool(t, "crm").send(plainMail(to, "waits"), to)
		m := regexp.MustCompile(`^250 2\.0\.0 queued as (\S+) \(esp: 4\d\d `).FindStringSubmatch(dot)
		if m == nil {
			t.Fatalf("reply %q", dot)
		}
		wantAll(t, g.must("spool", "list"), m[1]+" crm to <"+to+"> by esp, message=", ", accepted ")
		listed := decode[struct {
			Spool []struct{ ID, Account, Recipient, Upstream string }
		}](t, g.must("spool", "list", "--json")).Spool
		if len(listed) != 1 || listed[0].ID != m[1] || listed[0].Recipient != to || listed[0].Account != "crm" || listed[0].Upstream != "esp" {
			t.Errorf("%+v", listed)
		}
		wantAll(t, g.must("journal", "--recipient", to), "fate=deferred")
	})
}

func TestRulesCommand(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	rules := func(args ...string) []policy.Rule {
		return decode[struct{ Rules []policy.Rule }](t, g.must(append([]string{"rules", "--json"}, args...)...)).Rules
	}
	if n := len(rules()); n != 31*2*2 {
		t.Errorf("%d rules, want 31 countries x 2 parties x 2 kinds", n)
	}
	if r := rules("DE", "--party", "third", "--kind", "generic"); len(r) != 1 || r[0].Regime != "double-opt-in" || r[0].Citation == "" || r[0].Law == "" {
		t.Errorf("%+v", r)
	}
	wantAll(t, g.must("rules", "de"), "DE Germany", "first party", "double-opt-in", "law: ", "rules: guide@1")
	if out, code := g.run("rules", "BR"); code != 1 || !strings.Contains(out, "no rules pack lists BR") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

func TestConfigCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g := &gateway{t: t, dir: dir, config: filepath.Join(dir, "gateway.yaml"), smtp: freePort(t), http: freePort(t), admin: freePort(t)}
	if out, code := g.run("config", "check"); code != 2 || !strings.Contains(out, "config init") {
		t.Errorf("no file: exit %d\n%s", code, out)
	}
	wantAll(t, g.must("config", "init"), "wrote "+g.config)
	starter, err := os.ReadFile(g.config)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(g.config); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v: it holds secrets", info.Mode(), err)
	}
	wantAll(t, g.must("config", "check"), "is valid")
	if out, code := g.run("config", "init"); code != 2 || !strings.Contains(out, "exists already") {
		t.Errorf("second init: exit %d\n%s", code, out)
	}
	password := regexp.MustCompile(`\n    password: "?([A-Z2-7]{20,})"?\n`).FindSubmatch(starter)
	if password == nil {
		t.Fatalf("no generated password:\n%s", starter)
	}
	if out := g.must("config", "print"); strings.Contains(out, string(password[1])) || !strings.Contains(out, `***`) {
		t.Errorf("secrets:\n%s", out)
	}
	// With free ports and folders of the test's it serves, as it stands.
	up := smtptest.New(t, smtptest.Script{})
	text := strings.NewReplacer("./data", dir+"/data", "http://127.0.0.1:8025", "http://"+g.http, "127.0.0.1:2526", up.Addr()).Replace(string(starter)) +
		"\nlisten: {smtp: [\"" + g.smtp + "\"], http: \"" + g.http + "\", admin: \"" + g.admin + "\"}\n"
	text = strings.Replace(text, string(password[1]), "secret", 1)
	if err := os.WriteFile(g.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	g.start()
	g.consented("a@spedition.example")
	g.tool(t, "crm").sent(plainMail("a@spedition.example", "one"), "a@spedition.example")
	if err := os.WriteFile(g.config+".broken", []byte(text+"\nnonsense: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := &gateway{t: t, config: g.config + ".broken"}
	if out, code := broken.run("config", "check"); code != 2 || !strings.Contains(out, "nonsense") || !strings.Contains(out, ".broken:") {
		t.Errorf("broken: exit %d\n%s", code, out)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	wantAll(t, g.must("version"), "gateway ", "go1.", "guide@1")
	if v := decode[map[string]any](t, g.must("version", "--json")); v["version"] == "" || v["go"] == "" || v["rules"] == nil {
		t.Errorf("%v", v)
	}
	for _, args := range []string{
		"", "nonsense", "serve --nonsense", "check", "check --account crm", "contacts", "contacts show", "contacts show no-address", "optouts add a@b.de --scope sideways",
		"optouts add a@b.de --scope topic", "optouts add a@b.de --scope sender --sender nobody", "rules XX", "rules DE --party fourth", "journal --action maybe", "config",
	} {
		if out, code := g.run(strings.Fields(args)...); code != 2 {
			t.Errorf("gateway %s: exit %d, want 2\n%s", args, code, out)
		}
	}
	for _, args := range []string{
		"doctor", "keys list", "keys rotate", "assessments list", "assessments new", "journal explain X", "journal verify", "journal export",
		"contacts export", "contacts set a@b.de country=DE", "optouts export", "optouts import x --format sha256", "rules diff guide current", "rules test x.csv", "rules DE --channel call_live",
	} {
		if out, code := g.run(strings.Fields(args)...); code != 2 || !strings.Contains(out, "not supported yet") {
			t.Errorf("gateway %s: exit %d\n%s", args, code, out)
		}
	}
}
