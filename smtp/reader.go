package smtp

import (
	"bytes"
	"errors"
	"time"
)

// What a message may look like. Lines over 998 octets (RFC 5322 section 2.1.1) are common in HTML mail and pass.
const (
	maxHeaderLine  = 64 << 10
	maxHeaderLines = 10_000
	maxHeader      = 1 << 20
	maxBodyLine    = 1 << 20
	minRate        = 1 << 10 // bytes per second, over the whole message
)

var (
	errBareLine = errors.New("bare CR or LF in message data")
	errFlood    = errors.New("far more data than could be taken")
)

type lineState int

const (
	lineStart lineState = iota
	lineDot             // a dot at the start of a line
	lineDotCR
	lineText
	lineCR
)

// body takes the data of one message in pieces of any size, undoes dot-stuffing (RFC 5321 section 4.5.2) and checks
// it. What is refused is still read to its end, but not kept.
type body struct {
	intake
	dots    bool // DATA; false: BDAT
	state   lineState
	size    int64 // so far, kept or not
	line    int   // octets of the current one
	header  int64 // octets of the header section, -1 once it ended
	lines   int   // of the header section
	refusal Reply // why it cannot be taken; zero while it can
	pace    pace
}

// take consumes p up to the end of data. Its errors are final: where the data ends can no longer be told.
func (b *body) take(p []byte) (n int, end bool, err error) {
	for n < len(p) {
		switch c := p[n]; b.state {
		case lineStart:
			b.state = lineText
			if b.dots && c == '.' {
				b.state = lineDot
				n++
			}
		case lineDot:
			b.state = lineText
			if c == '\r' {
				b.state = lineDotCR
				n++
			}
		case lineDotCR:
			if c != '\n' {
				return n, false, errBareLine
			}
			return n + 1, true, nil
		case lineText:
			i, err := b.text(p[n:])
			if err != nil {
				return n, false, err
			}
			n += i
		case lineCR:
			if c != '\n' {
				return n, false, errBareLine
			}
			n++
			b.keep(crlf)
			b.endLine()
		}
		if b.size > 2*b.limit+maxBodyLine {
			return n, false, errFlood
		}
	}
	return n, false, nil
}

var crlf = []byte("\r\n")

// text takes the rest of a line, with its CRLF where that is in p.
func (b *body) text(p []byte) (int, error) {
	cr := bytes.IndexByte(p, '\r')
	t := p
	if cr >= 0 {
		t = p[:cr]
	}
	if bytes.IndexByte(t, '\n') >= 0 {
		return 0, errBareLine
	}
	switch {
	case cr < 0:
		b.keep(t)
		return len(t), nil
	case cr+1 == len(p):
		b.keep(t)
		b.state = lineCR
		return len(p), nil
	case p[cr+1] != '\n':
		return 0, errBareLine
	}
	b.keep(p[:cr+2])
	b.endLine()
	return cr + 2, nil
}

func (b *body) keep(p []byte) {
	b.size += int64(len(p))
	b.line += len(p)
	switch {
	case b.refusal.Code != 0:
		return
	case b.size > b.limit:
		b.refuse(TooBig)
	case b.header >= 0 && b.line > maxHeaderLine:
		b.refuse(Reply{554, [3]int{5, 6, 0}, "the message has a header line of over 64 KiB"})
	case b.line > maxBodyLine:
		b.refuse(Reply{554, [3]int{5, 6, 0}, "the message has a line of over 1 MiB"})
	case bytes.IndexByte(p, 0) >= 0: // RFC 2045 section 2.8
		b.refuse(Reply{554, [3]int{5, 6, 0}, "the message has a NUL octet"})
	default:
		if b.write(p) != nil {
			b.refuse(OurFault.With("the gateway is short of memory for message data, try again"))
		}
	}
}

func (b *body) endLine() {
	b.state = lineStart
	if b.header >= 0 {
		b.header += int64(b.line)
		b.lines++
		switch {
		case b.line == len(crlf):
			b.header = -1
		case b.lines > maxHeaderLines:
			b.refuse(Reply{554, [3]int{5, 6, 0}, "the message has over 10000 header lines"})
		case b.header > maxHeader:
			b.refuse(Reply{554, [3]int{5, 6, 0}, "the message has over 1 MiB of header"})
		}
	}
	b.line = 0
}

// refuse remembers the first reason and gives the memory back.
func (b *body) refuse(r Reply) {
	if b.refusal.Code == 0 {
		b.refusal = r
		b.release()
	}
}

// finish completes the last line (of BDAT, or of a message without a line) and gives the data.
func (b *body) finish() ([]byte, error) {
	switch {
	case b.state == lineCR:
		return nil, errBareLine
	case b.state == lineText || b.size == 0:
		b.limit += int64(len(crlf)) // ours, not the client's
		b.keep(crlf)
	}
	return b.buf, nil
}

// pace is how long a client may take for its data: any pause up to step, and minRate over the whole.
type pace struct {
	start time.Time
	step  time.Duration
}

func (p pace) deadline(now time.Time, got int64) time.Time {
	budget := p.start.Add(p.step + time.Duration(got/minRate)*time.Second)
	if pause := now.Add(p.step); pause.Before(budget) {
		return pause
	}
	return budget
}

// deadline leaves out the time that the client waited for our memory.
func (b *body) deadline(now time.Time) time.Time {
	p := b.pace
	p.start = p.start.Add(b.waited)
	return p.deadline(now, b.size)
}
