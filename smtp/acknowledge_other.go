//go:build !linux

package smtp

import "net"

// acknowledge cannot be asked for here.
func acknowledge(net.Conn) {}
