package smtp

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

const (
	maxIdleSteps = 1000 // commands of an account that bring no recipient
	maxStranger  = 100  // of a client without one
	unknownCost  = 10   // what an unknown command counts for
	recipientMax = time.Minute
	messageMax   = 15 * time.Minute
)

// dialog is the net.Conn that go-smtp serves: it sees one checked command line at a time. EHLO, STARTTLS, BDAT and
// the data of DATA never reach it; a reply given here takes the place of go-smtp's.
type dialog struct {
	guard
	server   *Server
	id       string
	log      *slog.Logger
	implicit bool // TLS from the first byte
	started  bool

	peer    netip.Addr
	helo    string
	tls     bool
	account string
	counted string     // the account that this connection is counted for, under Server.mu
	auth    bool       // the client authenticated
	login   *PassLogin // where that was at the upstream
	tries   int        // failed logins
	idling  int        // commands since the last one that asked the Handler

	toServe []byte // what go-smtp reads next
	mute    bool   // the command was answered: what go-smtp says to it is dropped
	sasl    bool   // the next line is a SASL response
	over    bool   // go-smtp was told that the connection ended
	path    string // of the MAIL or RCPT in progress, validated and re-quoted
	size    int64  // of the MAIL in progress

	tx submission
}

// submission is the transaction that MAIL opened.
type submission struct {
	open bool
	env  Envelope
	to   []Recipient
	body *body // BDAT: chunks so far
}

func newDialog(s *Server, c net.Conn, implicit bool) *dialog {
	id := NewID()
	d := &dialog{server: s, id: id, implicit: implicit, log: s.log.With("connection", id)}
	d.guard = guard{raw: c, conn: c, limits: s.limits, wide: &s.wide}
	d.in = d.small[:]
	return d
}

// start runs on the connection's own goroutine: behind a PROXY header or TLS it may take a while.
func (d *dialog) start() {
	d.started = true
	if a, err := netip.ParseAddrPort(d.raw.RemoteAddr().String()); err == nil {
		d.peer = a.Addr().Unmap()
	}
	if d.implicit {
		if err := d.handshake(d.server.base, d.server.TLS); err != nil {
			d.log.Info("TLS handshake failed", "peer", d.peer, "error", err)
			return
		}
		d.tls = true
	}
	if d.server.Trusted != nil && d.peer.IsValid() {
		if account, ok := d.server.Trusted(d.peer); ok {
			d.account = account
		}
	}
}

// Write queues go-smtp's replies.
func (d *dialog) Write(b []byte) (int, error) {
	if !d.started {
		d.start()
	}
	if !d.mute && d.ended == nil {
		d.sasl = strings.HasPrefix(string(b), "334")
		d.put(b)
	}
	return len(b), nil
}

// Read gives go-smtp its next command line. Every end is an io.EOF to it: the last words were said here. A panic
// ends this connection and no other.
func (d *dialog) Read(p []byte) (n int, err error) {
	defer func() {
		if r := recover(); r != nil {
			d.log.Error("panic", "panic", fmt.Sprintf("%T", r), "stack", string(debug.Stack()))
			d.ended, d.over = io.EOF, true
			n, err = 0, io.EOF
		}
	}()
	if len(d.toServe) == 0 {
		line, err := d.next()
		if err != nil {
			d.finish(err)
			d.over = true
			return 0, io.EOF
		}
		d.toServe = append(append(d.toServe[:0], line...), '\r', '\n')
	}
	n = copy(p, d.toServe)
	d.toServe = d.toServe[n:]
	return n, nil
}

// finish says why we leave, where that is of use to the client.
func (d *dialog) finish(err error) {
	switch {
	case errors.Is(err, errTimedOut):
		d.hangUp(Reply{421, [3]int{4, 4, 2}, "timeout, closing the connection"})
	case errors.Is(err, errDraining):
		d.hangUp(Reply{421, [3]int{4, 3, 2}, "the gateway is shutting down"})
		d.linger = false // Shutdown does not wait for the client to hang up
	case errors.Is(err, errLineLong):
		d.hangUp(Reply{500, [3]int{5, 5, 2}, "command line too long, closing the connection"})
	case errors.Is(err, errLineBreak):
		d.hangUp(BadLineEnding.With("bare CR or LF in command, closing the connection"))
	case errors.Is(err, errBareLine):
		d.hangUp(BadLineEnding.With("%s, closing the connection", BadLineEnding.Text))
	}
}

// Close is called by go-smtp, at the latest when its goroutine for this connection ends.
func (d *dialog) Close() error {
	if !errors.Is(d.ended, net.ErrClosed) {
		d.close()
	}
	d.clear()
	if d.login != nil {
		d.login.Release()
		d.login = nil
	}
	if d.over {
		d.server.gone(d)
	}
	return nil
}

// The addresses and deadlines as net.Conn has them; the deadlines are the guard's.
func (d *dialog) LocalAddr() net.Addr              { return d.raw.LocalAddr() }
func (d *dialog) RemoteAddr() net.Addr             { return d.raw.RemoteAddr() }
func (d *dialog) SetDeadline(time.Time) error      { return nil }
func (d *dialog) SetReadDeadline(time.Time) error  { return nil }
func (d *dialog) SetWriteDeadline(time.Time) error { return nil }

// reply answers the command in progress, in place of go-smtp. 421 closes (RFC 5321 section 3.8).
func (d *dialog) reply(r Reply) {
	if d.ended != nil {
		return
	}
	d.put(appendReply(nil, r, d.tx.env.UTF8))
	d.mute = true
	if r.Code == 421 {
		d.flush()
		d.ended, d.linger = io.EOF, true
	}
}

// hangUp is the last reply.
func (d *dialog) hangUp(r Reply) {
	d.reply(r)
	if d.ended == nil {
		d.flush()
		d.ended, d.linger = io.EOF, true
	}
}

// ask calls the Handler and sends its answer before Shutdown may cut the connection. A panic costs one reply.
func (d *dialog) ask(limit time.Duration, call func(context.Context) Reply) Reply {
	ctx, cancel := context.WithTimeout(d.server.base, limit)
	defer cancel()
	d.idling = 0
	d.setBusy(true)
	defer d.setBusy(false)
	r := d.recovered(ctx, call)
	d.reply(r)
	if d.stopping(true) {
		d.flush()
	}
	return r
}

func (d *dialog) recovered(ctx context.Context, call func(context.Context) Reply) (r Reply) {
	defer func() {
		if p := recover(); p != nil {
			what := fmt.Sprintf("%T", p) // its text may hold an address
			if e, ok := p.(runtime.Error); ok {
				what = e.Error()
			}
			id := NewID()
			d.log.Error("panic", "id", id, "message", d.tx.env.ID, "panic", what, "stack", string(debug.Stack()))
			r = OurFault.With("%s, see %s in its log", OurFault.Text, id)
		}
	}()
	return call(ctx)
}

// clear forgets the transaction.
func (d *dialog) clear() {
	if d.tx.body != nil {
		d.tx.body.release()
	}
	d.tx = submission{}
}

// next reads command lines until one is for go-smtp.
func (d *dialog) next() ([]byte, error) {
	if !d.started {
		d.start()
	}
	for {
		if d.ended != nil {
			return nil, d.ended
		}
		if d.stopping(!d.tx.open) {
			return nil, errDraining
		}
		line, err := d.line(d.sasl, !d.tx.open)
		if err != nil {
			return nil, err
		}
		d.mute = false
		if d.sasl {
			d.sasl = false
			return d.saslLine(line), nil
		}
		if forward := d.command(string(line)); forward != "" {
			return []byte(forward), nil
		}
	}
}

// saslLine passes a response on if it can be one; go-smtp would answer bad base64 with a temporary code.
func (d *dialog) saslLine(line []byte) []byte {
	if s := string(line); s != "*" && s != "=" && !isBase64(s) {
		d.reply(Reply{501, [3]int{5, 5, 2}, "malformed base64"})
		return []byte("*")
	}
	return line
}

func isBase64(s string) bool {
	_, err := base64.StdEncoding.DecodeString(s)
	return err == nil
}
