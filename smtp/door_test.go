package smtp

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// doorHandler takes everything, unless told otherwise, and remembers it.
type doorHandler struct {
	recipient func(ctx context.Context, e Envelope, to string) Reply
	message   func(ctx context.Context, m Message) Reply

	mu  sync.Mutex
	got []Message
}

func (h *doorHandler) Recipient(ctx context.Context, e Envelope, to string) Reply {
	if h.recipient != nil {
		return h.recipient(ctx, e, to)
	}
	return Reply{250, [3]int{2, 1, 5}, "ok"}
}

func (h *doorHandler) Message(ctx context.Context, m Message) Reply {
	kept := m
	kept.Data = []byte(string(m.Data))
	h.mu.Lock()
	h.got = append(h.got, kept)
	h.mu.Unlock()
	if h.message != nil {
		return h.message(ctx, m)
	}
	return OK
}

func (h *doorHandler) messages() []Message {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.got
}

// fromElsewhere makes clients seem to come from elsewhere.
type fromElsewhere struct {
	net.Listener
	addr string
}

type elsewhereConn struct {
	*net.TCPConn
	addr net.Addr
}

func (c elsewhereConn) RemoteAddr() net.Addr { return c.addr }

func (l fromElsewhere) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return elsewhereConn{c.(*net.TCPConn), net.TCPAddrFromAddrPort(netip.MustParseAddrPort(l.addr))}, nil
}

type door struct {
	server  *Server
	handler *doorHandler
	addr    string
	served  chan error
}

type doorOption func(*Server, *doorSetup)

type doorSetup struct {
	peer     string
	implicit bool
}

func fromPeer(addr string) doorOption {
	return func(_ *Server, d *doorSetup) { d.peer = addr }
}

func withLimits(l Limits) doorOption { return func(s *Server, _ *doorSetup) { s.Limits = l } }

// openDoor serves on loopback: everyone there belongs to the account "crm"; user "crm", password "secret".
func openDoor(t testing.TB, options ...doorOption) *door {
	t.Helper()
	h := &doorHandler{}
	d := &door{handler: h, served: make(chan error, 1)}
	d.server = &Server{
		Hostname: "gw.test",
		TLS:      testTLS(t),
		Handler:  h,
		Trusted: func(a netip.Addr) (string, bool) {
			return "crm", a.IsLoopback()
		},
		Login: func(_ context.Context, user, password string) (string, bool, error) {
			if user == "broken" {
				return "", false, errors.New("secret detail of the store")
			}
			return user, user == "shop" && password == "secret", nil
		},
	}
	var setup doorSetup
	for _, o := range options {
		o(d.server, &setup)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.addr = ln.Addr().String()
	if setup.peer != "" {
		ln = fromElsewhere{ln, setup.peer}
	}
	go func() {
		if setup.implicit {
			d.served <- d.server.ServeTLS(ln)
		} else {
			d.served <- d.server.Serve(ln)
		}
	}()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		d.server.Shutdown(ctx)
		if err := <-d.served; !errors.Is(err, ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	return d
}

var testCertificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gw.test"}, DNSNames: []string{"gw.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

func testTLS(testing.TB) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{testCertificate()}, MinVersion: tls.VersionTLS12}
}

// rawClient is a client that says whatever it wants.
type rawClient struct {
	t testing.TB
	net.Conn
	in *bufio.Reader
}

func (d *door) dial(t testing.TB) *rawClient {
	t.Helper()
	c, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return &rawClient{t, c, bufio.NewReader(c)}
}

func (c *rawClient) send(raw string) {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, raw); err != nil {
		c.t.Fatalf("sending %.60q: %v", raw, err)
	}
}

// reply reads one whole reply, its lines joined by "\n".
func (c *rawClient) reply() string {
	c.t.Helper()
	var lines []string
	for {
		l, err := c.in.ReadString('\n')
		if err != nil {
			c.t.Fatalf("after %q: %v", lines, err)
		}
		if !strings.HasSuffix(l, "\r\n") {
			c.t.Fatalf("reply line %q does not end in CRLF", l)
		}
		lines = append(lines, strings.TrimSuffix(l, "\r\n"))
		if len(l) < 6 || l[3] != '-' {
			return strings.Join(lines, "\n")
		}
	}
}

func (c *rawClient) expect(want string) string {
	c.t.Helper()
	got := c.reply()
	if !matchReply(want, got) {
		c.t.Fatalf("got  %q\nwant %q", got, want)
	}
	return got
}

// matchReply: a star at the end of want stands for anything.
func matchReply(want, got string) bool {
	if p, ok := strings.CutSuffix(want, "*"); ok {
		return strings.HasPrefix(got, p)
	}
	return want == got
}

func (c *rawClient) expectClosed() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.in); err != nil || len(rest) > 0 {
		c.t.Fatalf("want the connection closed, got %q, %v", rest, err)
	}
}

// play runs a dialogue, one step a line: "C text" sends a line, "R text" the bytes as they are, both with Go's
// escapes; "S text" expects a reply (lines joined by \n, * for any rest); "TLS" starts TLS; "CLOSED".
func (c *rawClient) play(script string) {
	c.t.Helper()
	for step := range strings.Lines(script) {
		step = strings.TrimSpace(step)
		what, text, _ := strings.Cut(step, " ")
		text, err := strconv.Unquote(`"` + strings.ReplaceAll(text, `"`, `\"`) + `"`)
		if err != nil {
			c.t.Fatalf("script: %s: %v", step, err)
		}
		switch what {
		case "":
		case "C":
			c.send(text + "\r\n")
		case "R":
			c.send(text)
		case "S":
			if got := c.reply(); !matchReply(text, got) {
				c.t.Fatalf("at %q\n got %q", step, got)
			}
		case "TLS":
			c.startTLS()
		case "CLOSED":
			c.expectClosed()
		default:
			c.t.Fatalf("script: %q", step)
		}
	}
}

func (c *rawClient) startTLS() {
	c.t.Helper()
	tc := tls.Client(c.Conn, insecureTLS())
	if err := tc.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	c.Conn, c.in = tc, bufio.NewReader(tc)
}

func insecureTLS() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }
