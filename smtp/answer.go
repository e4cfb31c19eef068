package smtp

import (
	"bufio"
	"errors"
	"fmt"
	"strings"
)

// An upstream's answers are bounded: RFC 5321 section 4.5.3.1.5 allows 512 bytes a line, real servers take more.
const (
	maxAnswerLine  = 2048
	maxAnswerLines = 100
	maxAnswer      = 16 << 10
)

var errGarbage = errors.New("the upstream's answer is not SMTP")

// readAnswer reads one whole reply (RFC 5321 section 4.2). in's buffer bounds the length of a line.
func readAnswer(in *bufio.Reader) (Reply, error) {
	var r Reply
	var lines []string
	size := 0
	for {
		raw, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return Reply{}, fmt.Errorf("%w: a line is too long", errGarbage)
		}
		if err != nil {
			return Reply{}, err
		}
		if size += len(raw); size > maxAnswer || len(lines) == maxAnswerLines {
			return Reply{}, fmt.Errorf("%w: it is too long", errGarbage)
		}
		code, more, text, ok := answerLine(raw)
		if !ok || len(lines) > 0 && code != r.Code {
			return Reply{}, errGarbage
		}
		r.Code = code
		lines = append(lines, text)
		if !more {
			break
		}
	}
	r.Enhanced = enhancedOf(lines, r.Code)
	r.Text = strings.Join(lines, "\n")
	return r, nil
}

// answerLine takes apart "250-text\r\n". The text comes out printable.
func answerLine(raw []byte) (code int, more bool, text string, ok bool) {
	line := strings.TrimSuffix(strings.TrimSuffix(string(raw), "\n"), "\r")
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || !digit(line[1]) || !digit(line[2]) {
		return 0, false, "", false
	}
	code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	if len(line) > 3 {
		if line[3] != ' ' && line[3] != '-' {
			return 0, false, "", false
		}
		more, text = line[3] == '-', printable(line[4:])
	}
	return code, more, text, true
}

// enhancedOf finds the status code that the lines begin with (RFC 2034 section 4) and takes it off them.
func enhancedOf(lines []string, code int) [3]int {
	var found [3]int
	for i, line := range lines {
		word, rest, _ := strings.Cut(line, " ")
		status, ok := parseEnhanced(word)
		if !ok || status[0] != code/100 || found != [3]int{} && status != found {
			continue
		}
		found = status
		lines[i] = rest
	}
	return found
}

// parseEnhanced reads "5.7.1": class 2, 4 or 5, subject and detail of one to three digits (RFC 3463 section 2).
func parseEnhanced(s string) (status [3]int, ok bool) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 || parts[0] != "2" && parts[0] != "4" && parts[0] != "5" {
		return status, false
	}
	for i, part := range parts {
		if len(part) < 1 || len(part) > 3 {
			return status, false
		}
		for j := range len(part) {
			if !digit(part[j]) {
				return [3]int{}, false
			}
			status[i] = status[i]*10 + int(part[j]-'0')
		}
	}
	return status, true
}

// printable replaces control characters and what is not UTF-8: the text goes into replies, logs and reports.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

func digit(c byte) bool { return c >= '0' && c <= '9' }
