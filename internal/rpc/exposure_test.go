package rpc

import (
	"errors"
	"testing"
)

// Only what this machine alone can reach is loopback; names are not resolved.
func TestLoopback(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:4750":        true,
		"127.8.9.10:4750":       true,
		"[::1]:4750":            true,
		"[::ffff:127.0.0.1]:80": true,
		"localhost:4750":        true,
		"LOCALHOST:4750":        true,
		"localhost":             true,
		"::1":                   true,
		"unix:/run/whorl.sock":  true,
		":4750":                 false,
		"0.0.0.0:4750":          false,
		"[::]:4750":             false,
		"10.0.0.5:4750":         false,
		"localhost.evil:4750":   false,
		"collector:4750":        false,
		"127.0.0.1.nip.io:80":   false,
		"":                      false,
	} {
		if got := Loopback(addr); got != want {
			t.Errorf("Loopback(%q) = %v, want %v", addr, got, want)
		}
	}
}

// Beyond loopback it takes TLS or the word insecure, on both sides.
func TestClearTextBeyondLoopbackMustBeSpelledOut(t *testing.T) {
	for _, tt := range []struct {
		addr              string
		withTLS, insecure bool
		wantRefused       bool
	}{
		{"127.0.0.1:4750", false, false, false},
		{"0.0.0.0:4750", false, false, true},
		{"0.0.0.0:4750", true, false, false},
		{"0.0.0.0:4750", false, true, false},
	} {
		for side, check := range map[string]func(string, bool, bool) error{"listen": CheckListen, "dial": CheckDial} {
			err := check(tt.addr, tt.withTLS, tt.insecure)
			var refused *ExposureError
			if errors.As(err, &refused) != tt.wantRefused {
				t.Errorf("%s %s, TLS %v, insecure %v: %v, want refused: %v", side, tt.addr, tt.withTLS, tt.insecure, err, tt.wantRefused)
			}
			if refused != nil && refused.Addr != tt.addr {
				t.Errorf("error names %q, want %q", refused.Addr, tt.addr)
			}
		}
	}
}
