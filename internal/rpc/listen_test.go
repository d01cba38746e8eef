package rpc

import (
	"net"
	"testing"
)

// An IPv4 address means IPv4: who listens on 0.0.0.0 does not open IPv6.
func TestListenOnOneFamily(t *testing.T) {
	for addr, want := range map[string]bool{"0.0.0.0:0": true, "127.0.0.1:0": true, ":0": false} {
		l, err := Listen(addr)
		if err != nil {
			t.Fatal(err)
		}
		if only4 := l.Addr().(*net.TCPAddr).IP.To4() != nil; only4 != want {
			t.Errorf("%s listens on %v; IPv4 alone is %t, want %t", addr, l.Addr(), only4, want)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := Listen("nonsense"); err == nil {
		t.Error("an address without a port is taken")
	}
}
