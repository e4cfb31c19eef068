package smtp

import (
	"context"
	"io"
	"strings"
	"unicode"

	gosmtp "github.com/emersion/go-smtp"
)

// session is what go-smtp calls, on the connection's goroutine, for the commands that the dialog let pass. It
// answers through the dialog, so that go-smtp's own words are dropped, and returns an error only to keep its state.
type session struct{ d *dialog }

var (
	_ gosmtp.AuthSession = (*session)(nil)

	errAnswered = &gosmtp.SMTPError{Code: 451, Message: "answered"} // never seen by a client
)

// Mail opens a transaction.
func (s *session) Mail(_ string, o *gosmtp.MailOptions) error {
	d := s.d
	body := string(o.Body)
	if body == "" {
		body = string(gosmtp.Body7Bit)
	}
	d.tx = submission{open: true, env: Envelope{
		ID: NewID(), Account: d.account, From: d.path, UTF8: o.UTF8, Body: body, Size: d.size,
		Return: string(o.Return), EnvID: o.EnvelopeID, Peer: d.peer, Helo: d.helo, TLS: d.tls, Auth: d.auth,
	}}
	if d.login != nil {
		d.tx.env.Login = d.login
	}
	d.reply(Reply{250, [3]int{2, 1, 0}, "ok"})
	return nil
}

// Rcpt asks the Handler for one recipient.
func (s *session) Rcpt(_ string, o *gosmtp.RcptOptions) error {
	d := s.d
	r := Recipient{Address: d.path}
	for _, n := range o.Notify {
		r.Notify = append(r.Notify, string(n))
	}
	if o.OriginalRecipient != "" {
		r.ORcpt = strings.ToLower(string(o.OriginalRecipientType)) + ";" + o.OriginalRecipient
		if strings.ContainsFunc(r.ORcpt, func(c rune) bool { return !unicode.IsGraphic(c) }) {
			d.reply(badSyntax.With("malformed ORCPT"))
			return errAnswered
		}
	}
	answer := d.ask(recipientMax, func(ctx context.Context) Reply {
		return d.server.Handler.Recipient(ctx, d.tx.env, r.Address)
	})
	if !answer.Positive() {
		return errAnswered
	}
	d.tx.to = append(d.tx.to, r)
	d.tx.env.Taken = len(d.tx.to)
	return nil
}

// Data takes the message: from the connection, or what BDAT has brought. r would give the same bytes slower and
// less strictly; go-smtp gets an empty message to read to its end.
func (s *session) Data(io.Reader) error {
	d := s.d
	b := d.tx.body
	if b == nil {
		b = d.newBody(true)
		d.tx.body = b
		if err := d.receive(b); err != nil {
			d.finish(err)
			return errAnswered
		}
	}
	defer b.release()
	d.toServe = append(d.toServe[:0], ".\r\n"...)
	data, err := b.finish()
	switch {
	case err != nil:
		d.finish(err)
	case b.refusal.Code != 0:
		d.reply(b.refusal)
	default:
		m := Message{Envelope: d.tx.env, To: d.tx.to, Data: data}
		if eightBit(data) { // declared or not (RFC 6152)
			m.Body = string(gosmtp.Body8BitMIME)
		}
		answer := d.ask(messageMax, func(ctx context.Context) Reply { return d.server.Handler.Message(ctx, m) })
		d.log.Debug("message", "message", m.ID, "account", m.Account, "recipients", len(m.To), "bytes", len(data), "code", answer.Code)
	}
	return nil
}

// Reset forgets the transaction: go-smtp calls it at RSET and EHLO and after DATA.
func (s *session) Reset() { s.d.clear() }

// Logout has nothing to do: the dialog ends with its connection.
func (s *session) Logout() error { return nil }
