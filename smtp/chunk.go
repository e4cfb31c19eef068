package smtp

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// maxChunk is the largest content that goes by BDAT. A larger one takes longer than the round trip that BDAT saves, and
// would be sent for nothing where the recipient is refused.
const maxChunk = 256 << 10

var errChunking = errors.New("the upstream offers CHUNKING and does not take BDAT as RFC 3030 says")

// tryChunk finds out, once for each connection, whether content may be sent before the envelope was taken. There are
// servers that do not know the BDAT they offer, and servers that leave the chunk of a refused BDAT in the stream
// (QUIRK: go-smtp, its issue 315): both would carry out the content as commands, in our name. So a BDAT that must be
// refused goes first, and its chunk is QUIT: 221 says that it was carried out, and then nothing was lost.
// It costs no time: the first message saves the round trip that this takes.
func (l *link) tryChunk() error {
	l.out = append(l.out[:0], "BDAT 6 LAST\r\nQUIT\r\nRSET\r\n"...)
	if err := l.flush(); err != nil {
		return fmt.Errorf("%w: %w", errChunking, err)
	}
	for _, name := range []string{"BDAT", "RSET"} {
		reply, err := l.read(name)
		switch {
		case err != nil:
			return fmt.Errorf("%w: %w", errChunking, err)
		case reply.Code == 421: // it may be about what was tried; a server that is going says it again at the next greeting
			return fmt.Errorf("%w: %s", errChunking, reply)
		case name == "BDAT" && !reply.Permanent() && !reply.Temporary(), name == "RSET" && reply.Code != 250:
			return fmt.Errorf("%w: %s was answered %d", errChunking, name, reply.Code)
		}
	}
	l.chunks, l.inStep = true, true
	return nil
}

// inOne tells that the whole message may go in one burst. On a connection that was idle for longer the server may be
// closing just now: after a burst nobody could tell whether it took the message before, while MAIL, RCPT and DATA can
// be said again elsewhere. After a refusal DATA goes first too: its 354 shows that no stray answer is under way.
func (t *transaction) inOne() bool {
	l, data := t.link, t.m.Data
	return l.chunks && l.inStep && !l.dirty && !l.up.distrusts(&l.up.noChunks) && len(t.m.To) == 1 &&
		len(data) <= maxChunk && bytes.HasSuffix(data, []byte("\r\n")) && l.up.pool.now().Sub(l.used) < l.up.fresh
}

// chunk sends envelope and content in one burst and reads the three answers (RFC 3030 section 4.2).
func (t *transaction) chunk(p parameters) (Reply, error) {
	l := t.link
	mail, rcpt := t.mail(p), t.rcpt(p, 0)
	l.out = append(append(l.out[:0], mail.line...), "\r\n"...)
	l.out = append(append(l.out, rcpt.line...), "\r\nBDAT "...)
	l.out = append(strconv.AppendInt(l.out, int64(len(t.m.Data)), 10), " LAST\r\n"...)
	written := t.writing(len(l.out)+len(t.m.Data) <= bodyPiece, func() error {
		for data := t.m.Data; ; {
			n := min(bodyPiece-len(l.out), len(data))
			l.out = append(l.out, data[:n]...)
			if data = data[n:]; len(data) == 0 {
				t.beyond.Store(true)
				return t.flush()
			}
			if err := t.flush(); err != nil {
				return err
			}
		}
	})
	var said burst
	for said.err == nil && !said.over() {
		var reply Reply
		if reply, said.err = readAnswer(l.in); said.err != nil {
			break
		}
		said.replies = append(said.replies, reply)
		if !reply.final() {
			said.err = fmt.Errorf("%w: %d", errGarbage, reply.Code)
		}
		if !said.over() && l.in.Buffered() == 0 {
			acknowledge(l.socket)
		}
	}
	said.unwritten, _ = t.stop(written)
	end := said.judge()
	t.spoken = t.spoken || len(said.replies) > 0
	t.stale = end.lost && t.kept
	t.parted = len(said.replies) > 0
	if t.unchunked = end.unknown; end.unknown {
		l.up.distrust(&l.up.noChunks)
	}
	for i, s := range []step{mail, rcpt} {
		if i < len(said.replies) && !said.replies[i].Positive() {
			t.refused = s.name
			t.optional = s.optional && refusesParameter(said.replies[i])
			break
		}
	}
	l.broken = l.broken || end.broken
	l.dirty, l.inStep = end.refused, !end.refused
	return end.reply, end.err
}

// burst is what came of a message that was sent in one.
type burst struct {
	replies   []Reply // to MAIL, RCPT and BDAT, as far as they came; the last one may be garbage
	err       error   // why no more came
	unwritten error   // why not all was handed to the connection: then the server cannot have the whole message
}

// over tells that no more answers are due.
func (b burst) over() bool {
	n := len(b.replies)
	return n == 3 || n > 0 && b.replies[n-1].Code == 421
}

// ending is what that means for the message and for the connection.
type ending struct {
	reply   Reply
	err     error
	refused bool // the transaction stays open: RSET
	broken  bool // the connection is not in step
	lost    bool // the server was gone, or going, before it took anything
	unknown bool // it refused BDAT itself, whatever the message
}

// judge is the one place that says what the answers to a burst mean.
func (b burst) judge() ending {
	refusal := Reply{}
	for i, r := range b.replies[:min(2, len(b.replies))] {
		if garbage := b.err != nil && i == len(b.replies)-1 && errors.Is(b.err, errGarbage); !garbage && !r.Positive() {
			refusal = r
			break
		}
	}
	switch n := len(b.replies); {
	case n == 1 && refusal.Code == 421: // at MAIL: what follows was not read
		return ending{reply: refusal, broken: true, lost: true}
	case refusal.Code != 0 && (b.err != nil || n < 3 || b.unwritten != nil):
		return ending{reply: refusal, broken: true}
	case refusal.Code != 0 && b.replies[2].Positive():
		// The server makes no sense. With its recipient refused nobody is left to deliver to; with MAIL refused and the
		// recipient taken it may deliver.
		if b.replies[1].Positive() {
			return ending{err: fmt.Errorf("%w: MAIL was answered %d, BDAT %d", ErrInDoubt, refusal.Code, b.replies[2].Code), broken: true}
		}
		return ending{reply: refusal, broken: true}
	case refusal.Code != 0:
		return ending{reply: refusal, refused: true, broken: b.replies[2].Code == 421}
	case b.err != nil && b.unwritten != nil:
		return ending{err: fmt.Errorf("in the middle of the message: %w", b.unwritten), broken: true, lost: n == 0}
	case b.err != nil: // all of it is with the server, which may have carried out all of it before it fell silent
		return ending{err: fmt.Errorf("%w: %w", ErrInDoubt, b.err), broken: true}
	}
	switch last := b.replies[2]; {
	case last.Code/10 == 50: // RFC 5321 section 4.2.1: x0z is about the command, not about the message
		return ending{err: fmt.Errorf("BDAT was answered %d", last.Code), broken: true, unknown: true}
	case b.unwritten != nil && last.Positive():
		return ending{err: fmt.Errorf("in the middle of the message: %w", b.unwritten), broken: true}
	default:
		return ending{reply: last, refused: !last.Positive(), broken: b.unwritten != nil || last.Code == 421}
	}
}
