package smtp

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"
)

func newTestBody(limit int64, dots bool) *body {
	return &body{dots: dots, intake: intake{budget: newBudget(1<<30, 1<<30), ctx: context.Background(), wait: time.Minute, limit: limit}}
}

// TestDataInAnyPieces: what is taken does not depend on how the network cut it.
func TestDataInAnyPieces(t *testing.T) {
	for _, c := range []struct {
		in, want string
		rest     int
		err      error
	}{
		{in: ".\r\n", want: "\r\n"},
		{in: "a\r\n.\r\nQUIT\r\n", want: "a\r\n", rest: 6},
		{in: "..\r\n...\r\n.a\r\n\r\n.\r\n", want: ".\r\n..\r\na\r\n\r\n"},
		{in: "a\n.\r\n", err: errBareLine},
		{in: "a\r.\r\n", err: errBareLine},
		{in: ".\rX\r\n.\r\n", err: errBareLine},
		{in: ".\n", err: errBareLine},
		{in: "\r\r\n.\r\n", err: errBareLine},
		{in: "\n", err: errBareLine},
	} {
		for size := 1; size <= len(c.in); size++ {
			b := newTestBody(1000, true)
			got, used, end, err := feed(b, []byte(c.in), size)
			if !errors.Is(err, c.err) || err == nil && (!end || string(got) != c.want || len(c.in)-used != c.rest) {
				t.Errorf("%q by %d: %q, %d used, %v, %v", c.in, size, got, used, end, err)
			}
		}
	}
}

func feed(b *body, in []byte, size int) (data []byte, used int, end bool, err error) {
	for used < len(in) && !end && err == nil {
		var n int
		n, end, err = b.take(in[used:min(used+size, len(in))])
		used += n
	}
	if end && err == nil {
		data, err = b.finish()
	}
	return data, used, end, err
}

func TestRefusedDataIsReadToItsEnd(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want Reply
	}{
		"too big":      {strings.Repeat(strings.Repeat("x", 98)+"\r\n", 1001), TooBig},
		"NUL":          {"a\x00b\r\n", Reply{554, [3]int{5, 6, 0}, ""}},
		"header line":  {strings.Repeat("a", maxHeaderLine+1) + "\r\n", Reply{554, [3]int{5, 6, 0}, ""}},
		"header lines": {strings.Repeat("a\r\n", maxHeaderLines+1), Reply{554, [3]int{5, 6, 0}, ""}},
	} {
		b := newTestBody(100_000, true)
		_, used, end, err := feed(b, []byte(c.in+".\r\nNOOP\r\n"), 1000)
		if err != nil || !end || used != len(c.in)+3 || b.refusal.Code != c.want.Code || b.buf != nil || b.budget.inUse() != 0 {
			t.Errorf("%s: %v after %d of %d, %v, %v", name, end, used, len(c.in), err, b.refusal)
		}
	}
	b := newTestBody(100_000, true)
	in := "a: b\r\n\r\n" + strings.Repeat("x\r\n", 2*maxHeaderLines) + ".\r\n"
	if _, _, end, err := feed(b, []byte(in), 1000); !end || err != nil || b.refusal.Code != 0 {
		t.Errorf("many body lines: %v, %v, %v", end, err, b.refusal)
	}
}

func TestPace(t *testing.T) {
	start := time.Unix(1e9, 0)
	p := pace{start, time.Minute}
	for _, c := range []struct {
		name       string
		after, end time.Duration
		got        int64
	}{
		{"at once", 0, time.Minute, 0},
		{"a dribble gets no second minute", 50 * time.Second, time.Minute, 50},
		{"a slow sender goes on", time.Hour, time.Hour + time.Minute, 8 << 20},
		{"one that has become slow", time.Hour, time.Hour + 8*time.Second, 3548 * minRate},
	} {
		if got := p.deadline(start.Add(c.after), c.got).Sub(start); got != c.end {
			t.Errorf("%s: until %v, want %v", c.name, got, c.end)
		}
	}
}

var bareLine = regexp.MustCompile(`(^|[^\r])\n|\r([^\n]|$)`)

// FuzzData: what is taken has CRLF line ends only and ends in one, stays within the limit and does not depend on
// the pieces; every octet after the end is left alone.
func FuzzData(f *testing.F) {
	f.Add([]byte("a: b\r\n\r\n..x\r\n.\r\nQUIT\r\n"), uint8(3), true)
	f.Add([]byte("a\n.\n\r.\r\n"), uint8(1), true)
	f.Add([]byte("no end"), uint8(2), false)
	f.Add([]byte(".\r\n"), uint8(9), true)
	f.Fuzz(func(t *testing.T, in []byte, size uint8, dots bool) {
		const limit = 100
		one, other := newTestBody(limit, dots), newTestBody(limit, dots)
		d1, u1, e1, err1 := feed(one, in, len(in)+1)
		d2, u2, e2, err2 := feed(other, in, int(size)+1)
		if !bytes.Equal(d1, d2) || e1 != e2 || !errors.Is(err1, err2) || err1 == nil && (u1 != u2 || (one.refusal.Code == 0) != (other.refusal.Code == 0)) {
			t.Fatalf("whole: %q %d %v %v; in pieces: %q %d %v %v", d1, u1, e1, err1, d2, u2, e2, err2)
		}
		if !dots {
			if d1, err1 = one.finish(); e1 {
				t.Fatal("BDAT ended at a dot")
			}
		} else if !e1 {
			return
		}
		if err1 == nil && one.refusal.Code == 0 && (bareLine.Match(d1) || !bytes.HasSuffix(d1, crlf) || len(d1) > limit+2) {
			t.Errorf("%q gives %q", in, d1)
		}
		one.release()
		if n := one.budget.inUse(); n != 0 {
			t.Errorf("%d bytes are still held", n)
		}
	})
}
