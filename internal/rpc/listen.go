package rpc

import (
	"net"
	"net/netip"
)

// Listen listens on a TCP address, HOST:PORT: on IPv4 alone where HOST is an IPv4
// address, also on 0.0.0.0, which Go takes for all addresses of both families.
func Listen(addr string) (net.Listener, error) {
	network := "tcp"
	if host, _, err := net.SplitHostPort(addr); err == nil {
		if ip, err := netip.ParseAddr(host); err == nil && ip.Is4() {
			network = "tcp4"
		}
	}
	return net.Listen(network, addr)
}
