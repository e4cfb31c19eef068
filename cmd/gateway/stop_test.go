package main

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	netsmtp "net/smtp"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"heed/config"
	"heed/smtp"
	"heed/smtp/smtptest"
	"heed/spool"
)

const stopConfig = `
hostname: gw.example
data_dir: %[1]s
keys: file:%[1]s/keys.json
public_url: http://127.0.0.1:8025
state: sqlite:%[1]s/state.db
listen: {smtp: ["127.0.0.1:0"], http: "127.0.0.1:0", admin: "127.0.0.1:0"}
upstreams: [{name: esp, url: "smtp://%[2]s"}]
reply_budget: 1s
senders: [{id: acme, name: Acme Ltd, postal_address: "1 High Street, London", country: GB, contact: p@acme.example, domains: [acme.example]}]
accounts: [{name: shop, networks: ["127.0.0.1/32"], sender: acme, category: transactional}]
`

// begin runs a gateway in this process.
func begin(t *testing.T, upstream string) *gateway {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "gateway.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, stopConfig, dir, upstream), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(file, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	p, err := openParts(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	g, err := start(p)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// left is what the spool of a stopped gateway holds.
func left(t *testing.T, g *gateway) (copies []smtp.Copy) {
	t.Helper()
	p, err := openParts(t.Context(), g.config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	waiting := &spool.Spool{Store: p.state}
	err = waiting.List(t.Context(), func(c smtp.Copy, _ time.Time) bool { copies = append(copies, c); return true })
	if err != nil {
		t.Fatal(err)
	}
	return copies
}

// A message that is on its way when we stop may have been delivered: it must not be tried again before its upstream has
// given it up (RFC 1047). A client that sends its message for ever takes none of the time for that.
func TestStopLeavesOpenTransactionsInDoubt(t *testing.T) {
	up := smtptest.New(t, smtptest.Script{Answers: map[string][]string{".": {smtptest.Silence}}})
	g := begin(t, up.Addr())
	g.patience = time.Second
	message := "From: shop@acme.example\r\nSubject: Order\r\n\r\nThank you\r\n"
	if err := netsmtp.SendMail(g.smtp[0].String(), nil, "shop@acme.example", []string{"a@b.example"}, []byte(message)); err != nil {
		t.Fatal(err)
	}
	slow, err := net.Dial("tcp", g.smtp[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	fmt.Fprint(slow, "EHLO c\r\nMAIL FROM:<shop@acme.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nFrom: shop@acme.example\r\n")
	for in := bufio.NewScanner(slow); in.Scan() && !strings.HasPrefix(in.Text(), "354"); {
	}
	if err := g.stop(); err == nil || !strings.Contains(err.Error(), context.DeadlineExceeded.Error()) {
		t.Errorf("the slow client was not cut: %v", err)
	}
	copies := left(t, g)
	if len(copies) != 1 || copies[0].Attempts != 1 || !strings.Contains(copies[0].Last, "may have been delivered") || time.Until(copies[0].Due) < 9*time.Minute {
		t.Errorf("left in the spool: %+v", copies)
	}
}
