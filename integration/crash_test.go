package integration

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"heed/smtp/smtptest"
	"heed/store/storetest"
)

// load is some clients that submit without end, each message until it is answered 2xx.
type load struct {
	t        *testing.T
	g        *gateway
	times    func() map[string]int // how often each message arrived, all its recipients together
	clients  sync.WaitGroup
	stop     chan struct{}
	number   atomic.Int64
	acked    atomic.Int64
	mu       sync.Mutex
	accepted []submitted
}

// submitted is a message that was answered 2xx.
type submitted struct {
	id     string
	copies int
	once   bool // at the first try, in the upstream's own words: nothing excuses a second copy
	lost   bool // an answer to the client was: it had to try again
}

func startLoad(t *testing.T, g *gateway, times func() map[string]int, clients int) *load {
	l := &load{t: t, g: g, times: times, stop: make(chan struct{})}
	for range clients {
		l.clients.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
					l.one(l.number.Add(1))
				}
			}
		})
	}
	return l
}

// one submits the n-th message: marketing to one, marketing to two, transactional.
func (l *load) one(n int64) {
	s := submitted{id: fmt.Sprintf("load%d@acme.example", n), copies: 1, once: true}
	account, to := "crm", []string{"k@spedition.de"}
	switch n % 3 {
	case 1:
		to, s.copies = append(to, "l@spedition.de"), 2
	case 2:
		account = "shop"
	}
	for {
		select {
		case <-l.stop:
			return
		default:
		}
		reply, err := submit(l.g.smtp, account, us, to, letter(s.id, to[0], ""))
		if err == nil && strings.HasPrefix(reply, "250 ") {
			s.once = s.once && strings.HasPrefix(reply, "250 2.0.0 ok: queued as ")
			break
		}
		if err == nil && reply[0] == '5' {
			l.t.Errorf("answered %q", reply)
			return
		}
		s.once = false // the client cannot know, and tries again
		s.lost = s.lost || err != nil
	}
	l.mu.Lock()
	l.accepted = append(l.accepted, s)
	l.mu.Unlock()
	l.acked.Add(1)
}

// some waits until a few more messages were accepted, nobody knows how many.
func (l *load) some() {
	l.t.Helper()
	enough := l.acked.Load() + 10 + rand.Int64N(40)
	eventually(l.t, "accepted messages", func() bool { return l.acked.Load() >= enough })
}

func (l *load) end() {
	close(l.stop)
	l.clients.Wait()
}

// arrived holds what was promised against what came. Where no gateway died, a second copy needs an answer that was
// lost: the client's, or the upstream's, which the journal then knows.
func (l *load) arrived(gatewayDied bool) {
	l.t.Helper()
	times := l.times()
	duplicates, once := 0, 0
	for _, s := range l.accepted {
		switch n := times[s.id]; {
		case n < s.copies:
			l.t.Errorf("%s was accepted and arrived %d times, want %d", s.id, n, s.copies)
		case s.once && n > s.copies:
			l.t.Errorf("%s was answered at the first try and arrived %d times, want %d", s.id, n, s.copies)
		case n > s.copies && !gatewayDied && !s.lost && !strings.Contains(l.g.must("journal", "--message-id", s.id), "fate=in doubt"):
			l.t.Errorf("%s arrived %d times, want %d, and no answer was lost", s.id, n, s.copies)
		case n > s.copies:
			duplicates++
		}
		if s.once {
			once++
		}
	}
	l.t.Logf("%d messages accepted, %d of them answered by the upstream at the first try; %d arrived more than once, where an answer was lost", len(l.accepted), once, duplicates)
}

// timesAt is how often each message arrived at a scripted upstream.
func timesAt(up *smtptest.Upstream) func() map[string]int {
	return func() map[string]int {
		times := map[string]int{}
		for _, m := range up.Messages() {
			if found := messageID.FindSubmatch(m.Data); found != nil {
				times[string(found[1])]++
			}
		}
		return times
	}
}

// drains waits until nothing waits.
func (g *gateway) drains(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(2 * wirePatience); ; time.Sleep(100 * time.Millisecond) {
		g.waitsNoMore(t) // what is in doubt waits for minutes
		left := g.spooled(t)
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d wait still, the first: %+v", len(left), left[0])
		}
	}
}

// rounds is how many times something dies in a test: few, unless HEED_ROUNDS asks for more (make soak).
func rounds(t *testing.T) int {
	n, err := strconv.Atoi(cmp.Or(os.Getenv("HEED_ROUNDS"), "5"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestUnwillingUpstreamUnderLoad: a node dies again and again in front of an upstream that puts off and hangs up.
// Whatever the moment, each message answered 2xx arrives; one that was answered by the upstream's own reply at the
// first try arrives once.
func TestUnwillingUpstreamUnderLoad(t *testing.T) {
	t.Parallel()
	deferred := make([]string, 5000) // every fourth content is put off, every ninth connection lost at RCPT
	lost := make([]string, 5000)
	for i := range deferred {
		if i%4 == 1 {
			deferred[i] = "451 4.3.0 later"
		}
		if i%9 == 5 {
			lost[i] = smtptest.Close
		}
	}
	up := smtptest.New(t, smtptest.Script{Answers: map[string][]string{".": deferred, "RCPT": lost}})
	g := newGateway(t, setting{"UPSTREAM", up.Addr()}).start()
	g.consented("k@spedition.de", "l@spedition.de")
	l := startLoad(t, g, timesAt(up), 4)
	for range 5 {
		l.some()
		g.stop(syscall.SIGKILL)
		g.timePasses(t)
		g.start()
	}
	l.end()
	g.timePasses(t) // what was under way at the last crash waits for the end of its lease
	g.spoolEmpty(t)
	l.arrived(true)
}

// TestKills: a process dies by SIGKILL at a random moment under load, and is started again, round after round.
func TestKills(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		victim string
		redis  bool
	}{{"gateway", false}, {"upstream", false}, {"gateway", true}, {"upstream", true}, {"redis", true}} {
		state := "SQLite"
		if tt.redis {
			state = "Redis"
		}
		t.Run(tt.victim+" on "+state, func(t *testing.T) {
			t.Parallel()
			up := startSinkProcess(t)
			settings := []setting{{"UPSTREAM", up.addr}}
			var r *storetest.Redis
			if tt.redis {
				r = storetest.StartRedis(t)
				settings = append(settings, setting{"STATE", r.URL()})
			}
			g := newGateway(t, settings...).start()
			g.consented("k@spedition.de", "l@spedition.de")
			l := startLoad(t, g, up.times, 4)
			for range rounds(t) {
				l.some()
				switch tt.victim {
				case "gateway":
					g.stop(syscall.SIGKILL)
					g.timePasses(t)
					g.start()
				case "upstream":
					up.kill()
					up.start()
				case "redis":
					r.Kill()
					r.Start()
				}
			}
			l.some()
			l.end()
			g.drains(t)
			l.arrived(tt.victim == "gateway")
		})
	}
}

// TestRedisCrashesUnderLoad: the state dies and comes back; what was answered 2xx arrived, and every opt-out that was
// answered 200 is there.
func TestRedisCrashesUnderLoad(t *testing.T) {
	t.Parallel()
	r := storetest.StartRedis(t)
	up := smtptest.New(t, smtptest.Script{})
	g := newGateway(t, setting{"UPSTREAM", up.Addr()}, setting{"STATE", r.URL()}).start()
	g.consented("k@spedition.de", "l@spedition.de")
	var people []string
	for i := range 60 {
		people = append(people, fmt.Sprintf("p%d@spedition.de", i))
	}
	g.consented(people...)
	var links []string
	for _, p := range people {
		links = append(links, g.link(t, up, p))
	}
	l := startLoad(t, g, timesAt(up), 4)
	acknowledged := make([]bool, len(people))
	var clicks sync.WaitGroup
	clicks.Go(func() { // one after the other, each once: what is not answered 200 was promised to nobody
		for i, link := range links {
			acknowledged[i] = oneClick(link) == http.StatusOK
		}
	})
	for range 3 {
		l.some()
		r.Kill()
		r.Start()
	}
	l.some()
	l.end()
	clicks.Wait()
	l.arrived(false)
	n := 0
	for i, p := range people {
		if !acknowledged[i] {
			continue
		}
		n++
		if reply, err := submit(g.smtp, "crm", us, []string{p}, letter("after@acme.example", p, "")); err != nil || !strings.HasPrefix(reply, "550 5.7.1") {
			t.Errorf("the acknowledged opt-out of %s is lost: %q, %v", p, reply, err)
		}
	}
	t.Logf("%d of %d opt-outs were acknowledged", n, len(people))
}
