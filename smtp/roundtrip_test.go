package smtp

import (
	"bytes"
	"net"
	"sync"
	"testing"
	"time"

	"heed/smtp/smtptest"
)

// roundTrip is that of a gateway and an ESP on two continents' near sides.
const roundTrip = 50 * time.Millisecond

// farAway stands between the client and a server that is a round trip away, and counts the client's turns: how often it
// sent something after it had heard something. Each costs a round trip.
type farAway struct {
	listener net.Listener
	server   string

	mu    sync.Mutex
	turns int
}

func startFarAway(t testing.TB, server string) *farAway {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	f := &farAway{listener: l, server: server}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go f.carry(client)
		}
	}()
	return f
}

func (f *farAway) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.turns
}

func (f *farAway) carry(client net.Conn) {
	time.Sleep(roundTrip) // SYN
	server, err := net.Dial("tcp", f.server)
	if err != nil {
		client.Close()
		return
	}
	heard := true // the client, something since it last sent something
	go delayed(client, server, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if heard {
			f.turns, heard = f.turns+1, false
		}
	}, nil)
	delayed(server, client, nil, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		heard = true
	})
}

// delayed carries bytes from one end to the other in half a round trip, and tells when they start and when they arrive.
func delayed(from, to net.Conn, started, arrives func()) {
	type piece struct {
		bytes []byte
		at    time.Time
	}
	way := make(chan piece, 1000)
	go func() {
		defer to.Close()
		for p := range way {
			time.Sleep(time.Until(p.at))
			if arrives != nil {
				arrives()
			}
			if _, err := to.Write(p.bytes); err != nil {
				from.Close()
			}
		}
	}()
	defer close(way)
	for {
		b := make([]byte, 64<<10)
		n, err := from.Read(b)
		if err != nil {
			return
		}
		if started != nil {
			started()
		}
		way <- piece{b[:n], time.Now().Add(roundTrip / 2)}
	}
}

// ways are what a server may offer and what a message costs there on a kept connection.
var ways = []struct {
	name       string
	extensions []string
	turns      int
}{
	{"neither", []string{"8BITMIME", "SIZE"}, 4},
	{"PIPELINING", smtptest.DefaultExtensions(), 2},
	{"CHUNKING", smtptest.Chunking(), 1},
}

func TestRoundTrips(t *testing.T) {
	const messages = 10
	for _, tt := range ways {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			peer := smtptest.New(t, smtptest.Script{Extensions: tt.extensions})
			far := startFarAway(t, peer.Addr())
			u := upstreamTo(t, peer, func(c *UpstreamConfig) { c.Address = far.listener.Addr().String() })
			send(t, u, "b@x.test")
			first := far.count()
			for range messages {
				send(t, u, "b@x.test")
			}
			each := far.count() - first
			t.Logf("%d round trips for the first message, with EHLO; %d for the next %d", first, each, messages)
			if each != tt.turns*messages || peer.Connections() != 1 {
				t.Errorf("%d round trips for %d messages, want %d; %d connections", each, messages, tt.turns*messages, peer.Connections())
			}
			if want := 1 + max(tt.turns, 2); first != want {
				t.Errorf("%d round trips for the first message, want %d", first, want)
			}
		})
	}
}

// BenchmarkFarAway is messages a second over 20 connections to a server 50 ms away.
func BenchmarkFarAway(b *testing.B) {
	for _, way := range ways {
		b.Run(way.name, func(b *testing.B) {
			const connections = 20
			peer := smtptest.New(b, smtptest.Script{Extensions: way.extensions})
			far := startFarAway(b, peer.Addr())
			u, err := NewUpstream(UpstreamConfig{
				Name: "esp", Address: far.listener.Addr().String(), Security: Plain, Hostname: "gw.test", Connections: connections, PerConnection: 100,
			})
			if err != nil {
				b.Fatal(err)
			}
			defer u.Close()
			m := letter("b@x.test")
			m.Data = bytes.Repeat([]byte("0123456789012345678901234567890\r\n"), 4<<10/33)
			work := make(chan struct{})
			var all sync.WaitGroup
			for range connections {
				all.Go(func() {
					for range work {
						if reply, err := u.Send(b.Context(), m); err != nil || !reply.Positive() {
							b.Error(reply, err)
						}
					}
				})
			}
			b.ResetTimer()
			for range b.N {
				work <- struct{}{}
			}
			close(work)
			all.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
			b.ReportMetric(float64(far.count())/float64(b.N), "roundtrips/msg")
		})
	}
}
