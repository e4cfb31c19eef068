//go:build unix

package smtp

import (
	"errors"
	"net"
	"syscall"
	"time"
)

// quiet tells that nothing came over a connection on which nothing is due: no end, no farewell, no stray answer. It
// does not wait. A byte that came is lost, the connection being of no use then.
func quiet(conn net.Conn) bool {
	system, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	conn.SetReadDeadline(time.Time{}) // a past one would be an error
	raw, err := system.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Read(func(fd uintptr) bool {
		_, err := syscall.Read(int(fd), make([]byte, 1))
		quiet = errors.Is(err, syscall.EAGAIN)
		return true
	})
	return err == nil && quiet
}
