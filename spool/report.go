package spool

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"mime/quotedprintable"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"heed/smtp"
)

// maxHeader bounds how much of the failed message's header goes into a report, maxLine a line of one
// (RFC 5322 section 2.1.1).
const (
	maxHeader = 64 << 10
	maxLine   = 998
)

// report is what a bounce says (RFC 3464). Everything in it but the sender's own address is 7-bit.
type report struct {
	host     string
	m        smtp.Message
	failed   []smtp.Failure
	accepted time.Time // zero: unknown
	now      time.Time
}

func (r report) compose() ([]byte, error) {
	boundary := "=_" + rand.Text()
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: Mail Delivery System <MAILER-DAEMON@%s>\r\n", r.host)
	fmt.Fprintf(&b, "To: <%s>\r\n", printable(r.m.From))
	fmt.Fprintf(&b, "Subject: %s\r\n", r.subject())
	fmt.Fprintf(&b, "Date: %s\r\n", r.now.Format(time.RFC1123Z))
	fmt.Fprintf(&b, "Message-ID: <%s@%s>\r\n", rand.Text(), r.host)
	fmt.Fprintf(&b, "Auto-Submitted: auto-replied\r\n") // RFC 3834 section 5
	fmt.Fprintf(&b, "MIME-Version: 1.0\r\n")
	fmt.Fprintf(&b, "Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"%s\"\r\n\r\n", boundary)
	parts := []struct {
		kind string
		body []byte
	}{
		{"text/plain; charset=utf-8", r.text()},
		{"message/delivery-status", r.status()},
		{"text/rfc822-headers", header(r.m.Data)},
	}
	for _, part := range parts {
		fmt.Fprintf(&b, "--%s\r\nContent-Type: %s\r\n", boundary, part.kind)
		if err := encodePart(&b, part.body); err != nil {
			return nil, err
		}
		b.WriteString("\r\n")
	}
	fmt.Fprintf(&b, "--%s--\r\n", boundary)
	return b.Bytes(), nil
}

// text is for people. Who was stopped by a rule did not fail: the sender must not look for a fault at the recipient.
func (r report) text() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "This is the mail gateway %s.\r\n", r.host)
	paragraph := func(fate smtp.Fate, words string) {
		for _, f := range r.failed {
			if f.Fate == smtp.Blocked == (fate == smtp.Blocked) {
				b.WriteString(words)
				words = ""
				r.recipient(&b, f)
			}
		}
	}
	paragraph(smtp.Failed, "\r\nYour message could not be delivered to the recipients below.\r\nIt will not be tried again.\r\n")
	paragraph(smtp.Blocked, "\r\nYour message was stopped before it was sent to the recipients below: the rule in\r\n"+
		"square brackets does not allow it. This is no delivery failure, and sending it again\r\ndoes not help.\r\n")
	b.WriteString("\r\nThe end of this report holds the header of your message.\r\n")
	return []byte(b.String())
}

func (r report) recipient(b *strings.Builder, f smtp.Failure) {
	fmt.Fprintf(b, "\r\n<%s>\r\n", printable(f.Recipient.Address))
	reply := f.Reply
	for i, line := range strings.Split(reply.Text, "\n") {
		reply.Text = printable(line)
		if i == 0 {
			fmt.Fprintf(b, "    %s\r\n", reply)
		} else {
			fmt.Fprintf(b, "    %s\r\n", reply.Text)
		}
	}
}

// subject does not call a failure what is none.
func (r report) subject() string {
	if slices.ContainsFunc(r.failed, func(f smtp.Failure) bool { return f.Fate != smtp.Blocked }) {
		return "Your message was not delivered"
	}
	return "Your message was stopped by a rule"
}

// status is for machines: fields of the message, then of each recipient (RFC 3464 sections 2.2, 2.3).
func (r report) status() []byte {
	var b bytes.Buffer
	field := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, ascii(value)) }
	if id := r.m.EnvID; id != "" {
		field("Original-Envelope-Id", id)
	}
	field("Reporting-MTA", "dns; "+r.host)
	if !r.accepted.IsZero() {
		field("Arrival-Date", r.accepted.Format(time.RFC1123Z))
	}
	for _, f := range r.failed {
		b.WriteString("\r\n")
		if kind, address, found := strings.Cut(f.Recipient.ORcpt, ";"); found {
			if strings.EqualFold(kind, "utf-8") {
				address = smtp.UTF8Address(address, false)
			}
			field("Original-Recipient", kind+"; "+address)
		}
		if a := f.Recipient.Address; isASCII(a) {
			field("Final-Recipient", "rfc822; "+a)
		} else {
			field("Final-Recipient", "utf-8; "+smtp.UTF8Address(a, false)) // RFC 6533 section 3
		}
		field("Action", "failed")
		field("Status", statusOf(f.Reply))
		field("Diagnostic-Code", "smtp; "+f.Reply.String())
		if !f.At.IsZero() && f.Fate != smtp.Blocked { // a rule stopped it, at this moment: no attempt
			field("Last-Attempt-Date", f.At.Format(time.RFC1123Z))
		}
	}
	return b.Bytes()
}

// statusOf is the reply's own status code, or the one that says no more than its class (RFC 3463 section 3.1).
func statusOf(r smtp.Reply) string {
	if e := r.Enhanced; e[0] == 4 || e[0] == 5 {
		return fmt.Sprintf("%d.%d.%d", e[0], e[1], e[2])
	}
	if r.Temporary() {
		return "4.0.0"
	}
	return "5.0.0"
}

// header is the message's header, whole lines of it if it is too long.
func header(data []byte) []byte {
	h := data
	if i := bytes.Index(data, []byte("\r\n\r\n")); i >= 0 {
		h = data[:i+2]
	}
	if len(h) > maxHeader {
		h = h[:maxHeader]
		h = h[:bytes.LastIndexByte(h, '\n')+1]
	}
	return h
}

// encodePart ends the part's header and writes its body, as it is if that is 7-bit.
func encodePart(b *bytes.Buffer, body []byte) error {
	if sevenBit(body) {
		b.WriteString("Content-Transfer-Encoding: 7bit\r\n\r\n")
		b.Write(body)
		return nil
	}
	b.WriteString("Content-Transfer-Encoding: quoted-printable\r\n\r\n")
	w := quotedprintable.NewWriter(b)
	if _, err := w.Write(body); err != nil {
		return err
	}
	return w.Close()
}

func sevenBit(body []byte) bool {
	for line := range bytes.SplitSeq(body, []byte("\r\n")) {
		if len(line) > maxLine || bytes.IndexFunc(line, func(r rune) bool { return r >= 0x80 || r == 0 || r == '\r' || r == '\n' }) >= 0 {
			return false
		}
	}
	return true
}

// printable replaces what could end a line or is no text.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError || r >= 0x80 && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			return '?'
		}
		return r
	}, s)
}

// ascii is what a field of the delivery status may hold, on one line of a bearable length.
func ascii(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), maxLine-len("Original-Envelope-Id: "))]
}
