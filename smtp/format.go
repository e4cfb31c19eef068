package smtp

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	replyWidth = 480 // of a line's text: 512 with code and CRLF (RFC 5321 section 4.5.3.1.5)
	replyLines = 50
)

// appendReply writes r as it goes to a client: fit to be one reply whatever its text holds, each line with the code
// and the enhanced code (RFC 2034 section 4), UTF-8 only where the client asked for it (RFC 6531 section 3.7.4.2).
func appendReply(dst []byte, r Reply, utf8Text bool) []byte {
	class := r.Code / 100
	if class != 2 && class != 4 && class != 5 {
		r, class = OurFault, 4
	}
	if r.Enhanced[0] != class || min(r.Enhanced[1], r.Enhanced[2]) < 0 || max(r.Enhanced[1], r.Enhanced[2]) > 999 {
		r.Enhanced = [3]int{class, 0, 0}
	}
	status := strconv.Itoa(r.Enhanced[0]) + "." + strconv.Itoa(r.Enhanced[1]) + "." + strconv.Itoa(r.Enhanced[2]) + " "
	lines := replyText(r.Text, utf8Text)
	for i, l := range lines {
		lines[i] = status + l
	}
	return appendLines(dst, r.Code, lines)
}

func appendLines(dst []byte, code int, lines []string) []byte {
	for i, l := range lines {
		dst = strconv.AppendInt(dst, int64(code), 10)
		if i < len(lines)-1 {
			dst = append(dst, '-')
		} else {
			dst = append(dst, ' ')
		}
		dst = append(append(dst, l...), '\r', '\n')
	}
	return dst
}

// replyText splits a text into lines that are short enough and printable.
func replyText(text string, utf8Text bool) []string {
	var lines []string
	for l := range strings.SplitSeq(strings.ReplaceAll(text, "\r\n", "\n"), "\n") {
		l = strings.Map(func(c rune) rune {
			switch {
			case c == '\t':
				return ' '
			case c >= ' ' && c < 0x7f, c >= 0x80 && c != utf8.RuneError && utf8Text && unicode.IsGraphic(c):
				return c
			}
			return '?'
		}, l)
		for len(l) > replyWidth && len(lines) < replyLines {
			cut := replyWidth
			if i := strings.LastIndexByte(l[:cut], ' '); i > 0 {
				cut = i + 1
			}
			for !utf8.RuneStart(l[cut]) {
				cut--
			}
			lines = append(lines, strings.TrimRight(l[:cut], " "))
			l = l[cut:]
		}
		if len(lines) >= replyLines {
			return lines[:replyLines]
		}
		lines = append(lines, l)
	}
	return lines
}
