package smtp

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestReadAnswer(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     Reply
		err      error
	}{
		{"one line", "250 ok\r\n", Reply{Code: 250, Text: "ok"}, nil},
		{"code only", "250\r\n", Reply{Code: 250}, nil},
		{"code and blank", "250 \r\n", Reply{Code: 250}, nil},
		{"bare LF", "250 ok\n", Reply{Code: 250, Text: "ok"}, nil},
		{"enhanced", "550 5.7.1 no\r\n", Reply{550, [3]int{5, 7, 1}, "no"}, nil},
		{"enhanced alone", "250 2.0.0\r\n", Reply{250, [3]int{2, 0, 0}, ""}, nil},
		{"enhanced on every line", "550-5.7.1 no\r\n550 5.7.1 way\r\n", Reply{550, [3]int{5, 7, 1}, "no\nway"}, nil},
		{"enhanced on the last line", "550-no\r\n550 5.7.1 way\r\n", Reply{550, [3]int{5, 7, 1}, "no\nway"}, nil},
		{"two enhanced", "550-5.7.1 no\r\n550 5.7.2 way\r\n", Reply{550, [3]int{5, 7, 1}, "no\n5.7.2 way"}, nil},
		{"enhanced of another class", "550 2.0.0 no\r\n", Reply{Code: 550, Text: "2.0.0 no"}, nil},
		{"looks enhanced", "550 5.7.1000 no\r\n", Reply{Code: 550, Text: "5.7.1000 no"}, nil},
		{"UTF-8", "250 grüezi\r\n", Reply{Code: 250, Text: "grüezi"}, nil},
		{"not UTF-8", "250 gr\xfcezi\r\n", Reply{Code: 250, Text: "gr?ezi"}, nil},
		{"CR inside", "250 a\rb\r\n", Reply{Code: 250, Text: "a?b"}, nil},
		{"nothing", "", Reply{}, io.EOF},
		{"half a line", "250 o", Reply{}, io.EOF},
		{"half an answer", "250-o\r\n", Reply{}, io.EOF},
		{"no code", "ok\r\n", Reply{}, errGarbage},
		{"code 199", "199 ok\r\n", Reply{}, errGarbage},
		{"code 600", "600 ok\r\n", Reply{}, errGarbage},
		{"four digits", "2500 ok\r\n", Reply{}, errGarbage},
		{"other code", "250-a\r\n251 b\r\n", Reply{}, errGarbage},
		{"empty line", "\r\n", Reply{}, errGarbage},
		{"line too long", "250 " + strings.Repeat("a", maxAnswerLine) + "\r\n", Reply{}, errGarbage},
		{"too many lines", strings.Repeat("250-\r\n", maxAnswerLines) + "250 \r\n", Reply{}, errGarbage},
		{"too long", strings.Repeat("250-"+strings.Repeat("a", 1000)+"\r\n", 20) + "250 \r\n", Reply{}, errGarbage},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := readAnswer(bufio.NewReaderSize(strings.NewReader(tt.in), maxAnswerLine))
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func FuzzReadAnswer(f *testing.F) {
	for _, s := range []string{"250 ok\r\n", "550-5.7.1 no\r\n550 5.7.1 way\r\n", "250-a\r\n251 b\r\n", "250 \xff\x00\r\r\n", "421\n", "2.5.0 4.4.4\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := readAnswer(bufio.NewReaderSize(strings.NewReader(string(in)), maxAnswerLine))
		if err != nil {
			if r != (Reply{}) {
				t.Errorf("a reply beside the error: %+v", r)
			}
			return
		}
		if r.Code < 200 || r.Code > 599 || len(r.Text) > 3*maxAnswer || strings.Count(r.Text, "\n") >= maxAnswerLines {
			t.Errorf("out of bounds: %+v", r)
		}
		if !utf8.ValidString(r.Text) || strings.ContainsAny(r.Text, "\r\x00\x1b") {
			t.Errorf("not printable: %q", r.Text)
		}
		if r.Enhanced[0] != 0 && r.Enhanced[0] != r.Code/100 {
			t.Errorf("class differs: %+v", r)
		}
	})
}
