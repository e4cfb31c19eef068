package rewrite

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkCopy is the whole work for a message with one recipient, and for each further one.
func BenchmarkCopy(b *testing.B) {
	for _, kb := range []int{4, 40} {
		tr := sample(b, "en", "Acme Ltd")
		text := strings.Repeat("A line of a newsletter, as long as most of them are, more or less.\r\n", kb*3)
		html := strings.Repeat("<tr><td style=3D\"color:#333\">A cell of a newsletter, =C3=BC</td></tr>\r\n", kb*10)
		raw := []byte(fmt.Sprintf("From: news@acme.example\r\nTo: a@b.example\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n"+
			"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%s\r\n--b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<html><body><div style=3D\"display:none\">preheader</div><table>%s</table></body></html>\r\n--b--\r\n", text, html))
		b.Run(fmt.Sprintf("first/%dKB", kb), func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := rewriteOnce(raw, tr); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("next/%dKB", kb), func(b *testing.B) {
			m, err := Read(raw)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := m.Copy(tr); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
