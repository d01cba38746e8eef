package rpc

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Loopback reports whether addr ("host:port" or a host alone) can only be
// reached from this machine: "localhost", a loopback address, or a Unix socket
// ("unix:path"). Names are not resolved: a name other than localhost is never
// loopback, whatever it means today. An empty host listens everywhere.
func Loopback(addr string) bool {
	if strings.HasPrefix(addr, "unix:") || strings.HasPrefix(addr, "unix-abstract:") {
		return true
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = strings.Trim(addr, "[]")
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// ExposureError says that an address beyond loopback would be served or dialled
// without TLS and nobody asked for that.
type ExposureError struct {
	// Addr is the address as it was given.
	Addr string
	// Listening tells a server's address from a client's.
	Listening bool
}

func (e *ExposureError) Error() string {
	if e.Listening {
		return fmt.Sprintf("listen on %s: that is beyond loopback and there is no TLS certificate: everybody who reaches it could read and report; give a certificate and key, or allow it with --insecure", e.Addr)
	}
	return fmt.Sprintf("collector %s: that is beyond loopback and TLS is off: allow it with --insecure", e.Addr)
}

// CheckListen refuses to serve addr in the clear beyond loopback, unless
// insecure spells it out. The error is an *ExposureError.
func CheckListen(addr string, withTLS, insecure bool) error {
	if withTLS || insecure || Loopback(addr) {
		return nil
	}
	return &ExposureError{Addr: addr, Listening: true}
}
