package handshake

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/quic"

	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/ja4/cleartext"
	"github.com/whorl-net/whorl/ja4/ja4plus"
	"github.com/whorl-net/whorl/probe/decode"
)

// A quicRecording is a QUIC connection between x/net/quic and itself.
type quicRecording struct {
	packets []decode.Packet
	keys    []byte
	ja4x    string
}

// shared is a buffer for two goroutines.
type shared struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *shared) bytes() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.b.Bytes())
}

// recordQUIC sends each of streams on a stream of its own and waits for the
// answer.
func recordQUIC(t testing.TB, protocol string, streams ...string) *quicRecording {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "example.net"},
		NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"example.net"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	check(err)
	certificate, err := ja4plus.Certificate(der)
	check(err)

	sv, err := quic.Listen("udp", "127.0.0.1:0", &quic.Config{TLSConfig: &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{protocol},
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	}})
	check(err)
	defer sv.Close(ctx)
	served := make(chan error, 1)
	go func() {
		served <- func() error {
			conn, err := sv.Accept(ctx)
			if err != nil {
				return err
			}
			for range streams {
				s, err := conn.AcceptStream(ctx)
				if err != nil {
					return err
				}
				if _, err := io.Copy(io.Discard, s); err != nil {
					return err
				}
				s.Write(bytes.Repeat([]byte("answer"), 2000))
				s.Close()
			}
			return nil
		}()
	}()

	front, err := net.ListenPacket("udp", "127.0.0.1:0")
	check(err)
	c := newConversation()
	relayed := make(chan struct{})
	go func() { // between client and server, keeping what passes
		defer close(relayed)
		there := net.UDPAddrFromAddrPort(sv.LocalAddr())
		var here net.Addr
		buf := make([]byte, 1<<16)
		for {
			n, from, err := front.ReadFrom(buf)
			if err != nil {
				return
			}
			side, to := server, here
			if from.String() != there.String() {
				side, to, here = client, there, from
			}
			c.datagram(side, bytes.Clone(buf[:n]))
			front.WriteTo(buf[:n], to)
		}
	}()
	var keys shared
	cl, err := quic.Listen("udp", "127.0.0.1:0", nil)
	check(err)
	defer cl.Close(ctx)
	conn, err := cl.Dial(ctx, "udp", front.LocalAddr().String(), &quic.Config{TLSConfig: &tls.Config{
		MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, ServerName: "example.net", KeyLogWriter: &keys, NextProtos: []string{protocol},
	}})
	check(err)
	for _, data := range streams {
		s, err := conn.NewStream(ctx)
		check(err)
		s.Write([]byte(data))
		s.CloseWrite()
		_, err = io.Copy(io.Discard, s)
		check(err)
	}
	check(<-served)
	conn.Close()
	front.Close()
	<-relayed
	return &quicRecording{packets: c.packets, keys: keys.bytes(), ja4x: certificate.Value}
}

// literal is a field line with a literal name.
func literal(name, value string) string {
	var b []byte
	if b = append(b, 0x20|byte(min(len(name), 7))); len(name) >= 7 {
		b = append(b, byte(len(name)-7))
	}
	b = append(append(b, name...), byte(len(value)))
	return string(append(b, value...))
}

// headers3 is a HEADERS frame of HTTP/3 with a field section.
func headers3(lines ...string) string {
	block := "\x00\x00" + strings.Join(lines, "")
	return string([]byte{1, 0x40 | byte(len(block)>>8), byte(len(block))}) + block
}

// With its secrets, a QUIC connection gives its certificate and the requests
// of HTTP/3 that need no dynamic table.
func TestInsideQUIC(t *testing.T) {
	body := "\x00\x40\x80" + strings.Repeat("x", 128)
	grease := "\x21\x03abc"
	q := recordQUIC(t, "h3",
		grease+headers3(literal(":method", "GET"), literal(":path", "/"), literal("accept-language", "da-DK"), literal("cookie", "b=1"), literal("cookie", "a=2")),
		headers3(literal(":method", "POST"), literal("referer", "x"), literal("x-long", strings.Repeat("y", 100)))+body+headers3(literal("trailer", "1")),
		headers3("\x80"), // a reference to the dynamic table
		headers3(literal(":method", "PUT")),
	)
	want := []string{
		ja4h("GET", "30", [][2]string{{"accept-language", "da-DK"}, {"cookie", "b=1; a=2"}}),
		ja4h("POST", "30", [][2]string{{"referer", "x"}, {"x-long", ""}}),
		ja4h("PUT", "30", nil),
	}
	keys := cleartext.NewKeyLog(0)
	keys.Add(q.keys)
	inside := func(types ja4.TypeSet, keys *cleartext.KeyLog) (events []Event, g *Engine) {
		g = New(Config{Types: types, Secrets: keys})
		var out Result
		for i := range q.packets {
			g.Packet(&q.packets[i], &out)
			events = append(events, out.Events...)
			checkEngine(t, g)
		}
		return events, g
	}
	events, g := inside(0, keys)
	diff(t, valuesOf(events, ja4.TypeJA4H), want)
	diff(t, valuesOf(events, ja4.TypeJA4X), []string{q.ja4x})
	if n := g.Stats().GivenUp; n[ReasonUnsupported] != 1 || n[ReasonUnopened]+n[ReasonNoSecrets] != 0 {
		t.Errorf("given up %v, want one request", n)
	}
	for i := range events {
		if events[i].Tuple != q.packets[0].Tuple {
			t.Errorf("%v of %v", events[i].Type, events[i].Tuple)
		}
	}
	if events, g := inside(ja4.TypeSet(0).With(ja4.TypeJA4X), keys); kinds(events) != "ja4x" || g.used != 0 {
		t.Errorf("certificates alone: events %s, %d bytes held", kinds(events), g.used)
	}
	if events, _ := inside(ja4.TypeSet(0).With(ja4.TypeJA4H), keys); kinds(events) != "ja4h ja4h ja4h" {
		t.Errorf("requests alone: events %s", kinds(events))
	}

	clear, _ := inside(0, nil)
	others, g := inside(0, recordHTTP(tls.VersionTLS13, "h2").log(t))
	diff(t, values(others), values(clear))
	if g.Stats().GivenUp[ReasonNoSecrets] != 1 || g.used != 0 {
		t.Errorf("secrets of others: given up %v, %d bytes held", g.Stats().GivenUp, g.used)
	}
	wrong := wrongSecrets(q.keys)
	broken := cleartext.NewKeyLog(0)
	broken.Add(wrong)
	events, _ = inside(0, broken)
	diff(t, values(events), values(clear))
}

// Packets that never open are not tried for ever.
func TestWrongSecretsOfQUICEnd(t *testing.T) {
	q := recordQUIC(t, "h3", headers3(literal(":method", "GET")))
	wrong := wrongSecrets(q.keys)
	keys := cleartext.NewKeyLog(0)
	keys.Add(wrong)
	g := New(Config{Secrets: keys})
	var out Result
	for range 2 * maxUnopened {
		for i := range q.packets {
			g.Packet(&q.packets[i], &out)
		}
	}
	if n := g.Stats(); n.GivenUp[ReasonUnopened] != 1 || n.Bytes != 0 {
		t.Errorf("given up %v, %d bytes held", n.GivenUp, n.Bytes)
	}
}

// Secrets that come late are waited for.
func TestLateSecretsOfQUIC(t *testing.T) {
	q := recordQUIC(t, "h3", headers3(literal(":method", "GET")))
	keys := cleartext.NewKeyLog(0)
	g := New(Config{Secrets: keys, SecretsWait: time.Hour})
	var out Result
	var events []Event
	for i := range q.packets {
		if i == len(q.packets)-1 {
			keys.Add(q.keys)
		}
		g.Packet(&q.packets[i], &out)
		events = append(events, out.Events...)
		checkEngine(t, g)
	}
	diff(t, valuesOf(events, ja4.TypeJA4H), []string{ja4h("GET", "30", nil)})
	diff(t, valuesOf(events, ja4.TypeJA4X), []string{q.ja4x})
}

// What another protocol says on its streams is not taken for HTTP/3.
func TestOtherProtocolInsideQUIC(t *testing.T) {
	q := recordQUIC(t, "other", headers3(literal(":method", "GET")))
	keys := cleartext.NewKeyLog(0)
	keys.Add(q.keys)
	events, _, _ := run(Config{Secrets: keys}, q.packets)
	if got := kinds(events); strings.Contains(got, "ja4h") || !strings.Contains(got, "ja4x") {
		t.Errorf("events %s", got)
	}
	g := New(Config{Secrets: keys})
	var out Result
	for i := range q.packets {
		g.Packet(&q.packets[i], &out)
	}
	if g.used != 0 {
		t.Errorf("%d bytes are held when all is found", g.used)
	}
}

// The protocol is read from whole extensions only.
func TestChosenProtocol(t *testing.T) {
	for _, c := range []struct{ body, want string }{
		{"\x00\x09\x00\x10\x00\x05\x00\x03\x02h3", "h3"},
		{"\x00\x0d\x00\x39\x00\x00\x00\x10\x00\x05\x00\x03\x02h3", "h3"},
		{"\x00\x09\x00\x10\x00\x05\x00\x03\x02h", ""},
		{"\x00\x09\x00\x10\x00\x05\x00\x03\x09h3", ""},
		{"\x00\x04\x00\x10\x00\x00", ""},
		{"\x00", ""}, {"", ""},
	} {
		if got := chosenProtocol([]byte(c.body)); got != c.want {
			t.Errorf("%q: %q, want %q", c.body, got, c.want)
		}
	}
}
