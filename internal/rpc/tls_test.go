package rpc

import (
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
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority signs certificates for tests.
type authority struct {
	t    *testing.T
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	file string
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.key = newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file = a.write(name+".pem", "CERTIFICATE", der)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	file := filepath.Join(a.dir, name)
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return file
}

// issue writes a certificate for name, serial tells one from another.
func (a *authority) issue(name string, serial int64) (certFile, keyFile string) {
	a.t.Helper()
	key := newKey(a.t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write(name+".crt", "CERTIFICATE", der), a.write(name+".key", "EC PRIVATE KEY", keyDER)
}

// handshake connects the two sides and returns what each saw of the other.
func handshake(t *testing.T, server, client *tls.Config) (serverSaw, clientSaw tls.ConnectionState, err error) {
	t.Helper()
	// A pipe without a buffer would deadlock on alerts.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	near, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	s, c := tls.Server(near, server), tls.Client(far, client)
	failed := make(chan error, 1)
	go func() {
		err := s.HandshakeContext(t.Context())
		if err != nil {
			near.Close()
		}
		failed <- err
	}()
	clientErr := c.HandshakeContext(t.Context())
	if clientErr != nil {
		far.Close()
	}
	err = errors.Join(<-failed, clientErr)
	return s.ConnectionState(), c.ConnectionState(), err
}

func mustClient(t *testing.T, f ClientTLSFiles) *tls.Config {
	t.Helper()
	config, err := ClientTLS(f)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// A server with a client CA takes clients of that authority and no others; both
// speak TLS 1.3.
func TestMutualTLS(t *testing.T) {
	ca, other := newAuthority(t, "ca"), newAuthority(t, "other")
	cert, key := ca.issue("collector.test", 2)
	server, err := ServerTLS(ServerTLSFiles{Cert: cert, Key: key, ClientCA: ca.file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	probeCert, probeKey := ca.issue("probe-1", 3)
	strangerCert, strangerKey := other.issue("probe-1", 4)
	for _, tt := range []struct {
		name   string
		client ClientTLSFiles
		wantOK bool
	}{
		{"its own authority", ClientTLSFiles{CA: ca.file, Cert: probeCert, Key: probeKey, ServerName: "collector.test"}, true},
		{"no certificate", ClientTLSFiles{CA: ca.file, ServerName: "collector.test"}, false},
		{"another authority", ClientTLSFiles{CA: ca.file, Cert: strangerCert, Key: strangerKey, ServerName: "collector.test"}, false},
		{"another name", ClientTLSFiles{CA: ca.file, Cert: probeCert, Key: probeKey, ServerName: "elsewhere.test"}, false},
		{"an authority it does not trust", ClientTLSFiles{CA: other.file, Cert: probeCert, Key: probeKey, ServerName: "collector.test"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			saw, _, err := handshake(t, server, mustClient(t, tt.client))
			if (err == nil) != tt.wantOK {
				t.Fatalf("handshake: %v, want success: %v", err, tt.wantOK)
			}
			if err == nil && (saw.Version != tls.VersionTLS13 || saw.PeerCertificates[0].Subject.CommonName != "probe-1") {
				t.Errorf("version %x, peer %v; want TLS 1.3 and probe-1", saw.Version, saw.PeerCertificates[0].Subject)
			}
		})
	}
	old := mustClient(t, ClientTLSFiles{CA: ca.file, Cert: probeCert, Key: probeKey, ServerName: "collector.test"})
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if _, _, err := handshake(t, server, old); err == nil {
		t.Error("a TLS 1.2 client was let in")
	}
}

// A server uses a new certificate from the handshake after it was written, and
// keeps the old one while the new one cannot be read.
func TestServerFollowsItsFiles(t *testing.T) {
	ca := newAuthority(t, "ca")
	cert, key := ca.issue("collector.test", 10)
	server, err := ServerTLS(ServerTLSFiles{Cert: cert, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := mustClient(t, ClientTLSFiles{CA: ca.file, ServerName: "collector.test"})
	serial := func() int64 {
		t.Helper()
		_, saw, err := handshake(t, server, client)
		if err != nil {
			t.Fatal(err)
		}
		return saw.PeerCertificates[0].SerialNumber.Int64()
	}
	// The files are looked at once a second at most; age the last look instead
	// of waiting.
	files := &serverFiles{files: ServerTLSFiles{Cert: cert, Key: key}, logger: discard()}
	files.stamp = files.look()
	if files.config, err = files.read(); err != nil {
		t.Fatal(err)
	}
	server.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		files.checked = time.Time{}
		return files.current(), nil
	}
	if got := serial(); got != 10 {
		t.Fatalf("serial %d, want 10", got)
	}
	ca.issue("collector.test", 11)
	touch(t, cert, key)
	if got := serial(); got != 11 {
		t.Errorf("serial %d after a new certificate was written, want 11", got)
	}
	if err := os.WriteFile(cert, []byte("half a certif"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := serial(); got != 11 {
		t.Errorf("serial %d after a broken file was written, want still 11", got)
	}
}

// touch moves the times of files on, for file systems with coarse clocks.
func touch(t *testing.T, files ...string) {
	t.Helper()
	for _, f := range files {
		later := time.Now().Add(5 * time.Second)
		if err := os.Chtimes(f, later, later); err != nil {
			t.Fatal(err)
		}
	}
}

// Files that go together are refused apart, with a sentence.
func TestTLSFilesThatCannotWork(t *testing.T) {
	ca := newAuthority(t, "ca")
	cert, key := ca.issue("collector.test", 2)
	_, otherKey := ca.issue("other", 3)
	notPEM := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(notPEM, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		files ServerTLSFiles
		want  string
	}{
		{"certificate without key", ServerTLSFiles{Cert: cert}, "go together"},
		{"client CA alone", ServerTLSFiles{ClientCA: ca.file}, "go together"},
		{"key of another", ServerTLSFiles{Cert: cert, Key: otherKey}, "does not match"},
		{"no such file", ServerTLSFiles{Cert: cert + "x", Key: key}, "no such file"},
		{"CA without certificate", ServerTLSFiles{Cert: cert, Key: key, ClientCA: notPEM}, "holds no PEM certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ServerTLS(tt.files, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
	if config, err := ServerTLS(ServerTLSFiles{}, nil); config != nil || err != nil {
		t.Errorf("no files: %v, %v; want nil, nil", config, err)
	}
	if _, err := ClientTLS(ClientTLSFiles{Cert: cert}); err == nil {
		t.Error("a client certificate without its key was taken")
	}
	if _, err := ClientTLS(ClientTLSFiles{CA: notPEM}); err == nil {
		t.Error("a CA file without certificate was taken")
	}
}
