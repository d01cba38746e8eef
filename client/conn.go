package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/whorl-net/whorl/internal/rpc"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// newClient makes a Client that has not connected yet.
func newClient(addr string, o options) (*Client, error) {
	host, port, err := net.SplitHostPort(addr)
	number, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || host == "" || portErr != nil || number == 0 {
		return nil, fmt.Errorf("collector address %q: want HOST:PORT with a port 1 to 65535, such as %s", addr, DefaultAddr)
	}
	config, err := transportSecurity(addr, o)
	if err != nil {
		return nil, fmt.Errorf("collector %s: %w", addr, err)
	}
	creds := insecure.NewCredentials()
	if config != nil {
		creds = credentials.NewTLS(config)
	}
	dials := &dialLog{}
	opts := append(rpc.DialOptions(config),
		grpc.WithTransportCredentials(&watchedCredentials{creds, dials}),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			c, err := o.dialer(ctx, addr)
			if err != nil {
				dials.failed(err)
				return nil, err
			}
			return c, nil
		}))
	if o.token != nil {
		if _, err := o.token(); err != nil { // said here, and not by each call
			return nil, fmt.Errorf("collector %s: %w", addr, err)
		}
		opts = append(opts, grpc.WithPerRPCCredentials(bearer{o.token, config != nil}))
	}
	// passthrough: names are resolved by the dialer, for each attempt anew.
	conn, err := grpc.NewClient("passthrough:///"+addr, opts...)
	if err != nil {
		return nil, fmt.Errorf("collector %s: %w", addr, err)
	}
	return &Client{
		conn: conn, dials: dials, addr: addr, opts: o,
		tracker: whorlv1.NewTrackerServiceClient(conn),
		feed:    whorlv1.NewFeedServiceClient(conn),
		ingest:  whorlv1.NewIngestServiceClient(conn),
		status:  whorlv1.NewStatusServiceClient(conn),
	}, nil
}

// transportSecurity decides between TLS and clear text by the rule of Dial; nil
// is clear text.
func transportSecurity(addr string, o options) (*tls.Config, error) {
	switch {
	case o.insecure && !o.tls.Empty():
		return nil, errors.New("both TLS and no TLS are asked for: leave one out")
	case o.insecure, rpc.Loopback(addr) && o.tls.Empty():
		return nil, nil
	}
	return rpc.ClientTLS(o.tls)
}

// connect waits until the connection stands. One call makes one attempt, also
// while gRPC itself would wait out its backoff: who calls it has a backoff of
// his own. It fails with a *DialError, also when ctx ends.
func (c *Client) connect(ctx context.Context) error {
	failures := c.dials.failures()
	c.conn.ResetConnectBackoff()
	c.conn.Connect()
	for {
		state := c.conn.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.Shutdown:
			return &DialError{Addr: c.addr, Err: errors.New("the client is closed")}
		case connectivity.Idle:
			c.conn.Connect()
		}
		if err := c.waitState(ctx, state, failures); err != nil {
			return &DialError{Addr: c.addr, Err: err}
		}
	}
}

// waitState waits until the connection leaves state. It returns the error of
// the first attempt that fails after the first n failures, or that ctx ended.
func (c *Client) waitState(ctx context.Context, state connectivity.State, n uint64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := c.dials.notify(n, cancel)
	defer stop()
	if c.conn.WaitForStateChange(ctx, state) {
		return nil
	}
	return context.Cause(ctx)
}

// dialLog remembers how connection attempts failed: gRPC tells callers only in
// prose, and a command must tell a refused connection from a refused
// certificate.
type dialLog struct {
	mu      sync.Mutex // guards what follows
	count   uint64
	last    error // nil after an attempt that succeeded
	waiting map[*waiter]struct{}
}

type waiter struct{ cancel context.CancelCauseFunc }

func (l *dialLog) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	l.last = err
	for w := range l.waiting {
		w.cancel(err)
	}
}

func (l *dialLog) succeeded() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = nil
}

func (l *dialLog) lastError() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

func (l *dialLog) failures() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

// notify calls cancel at the first failure after the first n, at once if it was
// already. The function it returns ends that.
func (l *dialLog) notify(n uint64, cancel context.CancelCauseFunc) (stop func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count > n {
		cancel(l.last)
		return func() {}
	}
	w := &waiter{cancel}
	if l.waiting == nil {
		l.waiting = make(map[*waiter]struct{})
	}
	l.waiting[w] = struct{}{}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.waiting, w)
	}
}

// watchedCredentials tells the dialLog how handshakes end. With TLS 1.3 a
// collector refuses a client certificate only after the client's side of the
// handshake is done, so the first reads are watched too.
type watchedCredentials struct {
	credentials.TransportCredentials
	dials *dialLog
}

func (w *watchedCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := w.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		w.dials.failed(err)
		return conn, info, err
	}
	return &watchedConn{Conn: conn, dials: w.dials, secure: w.Info().SecurityProtocol == "tls"}, info, nil
}

func (w *watchedCredentials) Clone() credentials.TransportCredentials {
	return &watchedCredentials{w.TransportCredentials.Clone(), w.dials}
}

// watchedConn tells the dialLog how a connection fares until its first bytes
// come. It is read by one goroutine and written by another.
type watchedConn struct {
	net.Conn
	dials  *dialLog
	secure bool        // speaks TLS
	known  atomic.Bool // the outcome is in the log
}

func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	switch {
	case c.known.Load():
	case bytes.HasPrefix(p[:n], []byte("HTTP/1.")):
		c.failed(ErrNotGRPC)
	case n > 0:
		c.known.Store(true)
		c.dials.succeeded()
	case err != nil:
		c.failed(err)
	}
	return n, err
}

func (c *watchedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		c.failed(err)
	}
	return n, err
}

// failed notes the first error of a connection on which nothing was heard. A
// collector that refuses a certificate sends an alert and hangs up: which of
// the two is seen first is a matter of luck.
func (c *watchedConn) failed(err error) {
	if c.known.Swap(true) {
		return
	}
	var op *net.OpError
	alert := errors.As(err, &op) && op.Op == "remote error" // how crypto/tls marks one
	if c.secure && (alert || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)) {
		err = fmt.Errorf("%w: %w", ErrCertificateRefused, err)
	}
	c.dials.failed(err)
}

// bearer sends the token of a file with each call.
type bearer struct {
	token  func() (string, error)
	secure bool
}

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := b.token()
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

func (b bearer) RequireTransportSecurity() bool { return b.secure }

// maxTokenBytes bounds a token file: a header list of a collector is 16 KiB.
const maxTokenBytes = 8 << 10

func readToken(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	defer f.Close()
	buf := make([]byte, maxTokenBytes+1)
	n, err := f.Read(buf)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("token file %s: %w", file, err)
	}
	token, _, _ := strings.Cut(string(buf[:n]), "\n")
	token = strings.TrimSpace(token)
	if token == "" || n > maxTokenBytes {
		return "", fmt.Errorf("token file %s: want one line of 1 to %d bytes", file, maxTokenBytes)
	}
	return token, nil
}
