package smtp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	netsmtp "net/smtp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/emersion/go-sasl"
)

func shutDown(t *testing.T, s *Server, ctx context.Context) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(ctx) }()
	return done
}

func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestShutdownLetsTransactionsFinish(t *testing.T) {
	d := openDoor(t)
	idle, greeted, running, chunking := d.dial(t), d.dial(t), d.dial(t), d.dial(t)
	idle.play("S 220 *")
	greeted.play(hello + "C AUTH LOGIN\nS 334 *")
	running.play(inData)
	chunking.play(envelope + `R BDAT 4\r\na\r\nb` + "\nS 250 *")

	done := shutDown(t, d.server, context.Background())
	idle.play("S 421 4.3.2 the gateway is shutting down\nCLOSED")
	running.play("C text\nC .\nS 250 2.0.0 ok\nS 421 4.3.2 *\nCLOSED")
	chunking.play("C BDAT 0 LAST\nS 250 2.0.0 ok\nS 421 4.3.2 *\nCLOSED")
	greeted.play("S 421 4.3.2 *\nCLOSED")
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", d.addr); err == nil {
		t.Error("the listener is still open")
	}
	if err := d.server.Shutdown(ended()); err != nil {
		t.Errorf("a second Shutdown: %v", err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.server.Serve(ln); !errors.Is(err, ErrServerClosed) {
		t.Errorf("Serve after Shutdown: %v", err)
	}
}

func TestShutdownEndsWhateverClientsDo(t *testing.T) {
	for name, script := range map[string]string{
		"in DATA":      inData + `R half a li`,
		"in BDAT":      envelope + `R BDAT 100\r\nhalf`,
		"in a line":    "S 220 *\nR EHL",
		"in AUTH":      hello + "C AUTH LOGIN\nS 334 *",
		"in TLS":       hello + "C STARTTLS\nS 220 *",
		"between RCPT": envelope,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := openDoor(t)
			d.dial(t).play(script)
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
			defer cancel()
			<-shutDown(t, d.server, ctx)
			if n := d.server.InFlight(); n != 0 {
				t.Errorf("%d bytes in flight", n)
			}
		})
	}
}

// At the end of its patience Shutdown cancels a call of the Handler, whose answer still reaches the client.
func TestShutdownWaitsForTheHandler(t *testing.T) {
	d := openDoor(t)
	entered := make(chan struct{})
	d.handler.message = func(ctx context.Context, _ Message) Reply {
		close(entered)
		<-ctx.Done()
		return OurFault.With("cancelled")
	}
	c := d.dial(t)
	c.play(inData + "C .")
	<-entered
	if err := <-shutDown(t, d.server, ended()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	c.play("S 451 4.3.0 cancelled\nS 421 4.3.2 *")
}

func TestMessageCompletesWithoutItsClient(t *testing.T) {
	d := openDoor(t)
	entered, left, result := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	d.handler.message = func(ctx context.Context, _ Message) Reply {
		close(entered)
		<-left
		_, deadline := ctx.Deadline()
		if !deadline {
			t.Error("no deadline")
		}
		result <- ctx.Err()
		return OK
	}
	c := d.dial(t)
	c.play(inData + "C .")
	<-entered
	c.Close()
	close(left)
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func TestLostConnectionDeliversNothing(t *testing.T) {
	for name, script := range map[string]string{
		"DATA":          inData + `R text\r\n`,
		"DATA, a dot":   inData + `R text\r\n.`,
		"DATA, dot CR":  inData + `R text\r\n.\r`,
		"BDAT, a chunk": envelope + `R BDAT 10 LAST\r\nhalf`,
		"BDAT, no last": envelope + `R BDAT 4\r\nhalf` + "\nS 250 *",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gone := make(chan struct{})
			d := openDoor(t, func(s *Server, _ *doorSetup) {
				s.OnConnect = func(delta int) {
					if delta < 0 {
						close(gone)
					}
				}
			})
			c := d.dial(t)
			c.play(script)
			c.Close()
			<-gone
			if n := len(d.handler.messages()); n > 0 {
				t.Errorf("%d messages were taken", n)
			}
			if n := d.server.InFlight(); n != 0 {
				t.Errorf("%d bytes in flight", n)
			}
		})
	}
}

func TestTooManyConnections(t *testing.T) {
	var open atomic.Int64
	closed := make(chan struct{}, 10)
	d := openDoor(t, withLimits(Limits{Connections: 2}), func(s *Server, _ *doorSetup) {
		s.OnConnect = func(delta int) {
			if open.Add(int64(delta)); delta < 0 {
				closed <- struct{}{}
			}
		}
	})
	one, two := d.dial(t), d.dial(t)
	one.play("S 220 *")
	two.play("S 220 *")
	d.dial(t).play("S 421 4.3.2 too many connections\nCLOSED")
	two.play("C QUIT\nS 221 *\nCLOSED")
	<-closed
	d.dial(t).play("S 220 *")
	if n := open.Load(); n != 2 {
		t.Errorf("%d connections are counted", n)
	}
}

// One message holds so much that a second cannot grow: it waits, gives up by its deadline and keeps its session.
func TestMemoryForMessageDataIsBounded(t *testing.T) {
	const size = 256 << 10
	d := openDoor(t, withLimits(Limits{Message: size, InFlight: 1, DataTimeout: 300 * time.Millisecond}))
	release := make(chan struct{})
	entered := make(chan struct{}, 2)
	d.handler.message = func(context.Context, Message) Reply {
		entered <- struct{}{}
		<-release
		return OK
	}
	big := strings.Repeat(strings.Repeat("x", 1022)+"\r\n", size/1024)
	holder := d.dial(t)
	holder.play(inData)
	holder.send(big + ".\r\n")
	<-entered
	c := d.dial(t)
	c.play(inData)
	c.send(big + ".\r\n")
	c.play("S 451 4.3.0 *\nC NOOP\nS 250 *")
	if n := d.server.InFlight(); n != size {
		t.Errorf("%d bytes are held", n)
	}
	close(release)
	holder.play("S 250 *")
	c.play("C MAIL FROM:<a@b.test>\nS 250 *\nC RCPT TO:<c@d.test>\nS 250 *\nC DATA\nS 354 *")
	c.send(big + ".\r\n")
	c.play("S 250 *\nC NOOP\nS 250 *")
	if n := d.server.InFlight(); n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
}

func TestHalfReadMessagesDoNotDeadlock(t *testing.T) {
	const size = 256 << 10
	d := openDoor(t, withLimits(Limits{Message: size, InFlight: 1, DataTimeout: 10 * time.Second}))
	big := strings.Repeat(strings.Repeat("x", 1022)+"\r\n", size/1024)
	var all sync.WaitGroup
	for range 12 {
		c := d.dial(t)
		c.play(inData)
		all.Go(func() {
			io.WriteString(c.Conn, big+".\r\n")
			l, err := c.in.ReadString('\n')
			if err != nil || !strings.HasPrefix(l, "250 ") && !strings.HasPrefix(l, "451 4.3.0 ") {
				t.Errorf("%q, %v", l, err)
			}
		})
	}
	all.Wait()
	if n := d.server.InFlight(); n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
}

// Messages that grow at once must not sit on memory that they deny each other: some give up at once, and the others
// go on, long before any deadline.
func TestMessagesThatGrowTogetherAreAllAnswered(t *testing.T) {
	d := openDoor(t, withLimits(Limits{Message: 4 << 20, InFlight: 16 << 20}))
	first := "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 1022)+"\r\n", 400)
	rest := strings.Repeat(strings.Repeat("x", 1022)+"\r\n", 2600)
	clients := make([]*rawClient, 24)
	for i := range clients {
		clients[i] = d.dial(t)
		clients[i].play(envelope)
		clients[i].send(fmt.Sprintf("BDAT %d\r\n%s", len(first), first))
		clients[i].play("S 250 *")
	}
	var all sync.WaitGroup
	var taken atomic.Int64
	for _, c := range clients {
		all.Go(func() {
			fmt.Fprintf(c.Conn, "BDAT %d LAST\r\n%s", len(rest), rest)
			l, err := c.in.ReadString('\n')
			if err != nil || !strings.HasPrefix(l, "250 ") && !strings.HasPrefix(l, "451 4.3.0 ") {
				t.Errorf("%q, %v", l, err)
			}
			if strings.HasPrefix(l, "250 ") {
				taken.Add(1)
			}
		})
	}
	all.Wait()
	if n := taken.Load(); n == 0 {
		t.Error("none was taken")
	}
	if n := d.server.InFlight(); n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
}

// flood writes pieces until the server closes or so many bytes are gone, and gives what the server said.
func flood(c *rawClient, piece []byte, bytes int) string {
	said := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(c.in)
		said <- string(b)
	}()
	for range bytes / len(piece) {
		if _, err := c.Write(piece); err != nil {
			break
		}
	}
	c.Conn.(*net.TCPConn).CloseWrite()
	return <-said
}

func TestHostileInputCostsNoMemory(t *testing.T) {
	for _, c := range []struct {
		name, before string
		piece        string
		bytes        int
		want         string
	}{
		{"garbage without line ends before EHLO", "", strings.Repeat("x", 64<<10), 100 << 20, "500 5.5.2 "},
		{"garbage lines before EHLO", "", strings.Repeat("garbage\r\n", 7000), 100 << 20, "421 4.7.0 "},
		{"a header line without end", inData, strings.Repeat("x", 64<<10), 100 << 20, "554 5.6.0 "},
		{"header lines without end", inData, strings.Repeat("X: y\r\n", 10000), 100 << 20, "554 5.6.0 "},
		{"a body without end", inData + "C", strings.Repeat("text\r\n", 10000), 100 << 20, "552 5.3.4 "},
		{"chunks without end", envelope + "R " + strings.Repeat(`BDAT 10\r\n12345678\r\n`, 100), strings.Repeat("BDAT 10\r\n12345678\r\n", 5000), 20 << 20, "554 5.6.0 "},
		{"a huge chunk", envelope + `R BDAT 99999999999\r\n`, strings.Repeat("x", 64<<10), 100 << 20, "552 5.3.4 "},
		{"MAIL parameters", hello, "MAIL FROM:<a@b.test> " + strings.Repeat("X", 64<<10), 10 << 20, "500 5.5.2 "},
		{"AUTH", hello + "C AUTH LOGIN\nS 334 *", strings.Repeat("x", 64<<10), 100 << 20, "500 5.5.2 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := openDoor(t, withLimits(Limits{Message: 1 << 20}))
			client := d.dial(t)
			client.play(c.before)
			piece := []byte(c.piece)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			said := flood(client, piece, c.bytes)
			runtime.ReadMemStats(&after)
			if !strings.Contains("\n"+said, "\n"+c.want) {
				t.Errorf("want %q, got %.300q", c.want, said)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 32<<20 {
				t.Errorf("%d MiB were allocated", n>>20)
			}
		})
	}
}

// A byte now and then keeps every single read going; the whole must not take forever.
func TestDribblingClientIsCut(t *testing.T) {
	d := openDoor(t, withLimits(Limits{DataTimeout: 100 * time.Millisecond}))
	for _, script := range []string{inData, envelope + `R BDAT 1000000\r\n`} {
		c := d.dial(t)
		c.play(script)
		stop := make(chan struct{})
		go func() {
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					c.Write([]byte("x"))
				case <-stop:
					return
				}
			}
		}()
		c.expect("421 4.4.2 *")
		close(stop)
	}
}

func TestNetSMTPClient(t *testing.T) {
	d := openDoor(t)
	text := "Subject: hi\r\n\r\n" + strings.Repeat("line of text\r\n.dots\r\n", 5000)
	if err := netsmtp.SendMail(d.addr, nil, "a@b.test", []string{"c@d.test", "e@d.test"}, []byte(text)); err != nil {
		// net/smtp insists on a certificate it trusts wherever STARTTLS is offered
		if !strings.Contains(err.Error(), "certificate") {
			t.Fatal(err)
		}
	}
	plain := openDoor(t, func(s *Server, _ *doorSetup) { s.TLS = nil })
	auth := netsmtp.PlainAuth("", "shop", "secret", "127.0.0.1")
	if err := netsmtp.SendMail(plain.addr, auth, "a@b.test", []string{"c@d.test", "e@d.test"}, []byte(text)); err != nil {
		t.Fatal(err)
	}
	m := plain.handler.messages()[0]
	if string(m.Data) != text || len(m.To) != 2 || m.Account != "shop" {
		t.Errorf("%d bytes, %+v", len(m.Data), m.Envelope)
	}
}

func TestGoSMTPClient(t *testing.T) {
	d := openDoor(t, fromPeer("192.0.2.1:1"))
	c, err := gosmtp.DialStartTLS(d.addr, insecureTLS())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Auth(sasl.NewLoginClient("shop", "wrong")); err == nil {
		t.Error("a wrong password was taken")
	}
	if err := c.Auth(sasl.NewLoginClient("shop", "secret")); err != nil {
		t.Fatal(err)
	}
	text := "Subject: hi\r\n\r\n" + strings.Repeat("ü\r\n", 1<<20)
	for range 2 {
		if err := c.SendMail("a@b.test", []string{"c@d.test"}, strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	if m := d.handler.messages(); len(m) != 2 || !bytes.Equal(m[1].Data, []byte(text)) || m[1].Body != "8BITMIME" || m[0].ID == m[1].ID {
		t.Errorf("%d messages", len(m))
	}
	if err := c.Quit(); err != nil {
		t.Error(err)
	}
}
