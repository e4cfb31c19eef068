package smtp

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	gosmtp "github.com/emersion/go-smtp"
)

// ErrServerClosed is returned by Serve and ServeTLS once Shutdown was called.
var ErrServerClosed = errors.New("smtp: the server is shut down")

// Limits bound what clients may cost. A zero field takes the default in parentheses.
type Limits struct {
	Message        int64         // bytes of one message, exactly this many are accepted (25 MiB)
	Recipients     int           // of one transaction (1000)
	Connections    int           // at a time, over all listeners (1000)
	InFlight       int64         // bytes of message data held by all connections (256 MiB); at least 2 x Message
	CommandTimeout time.Duration // for one whole command line, a TLS handshake, writing a reply (60s)
	DataTimeout    time.Duration // between two reads of message data, and the head start of a slow sender (5m)
}

func (l Limits) withDefaults() Limits {
	l.Message = cmp.Or(l.Message, 25<<20)
	l.Recipients = cmp.Or(l.Recipients, 1000)
	l.Connections = cmp.Or(l.Connections, 1000)
	// A message is copied once when its buffer grows: with less than twice its size it could never be taken.
	l.InFlight = max(cmp.Or(l.InFlight, 256<<20), 2*l.Message+intakeStart)
	l.CommandTimeout = cmp.Or(l.CommandTimeout, time.Minute)
	l.DataTimeout = cmp.Or(l.DataTimeout, 5*time.Minute)
	return l
}

// Server is the door: what mail tools submit to. Its fields are set before the first Serve and not changed after.
type Server struct {
	Hostname string      // for the greeting, and the domain of <postmaster>
	TLS      *tls.Config // nil: no STARTTLS
	Limits   Limits
	Handler  Handler

	// Login names the account of a user and password. An error means that it could not tell (454). May be slow.
	// nil: no AUTH.
	Login func(ctx context.Context, user, password string) (account string, ok bool, err error)
	// Pass is the upstream that clients of an account log in at, nil where Login decides. Such a client is known by its
	// network (Trusted) and has no relay before its login. nil: none.
	Pass func(account string) *PassUpstream
	// Trusted names the account whose clients need no AUTH because of the network they are in. nil: none.
	Trusted func(netip.Addr) (account string, ok bool)

	Log       *slog.Logger    // nil: nothing is logged
	OnConnect func(delta int) // 1 as a connection is taken, -1 as it ends; nil: nothing
	OnLogin   func(ok bool)   // after every decided AUTH; nil: nothing

	once     sync.Once
	inner    *gosmtp.Server
	limits   Limits
	log      *slog.Logger
	budget   *budget
	throttle *throttle
	wide     sync.Pool // of *[]byte: the read buffers of connections that are receiving data
	base     context.Context
	cancel   context.CancelFunc

	mu        sync.Mutex
	closing   bool
	listeners map[net.Listener]struct{}
	dialogs   map[*dialog]struct{}
	accounts  map[string]int // connections by account, of those that have begun a transaction
	empty     chan struct{}  // closed when closing and the last dialog ended
}

func (s *Server) setUp() {
	s.limits = s.Limits.withDefaults()
	s.log = cmp.Or(s.Log, slog.New(slog.DiscardHandler))
	s.budget = newBudget(s.limits.InFlight, 2*s.limits.Message+intakeStart)
	s.throttle = newThrottle()
	s.wide.New = func() any { b := make([]byte, wideBuffer); return &b }
	s.base, s.cancel = context.WithCancel(context.Background())
	s.listeners = make(map[net.Listener]struct{})
	s.dialogs = make(map[*dialog]struct{})
	s.accounts = make(map[string]int)
	s.empty = make(chan struct{})

	// The dialog below it owns deadlines, sizes, TLS, the EHLO answer and the message data; go-smtp's own are off.
	s.inner = gosmtp.NewServer(gosmtp.BackendFunc(func(c *gosmtp.Conn) (gosmtp.Session, error) {
		return &session{c.Conn().(*dialog)}, nil
	}))
	s.inner.Domain = s.Hostname
	s.inner.MaxLineLength = 0
	s.inner.AllowInsecureAuth = true // session.Auth decides
	s.inner.EnableSMTPUTF8 = true
	s.inner.EnableDSN = true
	s.inner.ErrorLog = slog.NewLogLogger(s.log.Handler(), slog.LevelError)
}

// Serve answers clients of ln until it fails or Shutdown is called, then ErrServerClosed.
func (s *Server) Serve(ln net.Listener) error { return s.serve(ln, false) }

// ServeTLS is Serve with implicit TLS (RFC 8314 section 3.3).
func (s *Server) ServeTLS(ln net.Listener) error {
	if s.TLS == nil {
		return errors.New("smtp: implicit TLS needs a certificate")
	}
	return s.serve(ln, true)
}

func (s *Server) serve(ln net.Listener, implicit bool) error {
	s.once.Do(s.setUp)
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		ln.Close()
		return ErrServerClosed
	}
	s.listeners[ln] = struct{}{}
	s.mu.Unlock()

	err := s.inner.Serve(&doorListener{Listener: ln, server: s, implicit: implicit})

	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, ln)
	if s.closing {
		return ErrServerClosed
	}
	return err
}

// doorListener hands out guarded connections only, and turns away those over the limit.
type doorListener struct {
	net.Listener
	server   *Server
	implicit bool
}

func (l *doorListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if d := l.server.admit(c, l.implicit); d != nil {
			return d, nil
		}
	}
}

func (s *Server) admit(c net.Conn, implicit bool) *dialog {
	s.mu.Lock()
	full := len(s.dialogs) >= s.limits.Connections
	if s.closing || full {
		s.mu.Unlock()
		if full && !implicit {
			c.SetWriteDeadline(time.Now().Add(time.Second))
			_, _ = c.Write(appendReply(nil, TooManyConns, false)) // into an empty socket buffer: it does not wait
		}
		c.Close()
		return nil
	}
	d := newDialog(s, c, implicit)
	s.dialogs[d] = struct{}{}
	s.mu.Unlock()
	if s.OnConnect != nil {
		s.OnConnect(1)
	}
	return d
}

// share tells whether an account may begin a transaction on this connection. Of the last tenth of all connections none
// may have more than its part: clients of one whose upstream is slow pile up, and would leave none for the others.
func (s *Server) share(d *dialog) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count(d, d.account)
	scarce := s.limits.Connections - s.limits.Connections/10
	return d.account == "" || len(s.dialogs) <= scarce || s.accounts[d.account] <= max(1, scarce/len(s.accounts))
}

// count counts a connection for an account and no other.
func (s *Server) count(d *dialog, account string) {
	if d.counted == account {
		return
	}
	if s.accounts[d.counted]--; s.accounts[d.counted] <= 0 {
		delete(s.accounts, d.counted)
	}
	if d.counted = account; account != "" {
		s.accounts[account]++
	}
}

// gone is called when nothing runs for the dialog any more.
func (s *Server) gone(d *dialog) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.dialogs[d]; ok {
		delete(s.dialogs, d)
		s.count(d, "")
		if s.OnConnect != nil {
			s.OnConnect(-1)
		}
		s.closeEmpty()
	}
}

func (s *Server) closeEmpty() {
	if !s.closing || len(s.dialogs) > 0 {
		return
	}
	select {
	case <-s.empty:
	default:
		close(s.empty)
	}
}

// InFlight is the bytes of message data held now.
func (s *Server) InFlight() int64 {
	s.once.Do(s.setUp)
	return s.budget.inUse()
}

// Shutdown closes the listeners, answers 421 to clients outside a transaction and lets the others finish theirs.
// When ctx ends it cuts the connections, cancels the Handler's contexts, waits for its calls and returns ctx.Err().
func (s *Server) Shutdown(ctx context.Context) error {
	s.once.Do(s.setUp)
	defer s.cancel()

	s.mu.Lock()
	s.closing = true
	for ln := range s.listeners {
		ln.Close()
	}
	for d := range s.dialogs {
		d.drain()
	}
	s.closeEmpty()
	s.mu.Unlock()

	select {
	case <-s.empty:
		return nil
	case <-ctx.Done():
		s.cancel()
	}
	s.mu.Lock()
	late := len(s.dialogs) > 0
	for d := range s.dialogs {
		d.sever()
	}
	s.mu.Unlock()
	<-s.empty
	if late {
		return ctx.Err()
	}
	return nil
}
