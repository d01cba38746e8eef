package cleartext

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/whorl-net/whorl/internal/fuzzguard"
	"github.com/whorl-net/whorl/ja4"
)

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

// segment is what one side wrote at once.
type segment struct {
	side uint8
	p    []byte
}

// tape keeps what both ends write, in order.
type tape struct {
	mu       sync.Mutex // guards segments
	segments []segment
}

type tapedConn struct {
	net.Conn
	tape *tape
	side uint8
}

func (c *tapedConn) Write(p []byte) (int, error) {
	c.tape.mu.Lock()
	c.tape.segments = append(c.tape.segments, segment{c.side, bytes.Clone(p)})
	c.tape.mu.Unlock()
	return c.Conn.Write(p)
}

const question, answer = "question to the server", "answer of the server"

// converse runs a handshake and an exchange over the loopback, and returns what
// was on the wire and the key log of the client.
func converse(t testing.TB, client, server *tls.Config) ([]segment, *KeyLog) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var log bytes.Buffer
	client.KeyLogWriter = &log
	client.InsecureSkipVerify = true
	client.ServerName = "whorl.test"
	client.ClientSessionCache = tls.NewLRUClientSessionCache(1) // so that the server sends a ticket
	var wire tape
	done := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		s := tls.Server(&tapedConn{conn, &wire, 1}, server)
		defer s.Close()
		if _, err = io.ReadFull(s, make([]byte, len(question))); err == nil {
			_, err = s.Write([]byte(answer))
		}
		done <- err
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := tls.Client(&tapedConn{conn, &wire, 0}, client)
	defer c.Close()
	if _, err := c.Write([]byte(question)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, len(answer))); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	keys := NewKeyLog(0)
	keys.Add(log.Bytes())
	wire.mu.Lock()
	defer wire.mu.Unlock()
	return wire.segments, keys
}

// heard is what came out of a connection.
type heard struct {
	messages [2][]string
	data     [2]bytes.Buffer
	streams  map[streamID]*bytes.Buffer
	ends     int
}

func (h *heard) sink() Sink {
	h.streams = make(map[streamID]*bytes.Buffer)
	return Sink{
		Message: func(side uint8, m ja4.Message) { h.messages[side] = append(h.messages[side], fmt.Sprint(m.Type)) },
		Data:    func(side uint8, p []byte) { h.data[side].Write(p) },
		Stream: func(side uint8, id uint64, p []byte, end bool) {
			key := streamID{side, id}
			if h.streams[key] == nil {
				h.streams[key] = new(bytes.Buffer)
			}
			h.streams[key].Write(p)
			if end {
				h.ends++
			}
		},
	}
}

func (h *heard) list(side int) string { return strings.Join(h.messages[side], " ") }

// What real ends say to each other is heard whole: messages and data.
func TestRealTLS(t *testing.T) {
	certificate := testCertificate(t)
	tls12 := func(id uint16) *tls.Config {
		return &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{id}}
	}
	for _, c := range []struct {
		name           string
		client, server *tls.Config
		version        uint16
		clientWant     string // message types
		serverWant     string
	}{
		{"1.3", &tls.Config{}, &tls.Config{}, versionTLS13, "1 20", "2 8 11 15 20 4"},
		{"1.3 with a retry", &tls.Config{CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP384}},
			&tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP384}}, versionTLS13, "1 1 20", "2 2 8 11 15 20 4"},
		{"1.3 with a client certificate", &tls.Config{Certificates: []tls.Certificate{certificate}},
			&tls.Config{ClientAuth: tls.RequireAnyClientCert}, versionTLS13, "1 11 15 20", "2 8 13 11 15 20 4"},
		{"1.2 AES-128-GCM", tls12(tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256), &tls.Config{}, versionTLS12, "1 16 20", "2 11 12 14 4 20"},
		{"1.2 AES-256-GCM", tls12(tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384), &tls.Config{}, versionTLS12, "1 16 20", "2 11 12 14 4 20"},
		{"1.2 ChaCha20-Poly1305", tls12(tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256), &tls.Config{}, versionTLS12, "1 16 20", "2 11 12 14 4 20"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.server.Certificates = []tls.Certificate{certificate}
			segments, keys := converse(t, c.client, c.server)
			check := func(how string, feed func(conn *TLS, sink Sink)) {
				var h heard
				conn := NewTLS(keys)
				feed(conn, h.sink())
				if conn.Err() != nil || conn.Version() != c.version {
					t.Errorf("%s: %v, version %04x", how, conn.Err(), conn.Version())
				}
				if got := h.list(0); got != c.clientWant {
					t.Errorf("%s: the client said %s, want %s", how, got, c.clientWant)
				}
				if got := h.list(1); got != c.serverWant {
					t.Errorf("%s: the server said %s, want %s", how, got, c.serverWant)
				}
				if q, a := h.data[0].String(), h.data[1].String(); q != question || a != answer {
					t.Errorf("%s: %q and %q", how, q, a)
				}
				if client, known := conn.Client(); client != 0 || !known {
					t.Errorf("%s: client is side %d, %t", how, client, known)
				}
			}
			check("as sent", func(conn *TLS, sink Sink) {
				for _, s := range segments {
					if got := conn.Write(s.side, s.p, sink); got != ja4.StatusMore {
						t.Fatal(got, conn.Err())
					}
				}
			})
			check("byte by byte", func(conn *TLS, sink Sink) {
				for _, s := range segments {
					for i := range s.p {
						conn.Write(s.side, s.p[i:i+1], sink)
					}
				}
			})
			check("one side after the other", func(conn *TLS, sink Sink) {
				for side := range uint8(2) {
					for _, s := range segments {
						if s.side == side {
							conn.Write(side, s.p, sink)
						}
					}
				}
			})
		})
	}
}

// Why a connection is not opened.
func TestTLSNotOpened(t *testing.T) {
	certificate := testCertificate(t)
	segments, keys := converse(t, &tls.Config{}, &tls.Config{Certificates: []tls.Certificate{certificate}})
	cbc, cbcKeys := converse(t, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}},
		&tls.Config{Certificates: []tls.Certificate{certificate}})
	damaged := make([]segment, len(segments))
	for i, s := range segments {
		damaged[i] = segment{s.side, bytes.Clone(s.p)}
	}
	last := damaged[len(damaged)-1].p
	last[len(last)-1] ^= 1
	for _, c := range []struct {
		name     string
		segments []segment
		keys     *KeyLog
		err      error
		status   ja4.Status
	}{
		{"no secrets", segments, NewKeyLog(0), ErrNoSecrets, ja4.StatusDone},
		{"CBC", cbc, cbcKeys, ErrUnsupported, ja4.StatusDone},
		{"damaged", damaged, keys, ErrUnopened, ja4.StatusInvalid},
		{"not TLS", []segment{{0, []byte("GET / HTTP/1.1")}}, keys, ErrInvalid, ja4.StatusInvalid},
		{"announced too large", []segment{{0, []byte{22, 3, 1, 0, 4, 1, 1, 0, 0}}}, keys, ErrTooLarge, ja4.StatusTooLarge},
		{"waits too long", []segment{segments[0], {0, bytes.Repeat(append([]byte{23, 3, 3, 0x40, 0}, make([]byte, 1<<14)...), 5)}}, keys, ErrTooLarge, ja4.StatusTooLarge},
	} {
		conn := NewTLS(c.keys)
		var status ja4.Status
		for _, s := range c.segments {
			status = conn.Write(s.side, s.p, Sink{})
		}
		if !errors.Is(conn.Err(), c.err) || status != c.status {
			t.Errorf("%s: %v, %v; want %v, %v", c.name, status, conn.Err(), c.status, c.err)
		}
		if conn.Held() != 0 {
			t.Errorf("%s: holds %d bytes after the end", c.name, conn.Held())
		}
	}
}

// script makes one side of a connection of TLS 1.3 by hand.
type script struct {
	suite suite
	keys  *recordKeys
}

func (s *script) rekey(secret []byte) { s.keys = newRecordKeys13(s.suite, secret) }

// seal makes a record of TLS 1.3 with some padding.
func (s *script) seal(kind byte, plain []byte) []byte {
	inner := append(append(slices.Clone(plain), kind), make([]byte, len(plain)%5)...)
	header := []byte{recordApplicationData, 3, 3}
	header = binary.BigEndian.AppendUint16(header, uint16(len(inner)+s.keys.aead.Overhead()))
	nonce := s.keys.iv
	tail := nonce[4:]
	binary.BigEndian.PutUint64(tail, binary.BigEndian.Uint64(tail)^s.keys.sequence)
	s.keys.sequence++
	return s.keys.aead.Seal(slices.Clone(header), nonce[:], inner, header)
}

func clearRecord(p []byte) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{recordHandshake, 3, 3}, uint16(len(p))), p...)
}

func handshakeMessage(kind byte, body []byte) []byte {
	return append([]byte{kind, 0, byte(len(body) >> 8), byte(len(body))}, body...)
}

// helloBody is a hello with one extension that matters.
func helloBody(random byte, server bool, id uint16, ext uint16, body []byte) []byte {
	b := append([]byte{3, 3}, bytes.Repeat([]byte{random}, 32)...)
	b = append(b, 0)
	if server {
		b = append(binary.BigEndian.AppendUint16(b, id), 0)
	} else {
		b = append(binary.BigEndian.AppendUint16(append(b, 0, 2), id), 1, 0)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(4+len(body)))
	b = binary.BigEndian.AppendUint16(b, ext)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(body))), body...)
}

// scripted is a connection of TLS 1.3 with early data, key updates and
// padding, and the secrets of it. With refused, the early data is sealed under
// a secret that nobody has.
func scripted(id uint16, refused bool) (segments []segment, keys *KeyLog) {
	s, _ := suiteOf(id)
	size := s.hash().Size()
	secret := func(l label) []byte { return bytes.Repeat([]byte{byte(l)}, size) }
	keys = NewKeyLog(0)
	for l := clientEarly; l < labels; l++ {
		keys.Add([]byte(line(l, 9, fmt.Sprintf("%x", secret(l)))))
	}
	client, server := script{suite: s}, script{suite: s}
	write := func(side uint8, p []byte) { segments = append(segments, segment{side, p}) }

	write(0, clearRecord(handshakeMessage(1, helloBody(9, false, id, extEarlyData, nil))))
	if client.rekey(secret(clientEarly)); refused {
		client.rekey(secret(0xee))
	}
	write(0, client.seal(recordApplicationData, []byte("early ")))
	write(1, clearRecord(handshakeMessage(2, helloBody(8, true, id, extSupportedVersions, []byte{3, 4}))))
	write(1, []byte{recordChangeCipherSpec, 3, 3, 0, 1, 1})
	server.rekey(secret(serverHandshake))
	finished := handshakeMessage(20, make([]byte, size))
	// A message over two records, and two messages in one.
	flight := slices.Concat(handshakeMessage(8, make([]byte, 2)), handshakeMessage(11, make([]byte, 300)), finished)
	write(1, server.seal(recordHandshake, flight[:200]))
	write(1, server.seal(recordHandshake, flight[200:]))
	if !refused {
		write(0, client.seal(recordHandshake, handshakeMessage(5, nil)))
	}
	client.rekey(secret(clientHandshake))
	write(0, client.seal(recordHandshake, finished))
	client.rekey(secret(clientTraffic))
	server.rekey(secret(serverTraffic))
	write(0, client.seal(recordApplicationData, []byte("one ")))
	write(0, client.seal(recordHandshake, handshakeMessage(24, []byte{0})))
	next := s.expandLabel(secret(clientTraffic), "traffic upd", size)
	client.rekey(next)
	write(0, client.seal(recordApplicationData, []byte("two ")))
	write(0, client.seal(recordHandshake, handshakeMessage(24, []byte{0})))
	client.rekey(s.expandLabel(next, "traffic upd", size))
	write(0, client.seal(recordApplicationData, []byte("three")))
	write(0, client.seal(recordAlert, []byte{1, 0}))
	write(1, server.seal(recordApplicationData, []byte("answer")))
	return segments, keys
}

// Every suite of TLS 1.3, with early data, key updates and padding; early data
// that is refused is passed over.
func TestTLS13Script(t *testing.T) {
	for _, id := range []uint16{0x1301, 0x1302, 0x1303} {
		for _, refused := range []bool{false, true} {
			segments, keys := scripted(id, refused)
			var h heard
			sink := h.sink()
			conn := NewTLS(keys)
			for i, s := range segments {
				if got := conn.Write(s.side, s.p, sink); got != ja4.StatusMore {
					t.Fatalf("suite %04x, segment %d: %v, %v", id, i, got, conn.Err())
				}
			}
			wantData, wantMessages := "early one two three", "1 5 20 24 24"
			if refused {
				wantData, wantMessages = "one two three", "1 20 24 24"
			}
			if got := h.data[0].String(); got != wantData {
				t.Errorf("suite %04x, refused %t: %q, want %q", id, refused, got, wantData)
			}
			if got := h.list(0); got != wantMessages {
				t.Errorf("suite %04x, refused %t: messages %s, want %s", id, refused, got, wantMessages)
			}
			if got := h.list(1) + " " + h.data[1].String(); got != "2 8 11 20 answer" {
				t.Errorf("suite %04x: the server said %s", id, got)
			}
		}
	}
}

// After a retry request the early data is refused, whatever secret there is,
// and both hellos are heard.
func TestTLS13EarlyDataAndRetry(t *testing.T) {
	segments, keys := scripted(0x1301, false)
	retry := clearRecord(handshakeMessage(2, helloBody(8, true, 0x1301, extSupportedVersions, []byte{3, 4})))
	copy(retry[5+4+2:], retryRandom)
	ccs := segment{0, []byte{recordChangeCipherSpec, 3, 3, 0, 1, 1}}
	hello := segment{0, clearRecord(handshakeMessage(1, helloBody(9, false, 0x1301, 0x0033, nil)))}
	withRetry := slices.Concat(segments[:1], []segment{ccs, segments[1], {1, retry}, segments[1], hello}, segments[2:6])
	// Without the early data there is no end of it.
	withRetry = append(withRetry, segments[7:]...)
	var h heard
	sink := h.sink()
	conn := NewTLS(keys)
	for i, s := range withRetry {
		if got := conn.Write(s.side, s.p, sink); got != ja4.StatusMore {
			t.Fatalf("segment %d: %v, %v", i, got, conn.Err())
		}
		if i == 5 && h.list(0) != "1 1" {
			t.Errorf("before the server's hello: %s, want both hellos of the client", h.list(0))
		}
	}
	if got := h.list(0) + ", " + h.list(1) + ", " + h.data[0].String(); got != "1 1 20 24 24, 2 2 8 11 20, one two three" {
		t.Error(got)
	}
}

// Early data that is refused is passed over up to a bound and only before the
// handshake goes on.
func TestTLS13RefusedDataIsBounded(t *testing.T) {
	segments, keys := scripted(0x1301, true)
	sealed := append([]byte{recordApplicationData, 3, 3, 0x20, 0}, make([]byte, 1<<13)...)
	conn := NewTLS(keys)
	for _, i := range []int{0, 2} {
		conn.Write(segments[i].side, segments[i].p, Sink{})
	}
	n := 0
	for conn.Write(0, sealed, Sink{}) == ja4.StatusMore && n < 100 {
		n++
	}
	if want := maxEarly / len(sealed); n != want || !errors.Is(conn.Err(), ErrUnopened) {
		t.Errorf("passed over %d records, then %v; want %d", n, conn.Err(), want)
	}
	conn = NewTLS(keys)
	for _, s := range segments {
		conn.Write(s.side, s.p, Sink{})
	}
	if conn.Write(0, sealed, Sink{}) != ja4.StatusInvalid || !errors.Is(conn.Err(), ErrUnopened) {
		t.Errorf("a record behind the handshake that does not open: %v", conn.Err())
	}
}

// A second change of cipher spec is renegotiation; records too short for what
// they should hold do not open.
func TestTLS12Odd(t *testing.T) {
	segments, keys := converse(t, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}},
		&tls.Config{Certificates: []tls.Certificate{testCertificate(t)}})
	for _, c := range []struct {
		name string
		p    []byte
		want error
	}{
		{"renegotiation", []byte{20, 3, 3, 0, 1, 1}, ErrUnsupported},
		{"empty record", []byte{23, 3, 3, 0, 0}, ErrUnopened},
		{"no tag", append([]byte{23, 3, 3, 0, 20}, make([]byte, 20)...), ErrUnopened},
	} {
		conn := NewTLS(keys)
		for _, s := range segments {
			conn.Write(s.side, s.p, Sink{})
		}
		if conn.Write(1, c.p, Sink{}); !errors.Is(conn.Err(), c.want) {
			t.Errorf("%s: %v, want %v", c.name, conn.Err(), c.want)
		}
	}
}

// What the hellos say, and when they are no longer listened to.
func TestHelloState(t *testing.T) {
	client := func(random byte) ja4.Message {
		return ja4.Message{Type: 1, Body: helloBody(random, false, 0x1301, extEarlyData, nil)}
	}
	server := func(id, ext uint16, body []byte) ja4.Message {
		return ja4.Message{Type: 2, Body: helloBody(8, true, id, ext, body)}
	}
	v13 := []byte{3, 4}
	for _, c := range []struct {
		name      string
		messages  []ja4.Message
		random    byte
		version   uint16
		supported bool
	}{
		{"TLS 1.3", []ja4.Message{client(1), server(0x1301, extSupportedVersions, v13)}, 1, versionTLS13, true},
		{"TLS 1.2", []ja4.Message{client(1), server(0xc02f, 0, nil)}, 1, versionTLS12, true},
		{"suite of TLS 1.3 in 1.2", []ja4.Message{client(1), server(0x1301, 0, nil)}, 1, versionTLS12, false},
		{"suite of TLS 1.2 in 1.3", []ja4.Message{client(1), server(0xc02f, extSupportedVersions, v13)}, 1, versionTLS13, false},
		{"unknown suite", []ja4.Message{client(1), server(0x1304, extSupportedVersions, v13)}, 1, versionTLS13, false},
		{"a later hello does not count", []ja4.Message{client(1), server(0x1301, extSupportedVersions, v13), client(2), server(0xc02f, 0, nil)}, 1, versionTLS13, true},
		{"a broken one neither", []ja4.Message{client(1), {Type: 1, Body: client(3).Body[:36]}, {Type: 2, Body: []byte{3, 3}}}, 1, 0, false},
	} {
		var h helloState
		for _, m := range c.messages {
			h.take(uint8(m.Type-1), m)
		}
		if h.clientRandom != Random(bytes.Repeat([]byte{c.random}, 32)) || h.version != c.version || h.supported != c.supported || h.client != 0 {
			t.Errorf("%s: %+v", c.name, h)
		}
	}
	for _, id := range []uint16{0x009c, 0x009d, 0xc02b, 0xc02c, 0xc02f, 0xc030, 0xcca8, 0xcca9, 0xccaa, 0x009e, 0x009f} {
		if s, ok := suiteOf(id); !ok || s.tls13 || (s.keyLen == 32) != (id&1 == 1 && id < 0xc02b || id == 0xc02c || id == 0xc030 || id > 0xcc00) {
			t.Errorf("suite %04x: %+v, %t", id, s, ok)
		}
	}
}

func FuzzTLS(f *testing.F) {
	segments, keys := scripted(0x1301, false)
	var sent [2][]byte
	for _, s := range segments {
		sent[s.side] = append(sent[s.side], s.p...)
	}
	f.Add(sent[0], sent[1], uint16(100))
	f.Add(sent[1], sent[0], uint16(0))
	f.Fuzz(func(t *testing.T, a, b []byte, cut uint16) {
		fuzzguard.Watch(t)
		conn := NewTLS(keys)
		at := min(int(cut), len(a))
		for _, s := range []segment{{0, a[:at]}, {1, b}, {0, a[at:]}} {
			conn.Write(s.side, s.p, Sink{})
		}
		if conn.Held() > 8*maxHeld {
			t.Fatalf("holds %d bytes", conn.Held())
		}
	})
}

// BenchmarkTLS: one record of 1 KiB of application data.
func BenchmarkTLS(b *testing.B) {
	segments, keys := scripted(0x1301, false)
	conn := NewTLS(keys)
	for _, s := range segments {
		conn.Write(s.side, s.p, Sink{})
	}
	server := script{suite: conn.hello.suite}
	server.rekey(conn.secrets.get(serverTraffic))
	conn.rekey13(1, conn.secrets.get(serverTraffic))
	r := server.seal(recordApplicationData, make([]byte, 1024))
	b.SetBytes(1024)
	b.ReportAllocs()
	for b.Loop() {
		conn.sides[1].keys.sequence = 0
		if conn.Write(1, r, Sink{}) != ja4.StatusMore {
			b.Fatal(conn.Err())
		}
	}
}
