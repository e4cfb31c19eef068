package integration

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"heed/smtp/smtptest"
)

// passAccounts log in at the upstream; which of them a client's are, its address tells.
const passAccounts = `  - {name: crm-pass, sender: acme, topic: newsletter, product: crm, auth: pass, networks: [127.0.0.1/32]}
  - {name: shop-pass, sender: acme, category: transactional, auth: pass, networks: [127.0.0.2/32]}
  - {name: both-pass, sender: acme, category: header, topic: newsletter, product: crm, auth: pass, networks: [127.0.0.3/32]}`

// The logins that the upstream of these tests knows.
const (
	annsKey = "kEy-0f-Ann-7c1e"
	bobsKey = "kEy-0f-B0b-93d2"
)

func passUpstream(t *testing.T, s smtptest.Script) *smtptest.Upstream {
	s.Login, s.Logins = "ann:"+annsKey, []string{"bob:" + bobsKey}
	return smtptest.New(t, s)
}

func passGateway(t *testing.T, up *smtptest.Upstream, settings ...setting) *gateway {
	return newGateway(t, append(settings, setting{"UPSTREAM", up.Addr()}, setting{"ACCOUNTS", passAccounts})...).start()
}

// wireFrom is dialWire and EHLO from another address of this machine.
func (g *gateway) wireFrom(t *testing.T, ip string) *wire {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	c, err := d.Dial("tcp", g.smtp)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	w := &wire{t, c, bufio.NewReader(c)}
	w.expect("220")
	w.ask("EHLO client.example", "250")
	return w
}

// keepsNothing wants an empty spool, and nowhere on disk or in the log a password in any of its forms.
func (g *gateway) keepsNothing(t *testing.T) {
	t.Helper()
	if all := g.spooled(t); len(all) > 0 {
		t.Errorf("%d copies wait", len(all))
	}
	secrets := []string{annsKey, bobsKey, plain("ann", annsKey), plain("bob", bobsKey), base64Of(annsKey), base64Of(bobsKey)}
	look := func(where, text string) {
		for _, s := range secrets {
			if strings.Contains(text, s) {
				t.Errorf("%s holds a password as %q", where, s)
			}
		}
	}
	files := 0
	err := filepath.WalkDir(g.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		files++
		look(path, string(b))
		return err
	})
	if err != nil || files < 3 {
		t.Errorf("%d files, %v", files, err)
	}
	look("the log", g.log.String())
	look("the journal", g.must("--json", "journal"))
}

func base64Of(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// TestPassClients: every tool, once at the ESP and once at the gateway: only host and port differ, and it hears the same.
func TestPassClients(t *testing.T) {
	t.Parallel()
	for _, c := range mailTools {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			send := clients(t, c.name)
			up := passUpstream(t, smtptest.Script{})
			g := passGateway(t, up)
			to := c.name + "@spedition.example"
			g.consented(to)
			n := 0
			for _, at := range []string{up.Addr(), g.smtp} {
				host, port, _ := net.SplitHostPort(at)
				for _, mechanism := range []string{"PLAIN", "LOGIN"} {
					o := order{Host: host, Mechanism: mechanism, From: "news@acme.example", To: []string{to}, User: "ann", Password: annsKey}
					o.Port, _ = strconv.Atoi(port)
					var raw []byte
					o.File, raw = letterFile(t, eightBit(to, fmt.Sprintf("%s.%d", c.name, n)))
					n++
					send(t, o).taken(t, fmt.Sprintf("250 2.0.0 ok: queued as %d", n))
					got := up.Await(t, n)[n-1]
					if got.Login != "ann" {
						t.Errorf("%s: sent as %q", at, got.Login)
					}
					if at == g.smtp {
						if c.name == "swaks" {
							raw = append(raw, "\r\n"...) // its own
						}
						wantCopy(t, raw, got, to)
						if v := split(got.Data).value("Received"); !strings.Contains(v, "with ESMTPA id") {
							t.Errorf("Received: %s", v)
						}
					}
					o.Password = bobsKey
					if s := send(t, o); s.Error == "" || !strings.Contains(s.All+s.Error, "535") || !strings.Contains(s.All+s.Error, "5.7.8 wrong") {
						t.Errorf("%s, wrong password: error %q, heard %s", at, s.Error, s.All)
					}
				}
			}
			if got := up.Seen(); len(got) != n {
				t.Errorf("the upstream saw %d messages, want %d", len(got), n)
			}
			g.keepsNothing(t)
		})
	}
}

// TestPassTwoTools at once, each over several connections: every message goes as the tool that sent it, and no
// connection carries both.
func TestPassTwoTools(t *testing.T) {
	t.Parallel()
	const connections, each = 4, 25
	up := passUpstream(t, smtptest.Script{})
	g := passGateway(t, up)
	g.edit(`timeout: 10s`, `timeout: 10s, connections: 3`) // fewer than clients
	g.stop(syscall.SIGTERM)
	g.start()
	var working sync.WaitGroup
	for i := range 2 * connections {
		user, key := "ann", annsKey
		if i%2 == 1 {
			user, key = "bob", bobsKey
		}
		w := g.wireFrom(t, "127.0.0.2")
		working.Go(func() {
			w.write("AUTH PLAIN " + plain(user, key) + "\r\n")
			if reply, err := w.answer(); err != nil || reply != "235 2.7.0 welcome" {
				t.Errorf("%s: %q, %v", user, reply, err)
				return
			}
			for n := range each {
				id, to := fmt.Sprintf("%s-%d-%d@acme.example", user, i, n), fmt.Sprintf("%s-%d@example.net", user, n)
				w.write("MAIL FROM:<" + us + ">\r\nRCPT TO:<" + to + ">\r\nDATA\r\n")
				for range 3 {
					if reply, err := w.answer(); err != nil || reply[0] != '2' && reply[0] != '3' {
						t.Errorf("%s: %q, %v", id, reply, err)
						return
					}
				}
				w.write(letter(id, to, "") + "\r\n.\r\n")
				if reply, err := w.answer(); err != nil || !strings.HasPrefix(reply, "250 2.0.0 ok: queued as ") {
					t.Errorf("%s: %q, %v", id, reply, err)
					return
				}
			}
		})
	}
	working.Wait()
	owner, ids := map[int]string{}, map[string]bool{}
	for _, m := range up.Messages() {
		id := split(m.Data).value("Message-ID")
		ids[id] = true
		user, _, _ := strings.Cut(strings.TrimLeft(id, " <"), "-")
		if m.Login != user || !strings.HasPrefix(m.To[0].Address, user+"-") || owner[m.Conn] != "" && owner[m.Conn] != user {
			t.Errorf("connection %d of %q: a message of %s to %s as %s", m.Conn, owner[m.Conn], user, m.To[0].Address, m.Login)
		}
		owner[m.Conn] = user
	}
	if len(ids) != 2*connections*each {
		t.Errorf("%d messages arrived, want %d", len(ids), 2*connections*each)
	}
	t.Logf("%d messages over %d connections", len(ids), len(owner))
	g.keepsNothing(t)
}

// TestPassAnswers: what the client hears is the upstream's, and nothing is ever kept.
func TestPassAnswers(t *testing.T) {
	t.Parallel()
	const to = "anna@spedition.example"
	on := func(step, answer string) map[string][]string { return map[string][]string{step: {answer}} }
	for _, tt := range []struct {
		name    string
		answers map[string][]string
		want    string
		fate    string
	}{
		{"taken", nil, "250 2.0.0 ok: queued as 1", "sent"},
		{"put off", on(".", "451-4.7.1 greylisted\r\n451 4.7.1 come back"), "451-4.7.1 greylisted\n451 4.7.1 come back", "deferred"},
		{"over quota at RCPT", on("RCPT", "452 4.2.2 over quota"), "452 4.2.2 over quota", "deferred"},
		{"closing", on("MAIL", "421 4.3.2 shutting down"), "421 4.3.2 shutting down", "deferred"},
		{"refused", on(".", "554 5.7.1 not wanted"), "554 5.7.1 not wanted", "failed"},
		{"closes at DATA", on("DATA", smtptest.Close), "451 4.4.1 no answer from the upstream", "deferred"},
		{"closes after the final dot", on(".", smtptest.Close), "451 4.4.2 the upstream's answer was lost: the message may have been delivered", "in doubt"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := passGateway(t, passUpstream(t, smtptest.Script{Answers: tt.answers}))
			g.consented(to)
			w := g.wireFrom(t, "127.0.0.1")
			w.ask("AUTH PLAIN "+plain("ann", annsKey), "235 2.7.0 welcome")
			if reply := w.send(us, to, letter("answer@acme.example", to, "")); reply != tt.want {
				t.Errorf("answered %q, want %q", reply, tt.want)
			}
			if out := g.must("journal", "--recipient", to); !strings.Contains(out, tt.fate) {
				t.Errorf("the journal has no %q:\n%s", tt.fate, out)
			}
			g.keepsNothing(t)
		})
	}
}

// TestPassRecipients: marketing mail has one recipient, transactional mail any number in one transaction.
func TestPassRecipients(t *testing.T) {
	t.Parallel()
	const anna, bernd = "anna@spedition.example", "bernd@spedition.example"
	up := passUpstream(t, smtptest.Script{})
	g := passGateway(t, up)
	g.consented(anna, bernd)
	login := func(ip string) *wire {
		w := g.wireFrom(t, ip)
		w.ask("MAIL FROM:<"+us+">", "250")
		w.ask("RCPT TO:<"+anna+">", "530 5.7.0")
		w.ask("RSET", "250")
		w.ask("AUTH PLAIN "+plain("ann", annsKey), "235")
		return w
	}
	w := login("127.0.0.1")
	w.ask("MAIL FROM:<"+us+">", "250")
	w.ask("RCPT TO:<"+anna+">", "250")
	w.ask("RCPT TO:<"+bernd+">", "452 4.5.3 one recipient at a time")
	w.ask("RSET", "250")
	w.ask("MAIL FROM:<"+us+">", "250")
	w.ask("RCPT TO:<max.weber@spediteur.de>", "550 5.7.1")

	w = login("127.0.0.3")
	w.begin(us, anna, bernd)
	w.ask(letter("marketing@acme.example", anna, "")+"\r\n.", "452 4.5.3 one recipient at a time")
	w.begin(us, anna, bernd)
	w.ask(letter("by-header@acme.example", anna, "Heed-Category: transactional\r\n")+"\r\n.", "250 2.0.0 ok: queued as 1")

	w = login("127.0.0.2")
	w.begin(us, anna, bernd)
	w.ask(letter("invoice@acme.example", anna, "")+"\r\n.", "250 2.0.0 ok: queued as 2")
	for i, m := range up.Seen() {
		if len(m.To) != 2 || m.To[0].Address != anna || m.To[1].Address != bernd || m.Login != "ann" {
			t.Errorf("message %d to %v as %q", i+1, m.To, m.Login)
		}
	}
	if n := len(up.Seen()); n != 2 {
		t.Errorf("%d messages", n)
	}
	g.keepsNothing(t)
}

// TestPassUpstreamDies: what is sent meanwhile stays with the client; the same sessions go on when it is back.
func TestPassUpstreamDies(t *testing.T) {
	t.Parallel()
	const to = "anna@spedition.example"
	up := passUpstream(t, smtptest.Script{Address: freePort(t)})
	g := passGateway(t, up)
	g.consented(to)
	w := g.wireFrom(t, "127.0.0.1")
	w.ask("AUTH PLAIN "+plain("ann", annsKey), "235")
	if reply := w.send(us, to, letter("before@acme.example", to, "")); !strings.HasPrefix(reply, "250") {
		t.Fatal(reply)
	}
	up.Close()
	if reply := w.send(us, to, letter("while@acme.example", to, "")); reply != "451 4.4.1 no answer from the upstream" {
		t.Error(reply)
	}
	g.wireFrom(t, "127.0.0.1").ask("AUTH PLAIN "+plain("ann", annsKey), "454 4.7.0 temporary authentication failure")
	again := passUpstream(t, smtptest.Script{Address: up.Addr()})
	if reply := w.send(us, to, letter("after@acme.example", to, "")); reply != "250 2.0.0 ok: queued as 1" {
		t.Error(reply)
	}
	if got := again.Messages(); len(got) != 1 || got[0].Login != "ann" {
		t.Errorf("%d messages", len(got))
	}
	g.keepsNothing(t)
}

// TestPassReload: SIGHUP turns it on and off; sessions of before go by what their account is now.
func TestPassReload(t *testing.T) {
	t.Parallel()
	const to = "anna@spedition.example"
	up := passUpstream(t, smtptest.Script{})
	g := newGateway(t, setting{"UPSTREAM", up.Addr()}, setting{"ACCOUNTS", strings.ReplaceAll(passAccounts, "auth: pass", "auth: own")}).start()
	g.consented(to)
	hup := func() {
		t.Helper()
		before := strings.Count(g.log.String(), "reloaded")
		g.cmd.Process.Signal(syscall.SIGHUP)
		eventually(t, "a reload", func() bool { return strings.Count(g.log.String(), "reloaded") > before })
	}
	w := g.wireFrom(t, "127.0.0.1")
	w.ask("MAIL FROM:<"+us+">", "250")
	w.ask("RCPT TO:<"+to+">", "250") // its network is enough
	w.ask("RSET", "250")
	g.edit("auth: own", "auth: pass")
	hup()
	w.ask("MAIL FROM:<"+us+">", "250")
	w.ask("RCPT TO:<"+to+">", "530 5.7.0")
	w.ask("RSET", "250")
	w.ask("AUTH PLAIN "+plain("bob", bobsKey), "235 2.7.0 welcome")
	if reply := w.send(us, to, letter("reloaded@acme.example", to, "")); reply != "250 2.0.0 ok: queued as 1" {
		t.Error(reply)
	}
	g.edit("auth: pass", "auth: own")
	hup()
	w.ask("MAIL FROM:<"+us+">", "421 4.7.0")
	if got := up.Messages(); len(got) != 1 || got[0].Login != "bob" {
		t.Errorf("%d messages", len(got))
	}
}

// TestPassDrain: SIGTERM while the upstream is silent after the final dot. The client hears that nobody knows, and so
// does the journal.
func TestPassDrain(t *testing.T) {
	t.Parallel()
	const to = "anna@spedition.example"
	up := passUpstream(t, smtptest.Script{Answers: map[string][]string{".": {smtptest.Silence}}})
	g := passGateway(t, up, setting{"BUDGET", "1s"})
	g.consented(to)
	w := g.wireFrom(t, "127.0.0.1")
	w.ask("AUTH PLAIN "+plain("ann", annsKey), "235")
	w.begin(us, to)
	w.write(letter("drain@acme.example", to, "") + "\r\n.\r\n")
	eventually(t, "the final dot", func() bool { return len(up.Seen()) == 1 })
	g.cmd.Process.Signal(syscall.SIGTERM)
	w.expect("451 4.4.2 the upstream's answer was lost")
	<-g.done
	if out := g.must("journal", "--recipient", to); !strings.Contains(out, "in doubt") {
		t.Errorf("the journal:\n%s", out)
	}
	g.keepsNothing(t)
}
