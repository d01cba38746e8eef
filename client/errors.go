package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ErrCertificateRefused is wrapped by a DialError when the collector did not
// accept the certificate it was shown, or that none was shown.
var ErrCertificateRefused = errors.New("the collector refused our certificate")

// ErrNotGRPC is wrapped by a DialError when who answers at the address speaks
// HTTP/1: a web server, or the admin address of a collector.
var ErrNotGRPC = errors.New("it speaks HTTP/1, not gRPC")

// DialError says that the collector at Addr could not be reached. Err is the
// cause: a refused connection, a name that does not resolve, a certificate that
// one side does not accept, a context that ended.
type DialError struct {
	Addr string
	Err  error
}

func (e *DialError) Error() string { return fmt.Sprintf("collector %s: %v", e.Addr, e.Err) }

// Unwrap returns Err.
func (e *DialError) Unwrap() error { return e.Err }

// GRPCStatus makes status.Code of a DialError Unavailable.
func (e *DialError) GRPCStatus() *status.Status { return status.New(codes.Unavailable, e.Error()) }

// callError is what came of a call to a collector that was reached. Its text has
// the words of the collector alone: gRPC's own, "rpc error: code = …", are for
// programs, and they have the code by status.Code.
type callError struct {
	addr string
	err  error
}

func (e *callError) Error() string {
	s, ok := status.FromError(e.err)
	switch {
	case !ok:
		return fmt.Sprintf("collector %s: %v", e.addr, e.err)
	case s.Code() == codes.Unavailable && Reason(e.err) == "": // not the collector's words
		return fmt.Sprintf("collector %s: the connection was cut: %s", e.addr, cutBy(s.Message()))
	}
	return fmt.Sprintf("collector %s: %s", e.addr, s.Message())
}

// Unwrap returns the error as gRPC gave it.
func (e *callError) Unwrap() error { return e.err }

// cutBy says what cut a connection, of which gRPC tells in prose alone.
func cutBy(message string) string {
	for _, prefix := range []string{"error reading from server: ", "error reading server preface: ", "connection error: "} {
		message = strings.TrimPrefix(message, prefix)
	}
	switch {
	case message == "EOF", message == "unexpected EOF", strings.Contains(message, "closing"):
		return "the other end closed it"
	case strings.Contains(message, "keepalive"):
		return "the other end does not answer any more"
	case strings.Contains(message, syscall.ECONNRESET.Error()):
		return syscall.ECONNRESET.Error()
	}
	return message
}

// streamError is what is wrong with a stream as this side sees it.
type streamError struct {
	code codes.Code
	text string
}

func streamErrorf(code codes.Code, format string, args ...any) error {
	return &streamError{code: code, text: fmt.Sprintf(format, args...)}
}

func (e *streamError) Error() string { return e.text }

// GRPCStatus gives programs the code.
func (e *streamError) GRPCStatus() *status.Status { return status.New(e.code, e.text) }

// hopeless reports whether no waiting mends why a collector was not reached: it
// is the address, or what one side wants of the other, that is wrong.
func hopeless(err error) bool {
	var (
		name      *net.DNSError
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
		notTLS    tls.RecordHeaderError
	)
	return errors.As(err, &name) && name.IsNotFound || errors.As(err, &authority) || errors.As(err, &host) ||
		errors.As(err, &invalid) || errors.As(err, &notTLS) || errors.Is(err, ErrCertificateRefused) || errors.Is(err, ErrNotGRPC)
}

// SequenceError says that the feed broke its promise: the sequence of an
// eviction did not follow the one before although no gap was announced. It is
// never the network's fault; tell the people who run the collector.
type SequenceError struct {
	// Previous is the last sequence that was delivered, or the start position.
	Previous, Got uint64
	// Filtered says that the sequence only had to rise.
	Filtered bool
}

func (e *SequenceError) Error() string {
	if e.Filtered {
		return fmt.Sprintf("feed: eviction %d after %d: sequences of a feed rise", e.Got, e.Previous)
	}
	return fmt.Sprintf("feed: eviction %d after %d: want %d", e.Got, e.Previous, e.Previous+1)
}

// Reason returns the reason the collector gave for err, an upper-case word such
// as BAD_FILTER that never changes its meaning, or "" when err carries none.
func Reason(err error) string {
	for _, d := range details(err) {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// Details returns what varies in the message of err, by name ("field", "column",
// "cursor" …); nil when err carries nothing.
func Details(err error) map[string]string {
	for _, d := range details(err) {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetMetadata()
		}
	}
	return nil
}

func details(err error) []any {
	var s interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &s) || s.GRPCStatus() == nil {
		return nil
	}
	return s.GRPCStatus().Details()
}
