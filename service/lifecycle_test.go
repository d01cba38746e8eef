package service

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/whorl-net/whorl/internal/feed"
	"github.com/whorl-net/whorl/internal/log"
	"github.com/whorl-net/whorl/internal/rpc"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"github.com/whorl-net/whorl/tracker"
)

// Every method of every service answers an empty request with one of its
// documented codes: none is forgotten, none shows our inside.
func TestEveryMethodAnswers(t *testing.T) {
	r := newRig(t, Config{Reflection: ReflectionOn})
	want := map[string]codes.Code{
		"/whorl.v1.TrackerService/Get":                               codes.InvalidArgument,
		"/whorl.v1.TrackerService/Count":                             codes.OK,
		"/whorl.v1.TrackerService/All":                               codes.OK,
		"/whorl.v1.TrackerService/Export":                            codes.OK,
		"/whorl.v1.FeedService/Watch":                                codes.DeadlineExceeded, // it follows
		"/whorl.v1.IngestService/Ingest":                             codes.InvalidArgument,
		"/whorl.v1.IngestService/Push":                               codes.InvalidArgument,
		"/whorl.v1.StatusService/GetStatus":                          codes.OK,
		"/whorl.v1.StatusService/ListProbes":                         codes.OK,
		"/whorl.v1.StatusService/ListFingerprints":                   codes.OK,
		"/whorl.v1.StatusService/FlushConnections":                   codes.OK,
		"/whorl.v1.StatusService/ForgetFingerprints":                 codes.InvalidArgument,
		"/whorl.v1.StatusService/ReloadConfig":                       codes.OK,
		"/grpc.health.v1.Health/Check":                               codes.OK,
		"/grpc.health.v1.Health/List":                                codes.OK,
		"/grpc.health.v1.Health/Watch":                               codes.DeadlineExceeded,
		reflection + "v1.ServerReflection/ServerReflectionInfo":      codes.InvalidArgument, // which request is not said
		reflection + "v1alpha.ServerReflection/ServerReflectionInfo": codes.InvalidArgument, // which request is not said
	}
	for service, info := range r.collector.server.GetServiceInfo() {
		for _, m := range info.Methods {
			name := "/" + service + "/" + m.Name
			code, known := want[name]
			if !known {
				t.Errorf("%s: no code is documented here", name)
				continue
			}
			delete(want, name)
			within := 30 * time.Second
			if code == codes.DeadlineExceeded {
				within = 500 * time.Millisecond
			}
			got := r.call(t, name, m.IsClientStream || m.IsServerStream, within)
			if got == codes.Canceled { // which end sees the deadline first
				got = codes.DeadlineExceeded
			}
			if got != code {
				t.Errorf("%s: %v, want %v", name, got, code)
			}
		}
	}
	for name := range want {
		t.Errorf("%s is not served", name)
	}
}

const reflection = "/grpc.reflection."

// call sends one empty message and returns how the call ends, by its deadline at
// the latest.
func (r *rig) call(t *testing.T, method string, stream bool, within time.Duration) codes.Code {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	in, out := &whorlv1.GetStatusRequest{}, &whorlv1.ReloadConfigResponse{} // any empty messages
	if !stream {
		return status.Code(r.conn.Invoke(ctx, method, in, out))
	}
	s, err := r.conn.NewStream(ctx, &whorlv1.IngestService_ServiceDesc.Streams[0], method)
	if err != nil {
		return status.Code(err)
	}
	_ = s.SendMsg(in)
	_ = s.CloseSend()
	for {
		if err := s.RecvMsg(out); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				return codes.DeadlineExceeded
			}
			if c := status.Code(err); c != codes.Unknown {
				return c
			}
			return codes.OK // io.EOF
		}
	}
}

// Health says SERVING while a collector runs and NOT_SERVING while it drains.
func TestHealthFollowsTheCollector(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, Config{})
		p, _ := r.report(helloOf("probe-1", "s1"))
		health := healthpb.NewHealthClient(r.conn)
		resp, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "whorl.v1.IngestService"})
		if err != nil || resp.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("health %v, %v; want serving", resp, err)
		}
		r.stop()
		if p.recv().GetDrain() == nil {
			t.Fatal("no drain")
		}
		resp, err = health.Check(t.Context(), &healthpb.HealthCheckRequest{})
		if err != nil || resp.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
			t.Errorf("health %v, %v; want not serving", resp, err)
		}
		p.finish(false)
	})
}

// A shutdown ends within its deadline although nobody reads, answers or leaves.
func TestShutdownKeepsItsDeadline(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, Config{DrainTimeout: 9 * time.Second})
		r.watch(t.Context(), &whorlv1.WatchRequest{}) // reads nothing
		r.report(helloOf("probe-1", "s1"))            // hears no drain
		if _, err := healthpb.NewHealthClient(r.conn).Watch(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			r.evict(string(rune('a'+i)), 1000) // more than a stream's window
		}
		start := time.Now()
		r.stop()
		if err := <-r.ended; err != nil {
			t.Errorf("Run returned %v", err)
		}
		r.ended <- nil
		if d := time.Since(start); d > 9*time.Second+lastAckWithin+stopGrace {
			t.Errorf("shutdown took %v", d)
		}
	})
}

// A shutdown with nobody connected takes no time.
func TestShutdownOfAnIdleCollectorIsImmediate(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.totals()
		r.conn.Close()
		start := time.Now()
		r.stop()
		if err := <-r.ended; err != nil {
			t.Errorf("Run returned %v", err)
		}
		r.ended <- nil
		if d := time.Since(start); d != 0 {
			t.Errorf("shutdown took %v, want none", d)
		}
	})
}

// An address beyond loopback takes TLS or a spelled-out insecure; settings that
// make no sense are refused with a sentence.
func TestConfigIsChecked(t *testing.T) {
	var exposed *rpc.ExposureError
	if _, err := New(Config{Listen: []string{"0.0.0.0:0"}}); !errors.As(err, &exposed) {
		t.Errorf("0.0.0.0 in the clear: %v, want an ExposureError", err)
	}
	if _, err := New(Config{Listen: []string{"0.0.0.0:0"}, Insecure: true}); err != nil {
		t.Errorf("0.0.0.0 with insecure: %v", err)
	}
	for want, cfg := range map[string]Config{
		"max probes":      {MaxProbes: -1},
		"max subscribers": {MaxSubscribers: -1},
		"feed: max bytes": {FeedMaxBytes: -1},
		"feed: max age":   {FeedMaxAge: -1},
		"drain timeout":   {DrainTimeout: -1},
		"reflection":      {Reflection: 9},
		"belong to":       {Tracker: tracker.Config{OnEvict: func(int, *tracker.Eviction) {}}},
		"MaxConnections":  {Tracker: tracker.Config{MaxConnections: -5}},
		"go together":     {TLS: rpc.ServerTLSFiles{Cert: "x"}},
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one about %q", err, want)
		}
	}
}

// Listen shows an address that is in use before anything runs, and Run serves
// what Listen opened.
func TestListenShowsItsErrorsFirst(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	c, err := New(Config{Listen: []string{"127.0.0.1:0", taken.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Listen(); err == nil {
		t.Error("an address in use was opened")
	}
	if len(c.Addrs()) != 0 {
		t.Errorf("addresses %v after an error, want none", c.Addrs())
	}
	if err := c.Run(t.Context()); err == nil {
		t.Error("Run served an address in use")
	}

	c, err = New(Config{Listen: []string{"127.0.0.1:0"}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Listen(); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", c.Addrs()[0].String())
	if err != nil {
		t.Errorf("not reachable at %v: %v", c.Addrs(), err)
	} else {
		conn.Close()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Run(ctx); err != nil {
		t.Errorf("Run returned %v", err)
	}
}

// A part that fails ends the collector, with its error.
func TestFailedPartEndsTheCollector(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	c, err := New(Config{Listeners: []net.Listener{l}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "server") {
		t.Errorf("Run returned %v, want the error of the server", err)
	}
}

// A probe id must be a name of the certificate, where there is one.
func TestProbeIDMustMatchTheCertificate(t *testing.T) {
	with := func(cert *x509.Certificate) context.Context {
		info := credentials.TLSInfo{State: tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{cert}}}}
		return peer.NewContext(t.Context(), &peer.Peer{AuthInfo: info})
	}
	cert := &x509.Certificate{Subject: pkix.Name{CommonName: "probe-1"}, DNSNames: []string{"probe-1.berlin.example"}}
	for id, ok := range map[string]bool{"probe-1": true, "probe-1.berlin.example": true, "probe-2": false, "": false} {
		err := checkIdentity(with(cert), "hello.probe_id", id)
		if ok {
			if err != nil {
				t.Errorf("%q: %v, want no error", id, err)
			}
			continue
		}
		checkError(t, err, codes.PermissionDenied, ReasonWrongProbe)
	}
	if err := checkIdentity(t.Context(), "hello.probe_id", "anybody"); err != nil {
		t.Errorf("without a certificate: %v, want no error", err)
	}
}

// What is below this package becomes its documented status; what is not known
// shows nothing of our inside.
func TestErrorsBecomeStatuses(t *testing.T) {
	for _, tt := range []struct {
		err    error
		code   codes.Code
		reason string
	}{
		{context.Canceled, codes.Canceled, ""},
		{context.DeadlineExceeded, codes.DeadlineExceeded, ""},
		{errStopping, codes.Unavailable, ReasonDraining},
		{feed.ErrClosed, codes.Unavailable, ReasonDraining},
		{log.ErrClosed, codes.Unavailable, ReasonDraining},
		{tracker.ErrStopped, codes.Unavailable, ReasonDraining},
		{log.ErrTooLarge, codes.ResourceExhausted, ReasonTooLarge},
		{tracker.ErrFull, codes.ResourceExhausted, ReasonTooManyNames},
		{errors.New("secret of the inside"), codes.Internal, ""},
		{badField(ReasonBadID, "id", "x", "y"), codes.InvalidArgument, ReasonBadID},
	} {
		err, known := toStatus(tt.err)
		checkError(t, err, tt.code, tt.reason)
		if known != (tt.code != codes.Internal) {
			t.Errorf("%v: known %v", tt.err, known)
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("%v shows our inside", err)
		}
	}
	for _, err := range []error{errDraining(), tooManyNames("networks", 3)} {
		if !hasRetryInfo(err) {
			t.Errorf("%v has no RetryInfo", err)
		}
	}
}
