package smtp

import (
	"bytes"
	"errors"
	"fmt"
	"time"
)

// bodyPiece is the most of a content that is written at once; each piece has its own deadline.
const bodyPiece = 64 << 10

var errHeard = errors.New("answered before its end")

// content sends the message and returns the answer to its final dot. It listens while it writes: a server may refuse
// a message in the middle of it and close (552, 421).
func (t *transaction) content() (Reply, error) {
	l := t.link
	l.inStep = false
	written := t.writing(len(t.m.Data) < bodyPiece/2, func() error { return t.write(t.m.Data) })
	reply, err := readAnswer(l.in)
	unwritten, early := t.stop(written)
	if err == nil && !reply.final() {
		err = fmt.Errorf("%w: %d after the message", errGarbage, reply.Code)
	}
	switch {
	case unwritten == nil && err != nil:
		return Reply{}, fmt.Errorf("%w: %w", ErrInDoubt, err)
	case unwritten != nil && early && err != nil:
		return Reply{}, fmt.Errorf("in the middle of the message: %w", err)
	case unwritten != nil && (err != nil || reply.Positive()):
		return Reply{}, fmt.Errorf("in the middle of the message: %w", unwritten)
	}
	// A refusal before the end may be followed by a second one: the connection is not to be trusted.
	if unwritten != nil || early && !reply.Positive() || reply.Code == 421 {
		l.broken = true
	}
	l.inStep = reply.Positive()
	return reply, nil
}

// write sends the content with its dots doubled (RFC 5321 section 4.5.2) and the final dot in the last piece. When it
// returns nil all of it was handed to the connection.
func (t *transaction) write(data []byte) error {
	l := t.link
	if cap(l.out) < bodyPiece {
		l.out = make([]byte, 0, bodyPiece)
	}
	add := func(b []byte) error {
		const room = bodyPiece - len("\r\n.\r\n")
		for len(b) > 0 {
			if len(l.out) >= room {
				if err := t.flush(); err != nil {
					return err
				}
			}
			n := min(room-len(l.out), len(b))
			l.out = append(l.out, b[:n]...)
			b = b[n:]
		}
		return nil
	}
	rest := data
	if bytes.HasPrefix(rest, []byte(".")) {
		l.out = append(l.out, '.')
	}
	for {
		i := bytes.Index(rest, []byte("\r\n."))
		if i < 0 {
			break
		}
		if err := add(rest[:i+3]); err != nil {
			return err
		}
		if err := add([]byte(".")); err != nil {
			return err
		}
		rest = rest[i+3:]
	}
	if err := add(rest); err != nil {
		return err
	}
	if len(data) > 0 && !bytes.HasSuffix(data, []byte("\r\n")) {
		l.out = append(l.out, "\r\n"...)
	}
	l.out = append(l.out, ".\r\n"...)
	t.beyond.Store(true)
	return t.flush()
}

// flush writes a piece of the content, unless the answer came already. The deadline is set first: either this sees
// that the answer was heard, or whoever heard it sets the later deadline.
func (t *transaction) flush() error {
	l := t.link
	l.conn.SetWriteDeadline(time.Now().Add(l.up.config.Timeout))
	if t.heard.Load() {
		return errHeard
	}
	_, err := l.conn.Write(l.out)
	l.out = l.out[:0]
	return err
}

// writing starts to write what the server may answer before its end; at once where it is small enough for the buffers.
// When it is done the answer has its time.
func (t *transaction) writing(small bool, write func() error) <-chan error {
	l := t.link
	l.conn.SetReadDeadline(time.Time{}) // set when the writing ends, which has deadlines of its own
	written := make(chan error, 1)
	run := func() {
		err := write()
		wait := l.up.answer
		if err != nil {
			wait = l.up.farewell
		}
		l.conn.SetReadDeadline(time.Now().Add(wait))
		written <- err
	}
	if small {
		run()
	} else {
		go run()
	}
	return written
}

// stop ends a writing that is still under way when the answer came; early tells that it was.
func (t *transaction) stop(written <-chan error) (unwritten error, early bool) {
	select {
	case err := <-written:
		return err, false
	default:
	}
	t.heard.Store(true)
	t.link.conn.SetWriteDeadline(time.Now()) // stops a write that is under way, not one that ended
	return <-written, true
}
