package integration

import (
	"io"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// rewritten is the text of what `check` says would be sent, on one line.
func (g *gateway) rewritten(t *testing.T, account, to, file string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out.eml")
	g.must("check", "--account", account, "--to", to, "--rewritten", out, file)
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := mail.ReadMessage(f)
	if err != nil {
		t.Fatal(err)
	}
	var body io.Reader = m.Body
	if strings.EqualFold(m.Header.Get("Content-Transfer-Encoding"), "quoted-printable") {
		body = quotedprintable.NewReader(body)
	}
	text, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	if _, p, _ := mime.ParseMediaType(m.Header.Get("Content-Type")); len(p["charset"]) > 0 && !strings.EqualFold(p["charset"], "utf-8") && !strings.EqualFold(p["charset"], "us-ascii") {
		t.Fatalf("charset %s", p["charset"])
	}
	return strings.Join(strings.Fields(string(text)), " ")
}

// TestNotices: each recipient's notice is that of its country, basis and language.
func TestNotices(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.contacts("email,country,language,collected_by,source,relationship,products,objection_offered,consent,consent_at,consent_place",
		"anna@de.example,DE,,acme,,,,,double,2026-03-09,https://acme.example/signup",
		"kunde@de.example,DE,,acme,,sale,crm,yes,,,",
		"jan@cz.example,CZ,en,acme,,sale,crm,yes,,,",
		"ivan@bg.example,BG,en,acme,,sale,crm,yes,,,",
		"ivana@bg.example,BG,en,acme,,,,,double,2026-03-09,",
		"juan@es.example,ES,en,acme,,,,,double,2026-03-09,",
		"jean@fr.example,FR,en,acme,,,,,,,",
		"joe@us.example,US,,acme,,,,,,,",
		"jack@ca.example,CA,,acme,,,,,single,2026-03-09,",
		"james@gb.example,GB,,Lists Inc,trade fair,,,,,,",
		"jo@gb.example,GB,,,,,,,,,",
		"info@gb.example,GB,,acme,,,,,,,",
		"no@at.example,AT,tlh,acme,,,,,double,2026-03-09,")
	file, _ := letterFile(t, plainMail("x@example.com", "hello"))
	for _, c := range []struct {
		to         string
		have, lack []string
	}{
		{"anna@de.example", []string{"Werbung", "am 9. März 2026 (https://acme.example/signup)", "widerrufen", "Ihr Widerspruchsrecht"}, []string{"Basistarifen", "Informationen zu Ihren Daten"}},
		{"kunde@de.example", []string{"bei einem Kauf bei uns", "Basistarifen", "offering logistics software"}, []string{"widerrufen"}},
		{"jan@cz.example", []string{"Commercial communication (Obchodní sdělení)", "bought from us"}, []string{"Advertisement"}},
		{"ivan@bg.example", []string{"Непоискано търговско съобщение"}, []string{"Advertisement"}},
		{"ivana@bg.example", []string{"Advertisement", "withdraw your consent"}, []string{"Непоискано"}},
		{"juan@es.example", []string{"free of charge and by a simple procedure: http"}, nil},
		{"jean@fr.example", []string{"no cost other than that of sending your request: http", "legitimate interest in offering logistics software"}, nil},
		{"joe@us.example", []string{"Advertisement", "decline further commercial email from Acme Ltd, 1 High Street"}, nil},
		{"jack@ca.example", []string{"sent by Acme Ltd, 1 High Street, London EC1A 1AA, United Kingdom (privacy@acme.example)"}, nil},
		{"james@gb.example", []string{"About your data", "Source: trade fair. We received your data from Lists Inc.", "as long as the purpose"}, nil},
		{"jo@gb.example", []string{"our records name no single source"}, nil},
		{"info@gb.example", []string{"general business contact"}, []string{"right to object", "About your data"}},
		{"no@at.example", []string{"Werbung"}, nil},
	} {
		text := g.rewritten(t, "crm", c.to, file)
		for _, h := range c.have {
			if !strings.Contains(text, h) {
				t.Errorf("%s: lacks %q:\n%s", c.to, h, text)
			}
		}
		for _, l := range c.lack {
			if strings.Contains(text, l) {
				t.Errorf("%s: has %q:\n%s", c.to, l, text)
			}
		}
	}
}

// TestOwnNotices: the operator's texts stand in for the built-in ones; a reload takes them over, and a bad file changes
// nothing.
func TestOwnNotices(t *testing.T) {
	t.Parallel()
	g := newGateway(t, setting{"MORE", "policy: {notices: texts}"})
	texts := filepath.Join(g.dir, "texts")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(texts, "de.yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, code := g.run("config", "check"); code != 2 || !strings.Contains(out, "policy.notices: \"texts\" cannot be read") {
		t.Errorf("no folder: exit %d\n%s", code, out)
	}
	if err := os.Mkdir(texts, 0o755); err != nil {
		t.Fatal(err)
	}
	write("label: Reklame\n")
	g.start()
	g.contacts("email,country,collected_by,consent,consent_at", "anna@de.example,DE,acme,double,2026-03-09")
	file, _ := letterFile(t, plainMail("anna@de.example", "hello"))
	if text := g.rewritten(t, "crm", "anna@de.example", file); !strings.Contains(text, "Reklame") || !strings.Contains(text, "Ihr Widerspruchsrecht") {
		t.Errorf("not the operator's text:\n%s", text)
	}
	hup := func(want string) {
		t.Helper()
		before := strings.Count(g.log.String(), want)
		g.cmd.Process.Signal(syscall.SIGHUP)
		eventually(t, want, func() bool { return strings.Count(g.log.String(), want) > before })
	}
	write("label: Anzeige\nobjection: Widersprechen Sie.\nlable: x\n")
	hup("reload refused")
	out, code := g.run("config", "check")
	for _, want := range []string{texts + "/de.yaml:2: objection: lacks {unsubscribe_url}; ", texts + "/de.yaml:3: lable: is not a key of the notices; "} {
		if code != 2 || !strings.Contains(out, want) {
			t.Errorf("exit %d, lacks %q:\n%s", code, want, out)
		}
	}
	write("label: Anzeige\n")
	hup("reloaded")
	if out := g.must("config", "check"); !strings.Contains(out, "is valid") {
		t.Error(out)
	}
}
