package main

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/whorl-net/whorl/client"
)

// Why a TLS connection does not stand is said in words, with the flag to give.
func TestDialFailuresNameTheFlag(t *testing.T) {
	cert := &x509.Certificate{DNSNames: []string{"col.example.net", "evil\x1b[2J"}, IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)},
		Issuer: pkix.Name{CommonName: "Our CA"}}
	for _, tc := range []struct {
		err        error
		text, hint string
	}{
		{x509.HostnameError{Certificate: cert, Host: "10.0.0.1"}, "its certificate is not for 10.0.0.1 but for col.example.net, 'evil?[2J', 192.0.2.1", "--tls-server-name col.example.net"},
		{x509.HostnameError{Certificate: &x509.Certificate{}, Host: "h"}, "not for h but for NAME", "--tls-server-name NAME"},
		{x509.UnknownAuthorityError{Cert: cert}, `not trusted here ("CN=Our CA")`, "--tls-ca FILE"},
		{io.EOF, "it closed the connection at once", "does it want TLS? --tls-ca FILE"},
	} {
		f := (&console{}).explain(&client.DialError{Addr: "10.0.0.1:1", Err: tc.err})
		if !strings.Contains(f.text, tc.text) || !strings.Contains(strings.Join(f.hints, "\n"), tc.hint) || f.code != exitUnreachable {
			t.Errorf("%T: %d %q %q, want %q and %q", tc.err, f.code, f.text, f.hints, tc.text, tc.hint)
		}
	}
}
