package spool

import (
	"bytes"
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"heed/smtp"
)

// Bouncer says how senders are told that their message was not delivered (RFC 3464).
type Bouncer struct {
	Upstream string      // name of the Sender, for people
	Sender   smtp.Sender // takes the bounces
	Fallback string      // address that gets those which Sender refuses; "": they are only reported
	Hostname string      // the gateway's, for MAILER-DAEMON@ and Reporting-MTA
}

// A bounce is a copy like others; its note tells it apart. The relay's notes are never these words.
const (
	noteBounce   = "bounce"
	noteFallback = "bounce to fallback"
)

// IsBounce tells that a copy is a bounce of the gateway's own.
func IsBounce(c smtp.Copy) bool {
	return string(c.Note) == noteBounce || string(c.Note) == noteFallback
}

// Bounce tells the sender of m in one report about all recipients that failed or were stopped by a rule, as far as they want to be reported
// (RFC 3461 section 4.1). It returns when the report is durable; Run sends it. Nothing is ever sent about a bounce.
func (s *Spool) Bounce(ctx context.Context, m smtp.Message, failed []smtp.Failure) error {
	return s.bounce(ctx, smtp.NewID(), m, time.Time{}, failed)
}

// bounceCopy bounces a copy that failed, under an ID that depends on it: repeated after a crash, it is the same bounce.
func (s *Spool) bounceCopy(ctx context.Context, v verdict) error {
	c := v.copy
	if !IsBounce(c) {
		failure := smtp.Failure{Recipient: c.Message.To[0], Fate: v.o.Fate, Reply: v.o.Reply, At: s.now()}
		return s.bounce(ctx, c.ID+"b", c.Message, c.Accepted, []smtp.Failure{failure})
	}
	if s.Bouncer == nil || s.Bouncer.Fallback == "" || string(c.Note) == noteFallback {
		return nil
	}
	// An upstream that takes no null sender takes this one: the operator writes to itself. If it fails, that is all.
	m := c.Message
	m.From, m.To = s.Bouncer.Fallback, []smtp.Recipient{{Address: s.Bouncer.Fallback}}
	m.UTF8 = m.UTF8 || !isASCII(m.From)
	m.Data = readdressed(m.Data, m.From)
	return s.keepBounce(ctx, c.ID+"f", noteFallback, m)
}

func (s *Spool) bounce(ctx context.Context, id string, m smtp.Message, accepted time.Time, failed []smtp.Failure) error {
	failed = slices.DeleteFunc(slices.Clone(failed), func(f smtp.Failure) bool { return !wantsFailure(f.Recipient.Notify) })
	if s.Bouncer == nil || m.From == "" || len(failed) == 0 {
		return nil
	}
	data, err := report{host: s.Bouncer.Hostname, m: m, failed: failed, accepted: accepted, now: s.now()}.compose()
	if err != nil {
		return err
	}
	bounce := smtp.Message{
		Envelope: smtp.Envelope{ID: smtp.NewID(), Account: m.Account, UTF8: !isASCII(m.From)},
		To:       []smtp.Recipient{{Address: m.From}},
		Data:     data,
	}
	return s.keepBounce(ctx, id, noteBounce, bounce)
}

// unsettled tells of a bounce that what it reports is not removed yet: it may be kept once more, and would be sent twice.
func (s *Spool) unsettled(c smtp.Copy) bool {
	if !IsBounce(c) {
		return false
	}
	of := c.ID[:len(c.ID)-1]
	return s.leaseOf(of) != nil || s.isOwed(of)
}

func wantsFailure(notify []string) bool {
	return len(notify) == 0 || slices.Contains(notify, "FAILURE")
}

// keepBounce makes a bounce durable, in a full spool too: it is small, and takes the place of what it reports.
func (s *Spool) keepBounce(ctx context.Context, id, note string, m smtp.Message) error {
	now := s.now()
	c := smtp.Copy{ID: id, Message: m, Upstream: s.Bouncer.Upstream, Note: []byte(note), Accepted: now, Due: now}
	return s.add(ctx, m.Data, []smtp.Copy{c}, math.MaxInt64)
}

func (b *Bouncer) send(ctx context.Context, c smtp.Copy) smtp.Outcome {
	if b == nil {
		return smtp.OutcomeOf(smtp.Reply{}, errors.New("bounces are off"))
	}
	return smtp.OutcomeOf(b.Sender.Send(ctx, c.Message))
}

// readdressed puts another address into From: and To:, the first two lines of every report.
func readdressed(data []byte, address string) []byte {
	for range 2 {
		_, data, _ = bytes.Cut(data, []byte("\r\n"))
	}
	return append([]byte("From: <"+printable(address)+">\r\nTo: <"+printable(address)+">\r\n"), data...)
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 })
}
