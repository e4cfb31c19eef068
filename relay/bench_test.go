package relay

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"heed/smtp"
)

// BenchmarkMessage is everything but the wire and the state, for one recipient.
func BenchmarkMessage(b *testing.B) {
	for _, size := range []int{4 << 10, 40 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			w := newWorld(b)
			w.consent("a@firma.example")
			raw := fmt.Appendf(nil, plainMail, "")
			raw = append(raw, strings.Repeat("All work and no play makes Jack a dull boy, said the newsletter.\r\n", size/66)...)
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				m := smtp.Message{Envelope: smtp.Envelope{ID: "06h0fwvsd0bkdmxj", Account: "crm", From: "b@acme.example", Helo: "tool"}, To: []smtp.Recipient{{Address: "a@firma.example"}}, Data: raw}
				if r := w.Message(context.Background(), m); !r.Positive() {
					b.Fatal(r)
				}
				w.entries, w.sent = w.entries[:1], nil
			}
		})
	}
}
