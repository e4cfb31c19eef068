package integration

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"heed/smtp/smtptest"
)

// hostileLimits are small, so that what goes beyond them is cheap to make.
const hostileLimits = "limits: {message: 4MiB, in_flight: 16MiB}"

// hostileMemory is the most MiB that a gateway with these limits may ever have used, whatever it was sent.
const hostileMemory = 200

// hostile is a gateway in front of an upstream that takes everything; at the test's end it must still take mail, and
// have stayed within its memory.
func hostile(t *testing.T, settings ...setting) (*gateway, *smtptest.Upstream) {
	t.Helper()
	up := smtptest.New(t, smtptest.Script{})
	g := newGateway(t, append([]setting{{"UPSTREAM", up.Addr()}, {"MORE", hostileLimits}}, settings...)...).start()
	t.Cleanup(func() {
		if t.Failed() {
			return
		}
		g.lives(t, up)
		used := g.peak(t)
		t.Logf("at most %d MiB were resident", used)
		if used > hostileMemory {
			t.Errorf("%d MiB were resident, want at most %d", used, hostileMemory)
		}
	})
	return g, up
}

// TestSmuggling: line ends that a server behind might take for the end of a message end the connection, and nothing
// that follows them is ever a transaction (RFC 5321 section 2.3.8).
func TestSmuggling(t *testing.T) {
	t.Parallel()
	g, up := hostile(t)
	const second = "MAIL FROM:<news@acme.example>\r\nRCPT TO:<smuggled@victim.example>\r\nDATA\r\nFrom: news@acme.example\r\nSubject: smuggled\r\n\r\nsmuggled\r\n.\r\n"
	ends := map[string]string{
		"bare LF":                   "a\nb",
		"bare CR":                   "a\rb",
		"LF dot LF":                 "\n.\n",
		"CRLF dot LF":               "\r\n.\n",
		"LF dot CRLF":               "\n.\r\n",
		"CR dot CR":                 "\r.\r",
		"CR dot CRLF":               "\r.\r\n",
		"CRLF dot CR":               "\r\n.\r",
		"CR CRLF dot CRLF":          "\r\r\n.\r\n",
		"CRLF dot CR letter":        "\r\n.\rX",
		"CRLF dot CR CRLF":          "\r\n.\r\r\n",
		"CRLF dot NUL CRLF":         "\r\n.\x00\r\n\n",
		"LF CR dot LF CR":           "\n\r.\n\r",
		"NEL":                       "\u0085.\u0085\n",
		"vertical tab":              "\v.\v\n",
		"header ends by two LF":     "\n\n.\n",
		"CRLF dot space CRLF LF":    "\r\n. \r\n\n",
		"split between two packets": "\r\n.\r",
	}
	for name, end := range ends {
		for _, account := range []string{"shop", "both"} {
			t.Run(name+" "+account, func(t *testing.T) {
				w := g.loginWire(t, account)
				w.begin("news@acme.example", "first@example.net")
				w.write("From: news@acme.example\r\nSubject: first\r\n\r\nhello" + end)
				w.write(second + "QUIT\r\n")
				w.expect("550 5.5.2")
				if rest := w.closed(); rest != "" {
					t.Errorf("it goes on with %q", rest)
				}
			})
		}
	}
	t.Run("in BDAT", func(t *testing.T) {
		w := g.loginWire(t, "shop")
		w.ask("MAIL FROM:<news@acme.example>", "250")
		w.ask("RCPT TO:<first@example.net>", "250")
		body := "Subject: first\r\n\r\nhello\n.\n" + second
		w.ask(fmt.Sprintf("BDAT %d LAST\r\n%s", len(body), strings.TrimSuffix(body, "\r\n")), "550 5.5.2")
		w.closed()
	})
	t.Run("dots in BDAT are text", func(t *testing.T) {
		w := g.loginWire(t, "shop")
		w.ask("MAIL FROM:<news@acme.example>", "250")
		w.ask("RCPT TO:<dots@example.net>", "250")
		body := "From: news@acme.example\r\nSubject: dots\r\n\r\nhello\r\n.\r\nMAIL FROM:<a@acme.example>\r\n..\r\n"
		w.write(fmt.Sprintf("BDAT %d LAST\r\n%s", len(body), body))
		w.expect("250")
		all := up.Messages()
		if got := string(all[len(all)-1].Data); !strings.HasSuffix(got, "\r\n\r\nhello\r\n.\r\nMAIL FROM:<a@acme.example>\r\n..\r\n") {
			t.Errorf("arrived as %q", got)
		}
	})
	g.lives(t, up)
	for _, c := range up.Commands() {
		if strings.Contains(c, "smuggled") || strings.Contains(c, "first@") {
			t.Errorf("the upstream was told %q", c)
		}
	}
}

// TestHostileContent: messages made to hurt are refused in clear words, or taken; never half.
func TestHostileContent(t *testing.T) {
	t.Parallel()
	g, up := hostile(t)
	g.consented("k@spedition.de")
	head := "From: Acme <news@acme.example>\r\nTo: <k@spedition.de>\r\nSubject: x\r\nMIME-Version: 1.0\r\n"
	cases := []struct{ name, account, message, want string }{
		{"larger than the limit", "shop", head + "\r\n" + strings.Repeat("0123456789abcdef\r\n", 4<<20/18+100), "552 5.3.4"},
		{"NUL in the body", "shop", head + "\r\na\x00b", "554 5.6.0"},
		{"NUL in the header", "shop", head + "X: a\x00b\r\n\r\nx", "554 5.6.0"},
		{"100,000 header lines", "shop", head + strings.Repeat("X-A: b\r\n", 100_000) + "\r\nx", "554 5.6.0"},
		{"100,000 folded lines", "crm", head + "X-A: b\r\n" + strings.Repeat(" c\r\n", 100_000) + "\r\nx", "554 5.6.0"},
		{"header line of 1 MB", "shop", head + "X-A: " + strings.Repeat("b", 1_000_000) + "\r\n\r\nx", "554 5.6.0"},
		{"body line of 2 MB", "crm", head + "\r\n" + strings.Repeat("b", 2_000_000), "554 5.6.0"},
		{"no header at all", "crm", "\r\nx", "550"},
		{"header that never ends", "crm", strings.TrimSuffix(head, "\r\n"), "250"},
		{"text in the header", "crm", head + "this is no field\r\n\r\nx", "250"},
		{"1,000 nested multiparts", "crm", head + nested(1000, func(i int) string { return fmt.Sprintf("b%d", i) }), "550 5.6.0 [content.unrewritable]"},
		{"1,000 nested messages", "crm", head + strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 1000) + "\r\nx", "550 5.6.0 [content.unrewritable]"},
		{"50,000 parts", "crm", head + "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\n\r\n", 50_000) + "--b--", "550 5.6.0 [content.unrewritable]"},
		{"50 boundaries, 400,000 lines like them", "crm", head + nested(50, func(i int) string { return strings.Repeat("-", 70-i) }) + strings.Repeat("--------\r\n", 400_000), "550 5.6.0 [content.unrewritable]"},
		{"boundaries that begin alike", "crm", head + nested(60, func(i int) string { return strings.Repeat("a", i+1) }) + strings.Repeat("--"+strings.Repeat("a", 70)+"\r\n", 50_000), "250"},
		{"HTML that never closes", "crm", head + "Content-Type: text/html\r\n\r\n" + strings.Repeat("<div a='<!--\r\n", 100_000), "250"},
		{"entities and comments", "crm", head + "Content-Type: text/html\r\n\r\n" + strings.Repeat("<!--&#x;&amp\r\n", 100_000), "250"},
		{"encoded words without end", "crm", head + "Subject: " + strings.Repeat("=?utf-8?b?", 6_000) + "\r\n\r\nx", "250"},
		{"10,000 addresses in From", "crm", "From: " + strings.Repeat("a@acme.example,\r\n ", 9_000) + "b@acme.example\r\n\r\nx", "550 5.7.1"},
		{"comments nested in From", "crm", "From: " + strings.Repeat("(", 60_000) + " a@acme.example\r\n\r\nx", "550"},
		{"51 hops", "shop", strings.Repeat("Received: from a by b; x\r\n", 51) + head + "\r\nx", "554 5.4.6"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			start, before := time.Now(), len(up.Messages())
			w := g.loginWire(t, c.account)
			reply := w.send("news@acme.example", "k@spedition.de", c.message)
			if c.account != "crm" || strings.HasPrefix(c.want, "250") {
				w.ask("NOOP", "250")
			}
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("took %s", took)
			}
			if !strings.HasPrefix(reply, c.want) {
				t.Errorf("answered %q, want %s", reply, c.want)
			}
			if sent := len(up.Messages()) > before; sent != strings.HasPrefix(reply, "250") {
				t.Errorf("answered %q; arrived: %v", reply, sent)
			}
		})
	}
}

// nested is a header and body of multiparts in each other.
func nested(n int, boundary func(i int) string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=\"%s\"\r\n\r\n--%s\r\n", boundary(i), boundary(i))
	}
	b.WriteString("\r\nx\r\n")
	return b.String()
}

// TestHostileDialogue: sizes, commands and chunks that are not what they say.
func TestHostileDialogue(t *testing.T) {
	t.Parallel()
	g, up := hostile(t, setting{"MORE", "limits: {message: 4MiB, in_flight: 16MiB, command_timeout: 5s}"})
	t.Run("SIZE over the limit", func(t *testing.T) {
		w := g.loginWire(t, "shop")
		for _, size := range []string{"4194305", "99999999999", "18446744073709551617"} {
			w.ask("MAIL FROM:<news@acme.example> SIZE="+size, "552 5.3.4")
		}
		for _, size := range []string{"", "-1", "1e9", "0x10", "99999999999999999999999999"} {
			w.ask("MAIL FROM:<news@acme.example> SIZE="+size, "5")
		}
		w.ask("MAIL FROM:<news@acme.example> SIZE=1 SIZE=2", "501")
	})
	t.Run("a chunk over the limit", func(t *testing.T) {
		w := g.loginWire(t, "shop")
		w.ask("MAIL FROM:<news@acme.example>", "250")
		w.ask("RCPT TO:<x@example.net>", "250")
		w.write("BDAT 5242880 LAST\r\n" + strings.Repeat("0123456789abcde\n", 5<<20/16))
		w.closed() // bare LF, refused before its size
		w = g.loginWire(t, "shop")
		w.ask("MAIL FROM:<news@acme.example>", "250")
		w.ask("RCPT TO:<x@example.net>", "250")
		w.write("BDAT 5242880 LAST\r\n\r\n" + strings.Repeat("0123456789abcd\r\n", 5<<20/16)[2:])
		w.expect("552 5.3.4")
		w.ask("NOOP", "250")
	})
	t.Run("many chunks over the limit", func(t *testing.T) {
		w := g.loginWire(t, "shop")
		w.ask("MAIL FROM:<news@acme.example>", "250")
		w.ask("RCPT TO:<x@example.net>", "250")
		chunk := "\r\n" + strings.Repeat("0123456789abcd\r\n", 1<<20/16)[2:]
		for range 4 {
			w.write("BDAT 1048576\r\n" + chunk)
			w.expect("250")
		}
		w.write("BDAT 1048576\r\n" + chunk)
		w.expect("552 5.3.4")
	})
	t.Run("a chunk of any size", func(t *testing.T) {
		for _, size := range []string{"99999999999999999999 LAST", "-1 LAST", "x", "", "1 FIRST", "0x10", "5 LAST more", "9223372036854775807"} {
			w := g.loginWire(t, "shop")
			w.ask("MAIL FROM:<news@acme.example>", "250")
			w.ask("RCPT TO:<x@example.net>", "250")
			w.write("BDAT " + size + "\r\nMAIL FROM:<news@acme.example>\r\nRCPT TO:<smuggled@victim.example>\r\nDATA\r\nX: y\r\n\r\n.\r\n")
			w.expect("5")
			if rest := w.closed(); rest != "" {
				t.Errorf("BDAT %s: it goes on with %q", size, rest)
			}
		}
	})
	t.Run("a command line of 100 MB", func(t *testing.T) {
		w := g.loginWire(t, "shop")
		w.c.SetWriteDeadline(time.Now().Add(wirePatience))
		io.WriteString(w.c, "NOOP ")
		piece := strings.Repeat("x", 1<<20)
		for range 100 {
			if _, err := io.WriteString(w.c, piece); err != nil {
				break // it is cut, as it should be
			}
		}
		if reply, err := w.answer(); err == nil && !strings.HasPrefix(reply, "500 5.5.2") {
			t.Errorf("answered %q", reply)
		}
		w.closed()
	})
	t.Run("garbage", func(t *testing.T) {
		for name, raw := range map[string]string{
			"bytes":        strings.Repeat("\x00\xff\x1b[2J\x7f\r\n", 500),
			"HTTP":         "GET / HTTP/1.1\r\nHost: gw\r\n\r\n" + strings.Repeat("X: y\r\n", 200),
			"TLS":          "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x00", 600),
			"only CRLF":    strings.Repeat("\r\n", 5000),
			"only LF":      strings.Repeat("\n", 5000),
			"AUTH garbage": "EHLO x\r\n" + strings.Repeat("AUTH PLAIN ====\r\n", 500),
			"verbs":        "EHLO x\r\n" + strings.Repeat("MAIL\r\nRCPT\r\nDATA\r\nBDAT\r\n", 500),
		} {
			w := g.dialWire(t)
			w.write(raw)
			if said := w.closed(); said == "" {
				t.Errorf("%s: cut without a word", name)
			}
		}
	})
	t.Run("1,000 recipients and one more", func(t *testing.T) {
		w := g.loginWire(t, "shop")
		w.ask("MAIL FROM:<news@acme.example>", "250")
		var b strings.Builder
		for i := range 1005 {
			fmt.Fprintf(&b, "RCPT TO:<r%d@example.net>\r\n", i)
		}
		go w.write(b.String())
		for i := range 1005 {
			if want := "250"; i < 1000 {
				w.expect(want)
			} else {
				w.expect("452 4.5.3")
			}
		}
		w.ask("RSET", "250")
	})
	t.Run("parameters in a quoted local part", func(t *testing.T) {
		for i, address := range []string{
			`"v@evil.com> NOTIFY=NEVER ORCPT=rfc822;x"@mine.com`,
			`"v@evil.com\> NOTIFY=NEVER\"x"@mine.com`,
			`"<v@evil.com>"@mine.com`,
			`"a b"@mine.com`,
			`"a\\"@mine.com`,
		} {
			w := g.loginWire(t, "shop")
			w.ask("MAIL FROM:<news@acme.example>", "250")
			w.write("RCPT TO:<" + address + ">\r\n")
			reply, err := w.answer()
			if err != nil {
				t.Fatalf("%s: %v", address, err)
			}
			if !strings.HasPrefix(reply, "250") {
				if !strings.HasPrefix(reply, "5") {
					t.Errorf("%s: answered %q", address, reply)
				}
				continue
			}
			w.ask("DATA", "354")
			id := fmt.Sprintf("quoted%d@acme.example", i)
			w.ask(letter(id, "x@mine.com", "")+"\r\n.", "250")
			m := ofMessage(up.Messages(), id)
			if len(m) != 1 || len(m[0].To) != 1 || !strings.HasSuffix(m[0].To[0].Address, `"@mine.com`) || len(m[0].To[0].Params) != 0 {
				t.Errorf("%s: arrived as %+v", address, m)
			}
		}
	})
	t.Run("nothing of all this arrived", func(t *testing.T) {
		g.lives(t, up)
		for _, c := range up.Commands() {
			if strings.Contains(c, "smuggled") || strings.Contains(c, "x@example.net") || strings.HasPrefix(c, "RCPT TO:<v@") {
				t.Errorf("the upstream was told %q", c)
			}
		}
	})
}

// TestOpenRelayProbes: without an account no recipient is taken, however written.
func TestOpenRelayProbes(t *testing.T) {
	t.Parallel()
	g, up := hostile(t)
	for _, from := range []string{"", "news@acme.example", "root@gw.acme.example", "postmaster@localhost", "spam@[127.0.0.1]"} {
		w := g.dialWire(t)
		w.ask("EHLO gw.acme.example", "250")
		w.ask("MAIL FROM:<"+from+">", "250")
		for _, to := range []string{
			"<victim@other.example>", "<victim%other.example@gw.acme.example>", "<other.example!victim@gw.acme.example>", "<other.example!victim>",
			"<@gw.acme.example:victim@other.example>", "<@[127.0.0.1],@gw.acme.example:victim@other.example>", `<"victim@other.example">`,
			`<"victim@other.example"@gw.acme.example>`, "<victim@other.example@gw.acme.example>", "<victim@[127.0.0.1]>", "<victim@localhost>",
			"<victim@gw.acme.example>", "<postmaster>", "<Postmaster@gw.acme.example>", "<>", "victim@other.example", "<victim@other.example",
		} {
			w.ask("RCPT TO:"+to, "530 5.7.0")
		}
		w.ask("DATA", "503")
		w.ask("BDAT 0 LAST", "503")
	}
	if got := up.Connections(); got != 0 {
		t.Errorf("the upstream saw %d connections", got)
	}
}

// TestPasswordGuessing: three wrong passwords end the connection; a right one is then still right elsewhere.
func TestPasswordGuessing(t *testing.T) {
	t.Parallel()
	g, up := hostile(t)
	for range 20 {
		w := g.dialWire(t)
		w.ask("EHLO x", "250")
		w.ask("AUTH PLAIN "+plain("crm", "guess1"), "535 5.7.8")
		w.ask("AUTH LOGIN", "334")
		w.ask("Y3Jt", "334")
		w.ask("Z3Vlc3My", "535 5.7.8")
		w.ask("AUTH PLAIN "+plain("nobody", "guess3"), "421 4.7.0")
		w.closed()
	}
	w := g.dialWire(t)
	w.ask("EHLO x", "250")
	w.ask("AUTH PLAIN "+plain("crm", "secret"), "235")
	w.ask("AUTH PLAIN "+plain("shop", "secret"), "503")
	g.lives(t, up)
}

// TestSlowClients: whoever is slow is told so and cut; whoever holds all connections does not hold them for long.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	g, up := hostile(t, setting{"MORE", "limits: {message: 4MiB, in_flight: 16MiB, connections: 500, command_timeout: 4s, data_timeout: 1s}"})
	t.Run("data that stops", func(t *testing.T) {
		w := g.loginWire(t, "shop")
		w.begin("news@acme.example", "late@example.net")
		w.write("Subject: x\r\n\r\nMAIL FROM:<news@acme.example>\r\n")
		w.expect("421 4.4.2")
		w.write("RCPT TO:<late@example.net>\r\n.\r\n")
		if rest := w.closed(); rest != "" {
			t.Errorf("it goes on with %q", rest)
		}
	})
	t.Run("data byte by byte", func(t *testing.T) {
		w := g.loginWire(t, "shop")
		w.begin("news@acme.example", "late@example.net")
		done := make(chan struct{})
		defer close(done)
		go func() {
			for tick := time.NewTicker(100 * time.Millisecond); ; {
				select {
				case <-tick.C:
					io.WriteString(w.c, "x")
				case <-done:
					tick.Stop()
					return
				}
			}
		}()
		w.expect("421 4.4.2")
	})
	t.Run("500 idle connections", func(t *testing.T) {
		var idle []net.Conn
		full := ""
		for range 520 { // a few may be left over from before
			c, err := net.Dial("tcp", g.smtp)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetReadDeadline(time.Now().Add(wirePatience))
			b := make([]byte, 200)
			n, err := c.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			if full = string(b[:n]); !strings.HasPrefix(full, "220") {
				break
			}
			idle = append(idle, c)
		}
		if !strings.HasPrefix(full, "421 4.3.2") || len(idle) < 400 || len(idle) > 500 {
			t.Fatalf("%d connections, then %q", len(idle), full)
		}
		for i, c := range idle { // half of them say something without end
			if i%2 == 0 {
				io.WriteString(c, "EHLO ")
			}
		}
		for _, c := range idle {
			c.SetReadDeadline(time.Now().Add(wirePatience))
			if b, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(b), "421 4.4.2") {
				t.Fatalf("an idle connection got %q, %v", b, err)
			}
		}
		eventually(t, "room for new connections", func() bool {
			c, err := net.Dial("tcp", g.smtp)
			if err != nil {
				return false
			}
			defer c.Close()
			b := make([]byte, 3)
			c.SetReadDeadline(time.Now().Add(wirePatience))
			_, err = io.ReadFull(c, b)
			return err == nil && string(b) == "220"
		})
	})
	g.lives(t, up)
	for _, c := range up.Commands() {
		if strings.Contains(c, "late@") {
			t.Errorf("the upstream was told %q", c)
		}
	}
}
