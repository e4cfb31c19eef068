package relay

import (
	"context"
	"errors"

	"heed/rewrite"
	"heed/smtp"
)

// sendFit sends m, in 7-bit form where the upstream lacks 8BITMIME: the client finds that out before it writes
// anything, so that asking costs no round trip and nothing has to be remembered. What was signed is signed anew: what
// signs comes after what encodes (RFC 6376 section 5.3).
func (r *Relay) sendFit(ctx context.Context, t *transaction, upstream smtp.Sender, m smtp.Message) (smtp.Reply, error) {
	reply, err := upstream.Send(ctx, m)
	if err != nil || reply != smtp.No8BitMIME {
		return reply, err
	}
	data, err := t.signer().SevenBit(m.Data, r.Now())
	var no *rewrite.Refusal
	switch {
	case errors.As(err, &no):
		return smtp.No8BitMIME.With("%s, and the message cannot be sent without: %s", smtp.No8BitMIME.Text, no.Why), nil
	case err != nil:
		r.Log.Error("copy not made", "message", m.ID, "error", err)
		return smtp.OurFault.With("the copy could not be made (%s)", m.ID), nil
	}
	m.Data, m.Body = data, "7BIT"
	return upstream.Send(ctx, m)
}
