package smtp

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// link is one connection to an upstream. Its owner uses it from one goroutine; cut may be called from any.
type link struct {
	up      *Upstream
	socket  net.Conn // TCP
	conn    net.Conn // what is spoken over: the socket or TLS on it
	records *records // between the two; nil without TLS
	in      *bufio.Reader
	out     []byte            // what is written next; its space is used again
	offers  map[string]string // EHLO keywords, upper case, with their parameters
	welcome Reply             // to the login
	reused  bool              // a transaction, or a client's login, went over it before
	rested  bool              // it was unused for a time: the server may have closed it since
	dirty   bool              // a transaction was left open: RSET before the next
	broken  bool              // not to be used again
	chunks  bool              // the server showed that it takes BDAT as RFC 3030 says
	inStep  bool              // the last answer was a yes, so no second one can be under way
	bare    bool              // the server refuses the parameters it offers: those that can be left out are
	used    time.Time         // made, or used last
	carried int               // messages
}

// connect makes a usable connection. One that BDAT must not be tried on is replaced at once: only its server's
// CHUNKING is at fault.
func (u *Upstream) connect(ctx context.Context) (*link, error) {
	if u.config.ConnectTimeout > 0 {
		limited, cancel := context.WithTimeout(ctx, u.config.ConnectTimeout)
		defer cancel()
		ctx = limited
	}
	l, err := u.establish(ctx)
	if errors.Is(err, errChunking) && ctx.Err() == nil {
		u.distrust(&u.noChunks)
		return u.establish(ctx)
	}
	return l, err
}

// establish dials, greets, secures and logs in.
func (u *Upstream) establish(ctx context.Context) (*link, error) {
	socket, err := u.dial(ctx)
	if err != nil {
		return nil, err
	}
	l := &link{up: u, socket: socket}
	l.over(socket)
	stop := context.AfterFunc(ctx, l.cut)
	err = l.prepare()
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		l.cut()
		return nil, err
	}
	return l, nil
}

func (u *Upstream) dialTCP(ctx context.Context) (net.Conn, error) {
	dialer := net.Dialer{Timeout: u.config.Timeout}
	socket, err := dialer.DialContext(ctx, "tcp", u.config.Address)
	if err != nil {
		return nil, err
	}
	if tcp, ok := socket.(*net.TCPConn); ok {
		_ = tcp.SetNoDelay(true) // a command must not wait for the acknowledgement of the last one
	}
	return socket, nil
}

func (l *link) prepare() error {
	if l.up.config.Security == Implicit {
		if err := l.secure(); err != nil {
			return err
		}
	}
	greeting, err := l.read("greeting")
	if err != nil {
		return err
	}
	switch {
	case greeting.Temporary():
		return TurnedAwayError{greeting}
	case greeting.Code != 220: // 5yz: it takes no mail at all (RFC 7504)
		return refusal("the connection", greeting)
	}
	if err := l.hello(); err != nil {
		return err
	}
	if l.up.config.Security == StartTLS {
		if err := l.startTLS(); err != nil {
			return err
		}
		if err := l.hello(); err != nil {
			return err
		}
	}
	if l.up.config.Username != "" {
		if err := l.login(); err != nil {
			return err
		}
	}
	if l.offered("PIPELINING") && l.offered("CHUNKING") && !l.up.distrusts(&l.up.noChunks) && !l.up.distrusts(&l.up.lockStep) {
		return l.tryChunk()
	}
	return nil
}

// over makes conn what is spoken over, with empty buffers.
func (l *link) over(conn net.Conn) {
	l.conn, l.in = conn, bufio.NewReaderSize(conn, maxAnswerLine)
}

// hello says EHLO, to servers that do not know it HELO (RFC 5321 section 3.2).
func (l *link) hello() error {
	reply, err := l.command("EHLO", "EHLO "+l.up.config.Hostname)
	if err != nil {
		return err
	}
	l.offers = map[string]string{}
	if reply.Permanent() {
		if reply, err = l.command("HELO", "HELO "+l.up.config.Hostname); err != nil {
			return err
		}
		if !reply.Positive() {
			return refusal("HELO", reply)
		}
		return nil
	}
	if !reply.Positive() {
		return refusal("EHLO", reply)
	}
	for i, line := range strings.Split(reply.Text, "\n") {
		if i == 0 {
			continue // the server's name
		}
		keyword, params, _ := strings.Cut(line, " ")
		if old, found := strings.CutPrefix(strings.ToUpper(keyword), "AUTH="); found { // QUIRK: before RFC 2554
			keyword, params = "AUTH", old+" "+params
		}
		keyword = strings.ToUpper(keyword)
		l.offers[keyword] = strings.TrimSpace(l.offers[keyword] + " " + params)
	}
	return nil
}

// refusal is what a reply to a command before MAIL makes of the connection. A 421 may come at any command and says
// nothing about it (RFC 5321 section 3.8).
func refusal(at string, r Reply) error {
	if r.Code == 421 {
		return TurnedAwayError{r}
	}
	return UnservedError{at, r}
}

func (l *link) startTLS() error {
	if !l.offered("STARTTLS") {
		return errors.New("the upstream does not offer STARTTLS")
	}
	reply, err := l.command("STARTTLS", "STARTTLS")
	if err != nil {
		return err
	}
	if reply.Code != 220 {
		return refusal("STARTTLS", reply)
	}
	if l.in.Buffered() > 0 { // answers injected before TLS would be read as the server's (CVE-2011-0411)
		return errors.New("the upstream sent plain text after its answer to STARTTLS")
	}
	return l.secure()
}

func (l *link) secure() error {
	l.records = newRecords(l.socket)
	conn := tls.Client(l.records, l.up.tls)
	ctx, cancel := context.WithTimeout(context.Background(), l.up.config.Timeout)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	l.over(conn)
	return nil
}

// login authenticates by PLAIN, else by LOGIN, over TLS or to loopback only.
func (l *link) login() error {
	if _, secured := l.conn.(*tls.Conn); !secured {
		peer, ok := l.socket.RemoteAddr().(*net.TCPAddr)
		if !ok || !peer.IP.IsLoopback() {
			return errors.New("credentials are sent over TLS only, except to loopback")
		}
	}
	var steps []string
	user, password := l.up.config.Username, l.up.config.Password
	switch mechanisms := strings.Fields(strings.ToUpper(l.offers["AUTH"])); {
	case slices.Contains(mechanisms, "PLAIN"): // RFC 4616
		steps = []string{"AUTH PLAIN " + encode64("\x00"+user+"\x00"+password)}
	case slices.Contains(mechanisms, "LOGIN"):
		steps = []string{"AUTH LOGIN", encode64(user), encode64(password)}
	default:
		return errors.New("the upstream offers neither AUTH PLAIN nor AUTH LOGIN")
	}
	for i, step := range steps {
		reply, err := l.command("AUTH", step)
		if err != nil {
			return err
		}
		switch last := i == len(steps)-1; {
		case !last && reply.Code == 334 || last && reply.Code == 235:
			l.welcome = reply
		default:
			for _, secret := range []string{strings.TrimPrefix(steps[0], "AUTH PLAIN "), encode64(password), password} {
				if secret != "" {
					reply.Text = strings.ReplaceAll(reply.Text, secret, "***")
				}
			}
			return refusal("AUTH", reply)
		}
	}
	return nil
}

// command writes one line and reads its answer.
func (l *link) command(name, line string) (Reply, error) {
	l.out = append(append(l.out[:0], line...), "\r\n"...)
	if err := l.flush(); err != nil {
		return Reply{}, fmt.Errorf("%s: %w", name, err)
	}
	return l.read(name)
}

// flush writes out, all in one.
func (l *link) flush() error {
	l.conn.SetWriteDeadline(time.Now().Add(l.up.config.Timeout))
	_, err := l.conn.Write(l.out)
	l.out = l.out[:0]
	return err
}

// read reads the answer to what name says.
func (l *link) read(name string) (Reply, error) {
	l.conn.SetReadDeadline(time.Now().Add(l.up.config.Timeout))
	reply, err := readAnswer(l.in)
	if err != nil {
		return Reply{}, fmt.Errorf("answer to %s: %w", name, err)
	}
	return reply, nil
}

func (l *link) offered(keyword string) bool {
	_, ok := l.offers[keyword]
	return ok
}

// sizeLimit is the largest message the upstream declares to take, 0 if it names none (RFC 1870 section 4).
func (l *link) sizeLimit() int64 {
	n, err := strconv.ParseInt(l.offers["SIZE"], 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// cut closes the connection at once; whoever reads or writes it gets an error.
func (l *link) cut() { l.socket.Close() }

// quit ends an unused connection politely.
func (l *link) quit() {
	defer l.cut()
	l.conn.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := l.conn.Write([]byte("QUIT\r\n")); err == nil {
		_, _ = readAnswer(l.in)
	}
}

func encode64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
