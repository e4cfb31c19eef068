package smtp

import (
	"errors"
	"testing"
	"time"

	"heed/smtp/smtptest"
)

// Whoever has no turn by StartBy is not begun; what was begun is not stopped by it.
func TestStartBy(t *testing.T) {
	hold, held := make(chan struct{}), make(chan struct{}, 1)
	peer := smtptest.New(t, smtptest.Script{Before: func(step string) {
		if step == "." {
			held <- struct{}{}
			<-hold
		}
	}})
	u := upstreamTo(t, peer, func(c *UpstreamConfig) { c.Connections = 1 })
	soon := letter("first@x.test")
	soon.StartBy = time.Now().Add(2 * time.Second)
	first := make(chan error, 1)
	go func() {
		reply, err := u.Send(t.Context(), soon)
		if !reply.Positive() {
			err = errors.Join(err, errors.New(reply.String()))
		}
		first <- err
	}()
	<-held
	second := letter("second@x.test")
	second.StartBy = time.Now().Add(20 * time.Millisecond)
	if reply, err := u.Send(t.Context(), second); !errors.Is(err, ErrBusy) {
		t.Errorf("without a turn: %s, %v", reply, err)
	}
	time.Sleep(time.Until(soon.StartBy))
	close(hold)
	if err := <-first; err != nil {
		t.Errorf("under way at StartBy: %v", err)
	}
	if n := len(peer.Messages()); n != 1 {
		t.Errorf("%d messages arrived", n)
	}
}
