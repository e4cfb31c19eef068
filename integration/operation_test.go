package integration

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"heed/smtp/smtptest"
)

// TestDrain: SIGTERM lets an open transaction finish, takes no new connection, and ends with exit 0.
func TestDrain(t *testing.T) {
	t.Parallel()
	up := smtptest.New(t, smtptest.Script{})
	g := newGateway(t, setting{"UPSTREAM", up.Addr()}).start()
	idle := g.loginWire(t, "shop")
	w := g.loginWire(t, "shop")
	w.begin(us, "k@spedition.de")
	w.write("From: news@acme.example\r\nMessage-ID: <drain@acme.example>\r\n\r\nhalf")
	g.cmd.Process.Signal(syscall.SIGTERM)
	idle.expect("421 4.3.2")
	eventually(t, "new connections to be refused", func() bool {
		c, err := net.Dial("tcp", g.smtp)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	w.write(" and half\r\n.\r\n")
	w.expect("250 ")
	w.closed()
	<-g.done
	if code := g.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit %d\n%s", code, g.log.String())
	}
	if n := len(ofMessage(up.Messages(), "drain@acme.example")); n != 1 {
		t.Errorf("delivered %d times", n)
	}
}

// TestWrongKeys: with another key file no opt-out would be found, so that nothing starts.
func TestWrongKeys(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.must("optouts", "add", "k@spedition.de")
	keys, err := os.ReadFile(g.dir + "/keys.json")
	if err != nil {
		t.Fatal(err)
	}
	other := newGateway(t)
	other.must("optouts", "list")
	for name, from := range map[string]string{"another's": other.dir + "/keys.json", "missing": ""} {
		os.Remove(g.dir + "/keys.json")
		if from != "" {
			if err := os.Link(from, g.dir+"/keys.json"); err != nil {
				t.Fatal(err)
			}
		}
		out, code := g.refused()
		if code != 2 || !strings.Contains(out, "restore") || !strings.Contains(out, "keys.json") {
			t.Errorf("%s key file: exit %d, %s", name, code, out)
		}
	}
	if err := os.WriteFile(g.dir+"/keys.json", keys, 0o600); err != nil {
		t.Fatal(err)
	}
	g.start()
	if out, code := g.run("optouts", "check", "k@spedition.de"); code != 1 {
		t.Errorf("the opt-out is gone: %s", out)
	}
}

// TestReload: SIGHUP takes over accounts, passwords and senders; a broken file changes nothing.
func TestReload(t *testing.T) {
	t.Parallel()
	up := smtptest.New(t, smtptest.Script{})
	g := newGateway(t, setting{"UPSTREAM", up.Addr()}).start()
	g.consented("k@spedition.de")
	login := func(account, password string) string {
		w := g.dialWire(t)
		w.ask("EHLO c", "250")
		w.write("AUTH PLAIN " + plain(account, password) + "\r\n")
		reply, err := w.answer()
		if err != nil {
			t.Fatal(err)
		}
		return reply[:3]
	}
	hup := func(says string) {
		t.Helper()
		before := strings.Count(g.log.String(), says)
		g.cmd.Process.Signal(syscall.SIGHUP)
		eventually(t, says, func() bool { return strings.Count(g.log.String(), says) > before })
	}
	open := g.loginWire(t, "crm") // logged in before: it goes on
	g.edit("{name: shop, password: secret", "{name: extra, password: other, sender: acme, topic: news, product: crm}\n  - {name: shop, password: changed")
	g.edit("1 High Street", "2 New Street")
	hup("reloaded")
	if a, b, c := login("shop", "secret"), login("shop", "changed"), login("extra", "other"); a != "535" || b != "235" || c != "235" {
		t.Errorf("old password %s, new password %s, new account %s", a, b, c)
	}
	if reply := open.send(us, "k@spedition.de", letter("moved@acme.example", "k@spedition.de", "")); !strings.HasPrefix(reply, "250") {
		t.Errorf("answered %q", reply)
	}
	if m := ofMessage(up.Messages(), "moved@acme.example"); len(m) != 1 || !strings.Contains(string(m[0].Data), "2 New Street") {
		t.Errorf("arrived as %+v", m)
	}
	for _, wrong := range []struct{ old, with string }{
		{"2 New Street", "3 Third Street\n    nonsense: true"},
		{"admin: {token: admin-secret}", "admin: {token: admin-secret"},
	} {
		whole, err := os.ReadFile(g.config)
		if err != nil {
			t.Fatal(err)
		}
		g.edit("password: changed", "password: third")
		g.edit(wrong.old, wrong.with)
		hup("reload refused")
		if a, b := login("shop", "changed"), login("shop", "third"); a != "235" || b != "535" {
			t.Errorf("after a broken file: old password %s, new password %s", a, b)
		}
		if err := os.WriteFile(g.config, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(g.config, g.config+".away"); err != nil {
		t.Fatal(err)
	}
	hup("reload refused")
	if a := login("shop", "changed"); a != "235" {
		t.Errorf("without a file: %s", a)
	}
	if err := os.Rename(g.config+".away", g.config); err != nil {
		t.Fatal(err)
	}
}

// TestDiskFull: with no room for the state nothing is accepted, and nothing breaks; with room again it works.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=8m"); err != nil {
		t.Skipf("a small disk cannot be mounted: %v (run as root)", err)
	}
	t.Cleanup(func() { syscall.Unmount(disk, syscall.MNT_DETACH) })
	up := smtptest.New(t, smtptest.Script{})
	g := newGateway(t, setting{"UPSTREAM", up.Addr()}, setting{"STATE", "sqlite:" + disk + "/state.db"}).start()
	g.consented("k@spedition.de")
	link := g.link(t, up, "k@spedition.de")
	filler, err := os.Create(disk + "/filler")
	if err != nil {
		t.Fatal(err)
	}
	defer filler.Close()
	fill := func() {
		for _, size := range []int{1 << 20, 4096, 1} {
			for {
				if _, err := filler.Write(make([]byte, size)); err != nil {
					break
				}
			}
		}
	}
	// The write-ahead log has some room of its own: mail is taken, and goes out, until that is used up too.
	refused := ""
	taken := []string{}
	for i := 0; refused == ""; i++ {
		if i == 3000 {
			t.Fatal("the disk never gets full")
		}
		fill()
		id := fmt.Sprintf("full%d@acme.example", i)
		reply, err := submit(g.smtp, "crm", us, []string{"k@spedition.de"}, letter(id, "k@spedition.de", ""))
		switch {
		case err != nil:
			t.Fatalf("no answer: %v\n%s", err, g.log.String())
		case strings.HasPrefix(reply, "250 "):
			taken = append(taken, id)
		case strings.HasPrefix(reply, "451 4.3.0") || strings.HasPrefix(reply, "452 4.3.1"):
			refused = id
		default:
			t.Fatalf("answered %q", reply)
		}
	}
	t.Logf("%d messages were taken until the log was full too", len(taken))
	if got := oneClick(link); got != http.StatusServiceUnavailable && got != http.StatusOK {
		t.Errorf("an opt-out on a full disk is answered %d", got)
	} else if out, code := g.run("optouts", "check", "k@spedition.de"); got == http.StatusOK && code != 1 {
		t.Errorf("an opt-out that was answered 200 is not there: %s", out)
	}
	if n := len(ofMessage(up.Seen(), refused)); n != 0 {
		t.Errorf("%s was refused and went out", refused)
	}
	for _, id := range taken {
		if n := len(ofMessage(up.Messages(), id)); n != 1 {
			t.Errorf("%s was taken and arrived %d times", id, n)
		}
	}
	if err := os.Remove(disk + "/filler"); err != nil {
		t.Fatal(err)
	}
	filler.Close()
	eventually(t, "mail to be taken again", func() bool {
		reply, err := submit(g.smtp, "shop", us, []string{"m@spedition.de"}, letter("room@acme.example", "m@spedition.de", ""))
		return err == nil && strings.HasPrefix(reply, "250 ")
	})
	if got := oneClick(link); got != http.StatusOK {
		t.Errorf("an opt-out with room again is answered %d", got)
	}
	g.lives(t, up)
	g.must("journal")
}
