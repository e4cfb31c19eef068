package smtp

import (
	"net"
	"syscall"
)

// acknowledge lets the system acknowledge at once what was received. With nothing to send it would wait for 40 ms, and
// a server with Nagle's algorithm on (QUIRK: Postfix) holds its next answer back until then.
func acknowledge(conn net.Conn) {
	system, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	if raw, err := system.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1) })
	}
}
