package rpc

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// serve runs s on an in-memory listener and returns a connection to it.
func serve(t *testing.T, s *grpc.Server, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	l := bufconn.Listen(1 << 16)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(LimitListener(l)) }()
	opts = append(append(DialOptions(nil), grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return l.DialContext(ctx)
	})), opts...)
	conn, err := grpc.NewClient("passthrough:///bufnet", opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		s.Stop()
		<-ended
	})
	return conn
}

// faulty is a health service that misbehaves as its request says.
type faulty struct {
	healthpb.UnimplementedHealthServer
}

func (faulty) Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	panic("secret of the inside")
}

func (faulty) Watch(*healthpb.HealthCheckRequest, grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	panic("secret of the inside")
}

// A panic in a handler leaves as a bare Internal; text, stack and method are in
// our log, and it is counted.
func TestPanicStaysInside(t *testing.T) {
	var log bytes.Buffer
	counted := make(chan string, 2)
	s := NewServer(ServerConfig{
		Logger:  slog.New(slog.NewTextHandler(&log, nil)),
		OnPanic: func(method string) { counted <- method },
	})
	healthpb.RegisterHealthServer(s, faulty{})
	client := healthpb.NewHealthClient(serve(t, s))

	_, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{})
	if status.Code(err) != codes.Internal || status.Convert(err).Message() != "internal error" {
		t.Errorf("unary: %v, want a bare Internal", err)
	}
	if m := <-counted; m != healthpb.Health_Check_FullMethodName {
		t.Errorf("counted %q, want %q", m, healthpb.Health_Check_FullMethodName)
	}
	stream, err := client.Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = stream.Recv(); status.Code(err) != codes.Internal || strings.Contains(err.Error(), "secret") {
		t.Errorf("stream: %v, want a bare Internal", err)
	}
	if m := <-counted; m != healthpb.Health_Watch_FullMethodName {
		t.Errorf("counted %q, want %q", m, healthpb.Health_Watch_FullMethodName)
	}
	s.Stop() // orders the log before us
	for _, want := range []string{"secret of the inside", "goroutine", healthpb.Health_Watch_FullMethodName} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q", want)
		}
	}
}

// A query beyond MaxQueryBytes is refused on unary calls and server streams,
// unless its method is named as large.
func TestQueriesAreBounded(t *testing.T) {
	large := &healthpb.HealthCheckRequest{Service: strings.Repeat("x", MaxQueryBytes+1)}
	s := NewServer(ServerConfig{})
	RegisterHealth(s)
	client := healthpb.NewHealthClient(serve(t, s))
	if _, err := client.Check(t.Context(), large); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("unary: %v, want ResourceExhausted", err)
	}
	stream, err := client.Watch(t.Context(), large)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("stream: %v, want ResourceExhausted", err)
	}

	s = NewServer(ServerConfig{Large: []string{healthpb.Health_Check_FullMethodName}})
	RegisterHealth(s)
	client = healthpb.NewHealthClient(serve(t, s))
	if _, err := client.Check(t.Context(), large); status.Code(err) != codes.NotFound {
		t.Errorf("large method: %v, want NotFound, the answer of the service", err)
	}
}

// Health is NOT_SERVING until Serving and after Shutdown, for every service.
func TestHealthFollowsItsSwitch(t *testing.T) {
	s := NewServer(ServerConfig{})
	h := RegisterHealth(s, "whorl.v1.FeedService")
	client := healthpb.NewHealthClient(serve(t, s))
	check := func(want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		for _, service := range []string{"", "whorl.v1.FeedService"} {
			resp, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
			if err != nil || resp.GetStatus() != want {
				t.Errorf("%q: %v, %v; want %v", service, resp.GetStatus(), err, want)
			}
		}
	}
	check(healthpb.HealthCheckResponse_NOT_SERVING)
	h.Serving()
	check(healthpb.HealthCheckResponse_SERVING)
	h.Shutdown()
	check(healthpb.HealthCheckResponse_NOT_SERVING)
}

// Reflection answers in both versions.
func TestReflectionSpeaksBothVersions(t *testing.T) {
	s := NewServer(ServerConfig{})
	RegisterHealth(s)
	RegisterReflection(s)
	conn := serve(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()

	v1, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := v1.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	resp, err := v1.Recv()
	if err != nil || len(resp.GetListServicesResponse().GetService()) == 0 {
		t.Errorf("v1: %v, %v; want services", resp, err)
	}
	// The messages of the older version are the same but for their package.
	alpha, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true},
		"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
	if err != nil {
		t.Fatal(err)
	}
	if err := alpha.SendMsg(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	resp = new(reflectionpb.ServerReflectionResponse)
	if err := alpha.RecvMsg(resp); err != nil || len(resp.GetListServicesResponse().GetService()) == 0 {
		t.Errorf("v1alpha: %v, %v; want services", resp, err)
	}
}

// An error without a status becomes what the server's Status makes of it, once.
func TestErrorsAreTurnedIntoStatusesAtTheEdge(t *testing.T) {
	s := NewServer(ServerConfig{Status: func(method string, err error) error {
		return status.Errorf(codes.DataLoss, "%s: %v", method, err)
	}})
	healthpb.RegisterHealthServer(s, failing{})
	client := healthpb.NewHealthClient(serve(t, s))
	if _, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{}); status.Convert(err).Message() != healthpb.Health_Check_FullMethodName+": plain" {
		t.Errorf("unary: %v", err)
	}
	stream, err := client.Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Convert(err).Message() != healthpb.Health_Watch_FullMethodName+": plain" {
		t.Errorf("stream: %v", err)
	}
}

type failing struct {
	healthpb.UnimplementedHealthServer
}

func (failing) Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	return nil, errors.New("plain")
}

func (failing) Watch(*healthpb.HealthCheckRequest, grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	return errors.New("plain")
}

// A whole server and client speak TLS with the options of this package.
func TestServerAndDialOptionsMeetInTLS(t *testing.T) {
	ca := newAuthority(t, "ca")
	cert, key := ca.issue("collector.test", 2)
	config, err := ServerTLS(ServerTLSFiles{Cert: cert, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(ServerConfig{TLS: config})
	RegisterHealth(s).Serving()
	clientConfig := mustClient(t, ClientTLSFiles{CA: ca.file, ServerName: "collector.test"})
	conn := serve(t, s, DialOptions(clientConfig)[0])
	if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Errorf("over TLS: %v", err)
	}
	strict := NewServer(ServerConfig{TLS: config})
	RegisterHealth(strict).Serving()
	clear := serve(t, strict, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if _, err := healthpb.NewHealthClient(clear).Check(t.Context(), &healthpb.HealthCheckRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("in the clear to a TLS server: %v, want Unavailable", err)
	}
}
