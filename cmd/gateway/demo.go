package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/smtp"
	"net/textproto"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"heed/config"
	"heed/policy"
	heedsmtp "heed/smtp"
	"heed/store"
)

type demoCmd struct {
	Once bool `help:"Exit after the samples: 0 if every verdict was the expected one."`
}

//go:embed demo/gateway.yaml
var demoConfig []byte

//go:embed demo/contacts.csv
var demoContacts string

// sample is one mail of the demo and what must become of it: a reason code, or "" for sent.
type sample struct {
	account, from, to, subject, code string
}

// kind is what the mail is, for the table.
func (s sample) kind() string {
	switch {
	case s.account == "shop":
		return "invoice"
	case !strings.HasSuffix(s.from, "@acme.example"):
		return "forged From:"
	}
	return "newsletter"
}

var samples = []sample{
	{"crm", "news@acme.example", "klaus.schmidt@spedition.example", "Routenplanung im Herbst", ""},
	{"crm", "news@acme.example", "petra.vogel@fracht.example", "Routenplanung im Herbst", "consent.unconfirmed"},
	{"crm", "news@acme.example", "max.weber@spediteur.de", "Routenplanung im Herbst", "consent.missing"},
	{"crm", "news@acme.example", "james.isilay@haulage.example", "Autumn routing", ""},
	{"crm", "news@acme.example", "info@transports.example", "Autumn routing", ""},
	{"crm", "news@acme.example", "anna.huber@logistik.example", "Routenplanung im Herbst", ""},
	{"crm", "news@acme.example", "erik.lang@cargo.example", "Routenplanung im Herbst", "softoptin.entity"},
	{"crm", "news@acme.example", "giulia.rossi@trasporti.example", "Autumn routing", "softoptin.not_permitted"},
	{"crm", "news@acme.example", "jan.kowalski@przewozy.example", "Autumn routing", "consent.expired"},
	{"crm", "news@acme.example", "sanne.devries@vervoer.example", "Autumn routing", "optout.sender"},
	{"crm", "news@acme.example", "mary.jones@gmail.com", "Autumn routing", "consent.missing"},
	{"crm", "news@elsewhere.example", "james.isilay@haulage.example", "Autumn routing", "sender.domain"},
	{"shop", "orders@acme.example", "sanne.devries@vervoer.example", "Your invoice 4714", ""},
}

// optedOut objected before the demo begins.
const optedOut = "sanne.devries@vervoer.example"

// Run plays the samples over real SMTP in front of an upstream that captures; nothing leaves the machine.
func (c *demoCmd) Run(a *app) error {
	dir, err := os.MkdirTemp("", "heed-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	mailbox := &capture{}
	upstream, err := mailbox.start()
	if err != nil {
		return err
	}
	var tell atomic.Bool
	g, err := startDemo(a.ctx, dir, upstream, narrator{out: a.out, on: &tell})
	if err != nil {
		return errors.Join(err, mailbox.stop())
	}
	err = c.play(a, g, mailbox, &tell)
	return errors.Join(err, g.stop(), mailbox.stop())
}

func startDemo(ctx context.Context, dir, upstream string, tell narrator) (*gateway, error) {
	env := map[string]string{
		"DEMO_DIR": dir, "DEMO_UPSTREAM": upstream,
		"DEMO_SMTP": freeAddress("2525"), "DEMO_HTTP": freeAddress("8025"), "DEMO_ADMIN": freeAddress("8026"),
	}
	conf, err := config.Parse("demo/gateway.yaml", demoConfig, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	if err != nil {
		return nil, err
	}
	p, err := openParts(ctx, conf, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	if err := p.fill(ctx); err != nil {
		p.close()
		return nil, err
	}
	tell.State = p.state
	p.state, p.relay.Journal = tell, tell
	return start(p)
}

// narrator prints what goes into the journal, once it is on.
type narrator struct {
	store.State
	out io.Writer
	on  *atomic.Bool
}

// Record journals and tells.
func (n narrator) Record(ctx context.Context, entries []policy.Entry) error {
	err := n.State.Record(ctx, entries)
	for _, e := range entries {
		if n.on.Load() && err == nil {
			if e.Recipient == "" { // who opts out by a link is known by key alone
				e.Recipient, _ = n.Address(ctx, e.Person)
			}
			fmt.Fprintln(n.out, entryText(e))
		}
	}
	return err
}

// freeAddress is the usual port on loopback, or any free one.
func freeAddress(port string) string {
	for _, address := range []string{"127.0.0.1:" + port, "127.0.0.1:0"} {
		if ln, err := net.Listen("tcp", address); err == nil {
			defer ln.Close()
			return ln.Addr().String()
		}
	}
	return "127.0.0.1:" + port // the listener will say why not
}

// fill puts the sample contacts and the one opt-out into the state.
func (p *parts) fill(ctx context.Context) error {
	file, err := policy.OpenContacts(strings.NewReader(demoContacts), p.senderIDs())
	if err != nil {
		return err
	}
	contacts := map[string]policy.Contact{}
	for {
		_, _, contact, err := file.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		contacts[p.keys.AddressKey().Person(contact.Address)] = contact
	}
	if err := p.state.Merge(ctx, contacts); err != nil {
		return err
	}
	o := policy.OptOut{Scope: policy.ScopeSender, Sender: "acme", At: time.Now().AddDate(0, -1, 0), Via: "page"}
	_, err = p.state.AddOptOut(ctx, p.keys.AddressKey().Person(optedOut), optedOut, o)
	return err
}

func (c *demoCmd) play(a *app, g *gateway, mailbox *capture, tell *atomic.Bool) error {
	unexpected := 0
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "RECIPIENT\tCOUNTRY\tVERDICT\tMAIL\tREASON")
	for _, s := range samples {
		country, err := g.country(a.ctx, s)
		if err != nil {
			return err
		}
		code, reply := g.submit(s)
		verdict := "sent"
		if code != "" {
			verdict = "blocked"
		}
		if code != s.code {
			verdict += " (unexpected)"
			unexpected++
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", s.to, country, verdict, s.kind(), reply)
	}
	w.Flush()
	link, to := mailbox.link()
	if link == "" {
		return errors.New("no opt-out link was captured")
	}
	c.guide(a, g, link, to)
	if unexpected > 0 {
		fmt.Fprintf(a.err, "gateway: %d of %d verdicts are not the expected ones\n", unexpected, len(samples))
		return errRefused
	}
	if !c.Once {
		fmt.Fprintln(a.out, "\nRunning until Ctrl-C. Decisions and opt-outs from now on:")
		tell.Store(true)
		<-a.ctx.Done()
	}
	return nil
}

// country is where the gateway takes the recipient to be, and what told it so.
func (g *gateway) country(ctx context.Context, s sample) (string, error) {
	decisions, err := g.relay.Check(ctx, policy.Inquiry{Account: s.account, Recipients: []string{s.to}})
	if err != nil {
		return "", err
	}
	if c := decisions[0].Country; c.Code != "" {
		return fmt.Sprintf("%s (%s)", c.Code, c.From), nil
	}
	return "unknown", nil
}

var reasonCode = regexp.MustCompile(`\[([a-z_]+\.[a-z_]+)\] (.*?)(?: \(decision|$)`)

// submit sends a sample as a mail tool would and reads the verdict off the reply.
func (g *gateway) submit(s sample) (code, reason string) {
	body := fmt.Sprintf("From: Acme <%s>\r\nTo: <%s>\r\nSubject: %s\r\nMessage-ID: <%s@acme.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nHello,\r\n\r\nsee what is new: https://acme.example/news\r\n",
		s.from, s.to, s.subject, heedsmtp.NewID())
	address := g.smtp[0].String()
	err := smtp.SendMail(address, smtp.PlainAuth("", s.account, "demo", "127.0.0.1"), s.from, []string{s.to}, []byte(body))
	var reply *textproto.Error
	switch {
	case err == nil:
		return "", "the upstream took it"
	case errors.As(err, &reply):
		if m := reasonCode.FindStringSubmatch(reply.Msg); m != nil {
			return m[1], "[" + m[1] + "] " + m[2]
		}
	}
	return "error", err.Error()
}

func (c *demoCmd) guide(a *app, g *gateway, link, to string) {
	fmt.Fprintf(a.out, `
Opt-out page of %[1]s (opening it changes nothing):
  %[2]s
One click, as a mail provider sends it, and the same mail again, which is then blocked:
  curl -d List-Unsubscribe=One-Click '%[2]s'
  printf 'From: news@acme.example\r\nTo: %[1]s\r\nSubject: again\r\n\r\nHello\r\n' | curl -sS --url smtp://%[3]s --user crm:demo --mail-from news@acme.example --mail-rcpt %[1]s -T -
Point a mail tool at: host %[4]s, port %[5]s, user crm (marketing) or shop (transactional), password demo, From: anything@acme.example
Admin: http://%[6]s/readyz  http://%[6]s/metrics  POST http://%[6]s/api/v1/check
`, to, link, g.smtp[0], host(g.smtp[0]), port(g.smtp[0]), g.admin)
}

func host(a net.Addr) string { h, _, _ := net.SplitHostPort(a.String()); return h }
func port(a net.Addr) string { _, p, _ := net.SplitHostPort(a.String()); return p }

// capture is an upstream within the process: it takes everything from loopback and keeps the last messages.
type capture struct {
	server heedsmtp.Server
	done   chan error
	mu     sync.Mutex
	kept   []heedsmtp.Message
}

const captured = 100 // messages kept

func (c *capture) start() (address string, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	c.server.Hostname, c.server.Handler = "capture.heed.example", c
	c.server.Trusted = func(ip netip.Addr) (string, bool) { return "capture", ip.Unmap().IsLoopback() }
	c.done = make(chan error, 1)
	go func() { c.done <- c.server.Serve(ln) }()
	return ln.Addr().String(), nil
}

func (c *capture) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := c.server.Shutdown(ctx)
	if served := <-c.done; !errors.Is(served, heedsmtp.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// Recipient takes everyone.
func (c *capture) Recipient(context.Context, heedsmtp.Envelope, string) heedsmtp.Reply {
	return heedsmtp.OK
}

// Message keeps a copy.
func (c *capture) Message(_ context.Context, m heedsmtp.Message) heedsmtp.Reply {
	m.Data = bytes.Clone(m.Data)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kept = append(c.kept, m); len(c.kept) > captured {
		c.kept = c.kept[1:]
	}
	return heedsmtp.OK.With("captured")
}

var unsubscribeField = regexp.MustCompile(`(?i)\r\nList-Unsubscribe:[^<]*<([^>]+)>`)

// link is the opt-out link of the first captured marketing mail, and whose it is.
func (c *capture) link() (url, to string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.kept {
		if found := unsubscribeField.FindSubmatch(m.Data); found != nil {
			return strings.Join(strings.Fields(string(found[1])), ""), m.To[0].Address
		}
	}
	return "", ""
}
