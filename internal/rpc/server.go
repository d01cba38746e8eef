package rpc

import (
	"crypto/tls"
	"log/slog"
	"net"

	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
)

// ServerConfig says what a server is made of. The zero ServerConfig is a server
// in the clear with the usual codec that logs nowhere.
type ServerConfig struct {
	// TLS is the server's side, usually from ServerTLS. nil serves in the clear.
	TLS *tls.Config
	// Logger gets one line per call that failed, at debug level for every call,
	// and the stack of each recovered panic. Never a payload. nil discards.
	Logger *slog.Logger
	// Codec, when not nil, takes the place of the codec for "proto".
	Codec encoding.CodecV2
	// Large names methods ("/whorl.v1.IngestService/Push") whose requests may
	// exceed MaxQueryBytes, up to MaxRecvBytes.
	Large []string
	// Quiet names streaming methods that log by themselves: no interceptor
	// looks at their messages.
	Quiet []string
	// Status, when not nil, turns the error a handler of method returned into the
	// status that leaves, innermost of all interceptors.
	Status func(method string, err error) error
	// Gate, when not nil, is asked before each handler; the error it returns is
	// what the caller gets instead.
	Gate func(method string) error
	// OnPanic, when not nil, is told the full method name of each recovered
	// panic, to count it.
	OnPanic func(method string)
}

// NewServer returns a server with Whorl's limits, keepalive and interceptors.
// Outside in they are: logging, recovery, size of requests, gate, status of errors. It
// serves nothing until something is registered.
func NewServer(cfg ServerConfig) *grpc.Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	opts := []grpc.ServerOption{
		grpc.MaxConcurrentStreams(MaxStreams),
		grpc.MaxRecvMsgSize(MaxRecvBytes),
		grpc.MaxSendMsgSize(MaxSendBytes),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.StaticStreamWindowSize(streamWindowBytes),
		grpc.StaticConnWindowSize(connWindowBytes),
		grpc.WaitForHandlers(true),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time:                  keepaliveTime,
			Timeout:               keepaliveTimeout,
			MaxConnectionAge:      maxConnAge,
			MaxConnectionAgeGrace: maxConnAgeGrace,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime:             keepaliveMinTime,
			PermitWithoutStream: true,
		}),
		grpc.ChainUnaryInterceptor(unaryInterceptors(cfg)...),
		grpc.ChainStreamInterceptor(streamInterceptors(cfg)...),
	}
	if cfg.TLS != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(cfg.TLS)))
	}
	if cfg.Codec != nil {
		opts = append(opts, grpc.ForceServerCodecV2(cfg.Codec))
	}
	return grpc.NewServer(opts...)
}

// LimitListener returns l with at most MaxConns connections at a time.
func LimitListener(l net.Listener) net.Listener { return netutil.LimitListener(l, MaxConns) }

// RegisterHealth registers grpc.health.v1 with every service as NOT_SERVING
// and returns its switch. services are full names such as
// "whorl.v1.FeedService"; the empty name stands for the whole server and is
// always there.
func RegisterHealth(s *grpc.Server, services ...string) *Health {
	h := &Health{server: health.NewServer(), services: append([]string{""}, services...)}
	h.set(healthpb.HealthCheckResponse_NOT_SERVING)
	healthpb.RegisterHealthServer(s, h.server)
	return h
}

// Health switches what grpc.health.v1 answers. Safe for concurrent use.
type Health struct {
	server   *health.Server
	services []string
}

// Serving makes every service SERVING.
func (h *Health) Serving() { h.set(healthpb.HealthCheckResponse_SERVING) }

// Set makes one service SERVING or NOT_SERVING.
func (h *Health) Set(service string, serving bool) {
	status := healthpb.HealthCheckResponse_NOT_SERVING
	if serving {
		status = healthpb.HealthCheckResponse_SERVING
	}
	h.server.SetServingStatus(service, status)
}

// Shutdown makes every service NOT_SERVING for good.
func (h *Health) Shutdown() { h.server.Shutdown() }

func (h *Health) set(status healthpb.HealthCheckResponse_ServingStatus) {
	for _, s := range h.services {
		h.server.SetServingStatus(s, status)
	}
}

// RegisterReflection registers grpc.reflection v1 and, for older grpcurl,
// v1alpha. Call it after every other service.
func RegisterReflection(s *grpc.Server) { reflection.Register(s) }
