package smtp

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"heed/smtp/smtptest"
)

// wire records what is written, one element per Write.
type wire struct {
	net.Conn
	writes [][]byte
}

func (w *wire) Write(b []byte) (int, error) {
	w.writes = append(w.writes, bytes.Clone(b))
	return len(b), nil
}

func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// written is how data goes over the wire.
func written(t *testing.T, data []byte) (all []byte, writes [][]byte) {
	t.Helper()
	w := &wire{}
	u := &Upstream{}
	if err := (&transaction{link: &link{up: u, conn: w}}).write(data); err != nil {
		t.Fatal(err)
	}
	return bytes.Join(w.writes, nil), w.writes
}

func TestContentBytes(t *testing.T) {
	for _, tt := range []struct{ name, data, want string }{
		{"empty", "", ".\r\n"},
		{"plain", "a\r\nb\r\n", "a\r\nb\r\n.\r\n"},
		{"leading dot", ".a\r\n", "..a\r\n.\r\n"},
		{"dots", "a\r\n.\r\n..\r\n.b\r\n", "a\r\n..\r\n...\r\n..b\r\n.\r\n"},
		{"dot lines in a row", ".\r\n.\r\n.\r\n", "..\r\n..\r\n..\r\n.\r\n"},
		{"dot in a line", "a.b\r\n", "a.b\r\n.\r\n"},
		{"no CRLF at the end", "a", "a\r\n.\r\n"},
		{"dot at the end", "a\r\n.", "a\r\n..\r\n.\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, _ := written(t, []byte(tt.data)); string(got) != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// The final dot goes out together with the end of the content: alone it would wait for the acknowledgement of what
// was written before it.
func TestFinalDotIsNotAlone(t *testing.T) {
	for size := bodyPiece - 20; size < bodyPiece+20; size += 2 {
		data := append(bytes.Repeat([]byte("x"), size-2), "\r\n"...)
		all, writes := written(t, data)
		if !bytes.Equal(all, append(data, ".\r\n"...)) {
			t.Fatalf("%d bytes: changed", size)
		}
		last := writes[len(writes)-1]
		if len(last) <= len(".\r\n") || !bytes.HasSuffix(last, []byte(".\r\n")) || len(last) > bodyPiece {
			t.Errorf("%d bytes: the last write is %d bytes", size, len(last))
		}
	}
}

func FuzzContent(f *testing.F) {
	for _, s := range []string{"", ".", "a\r\n.\r\n", "..\r\n", "\r\n.\r\n.\r\n", "a\r\n.b", strings.Repeat("\r\n.", 30000)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if !strictLines(data) {
			return
		}
		got, _ := written(t, data)
		if i := bytes.Index(append([]byte("\r\n"), got...), []byte("\r\n.\r\n")); i != len(got)+2-5 {
			t.Fatalf("the final dot is at %d of %d", i, len(got))
		}
		plain := bytes.TrimPrefix(got[:len(got)-3], []byte("."))
		plain = bytes.ReplaceAll(plain, []byte("\r\n."), []byte("\r\n"))
		if len(data) > 0 && !bytes.HasSuffix(data, []byte("\r\n")) {
			data = append(data, "\r\n"...)
		}
		if !bytes.Equal(plain, data) {
			t.Fatalf("got %q, want %q", plain, data)
		}
	})
}

// BenchmarkSend is one message after the other over one connection on loopback.
func BenchmarkSend(b *testing.B) {
	for _, size := range []int{4 << 10, 40 << 10} {
		for _, way := range []struct {
			name       string
			extensions []string
		}{{"DATA", smtptest.DefaultExtensions()}, {"BDAT", smtptest.Chunking()}} {
			b.Run(fmt.Sprintf("%dK/%s", size>>10, way.name), func(b *testing.B) {
				peer := smtptest.New(b, smtptest.Script{Extensions: way.extensions})
				u, err := NewUpstream(UpstreamConfig{Name: "esp", Address: peer.Addr(), Security: Plain, Hostname: "gw.test"})
				if err != nil {
					b.Fatal(err)
				}
				defer u.Close()
				m := letter("b@x.test")
				m.Data = bytes.Repeat([]byte("0123456789012345678901234567890\r\n"), size/33)
				b.ReportAllocs()
				for b.Loop() {
					if reply, err := u.Send(b.Context(), m); err != nil || !reply.Positive() {
						b.Fatal(reply, err)
					}
				}
			})
		}
	}
}
