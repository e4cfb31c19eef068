package rewrite

import (
	"bytes"
	"net/url"
	"slices"
	"strings"
)

// content is what a spot gets.
type content int

const (
	theNotice   content = iota
	theLink             // the recipient's opt-out link
	theSwitches         // the attributes by which trackers leave a link alone
	nothing             // what stands there is taken out
)

// spot is a place in a body where a copy differs from the message: del decoded octets at at give way to what is the
// recipient's own. Spots do not overlap, and lie in order.
type spot struct {
	at, del    int
	content    content
	escapes    int    // of the link: how often it is percent-encoded (RFC 3986 section 2.1)
	inHTML     bool   // of the link: it stands in markup
	closes     string // of the notice: end tags before it
	lead, tail string // of the notice: line ends around it
	neutral    []byte // of the notice: what brings a stateful charset back to ASCII before it
	raw, rawTo int    // where at and at+del are before the transfer encoding is undone
}

// filling is what a spot gets in one copy, as UTF-8: pre and post are ASCII.
type filling struct{ pre, core, post string }

func (f filling) text() string { return f.pre + f.core + f.post }

// fills renders the spots of a body for one recipient.
func (b *body) fills(t *Treatment) []filling {
	out := make([]filling, len(b.spots))
	for i, s := range b.spots {
		switch s.content {
		case theNotice:
			out[i] = filling{s.lead + s.closes, b.notice(t.Notice), s.tail}
		case theLink:
			link := t.Unsubscribe
			for range s.escapes {
				link = url.QueryEscape(link)
			}
			switch {
			case s.inHTML:
				link = escape(link)
			case !b.html && s.escapes == 0:
				link += t.TextSwitch
			}
			out[i] = filling{core: link}
		case theSwitches:
			out[i] = filling{core: linkSwitches}
		}
	}
	return out
}

// notice is the notice in the form of the part: lines that end in CRLF, for HTML in ASCII.
func (b *body) notice(n Notice) string {
	switch {
	case b.amp:
		return foldHTML(bare(n.HTML))
	case b.html:
		return foldHTML(n.HTML)
	}
	lines := plainLines(n.Text)
	if strings.EqualFold(b.part.param("format"), "flowed") {
		stuff(lines)
	}
	return strings.Join(lines, "\r\n")
}

// gaps are what stays between the spots: one more than there are spots.
func (b *body) gaps() [][]byte {
	out := make([][]byte, 0, len(b.spots)+1)
	at := 0
	for _, s := range b.spots {
		out = append(out, b.decoded[at:s.at])
		at = s.at + s.del
	}
	return append(out, b.decoded[at:])
}

// settle sorts the spots and finds out what all copies share: where they are in the message as it stands, and the line
// ends around the notice.
func (b *body) settle() error {
	slices.SortStableFunc(b.spots, func(x, y spot) int { return x.at - y.at })
	for i := range b.spots {
		s := &b.spots[i]
		if i > 0 && s.at < b.spots[i-1].at+b.spots[i-1].del {
			return refuse("a placeholder and a link overlap in a body")
		}
		if s.content == theNotice {
			s.lead, s.tail = b.around(s)
			s.neutral = slices.Clip(b.cs.neutral(b.decoded[:s.at]))
		}
	}
	if b.cte == quoted {
		var stops []int
		for _, s := range b.spots {
			stops = append(stops, s.at, s.at+s.del)
		}
		_, at := decodeQuoted(b.raw, stops...)
		for i := range b.spots {
			b.spots[i].raw, b.spots[i].rawTo = at[2*i], at[2*i+1]
		}
	}
	return nil
}

// around is what separates the notice from the text on both sides.
func (b *body) around(s *spot) (lead, tail string) {
	unit := b.cs.width()
	newline := func(x []byte, n int) bool {
		return n < unit || b.cs.view(x[n-unit : n])[0] == '\n'
	}
	last := s.at+s.del == len(b.decoded)
	atLine := newline(b.decoded, s.at)
	ownLine := b.cte == quoted && len(b.raw) > 0 && b.raw[len(b.raw)-1] != '\n' && last && s.del == 0
	if !atLine && !ownLine {
		lead = "\r\n"
	}
	if b.html {
		return lead, "\r\n"
	}
	if !last { // where a placeholder stood
		if rest := b.cs.view(b.decoded[s.at+s.del : s.at+s.del+unit]); rest[0] != '\r' && rest[0] != '\n' {
			tail = "\r\n"
		}
		return lead, tail
	}
	end := b.decoded
	if b.cte == quoted {
		end, unit = b.raw, 1
	}
	if s.del == 0 && (len(end) == 0 || end[len(end)-1] == '\n' || unit == 2 && newline(end, len(end))) {
		tail = "\r\n"
	}
	if s.del == 0 && len(b.decoded) > 0 {
		lead += "\r\n"
	}
	if s.del == 0 && b.flows() { // RFC 3676 section 4.1: the empty line before is joined to the last line
		lead += "\r\n"
	}
	return lead, tail
}

// flows tells whether the last line of format=flowed ends in a soft break.
func (b *body) flows() bool {
	last := bytes.TrimRight(b.decoded, "\r\n")
	last = last[bytes.LastIndexByte(last, '\n')+1:]
	return strings.EqualFold(b.part.param("format"), "flowed") && bytes.HasSuffix(last, []byte(" ")) && !bytes.HasSuffix(last, []byte("-- ")) &&
		b.cs.width() == 1
}
