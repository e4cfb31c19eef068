package smtp

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
)

// BenchmarkDoor is messages a second over loopback, pipelined, from 20 connections and from one.
func BenchmarkDoor(b *testing.B) {
	line := strings.Repeat("x", 76) + "\r\n"
	for _, c := range []struct {
		name  string
		size  int
		bdat  bool
		conns int
	}{
		{"4KB/1 connection", 4 << 10, false, 1},
		{"4KB/20 connections", 4 << 10, false, 20},
		{"4KB BDAT/20 connections", 4 << 10, true, 20},
		{"100KB/20 connections", 100 << 10, false, 20},
		{"5MB/4 connections", 5 << 20, false, 4},
	} {
		b.Run(c.name, func(b *testing.B) {
			d := openDoor(b, func(s *Server, _ *doorSetup) { s.Handler = discard{} })
			body := "Subject: x\r\n\r\n" + strings.Repeat(line, c.size/len(line))
			b.SetBytes(int64(len(body)))
			work := make(chan struct{})
			done := make(chan error, c.conns)
			for range c.conns {
				conn, err := net.Dial("tcp", d.addr)
				if err != nil {
					b.Fatal(err)
				}
				defer conn.Close()
				go func() { done <- sendAll(conn, body, c.bdat, work) }()
			}
			b.ResetTimer()
			for range b.N {
				work <- struct{}{}
			}
			close(work)
			for range c.conns {
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

type discard struct{}

func (discard) Recipient(context.Context, Envelope, string) Reply { return OK }
func (discard) Message(context.Context, Message) Reply            { return OK }

func sendAll(c net.Conn, body string, bdat bool, work <-chan struct{}) error {
	in := bufio.NewReader(c)
	read := func(n int) error {
		for range n {
			for {
				l, err := in.ReadString('\n')
				if err != nil {
					return err
				}
				if l[3] == ' ' {
					break
				}
			}
		}
		return nil
	}
	fmt.Fprint(c, "EHLO c\r\n")
	if err := read(2); err != nil {
		return err
	}
	const envelope = "MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n"
	for range work {
		var err error
		if bdat {
			fmt.Fprintf(c, "%sBDAT %d LAST\r\n%s", envelope, len(body), body)
			err = read(3)
		} else {
			fmt.Fprint(c, envelope+"DATA\r\n")
			if err = read(3); err == nil {
				fmt.Fprint(c, body+".\r\n")
				err = read(1)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
