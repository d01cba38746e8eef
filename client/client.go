package client

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// DefaultAddr is where a collector listens unless told otherwise.
const DefaultAddr = "localhost:4750"

// Client is a connection to one collector. Use Dial to make one and Close to
// release it. It reconnects by itself and is safe for concurrent use.
type Client struct {
	conn    *grpc.ClientConn
	dials   *dialLog
	addr    string
	opts    options
	tracker whorlv1.TrackerServiceClient
	feed    whorlv1.FeedServiceClient
	ingest  whorlv1.IngestServiceClient
	status  whorlv1.StatusServiceClient
}

// Dial connects to the collector at addr ("host:port"). It returns when the
// connection stands, or with a *DialError when the first attempt failed or ctx
// ended. With WithLazy it returns at once and connects on first use.
//
// A loopback address (localhost, 127.0.0.0/8, ::1) is spoken to in the clear
// unless a TLS option is given. Any other address is spoken to over TLS 1.3,
// with the roots of the system unless WithCA says otherwise; WithInsecure, and
// nothing else, turns that off.
func Dial(ctx context.Context, addr string, opts ...Option) (*Client, error) {
	o := defaultOptions()
	for _, opt := range opts {
		opt(&o)
	}
	c, err := newClient(addr, o)
	if err != nil {
		return nil, err
	}
	if o.lazy {
		return c, nil
	}
	ctx, cancel := c.bound(ctx)
	defer cancel()
	if err := c.connect(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Addr returns the address the client was dialled with.
func (c *Client) Addr() string { return c.addr }

// Close ends the connection; calls under way fail. A Client must not be used
// afterwards.
func (c *Client) Close() error { return c.conn.Close() }

// Get returns one live connection. The error has the status code NotFound when
// it is not, or no longer, tracked.
func (c *Client) Get(ctx context.Context, req *whorlv1.GetRequest) (*whorlv1.Connection, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	resp, err := c.tracker.Get(ctx, req)
	if err != nil {
		return nil, c.callError(err)
	}
	return resp.GetConnection(), nil
}

// Count returns how many connections match and, with GroupBy, the largest groups.
func (c *Client) Count(ctx context.Context, req *whorlv1.CountRequest) (*whorlv1.CountResponse, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	resp, err := c.tracker.Count(ctx, req)
	return resp, c.callError(err)
}

// Status returns the state of the collector.
func (c *Client) Status(ctx context.Context, req *whorlv1.GetStatusRequest) (*whorlv1.GetStatusResponse, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	resp, err := c.status.GetStatus(ctx, req)
	return resp, c.callError(err)
}

// Probes returns the fleet, with IncludeGone also the probes that are no longer
// connected.
func (c *Client) Probes(ctx context.Context, req *whorlv1.ListProbesRequest) ([]*whorlv1.Probe, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	resp, err := c.status.ListProbes(ctx, req)
	return resp.GetProbes(), c.callError(err)
}

// Flush evicts the connections that match, cause flush, and returns how many
// they are. Without Confirm it only counts them.
func (c *Client) Flush(ctx context.Context, req *whorlv1.FlushConnectionsRequest) (matched uint64, err error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	resp, err := c.status.FlushConnections(ctx, req)
	return resp.GetMatched(), c.callError(err)
}

// bound gives ctx the timeout of a unary call.
func (c *Client) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if c.opts.timeout <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, c.opts.timeout)
}

// ended reports whether err is the orderly end of a stream.
func ended(err error) bool { return errors.Is(err, io.EOF) }

// callError makes the error of a call say what is known: a call that could not
// reach the collector fails with a *DialError, any other keeps its status.
func (c *Client) callError(err error) error {
	switch {
	case err == nil:
		return nil
	case status.Code(err) == codes.Unavailable && c.dials.lastError() != nil:
		return &DialError{Addr: c.addr, Err: c.dials.lastError()}
	}
	return &callError{addr: c.addr, err: err}
}
