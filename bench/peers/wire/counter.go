package main

import (
	"context"
	"net"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/whorl-net/whorl/internal/wire"
)

// counter counts what is written to its connections.
type counter struct{ bytes atomic.Int64 }

func (c *counter) dial(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &countedConn{Conn: conn, counter: c}, nil
}

type countedConn struct {
	net.Conn
	counter *counter
}

// Write implements net.Conn.
func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.counter.bytes.Add(int64(n))
	return n, err
}

// newServer has the codec of the shape: Whorl's own for columns, grpc's for the
// others.
func newServer(shape string) *grpc.Server {
	if strings.HasPrefix(shape, "columns") {
		return grpc.NewServer(grpc.ForceServerCodecV2(wire.Codec{}))
	}
	return grpc.NewServer()
}
