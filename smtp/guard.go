package smtp

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

const (
	maxCommand   = 4096     // octets of a command line, extensions included (RFC 5321 section 4.5.3.1.4)
	maxSASLLine  = 12288    // and of one of a SASL dialogue (RFC 4954 section 4)
	narrowBuffer = 2 << 10  // of a connection that waits for commands
	wideBuffer   = 64 << 10 // of one that receives message data
	outBuffer    = 8 << 10  // replies that wait for a read (RFC 2920 section 3.2)
	replyAge     = time.Second
	lingerTime   = 2 * time.Second
	lingerBytes  = 1 << 20
	goodbyeTime  = 5 * time.Second
)

var (
	errTimedOut  = errors.New("the client was silent for too long")
	errDraining  = errors.New("the server is shutting down")
	errLineLong  = errors.New("line too long")
	errLineBreak = errors.New("bare CR or LF in a line")
)

// guard is the connection below the dialogue. It owns both buffers and every deadline: a read flushes the replies
// first, so that those of pipelined commands leave together, and after the first failure it reads no more.
type guard struct {
	raw    net.Conn // as accepted
	conn   net.Conn // raw, or TLS over it
	limits Limits
	wide   *sync.Pool

	small  [narrowBuffer]byte
	in     []byte
	r, w   int
	pooled *[]byte // in, while it is a wide one
	out    []byte
	oldest time.Time // when the first byte of out was written
	ended  error     // sticky: io.EOF or net.ErrClosed
	linger bool      // the client may still be sending: let it read our last words (RFC 1122 section 4.2.2.13)

	mu       sync.Mutex // of what Shutdown touches
	idle     bool       // blocked in a read outside a transaction
	busy     bool       // in a call of the Handler
	draining bool
	severed  bool
}

// fill reads once. between tells that no transaction is open: then a drain may end the wait.
func (g *guard) fill(deadline time.Time, between bool) error {
	if g.ended != nil {
		return g.ended
	}
	if err := g.flush(); err != nil {
		return err
	}
	g.room()

	g.mu.Lock()
	if g.severed || between && g.draining {
		g.mu.Unlock()
		return errDraining
	}
	g.idle = between
	g.conn.SetReadDeadline(deadline)
	g.mu.Unlock()

	n, err := g.conn.Read(g.in[g.w:])

	g.mu.Lock()
	g.idle = false
	stopped := g.severed || between && g.draining
	g.mu.Unlock()

	g.w += n
	var ne net.Error
	switch {
	case n > 0 || err == nil:
		return nil
	case errors.As(err, &ne) && ne.Timeout() && stopped:
		return errDraining
	case errors.As(err, &ne) && ne.Timeout():
		return errTimedOut
	}
	g.ended = io.EOF
	return io.EOF
}

// room makes space to read into. Only line asks with a full buffer, up to its limit.
func (g *guard) room() {
	if g.r == g.w {
		g.r, g.w = 0, 0
	}
	switch {
	case g.w < len(g.in):
	case g.r > 0:
		g.w = copy(g.in, g.in[g.r:g.w])
		g.r = 0
	default:
		g.replace(make([]byte, 2*len(g.in)), nil)
	}
}

func (g *guard) replace(b []byte, pooled *[]byte) {
	g.w = copy(b, g.in[g.r:g.w])
	g.r = 0
	if g.pooled != nil {
		g.wide.Put(g.pooled)
	}
	g.in, g.pooled = b, pooled
}

// widen takes a buffer that is worth a system call; narrow gives it back once what it holds fits the usual one.
func (g *guard) widen() {
	if len(g.in) < wideBuffer {
		b := g.wide.Get().(*[]byte)
		g.replace(*b, b)
	}
}

func (g *guard) narrow() {
	if len(g.in) > narrowBuffer && g.w-g.r <= narrowBuffer {
		g.replace(g.small[:], nil)
	}
}

// buffered is what was read and not yet used; used drops n bytes of it.
func (g *guard) buffered() []byte { return g.in[g.r:g.w] }
func (g *guard) used(n int)       { g.r += n }

// line reads one line without its CRLF, in one deadline from its first wait to its end. The slice is valid until
// the next read.
func (g *guard) line(sasl, between bool) ([]byte, error) {
	if g.ended != nil {
		return nil, g.ended
	}
	g.narrow()
	deadline := time.Now().Add(g.limits.CommandTimeout)
	for seen := 0; ; {
		b := g.buffered()
		if i := bytes.IndexByte(b[seen:], '\n'); i >= 0 {
			i += seen
			if tooLong(b[:i], sasl) {
				return nil, errLineLong
			}
			if i == 0 || b[i-1] != '\r' || bytes.IndexByte(b[:i-1], '\r') >= 0 {
				return nil, errLineBreak
			}
			g.used(i + 1)
			return b[: i-1 : i-1], nil
		}
		if seen = len(b); tooLong(b, sasl) {
			return nil, errLineLong
		}
		if err := g.fill(deadline, between); err != nil {
			return nil, err
		}
	}
}

func tooLong(line []byte, sasl bool) bool {
	sasl = sasl || len(line) > 5 && strings.EqualFold(string(line[:5]), "AUTH ")
	return len(line) > maxSASLLine || len(line) > maxCommand && !sasl
}

// put queues the bytes of a reply. An old one is not kept back while a slow Handler works on the next.
func (g *guard) put(b []byte) {
	if len(g.out) == 0 {
		g.oldest = time.Now()
	}
	g.out = append(g.out, b...)
	if len(g.out) > outBuffer || time.Since(g.oldest) > replyAge {
		g.flush()
	}
}

func (g *guard) flush() error {
	if len(g.out) == 0 {
		return nil
	}
	wait := g.limits.CommandTimeout
	g.mu.Lock()
	if g.severed {
		wait = min(wait, goodbyeTime)
	}
	g.mu.Unlock()
	g.conn.SetWriteDeadline(time.Now().Add(wait))
	_, err := g.conn.Write(g.out)
	g.out = g.out[:0]
	if err != nil {
		g.ended = io.EOF
		return io.EOF
	}
	return nil
}

// handshake makes the connection a TLS one. There is no way back: after a failure nothing more is read or said.
func (g *guard) handshake(ctx context.Context, config *tls.Config) error {
	ctx, cancel := context.WithTimeout(ctx, g.limits.CommandTimeout)
	defer cancel()
	g.raw.SetDeadline(time.Now().Add(g.limits.CommandTimeout))
	c := tls.Server(g.raw, config)
	if err := c.HandshakeContext(ctx); err != nil {
		g.ended = io.EOF
		return err
	}
	g.conn = c
	return nil
}

// close says what is still to be said and closes. Data that the client has in flight would make the kernel reset
// the connection and destroy the last reply, so that some of it is read first.
func (g *guard) close() {
	g.flush()
	if g.linger || g.r < g.w {
		deadline := time.Now().Add(lingerTime)
		g.raw.SetDeadline(deadline)
		if c, ok := g.conn.(*tls.Conn); ok {
			_ = c.CloseWrite() // it may be gone
		}
		if c, ok := g.raw.(interface{ CloseWrite() error }); ok && c.CloseWrite() == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(g.raw, lingerBytes))
		}
	}
	g.conn.Close()
	g.ended = net.ErrClosed
	if g.pooled != nil {
		g.wide.Put(g.pooled)
	}
	g.in, g.pooled, g.r, g.w = nil, nil, 0, 0
}

// drain ends the wait for the first command of a next transaction.
func (g *guard) drain() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.draining = true
	if g.idle {
		g.raw.SetReadDeadline(time.Unix(1, 0))
	}
}

// sever ends everything but a running call of the Handler, whose answer still goes out.
func (g *guard) sever() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.draining, g.severed = true, true
	if !g.busy {
		g.raw.Close()
	}
}

func (g *guard) setBusy(busy bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy = busy
}

func (g *guard) stopping(between bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.severed || between && g.draining
}
