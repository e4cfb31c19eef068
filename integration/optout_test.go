package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"

	"heed/policy"
	"heed/smtp/smtptest"
	"heed/store/storetest"
)

// link is the opt-out link of a received mail.
func link(t *testing.T, m smtptest.Message) string {
	t.Helper()
	found := oneLink.FindStringSubmatch(split(m.Data).value("List-Unsubscribe"))
	if found == nil {
		t.Fatalf("no opt-out link in\n%s", m.Data)
	}
	return found[1]
}

// at is the same link served by this node.
func (g *gateway) at(t *testing.T, link string) string {
	t.Helper()
	u, err := url.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = g.http
	return u.String()
}

// page requests a link; what a browser or a mail provider would hold against it is an error.
func page(t *testing.T, method, link, contentType string, body []byte) (status int, text string) {
	t.Helper()
	r, err := http.NewRequest(method, link, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	noRedirect := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := noRedirect.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode/100 == 3 || len(response.Cookies()) > 0 {
		t.Errorf("%s %s: %d, cookies %v", method, link, response.StatusCode, response.Cookies())
	}
	return response.StatusCode, string(b)
}

const form = "application/x-www-form-urlencoded"

// press posts one field, as a form or a one-click does.
func press(t *testing.T, link, name, value string) (text string) {
	t.Helper()
	status, text := page(t, http.MethodPost, link, form, []byte(url.Values{name: {value}}.Encode()))
	if status != http.StatusOK {
		t.Fatalf("POST %s=%s: %d\n%s", name, value, status, text)
	}
	return text
}

// oneClicks are the two encodings of RFC 8058 section 3.1.
var oneClicks = map[string]func(t *testing.T, link string){
	"urlencoded": func(t *testing.T, link string) { press(t, link, "List-Unsubscribe", "One-Click") },
	"multipart": func(t *testing.T, link string) {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		w.WriteField("List-Unsubscribe", "One-Click")
		w.Close()
		if status, text := page(t, http.MethodPost, link, w.FormDataContentType(), b.Bytes()); status != http.StatusOK {
			t.Fatalf("%d\n%s", status, text)
		}
	},
}

// onBothStores runs a test on SQLite and on Redis.
func onBothStores(t *testing.T, test func(t *testing.T, state []setting)) {
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); test(t, nil) })
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		test(t, []setting{{"STATE", storetest.StartRedis(t).URL()}})
	})
}

// TestOptOut: from the received mail's link to the next mail that is not sent, and back.
func TestOptOut(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, state []setting) {
		up := smtptest.New(t, smtptest.Script{})
		g := newGateway(t, append(state, setting{"UPSTREAM", up.Addr()})...).start()
		m := g.tool(t, "crm")
		mails := 0
		// mail sends one and returns its link.
		mail := func(to string) string {
			mails++
			m.sent(plainMail(to, fmt.Sprintf("mail %d", mails)), to)
			return link(t, up.Await(t, mails)[mails-1])
		}
		again := func(to string) string { return plainMail(to, "again") }

		for encoding, click := range oneClicks {
			t.Run("one click, "+encoding, func(t *testing.T) {
				m.t = t
				to := encoding + "@spedition.example"
				g.consented(to)
				l := mail(to)
				for _, method := range []string{"GET", "HEAD", "GET"} {
					if status, text := page(t, method, l+"?List-Unsubscribe=One-Click", "", nil); status != 200 || method == "GET" && (!strings.Contains(text, "Acme Ltd") || strings.Contains(text, to)) {
						t.Fatalf("%s: %d\n%s", method, status, text)
					}
				}
				second := mail(to) // looking changed nothing
				for range 2 {      // repeatable
					click(t, second)
				}
				m.blocked(again(to), to, "optout.sender")
				if text := press(t, l, "undo", "1"); !strings.Contains(text, "Nothing to undo") { // another mail's link
					t.Errorf("page:\n%s", text)
				}
				m.blocked(again(to), to, "optout.sender")
				if text := press(t, second, "undo", "1"); !strings.Contains(text, "Undone") {
					t.Errorf("page:\n%s", text)
				}
				mail(to)
			})
		}
		for _, scope := range []string{"topic", "sender", "all"} {
			t.Run("form, "+scope, func(t *testing.T) {
				m.t = t
				to := scope + "@spedition.example"
				g.consented(to)
				l := mail(to)
				if text := press(t, l, "scope", scope); !strings.Contains(text, "You are unsubscribed") {
					t.Errorf("page:\n%s", text)
				}
				m.blocked(again(to), to, "optout."+scope)
				if out, code := g.run("optouts", "check", to); code != 1 || !strings.Contains(out, "[optout."+scope+"]") || !strings.Contains(out, "by page") {
					t.Errorf("optouts check: exit %d\n%s", code, out)
				}
				press(t, l, "undo", "1")
				if out, code := g.run("optouts", "check", to); code != 0 || !strings.Contains(out, "no opt-out") {
					t.Errorf("optouts check: exit %d\n%s", code, out)
				}
				mail(to)
			})
		}
		t.Run("consent for the topic", func(t *testing.T) {
			m.t = t
			const to = "topical@spedition.example"
			g.contacts("email,country,collected_by,consent,consent_topics,consent_at", to+",DE,acme,double,newsletter,2025-01-01")
			oneClicks["urlencoded"](t, mail(to))
			m.blocked(again(to), to, "optout.topic")
		})
		t.Run("transactional mail still goes", func(t *testing.T) {
			const to = "buyer@spedition.example"
			g.must("optouts", "add", to)
			shop := g.tool(t, "shop")
			raw := plainMail(to, "invoice 4711")
			shop.sent(raw, to)
			mails++
			got := split(up.Await(t, mails)[mails-1].Data)
			if v := got.take("Received"); len(v) != 1 {
				t.Errorf("Received: %q", v)
			}
			if want := split([]byte(raw)); strings.Join(got.fields, "") != strings.Join(want.fields, "") || !bytes.Equal(got.body, want.body) {
				t.Errorf("changed:\n%s%s", got.fields, got.body)
			}
		})
		t.Run("forged link", func(t *testing.T) {
			m.t = t
			const to = "forged@spedition.example"
			g.consented(to)
			l := mail(to)
			bent := []byte(l)
			at := len(l) - 20
			bent[at] = map[bool]byte{true: 'A', false: 'B'}[bent[at] == 'B']
			for _, wrong := range []string{string(bent), l[:len(l)-1], l + "A", g.at(t, "http://x/u/"), g.at(t, "http://x/u/"+strings.Repeat("A", 100))} {
				if status, _ := page(t, "POST", wrong, form, []byte("List-Unsubscribe=One-Click")); status != 404 {
					t.Errorf("POST %s: %d, want 404", wrong, status)
				}
			}
			mail(to)
		})
		t.Run("commands", func(t *testing.T) { optOutCommands(t, g, m, mail, again) })
	})
}

// optOutCommands: what the operator sees of an opt-out, and the removal that is journaled.
func optOutCommands(t *testing.T, g *gateway, m *tool, mail, again func(to string) string) {
	m.t = t
	const to = "Operator@Spedition.example"
	const normal = "operator@spedition.example"
	g.consented(to)
	oneClicks["multipart"](t, mail(to))
	m.blocked(again(to), to, "optout.sender")
	if out := g.must("optouts", "list"); !strings.Contains(out, normal+": [optout.sender] all of acme, since ") || !strings.Contains(out, "by one-click") {
		t.Errorf("optouts list:\n%s", out)
	}
	var listed struct {
		Optouts []struct {
			Address string
			Optout  policy.OptOut
		}
	}
	if err := json.Unmarshal([]byte(g.must("optouts", "list", "--json")), &listed); err != nil || len(listed.Optouts) == 0 {
		t.Errorf("optouts list --json: %v %+v", err, listed)
	}
	if out, code := g.run("optouts", "remove", to); code != 2 || !strings.Contains(out, "--reason") {
		t.Errorf("remove without a reason: exit %d\n%s", code, out)
	}
	m.blocked(again(to), to, "optout.sender")
	g.must("optouts", "remove", to, "--reason", "asked by phone, ticket 12")
	mail(to)
	if out, code := g.run("optouts", "remove", to, "--reason", "again"); code != 1 {
		t.Errorf("removing nothing: exit %d\n%s", code, out)
	}
	var found struct{ Entries []policy.Entry }
	if err := json.Unmarshal([]byte(g.must("journal", "--recipient", to, "--json")), &found); err != nil {
		t.Fatal(err)
	}
	var story []string
	for _, e := range found.Entries {
		switch e.Event {
		case "decision":
			story = append(story, e.Event+" "+e.Stage+" "+e.Action+" "+e.Code)
		case "outcome":
			story = append(story, e.Event+" "+e.Fate)
			if !strings.HasPrefix(e.Reply, "250 2.0.0 ok: queued as") || e.Decision == "" {
				t.Errorf("outcome %+v", e)
			}
		default:
			story = append(story, e.Event+" "+string(e.OptOut.Scope)+" "+e.OptOut.Via+" "+e.Reason)
		}
	}
	want := []string{
		"decision data allow ", "outcome sent", "optout sender one-click user agent \"Go-http-client/1.1\"", "decision rcpt block optout.sender", "decision rcpt block optout.sender",
		"optout_removed sender one-click asked by phone, ticket 12", "decision data allow ", "outcome sent",
	}
	if strings.Join(story, "\n") != strings.Join(want, "\n") {
		t.Errorf("journal tells\n%s\nwant\n%s", strings.Join(story, "\n"), strings.Join(want, "\n"))
	}
}

// TestOptOutBindsTheOtherNode: two nodes, one Redis, one key file; whatever one is told, the other's next decision knows.
func TestOptOutBindsTheOtherNode(t *testing.T) {
	t.Parallel()
	redis := storetest.StartRedis(t)
	up := smtptest.New(t, smtptest.Script{})
	keys := t.TempDir() + "/keys.json"
	var nodes [2]*gateway
	var tools [2]*tool
	for i := range nodes {
		nodes[i] = newGateway(t, setting{"STATE", redis.URL()}, setting{"KEYS", keys}, setting{"UPSTREAM", up.Addr()}).start()
		tools[i] = nodes[i].tool(t, "crm")
	}
	const rounds = 100
	var all []string
	for i := range rounds {
		all = append(all, fmt.Sprintf("p%d@spedition.example", i))
	}
	nodes[0].consented(all...)
	encodings := []string{"urlencoded", "multipart"}
	for i, to := range all {
		here, there := i%2, (i+1)%2
		raw := plainMail(to, fmt.Sprintf("round %d", i))
		tools[here].sent(raw, to)
		l := link(t, up.Await(t, i+1)[i])
		oneClicks[encodings[i/2%2]](t, nodes[there].at(t, l))
		tools[here].blocked(raw, to, "optout.sender")
		tools[there].blocked(raw, to, "optout.sender")
	}
	if n := len(up.Seen()); n != rounds {
		t.Errorf("the upstream saw %d messages, want %d", n, rounds)
	}
	// An undo binds it as well.
	m := up.Messages()[0]
	press(t, nodes[0].at(t, link(t, m)), "undo", "1")
	tools[1].sent(plainMail(all[0], "undone"), all[0])
}

// TestForeignKeyFile: a node with another key file would miss every opt-out, so it does not start.
func TestForeignKeyFile(t *testing.T) {
	t.Parallel()
	redis := storetest.StartRedis(t)
	first := newGateway(t, setting{"STATE", redis.URL()}).start()
	elsewhere := newGateway(t)
	elsewhere.must("optouts", "list") // makes its own key file
	other := newGateway(t, setting{"STATE", redis.URL()}, setting{"KEYS", elsewhere.dir + "/keys.json"})
	for _, args := range [][]string{{"serve"}, {"optouts", "list"}, {"check", "--account", "crm", "--to", "a@b.de"}} {
		if out, code := other.run(args...); code != 2 || !strings.Contains(out, "is not the key file this state was made with") {
			t.Errorf("%v: exit %d\n%s", args, code, out)
		}
	}
	first.must("optouts", "list")
}

// TestOptOutSurvivesRestart: what was acknowledged is there after the process was killed.
func TestOptOutSurvivesRestart(t *testing.T) {
	t.Parallel()
	up := smtptest.New(t, smtptest.Script{})
	g := newGateway(t, setting{"UPSTREAM", up.Addr()}).start()
	const to = "a@spedition.example"
	g.consented(to)
	m := g.tool(t, "crm")
	m.sent(plainMail(to, "one"), to)
	l := link(t, up.Await(t, 1)[0])
	oneClicks["urlencoded"](t, l)
	g.stop(syscall.SIGKILL)
	g.start()
	m = g.tool(t, "crm")
	m.blocked(plainMail(to, "two"), to, "optout.sender")
	if status, _ := page(t, "GET", l, "", nil); status != 200 { // the token is still read
		t.Errorf("GET: %d", status)
	}
}
