package smtp

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestReplyOnTheWire(t *testing.T) {
	for _, c := range []struct {
		name string
		in   Reply
		utf8 bool
		want string
	}{
		{"one line", OK, false, "250 2.0.0 ok\r\n"},
		{"the enhanced code on each line", Reply{550, [3]int{5, 7, 1}, "a\nb"}, false, "550-5.7.1 a\r\n550 5.7.1 b\r\n"},
		{"no enhanced code", Reply{450, [3]int{}, "later"}, false, "450 4.0.0 later\r\n"},
		{"another class", Reply{450, [3]int{5, 1, 1}, "later"}, false, "450 4.0.0 later\r\n"},
		{"no text", Reply{250, [3]int{2, 1, 5}, ""}, false, "250 2.1.5 \r\n"},
		{"no reply", Reply{}, false, "451 4.3.0 temporary failure in the gateway\r\n"},
		{"not a final one", Reply{354, [3]int{}, "go on"}, false, "451 4.3.0 temporary failure in the gateway\r\n"},
		{"line ends and controls", Reply{550, [3]int{5, 0, 0}, "a\r\nb\rc\x00d\te\x7f"}, false, "550-5.0.0 a\r\n550 5.0.0 b?c?d e?\r\n"},
		{"UTF-8 not asked for", Reply{550, [3]int{5, 0, 0}, "ü"}, false, "550 5.0.0 ?\r\n"},
		{"UTF-8", Reply{550, [3]int{5, 0, 0}, "ü\xff\u2028"}, true, "550 5.0.0 ü??\r\n"},
	} {
		if got := string(appendReply(nil, c.in, c.utf8)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func FuzzReplyText(f *testing.F) {
	f.Add("a\nb", true)
	f.Add(strings.Repeat("ü", 1000), true)
	f.Add(strings.Repeat("word ", 10000)+"\n\n", false)
	f.Fuzz(func(t *testing.T, text string, utf8Text bool) {
		wire := string(appendReply(nil, Reply{550, [3]int{5, 7, 1}, text}, utf8Text))
		lines := strings.Split(strings.TrimSuffix(wire, "\r\n"), "\r\n")
		if len(lines) > replyLines || !strings.HasSuffix(wire, "\r\n") || !utf8.ValidString(wire) {
			t.Fatalf("%d lines: %q", len(lines), wire)
		}
		for i, l := range lines {
			prefix := "550-5.7.1 "
			if i == len(lines)-1 {
				prefix = "550 5.7.1 "
			}
			if !strings.HasPrefix(l, prefix) || len(l) > 510 || strings.ContainsAny(l, "\r\n\x00") {
				t.Errorf("line %q", l)
			}
		}
	})
}
