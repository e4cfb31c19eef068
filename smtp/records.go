package smtp

import (
	"bufio"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"time"
)

// recordHeader is how a TLS record begins; its last two bytes are the length of the rest (RFC 8446 section 5.1).
const recordHeader = 5

// records is the connection below TLS. It gives TLS one record at a time: crypto/tls would read further ones into a
// buffer of its own, where nobody can see that more came than the answer that was due.
type records struct {
	net.Conn
	in   *bufio.Reader
	left int // of the record that is being read
}

func newRecords(conn net.Conn) *records {
	return &records{Conn: conn, in: bufio.NewReaderSize(conn, maxAnswerLine)}
}

// Read ends where the record does. An error keeps what came before it for the next Read.
func (r *records) Read(b []byte) (int, error) {
	if r.left == 0 {
		header, err := r.in.Peek(recordHeader)
		if err != nil {
			return 0, err
		}
		r.left = recordHeader + int(binary.BigEndian.Uint16(header[3:]))
	}
	n, err := r.in.Read(b[:min(len(b), r.left)])
	r.left -= n
	return n, err
}

// quiet tells that nothing came since the last answer, at any layer. It does not wait; what came may be lost.
func (l *link) quiet() bool {
	if l.in.Buffered() > 0 || !quiet(l.socket) {
		return false
	}
	if l.records == nil {
		return true
	}
	if l.records.left > 0 || l.records.in.Buffered() > 0 {
		return false
	}
	// TLS may hold the end of a record that was larger than the room in l.in.
	l.conn.SetReadDeadline(time.Unix(1, 0))
	_, err := l.conn.Read(make([]byte, 1))
	return errors.Is(err, os.ErrDeadlineExceeded)
}
