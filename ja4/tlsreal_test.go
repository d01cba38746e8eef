package ja4

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// tap is one end of a connection that keeps what is written to it.
type tap struct {
	net.Conn
	written bytes.Buffer
}

func (c *tap) Write(p []byte) (int, error) {
	c.written.Write(p)
	return c.Conn.Write(p)
}

func testCertificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "whorl.test"}, DNSNames: []string{"whorl.test"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// loopback returns two ends of a connection. A net.Pipe would not do: it has no
// buffer, and both ends of a TLS connection write at the same time.
func loopback(t testing.TB) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// handshake runs a real handshake, then sends some data each way, and returns
// the bytes of both directions.
func handshake(t testing.TB, client, server *tls.Config) (fromClient, fromServer []byte) {
	t.Helper()
	a, b := loopback(t)
	ca, sb := &tap{Conn: a}, &tap{Conn: b}
	done := make(chan error, 1)
	go func() {
		s := tls.Server(sb, server)
		_, err := io.CopyN(s, s, 5)
		done <- err
	}()
	c := tls.Client(ca, client)
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return ca.written.Bytes(), sb.written.Bytes()
}

// fromInfo is the JA4 that crypto/tls's own view of the hello gives.
func fromInfo(info *tls.ClientHelloInfo) (value, raw string) {
	hexes := func(list []uint16, keep func(uint16) bool) (out []string) {
		for _, v := range list {
			if keep(v) && v&0x0f0f != 0x0a0a {
				out = append(out, fmt.Sprintf("%04x", v))
			}
		}
		return out
	}
	all := func(uint16) bool { return true }
	ciphers, exts := hexes(info.CipherSuites, all), hexes(info.Extensions, all)
	sni, version, alpn := "i", "12", "00"
	if slices.Contains(exts, "0000") {
		sni = "d"
	}
	if slices.Max(info.SupportedVersions) == tls.VersionTLS13 {
		version = "13"
	}
	if len(info.SupportedProtos) > 0 {
		p := info.SupportedProtos[0]
		alpn = p[:1] + p[len(p)-1:]
	}
	a := fmt.Sprintf("t%s%s%02d%02d%s", version, sni, len(ciphers), len(exts), alpn)
	slices.Sort(ciphers)
	exts = hexes(info.Extensions, func(v uint16) bool { return v != 0 && v != 0x10 })
	slices.Sort(exts)
	var algs []uint16
	for _, s := range info.SignatureSchemes {
		algs = append(algs, uint16(s))
	}
	b, c := strings.Join(ciphers, ","), strings.Join(exts, ",")+"_"+strings.Join(hexes(algs, all), ",")
	hash := func(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s)))[:12] }
	return a + "_" + hash(b) + "_" + hash(c), a + "_" + b + "_" + c
}

// A real client's hello gives what crypto/tls says is in it, and the streams
// find the messages of real handshakes, no encrypted one among them.
func TestRealHandshakes(t *testing.T) {
	certificate := testCertificate(t)
	for _, c := range []struct {
		name           string
		client, server *tls.Config
		clientWant     string // message types
		serverWant     string
	}{
		{"TLS 1.3", &tls.Config{NextProtos: []string{"h2", "http/1.1"}}, &tls.Config{NextProtos: []string{"h2"}}, "1", "2"},
		{"TLS 1.3 with a retry", &tls.Config{CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP384}},
			&tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP384}}, "1 1", "2 2"},
		{"TLS 1.2", &tls.Config{MaxVersion: tls.VersionTLS12}, &tls.Config{}, "1 16", "2 11 12 14"},
		{"TLS 1.2 with a client certificate", &tls.Config{MaxVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}},
			&tls.Config{ClientAuth: tls.RequireAnyClientCert}, "1 11 16", "2 11 12 13 14"},
		{"TLS 1.3 with a client certificate", &tls.Config{Certificates: []tls.Certificate{certificate}},
			&tls.Config{ClientAuth: tls.RequireAnyClientCert}, "1", "2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var info tls.ClientHelloInfo
			c.client.ServerName, c.client.InsecureSkipVerify = "whorl.test", true
			c.server.Certificates = []tls.Certificate{certificate}
			c.server.GetConfigForClient = func(i *tls.ClientHelloInfo) (*tls.Config, error) {
				info = *i
				return nil, nil
			}
			fromClient, fromServer := handshake(t, c.client, c.server)
			types := func(b []byte) string {
				var s TLSStream
				var list []string
				status := s.Write(b, func(m Message) { list = append(list, fmt.Sprint(m.Type)) })
				if status != StatusDone {
					t.Errorf("status %v, want done", status)
				}
				return strings.Join(list, " ")
			}
			if got := types(fromClient); got != c.clientWant {
				t.Errorf("client sent %s, want %s", got, c.clientWant)
			}
			if got := types(fromServer); got != c.serverWant {
				t.Errorf("server sent %s, want %s", got, c.serverWant)
			}
			e, err := TLSClientHello(fromClient)
			value, raw := fromInfo(&info)
			if want := (Event{TypeJA4, value, raw, "whorl.test"}); err != nil || e != want {
				t.Errorf("got %v, %v\nwant %v", e, err, want)
			}
		})
	}
}

// A resumed session of TLS 1.2 shows hellos and a ticket, then nothing.
func TestResumedHandshake(t *testing.T) {
	client := &tls.Config{MaxVersion: tls.VersionTLS12, ServerName: "whorl.test", InsecureSkipVerify: true,
		ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	server := &tls.Config{Certificates: []tls.Certificate{testCertificate(t)}}
	handshake(t, client, server)
	fromClient, fromServer := handshake(t, client, server)
	for name, b := range map[string][]byte{"client": fromClient, "server": fromServer} {
		var s TLSStream
		var c collector
		status := s.Write(b, c.take)
		if status != StatusDone || len(c.all) == 0 || len(c.all) > 2 {
			t.Errorf("%s: %v after %v", name, status, c.got)
		}
	}
}

// The hello of a QUIC client, unpacked from CRYPTO data, is the same as
// crypto/tls describes it; here with Go's own QUIC handshake.
func TestRealQUICHello(t *testing.T) {
	conn := tls.QUICClient(&tls.QUICConfig{TLSConfig: &tls.Config{
		ServerName: "whorl.test", MinVersion: tls.VersionTLS13, NextProtos: []string{"h3"},
	}})
	conn.SetTransportParameters([]byte{1, 1, 1})
	if err := conn.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var crypto []byte
	for {
		e := conn.NextEvent()
		if e.Kind == tls.QUICNoEvent {
			break
		}
		if e.Kind == tls.QUICWriteData && e.Level == tls.QUICEncryptionLevelInitial {
			crypto = append(crypto, e.Data...)
		}
	}
	p := sealInitial(t, quicV1, initialPacket{dst: "01020304050607", payload: cryptoFrame(0, crypto)})
	e, err := QUICClientHello(p)
	if err != nil {
		t.Fatal(err)
	}
	bare, err := TLSClientHello(crypto)
	if err != nil {
		t.Fatal(err)
	}
	if e.Value[1:] != bare.Value[1:] || e.Value[0] != 'q' || bare.Value[0] != 't' || e.Value[8:10] != "h3" || e.ServerName != "whorl.test" {
		t.Errorf("%v from the packet, %v from its message", e, bare)
	}
}
