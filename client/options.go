package client

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/whorl-net/whorl/internal/rpc"
)

// Option changes how Dial connects.
type Option func(*options)

type options struct {
	timeout  time.Duration
	lazy     bool
	insecure bool
	tls      rpc.ClientTLSFiles
	token    func() (string, error)
	dialer   func(ctx context.Context, addr string) (net.Conn, error)
	logger   *slog.Logger
}

func defaultOptions() options {
	return options{
		timeout: 10 * time.Second,
		dialer: func(ctx context.Context, addr string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr)
		},
		logger: slog.New(slog.DiscardHandler),
	}
}

// WithTimeout bounds each unary call, the first connection of Dial and the wait
// for the first answer of a stream. The default is 10 s; 0 means no bound but
// that of the call's context.
func WithTimeout(d time.Duration) Option { return func(o *options) { o.timeout = d } }

// WithLazy makes Dial return before there is a connection. A probe uses it: it
// starts, and buffers, without a collector.
func WithLazy() Option { return func(o *options) { o.lazy = true } }

// WithInsecure speaks in the clear to an address that is not loopback. Whoever
// is on the way reads everything, and may answer in the collector's place. It
// contradicts the TLS options: Dial refuses both together.
func WithInsecure() Option { return func(o *options) { o.insecure = true } }

// WithCA trusts the certificate authorities in the PEM file instead of those of
// the system. It turns TLS on for a loopback address too.
func WithCA(file string) Option { return func(o *options) { o.tls.CA = file } }

// WithCertificate presents the certificate in the PEM files. It turns TLS on
// for a loopback address too. A new certificate is used from the next connection
// on.
func WithCertificate(certFile, keyFile string) Option {
	return func(o *options) { o.tls.Cert, o.tls.Key = certFile, keyFile }
}

// WithServerName expects this name in the collector's certificate instead of
// the host of the address. It turns TLS on for a loopback address too.
func WithServerName(name string) Option { return func(o *options) { o.tls.ServerName = name } }

// WithTokenFile sends the first line of the file as a bearer token with each
// call. The file is read for each call, so a new token needs no restart; Dial
// fails when it cannot be read. A token is sent over TLS or to a loopback address
// only, or with WithInsecure.
func WithTokenFile(file string) Option {
	return func(o *options) { o.token = func() (string, error) { return readToken(file) } }
}

// WithDialer opens connections by dial instead of TCP, for tests and tunnels.
// TLS, if any, runs inside.
func WithDialer(dial func(ctx context.Context, addr string) (net.Conn, error)) Option {
	return func(o *options) { o.dialer = dial }
}

// WithLogger reports reconnects and what is given up to l. The default is
// silence.
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.logger = l } }
