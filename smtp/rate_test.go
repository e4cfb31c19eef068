package smtp

import (
	"context"
	"sync"
	"testing"

	"heed/smtp/smtptest"
)

// The many messages of one login hold up another's single one by a turn or two.
func TestLoginsTakeTurnsAtTheRate(t *testing.T) {
	peer := smtptest.New(t, smtptest.Script{Login: "ann:ann", Logins: []string{"bob:bob"}})
	p := upstreamTo(t, peer, func(c *UpstreamConfig) { c.Rate = 50 }).Passing()
	defer p.Close()
	ann, bob := logIn(t, p, "ann", "ann"), logIn(t, p, "bob", "bob")
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 60 {
		all.Go(func() { _, _ = ann.Send(ctx, letter("b@x.test")) })
	}
	peer.Await(t, 3)
	before := len(peer.Messages())
	if reply, err := bob.Send(t.Context(), letter("b@x.test")); err != nil || !reply.Positive() {
		t.Errorf("%s, %v", reply, err)
	}
	if n := len(peer.Messages()) - before; n > 8 {
		t.Errorf("%d messages went until the other login's had gone", n)
	}
	cancel()
	all.Wait()
}
