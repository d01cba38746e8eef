package main

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/whorl-net/whorl/client"
	"github.com/whorl-net/whorl/probe/capture"
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

// What the system does not permit has an exit code of its own, listening and
// reading alike.
func TestWhatTheSystemForbids(t *testing.T) {
	file := &fs.PathError{Op: "open", Path: "f", Err: syscall.EACCES}
	for _, err := range []error{
		file,
		&capture.FileError{Path: "f", Err: file},
		fmt.Errorf("admin: %w", &net.OpError{Op: "listen", Net: "tcp", Err: os.NewSyscallError("bind", syscall.EACCES)}),
		(&console{}).explainSpool("d", fmt.Errorf("reporter: spool: %w", file)),
	} {
		if f := (&console{}).explain(err); f.code != exitForbidden || !strings.Contains(f.text, "permission denied") {
			t.Errorf("%v: %d %q, want %d", err, f.code, f.text, exitForbidden)
		}
	}
}

// What a collector says of a field is said of the flag behind it, and what gRPC
// says of a connection in words.
func TestRefusalsSpeakOfFlags(t *testing.T) {
	of := func(code codes.Code, message string, pairs ...string) error {
		s := status.New(code, message)
		if len(pairs) > 0 {
			meta := map[string]string{}
			for i := 0; i < len(pairs); i += 2 {
				meta[pairs[i]] = pairs[i+1]
			}
			var err error
			if s, err = s.WithDetails(&errdetails.ErrorInfo{Reason: "R", Metadata: meta}); err != nil {
				t.Fatal(err)
			}
		}
		return fmt.Errorf("collector h:1: %w", s.Err())
	}
	for _, tc := range []struct {
		err  error
		code int
		want string
	}{
		{of(codes.InvalidArgument, `group_by[1]: "x" is not a field`, "field", "group_by[1]"), exitUsage, `count: --by: "x" is not a field`},
		{of(codes.InvalidArgument, `after_cursor: "x" is not a cursor`, "field", "after_cursor"), exitUsage, `count: --resume: "x" is not a cursor`},
		{of(codes.InvalidArgument, `odd_field: 3 is not right`, "field", "odd_field"), exitUsage, `collector h:1: odd_field: 3 is not right`},
		{of(codes.InvalidArgument, `without a field`), exitUsage, `collector h:1: without a field`},
		{of(codes.Unavailable, "error reading from server: EOF"), exitUnreachable, "collector h:1: it closed the connection"},
		{of(codes.Unavailable, "the log cannot be written", "why", "disk"), exitUnreachable, "collector h:1: the log cannot be written"},
		{of(codes.OutOfRange, "3 evictions are no longer held", "oldest_cursor", "e.4"), exitIncomplete, "collector h:1: 3 evictions are no longer held"},
		{of(codes.Unimplemented, "unknown service whorl.v1.TrackerService"), exitFailed, "collector h:1: it does not know this call"},
		{of(codes.PermissionDenied, "no"), exitForbidden, "collector h:1: no"},
	} {
		f := (&console{command: "count"}).explain(tc.err)
		if f.text != tc.want || f.code != tc.code {
			t.Errorf("%v:\n%d %q, want %d %q", tc.err, f.code, f.text, tc.code, tc.want)
		}
	}
	f := (&console{command: "watch"}).explain(of(codes.OutOfRange, "gone", "oldest_cursor", "e.4"))
	if hints := strings.Join(f.hints, "\n"); !strings.Contains(hints, "--resume e.4") {
		t.Errorf("hints %q do not say where the feed begins", hints)
	}
}

// A bare value is met with the filter that it stands for.
func TestBareValuesBecomeFilters(t *testing.T) {
	for value, want := range map[string]string{
		"10.0.0.5": "ip:10.0.0.5", "2001:db8::/32": "ip:2001:db8::/32", "443": "port:443", "tcp": "proto:tcp", "bad": "bad:true",
		"t13d1516h2_8daaf6152771_02713d6af862": "fp:t13d1516h2_8daaf6152771_02713d6af862", "chrome": "", "70000": "", "a_b:c_d": "",
	} {
		if got := filterFor(value); got != want {
			t.Errorf("%s: %q, want %q", value, got, want)
		}
	}
}
