package rpc

import "time"

// Limits of a server. The defaults of grpc-go are made for friends: no limit
// on streams, 16 MiB of headers, two minutes for a handshake.
const (
	// MaxRecvBytes bounds one message a server or a client receives.
	MaxRecvBytes = 4 << 20
	// MaxSendBytes bounds one message a server sends. Pages end near 1 MiB.
	MaxSendBytes = 8 << 20
	// MaxQueryBytes bounds a request that is not a batch.
	MaxQueryBytes = 1 << 20
	// MaxStreams bounds the streams of one connection: a client that opens and
	// resets streams in a loop meets this many handlers, not thousands.
	MaxStreams = 128
	// MaxConns bounds the connections of one listener. A connection beyond
	// waits in the backlog of the kernel.
	MaxConns = 4096
	// maxHeaderBytes bounds the header list of a request.
	maxHeaderBytes = 16 << 10
	// handshakeTimeout bounds TLS and HTTP/2 set-up of a connection.
	handshakeTimeout = 10 * time.Second
)

// Windows of HTTP/2 of a server: what a client sends ahead of a handler that is
// slow, and so what is held for it at most. grpc would measure the line instead,
// with a ping for each round trip and up to 16 MiB: that and small window updates
// were four of ten writes of a collector to a busy probe. 1 MiB is 10 MB/s at a
// round trip of 100 ms, about a million packets.
const (
	streamWindowBytes = 1 << 20
	connWindowBytes   = 4 << 20
)

// Keepalive. A client pings less often than a server forbids.
const (
	keepaliveTime    = 30 * time.Second
	keepaliveTimeout = 10 * time.Second
	// keepaliveMinTime is the shortest ping interval a server puts up with;
	// faster clients get GOAWAY.
	keepaliveMinTime = 10 * time.Second
	// maxConnAge makes long streams outlive neither certificates nor tokens;
	// grpc adds up to 10 % either way. They get maxConnAgeGrace to end.
	maxConnAge      = time.Hour
	maxConnAgeGrace = 5 * time.Minute
)

// Reconnecting of a client: jittered, from backoffBase to backoffMax. With the
// default of 120 s a channel stays away minutes after the collector is back.
const (
	backoffBase       = 100 * time.Millisecond
	backoffMax        = 5 * time.Second
	backoffFactor     = 1.6
	backoffJitter     = 0.2
	minConnectTimeout = 5 * time.Second
)
