package client

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// table is a TrackerService with a fixed number of connections.
type table struct {
	whorlv1.UnimplementedTrackerServiceServer
	whorlv1.UnimplementedStatusServiceServer
	size  int
	token string // of the last call
}

func (s *table) register(srv *grpc.Server) {
	whorlv1.RegisterTrackerServiceServer(srv, s)
	whorlv1.RegisterStatusServiceServer(srv, s)
}

func (s *table) Get(_ context.Context, req *whorlv1.GetRequest) (*whorlv1.GetResponse, error) {
	st, err := status.New(codes.NotFound, "not tracked").WithDetails(&errdetails.ErrorInfo{
		Reason: "NOT_TRACKED", Domain: "whorl.v1", Metadata: map[string]string{"evicted_cursor": "e.7"}})
	if err != nil {
		return nil, err
	}
	return nil, st.Err()
}

func (s *table) All(_ context.Context, req *whorlv1.AllRequest) (*whorlv1.AllResponse, error) {
	at := len(req.GetPageToken()) // one letter for each connection
	resp := &whorlv1.AllResponse{FeedCursor: "e.1", TableSize: uint64(s.size)}
	for ; at < s.size && len(resp.Connections) < int(req.GetPageSize()); at++ {
		resp.Connections = append(resp.Connections, &whorlv1.Connection{PacketCount: uint64(at)})
	}
	if at < s.size {
		resp.NextPageToken = strings.Repeat("x", at)
	}
	return resp, nil
}

func (s *table) Export(_ *whorlv1.ExportRequest, st grpc.ServerStreamingServer[whorlv1.ExportResponse]) error {
	for range s.size {
		if err := st.Send(&whorlv1.ExportResponse{Connections: []*whorlv1.Connection{{}}}); err != nil {
			return err
		}
	}
	return st.Send(&whorlv1.ExportResponse{FeedCursor: "e.1"})
}

func (s *table) Count(ctx context.Context, _ *whorlv1.CountRequest) (*whorlv1.CountResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	s.token = strings.Join(md.Get("authorization"), "|")
	return &whorlv1.CountResponse{Count: uint64(s.size)}, nil
}

func (s *table) GetStatus(ctx context.Context, _ *whorlv1.GetStatusRequest) (*whorlv1.GetStatusResponse, error) {
	<-ctx.Done() // never answers
	return nil, ctx.Err()
}

// All yields every connection once, whatever the size of a page, and stops when
// the caller does. The request stays as it was.
func TestAllWalksThePages(t *testing.T) {
	for _, size := range []int{0, 1, 7, 8, 9} {
		c := serve(t, (&table{size: size}).register)
		req := &whorlv1.AllRequest{PageSize: 4}
		n := 0
		for conn, err := range c.All(t.Context(), req) {
			if err != nil {
				t.Fatal(err)
			}
			if conn.GetPacketCount() != uint64(n) {
				t.Fatalf("table of %d: connection %d came in place %d", size, conn.GetPacketCount(), n)
			}
			n++
		}
		if n != size || req.GetPageToken() != "" {
			t.Errorf("table of %d: %d connections, request left with token %q", size, n, req.GetPageToken())
		}
		for range c.All(t.Context(), req) {
			break
		}
	}
}

// Export yields every message, the last with the cursor.
func TestExportYieldsEveryMessage(t *testing.T) {
	c := serve(t, (&table{size: 3}).register)
	n, cursor := 0, ""
	for resp, err := range c.Export(t.Context(), &whorlv1.ExportRequest{}) {
		if err != nil {
			t.Fatal(err)
		}
		n += len(resp.GetConnections())
		cursor = resp.GetFeedCursor()
	}
	if n != 3 || cursor != "e.1" {
		t.Errorf("%d connections, cursor %q; want 3 and e.1", n, cursor)
	}
	for range c.Export(t.Context(), &whorlv1.ExportRequest{}) {
		break // leaves no stream behind: goleak would see its goroutines
	}
}

// An error of a call keeps its code, its reason and its details.
func TestErrorsKeepWhatTheCollectorSaid(t *testing.T) {
	c := serve(t, (&table{}).register)
	_, err := c.Get(t.Context(), &whorlv1.GetRequest{})
	if status.Code(err) != codes.NotFound || Reason(err) != "NOT_TRACKED" || Details(err)["evicted_cursor"] != "e.7" {
		t.Errorf("Get: %v, reason %q, details %v; want NotFound, NOT_TRACKED, a cursor", err, Reason(err), Details(err))
	}
	if Reason(errors.New("x")) != "" || Details(nil) != nil || Reason(status.Error(codes.Internal, "x")) != "" {
		t.Error("an error without details has a reason")
	}
}

// A call that is never answered ends with the timeout.
func TestTimeoutBoundsACall(t *testing.T) {
	c := serve(t, (&table{}).register, WithTimeout(20*time.Millisecond))
	if _, err := c.Status(t.Context(), &whorlv1.GetStatusRequest{}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("Status: %v, want DeadlineExceeded", err)
	}
}

// freePort is a loopback address where nobody listens.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Dial says at once, and as an error that programs can tell, that nobody is
// there; a lazy client says it with the first call.
func TestDialErrorHasItsCause(t *testing.T) {
	addr := freePort(t)
	_, err := Dial(t.Context(), addr)
	var dial *DialError
	if !errors.As(err, &dial) || !errors.Is(err, syscall.ECONNREFUSED) || dial.Addr != addr {
		t.Errorf("Dial: %v, want a DialError with ECONNREFUSED", err)
	}
	c, err := Dial(t.Context(), addr, WithLazy())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Count(t.Context(), &whorlv1.CountRequest{}); !errors.As(err, &dial) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Count: %v, want a DialError with ECONNREFUSED", err)
	}
	if status.Code(dial) != codes.Unavailable {
		t.Errorf("the status of a DialError is %v, want Unavailable", status.Code(dial))
	}
}

// A web server in the place of a collector is called one, at once.
func TestDialKnowsAWebServer(t *testing.T) {
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	_, err := Dial(t.Context(), web.Listener.Addr().String())
	var dial *DialError
	if !errors.As(err, &dial) || !errors.Is(err, ErrNotGRPC) {
		t.Fatalf("%v, want a DialError of ErrNotGRPC", err)
	}
}

// Dial ends with its context when the other side accepts and says nothing.
func TestDialEndsWithItsTimeout(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Dial(t.Context(), l.Addr().String(), WithTimeout(30*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Dial: %v, want the deadline", err)
	}
}

// Addresses that make no sense, and options that contradict one another, are
// refused with a sentence.
func TestDialRefusesNonsense(t *testing.T) {
	for _, addr := range []string{"", "localhost", ":4750", "localhost:", "a:b:c"} {
		if _, err := Dial(t.Context(), addr, WithLazy()); err == nil || !strings.Contains(err.Error(), "want HOST:PORT") {
			t.Errorf("Dial(%q): %v, want what an address looks like", addr, err)
		}
	}
	if _, err := Dial(t.Context(), "h:1", WithLazy(), WithInsecure(), WithServerName("x")); err == nil {
		t.Error("Dial took WithInsecure and WithServerName together")
	}
	if _, err := Dial(t.Context(), "h:1", WithLazy(), WithCA("/nowhere")); err == nil {
		t.Error("Dial took a file that is not there")
	}
}

// Clear text is for loopback, or spelled out; everything else is TLS.
func TestClearTextIsForLoopback(t *testing.T) {
	plain := defaultOptions()
	withTLS, insecure := plain, plain
	withTLS.tls.ServerName = "x"
	insecure.insecure = true
	for _, tc := range []struct {
		addr string
		o    options
		tls  bool
	}{
		{"localhost:1", plain, false}, {"127.0.0.1:1", plain, false}, {"127.9.9.9:1", plain, false}, {"[::1]:1", plain, false},
		{"localhost:1", withTLS, true},
		{"10.0.0.1:1", plain, true}, {"col.example.net:1", plain, true}, {"localhost.example.net:1", plain, true},
		{"10.0.0.1:1", insecure, false},
	} {
		cfg, err := transportSecurity(tc.addr, tc.o)
		if err != nil {
			t.Fatal(err)
		}
		if (cfg != nil) != tc.tls {
			t.Errorf("%s with %+v: TLS %v, want %v", tc.addr, tc.o.tls, cfg != nil, tc.tls)
		}
		if cfg != nil && cfg.MinVersion != tls.VersionTLS13 {
			t.Errorf("%s: TLS from %x, want 1.3", tc.addr, cfg.MinVersion)
		}
	}
}

// authority writes a self-signed certificate for 127.0.0.1 and its key.
func authority(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePEM(t, certFile, "CERTIFICATE", der)
	writePEM(t, keyFile, "PRIVATE KEY", keyDER)
	return certFile, keyFile
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// serveTLS serves s over TLS on loopback, asking for a client certificate.
func serveTLS(t *testing.T, s *table, certFile, keyFile string) string {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pemBytes, err := os.ReadFile(certFile)
	if err != nil {
		t.Fatal(err)
	}
	pool.AppendCertsFromPEM(pemBytes)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
		MinVersion: tls.VersionTLS13,
	})))
	s.register(server)
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() { server.Stop(); wg.Wait() })
	return l.Addr().String()
}

// Over TLS: a trusted collector and a known certificate work, with the token;
// everything else fails with a cause that programs can tell apart.
func TestTLS(t *testing.T) {
	certFile, keyFile := authority(t)
	otherCert, otherKey := authority(t)
	s := &table{size: 5}
	addr := serveTLS(t, s, certFile, keyFile)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("s3cret\nsecond line\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	c, err := Dial(t.Context(), addr, WithCA(certFile), WithCertificate(certFile, keyFile), WithTokenFile(token))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if resp, err := c.Count(t.Context(), &whorlv1.CountRequest{}); err != nil || resp.GetCount() != 5 {
		t.Errorf("Count over TLS: %v, %v; want 5", resp.GetCount(), err)
	}
	if s.token != "Bearer s3cret" {
		t.Errorf("the collector saw the authorization %q, want the first line of the file", s.token)
	}

	var unknown x509.UnknownAuthorityError
	if _, err := Dial(t.Context(), addr, WithCA(otherCert)); !errors.As(err, &unknown) {
		t.Errorf("Dial with another authority: %v, want UnknownAuthorityError", err)
	}
	var name x509.HostnameError
	if _, err := Dial(t.Context(), addr, WithCA(certFile), WithServerName("col.example.net")); !errors.As(err, &name) {
		t.Errorf("Dial with another name: %v, want HostnameError", err)
	}
	if _, err := Dial(t.Context(), addr, WithCA(certFile), WithCertificate(otherCert, otherKey)); !errors.Is(err, ErrCertificateRefused) {
		t.Errorf("Dial with an unknown certificate: %v, want ErrCertificateRefused", err)
	}
	if _, err := Dial(t.Context(), addr, WithCA(certFile)); !errors.Is(err, ErrCertificateRefused) {
		t.Errorf("Dial without a certificate: %v, want ErrCertificateRefused", err)
	}
}

// A token file must hold one line of sane length.
func TestTokenFile(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"empty": "", "blank": " \nx", "long": strings.Repeat("x", maxTokenBytes+1)} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if token, err := readToken(file); err == nil {
			t.Errorf("%s: read the token %q", name, token)
		}
	}
	if _, err := readToken(filepath.Join(dir, "missing")); err == nil {
		t.Error("read a token from a file that is not there")
	}
}
