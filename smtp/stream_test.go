package smtp

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// pipeListener hands the server the far ends of pipes, as if they came from loopback.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
}

type pipeEnd struct{ net.Conn }

func (pipeEnd) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return pipeEnd{c}, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	select {
	case <-l.done:
	default:
		close(l.done)
	}
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// FuzzDialog: whatever a client says, the connection ends, nothing stays held, every reply is one, and what the
// Handler is given is fit to be sent on.
func FuzzDialog(f *testing.F) {
	const mail = "EHLO c\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n"
	for _, s := range []string{
		mail + "DATA\r\nSubject: x\r\n\r\n..\r\n.\r\nQUIT\r\n",
		mail + "BDAT 4\r\na\r\nbBDAT 5 LAST\r\n\r\nxyzMAIL FROM:<>\r\n",
		mail + "BDAT 4\r\na\r\nbRSET\r\nBDAT 0 LAST\r\nNOOP\r\n",
		mail + "DATA\r\na\r\n.\rXMAIL FROM:<x@y.test>\r\n.\r\n",
		"EHLO c\nMAIL FROM:<a@b>\n", "STARTTLS\r\n\x16\x03\x01", "EHLO c\r\nSTARTTLS\r\nNOOP\r\n",
		"EHLO c\r\nAUTH PLAIN AHNob3AAc2VjcmV0\r\nAUTH LOGIN\r\nDATA\r\n", "EHLO c\r\nAUTH LOGIN\r\nc2hvcA==\r\n*\r\nRSET\r\n",
		"EHLO c\r\nMAIL FROM:<ü@b> SMTPUTF8 ENVID=+41 RET=FULL SIZE=3 AUTH=<>\r\nRCPT TO:<\"a>\\\" b\"@c> NOTIFY=NEVER ORCPT=utf-8;\\x{FC}@b\r\nDATA\r\n.\r\n",
		"helo x\r\nvrfy y\r\nexpn\r\nhelp\r\nnoop x\r\n\r\nBDAT x\r\n", "EHLO c\r\nBDAT 3 LAST\r\nabcRCPT TO:<postmaster>\r\n",
	} {
		f.Add([]byte(s))
	}
	gone := make(chan struct{}, 1)
	var t *testing.T
	h := &doorHandler{recipient: func(_ context.Context, e Envelope, to string) Reply {
		for _, a := range []string{e.From, to} {
			if got, rest, err := parsePath("<"+a+">", "", e.UTF8); err != nil || got != a || rest != "" {
				t.Errorf("address %q reads as %q, %q, %v", a, got, rest, err)
			}
		}
		return Reply{250, [3]int{2, 1, 5}, to}
	}, message: func(_ context.Context, m Message) Reply {
		if bareLine.Match(m.Data) || !strings.HasSuffix(string(m.Data), "\r\n") || len(m.To) == 0 || m.Account == "" {
			t.Errorf("%+v", m)
		}
		return OK
	}}
	s := &Server{
		Hostname: "gw.test", TLS: testTLS(f), Handler: h, Limits: Limits{Message: 10_000, CommandTimeout: 5 * time.Second, DataTimeout: 5 * time.Second},
		Trusted: func(netip.Addr) (string, bool) { return "crm", true },
		Login:   func(_ context.Context, u, p string) (string, bool, error) { return u, p == "secret", nil },
		OnConnect: func(delta int) {
			if delta < 0 {
				gone <- struct{}{}
			}
		},
	}
	ln := &pipeListener{make(chan net.Conn), make(chan struct{})}
	go s.Serve(ln)
	f.Cleanup(func() { s.Shutdown(context.Background()) })

	f.Fuzz(func(tt *testing.T, in []byte) {
		t = tt
		h.got = nil
		ours, theirs := net.Pipe()
		ln.conns <- theirs
		said := make(chan string, 1)
		go func() {
			b, _ := io.ReadAll(ours)
			said <- string(b)
		}()
		ours.Write(in)
		ours.SetReadDeadline(time.Now().Add(10 * time.Millisecond)) // the replies that are still on their way
		out := <-said
		ours.Close()
		select {
		case <-gone:
		case <-time.After(10 * time.Second):
			t.Fatal("the connection does not end")
		}
		if n := s.InFlight(); n != 0 {
			t.Errorf("%d bytes are still held", n)
		}
		if strings.Contains(strings.ToUpper(string(in)), "STARTTLS") {
			return // what follows may be a TLS alert
		}
		whole := max(strings.LastIndex(out, "\r\n"), 0)
		for l := range strings.SplitSeq(out[:whole], "\r\n") {
			if whole == 0 {
				break
			}
			if len(l) < 4 || l[0] < '2' || l[0] > '5' || l[3] != ' ' && l[3] != '-' || strings.ContainsAny(l, "\r\n\x00") {
				t.Errorf("reply line %q", l)
			}
		}
	})
}
