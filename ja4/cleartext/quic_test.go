package cleartext

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/quic"

	"github.com/whorl-net/whorl/internal/fuzzguard"
	"github.com/whorl-net/whorl/ja4"
)

// relay passes datagrams between a client and a server on the loopback and
// keeps them.
type relay struct {
	net.PacketConn
	server net.Addr
	wire   tape
	done   chan struct{}
}

func newRelay(t testing.TB, server net.Addr) *relay {
	t.Helper()
	front, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{PacketConn: front, server: server, done: make(chan struct{})}
	go r.run()
	t.Cleanup(func() {
		front.Close()
		<-r.done
	})
	return r
}

func (r *relay) run() {
	defer close(r.done)
	var client net.Addr
	buf := make([]byte, 1<<16)
	for {
		n, from, err := r.ReadFrom(buf)
		if err != nil {
			return
		}
		side, to := uint8(1), client
		if from.String() != r.server.String() {
			side, to, client = 0, r.server, from
		}
		r.wire.mu.Lock()
		r.wire.segments = append(r.wire.segments, segment{side, bytes.Clone(buf[:n])})
		r.wire.mu.Unlock()
		if to != nil {
			r.WriteTo(buf[:n], to)
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// converseQUIC runs a connection with a question and a long answer on one
// stream, and returns what was on the wire and the key log of the client.
func converseQUIC(t testing.TB, retry bool, reply []byte) ([]segment, *KeyLog) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var log lockedBuffer
	server, err := quic.Listen("udp", "127.0.0.1:0", &quic.Config{
		TLSConfig:                &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{testCertificate(t)}},
		RequireAddressValidation: retry,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close(ctx)
	done := make(chan error, 1)
	go func() {
		conn, err := server.Accept(ctx)
		if err != nil {
			done <- err
			return
		}
		s, err := conn.AcceptStream(ctx)
		if err != nil {
			done <- err
			return
		}
		if _, err := io.ReadAll(s); err != nil {
			done <- err
			return
		}
		s.Write(reply)
		done <- s.Close()
	}()
	r := newRelay(t, net.UDPAddrFromAddrPort(server.LocalAddr()))
	client, err := quic.Listen("udp", "127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close(ctx)
	conn, err := client.Dial(ctx, "udp", r.LocalAddr().String(), &quic.Config{
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, ServerName: "whorl.test", KeyLogWriter: &log},
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := conn.NewStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s.Write([]byte(question))
	s.CloseWrite()
	got, err := io.ReadAll(s)
	if err != nil || !bytes.Equal(got, reply) {
		t.Fatalf("%d bytes of answer, %v", len(got), err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	conn.Close()
	keys := NewKeyLog(0)
	log.mu.Lock()
	defer log.mu.Unlock()
	keys.Add(log.b.Bytes())
	r.wire.mu.Lock()
	defer r.wire.mu.Unlock()
	return slices.Clone(r.wire.segments), keys
}

// A real connection, with and without a Retry, is heard whole: as sent, with
// datagrams repeated, and with neighbours in the wrong order.
func TestRealQUIC(t *testing.T) {
	reply := bytes.Repeat([]byte("a long answer, "), 4000)
	for _, retry := range []bool{false, true} {
		segments, keys := converseQUIC(t, retry, reply)
		rng := rand.New(rand.NewPCG(7, 8))
		check := func(how string, sent []segment) {
			t.Helper()
			var h heard
			conn := NewQUIC(keys)
			sink := h.sink()
			for _, s := range sent {
				before := bytes.Clone(s.p)
				if status := conn.Datagram(s.side, s.p, sink); status != ja4.StatusMore {
					t.Fatalf("%s: %v, %v", how, status, conn.Err())
				}
				if !bytes.Equal(before, s.p) {
					t.Fatalf("%s: a datagram was changed", how)
				}
			}
			if got := h.list(0); got != "1 20" {
				t.Errorf("%s: the client said %s", how, got)
			}
			if got := h.list(1); got != "2 8 11 15 20" {
				t.Errorf("%s: the server said %s", how, got)
			}
			for key, want := range map[streamID][]byte{{0, 0}: []byte(question), {1, 0}: reply} {
				got := h.streams[key]
				if got == nil || !bytes.Equal(got.Bytes(), want) {
					t.Errorf("%s: side %d stream %d is not what was sent", how, key.side, key.id)
				}
			}
			if h.ends != 2 {
				t.Errorf("%s: %d streams ended, want 2", how, h.ends)
			}
			if conn.Held() > 64<<10 {
				t.Errorf("%s: holds %d bytes at the end", how, conn.Held())
			}
			if n := conn.Unopened(); n != 0 && how == "as sent" {
				t.Errorf("%s: %d packets not opened", how, n)
			}
		}
		check("as sent", segments)
		var twice []segment
		for _, s := range segments {
			twice = append(twice, s, s)
		}
		check("twice", twice)
		swapped := slices.Clone(segments)
		for i := 4; i+1 < len(swapped); i += 2 {
			if rng.IntN(2) == 0 {
				swapped[i], swapped[i+1] = swapped[i+1], swapped[i]
			}
		}
		check("swapped", swapped)
	}
}

// Without secrets a connection shows its hellos and says why no more.
func TestQUICWithoutSecrets(t *testing.T) {
	segments, _ := converseQUIC(t, false, []byte(answer))
	var h heard
	conn := NewQUIC(NewKeyLog(0))
	sink := h.sink()
	var status ja4.Status
	for _, s := range segments {
		status = conn.Datagram(s.side, s.p, sink)
	}
	if got := h.list(0) + " " + h.list(1); got != "1 2" || !errors.Is(conn.Err(), ErrNoSecrets) || status != ja4.StatusDone {
		t.Errorf("%s, %v, %v", got, status, conn.Err())
	}
	if conn := NewQUIC(NewKeyLog(0)); conn.Datagram(0, []byte("text"), sink) != ja4.StatusInvalid {
		t.Error("text is taken for QUIC")
	}
}

// Packets of the next key phase open with updated keys, late ones of the last
// phase with the old.
func TestKeyUpdate(t *testing.T) {
	for _, id := range []uint16{0x1301, 0x1303} {
		s, _ := suiteOf(id)
		secret := bytes.Repeat([]byte{7}, s.hash().Size())
		reader, writer := newTrafficKeys(s, 1, secret), newTrafficKeys(s, 1, secret)
		late := sealShort(writer, 3, "late")
		for _, p := range [][]byte{sealShort(writer, 1, "one"), sealShort(writer, 2, "two")} {
			if got := openShort(reader, p); got == "" {
				t.Fatalf("suite %04x: not opened", id)
			}
		}
		for phase := range 3 {
			writer.secret, writer.current = writer.nextSecret(), writer.update()
			writer.phase ^= keyPhase
			if got := openShort(reader, sealShort(writer, uint32(10+phase), "new")); got != "new" {
				t.Fatalf("suite %04x, update %d: %q", id, phase+1, got)
			}
			if phase == 0 {
				if got := openShort(reader, late); got != "late" {
					t.Errorf("suite %04x: late packet %q", id, got)
				}
			}
		}
		// The upper bytes of a number are implied, over an update too.
		openShort(reader, sealShort(writer, 0x1230, "far ahead"))
		writer.secret, writer.current = writer.nextSecret(), writer.update()
		writer.phase ^= keyPhase
		if got := openShort(reader, sealNumbered(writer, 0x1234, 1, "short number")); got != "short number" {
			t.Errorf("suite %04x: short number after an update: %q", id, got)
		}
		damaged := sealShort(writer, 0x1235, "damaged")
		damaged[len(damaged)-1] ^= 1
		if got := openShort(reader, damaged); got != "" {
			t.Errorf("suite %04x: a damaged packet opened: %q", id, got)
		}
		if got := openShort(reader, sealShort(writer, 0x1236, "after it")); got != "after it" {
			t.Errorf("suite %04x: after a damaged packet: %q", id, got)
		}
	}
}

// openedQUIC is a connection whose hellos are done and whose secrets are all the
// same; side 0 is the client, and the server's connection ids have four bytes.
func openedQUIC() (c *QUIC, keys *trafficKeys) {
	s, _ := suiteOf(0x1301)
	secret := bytes.Repeat([]byte{7}, 32)
	c = NewQUIC(NewKeyLog(0))
	c.hello = helloState{known: true, answered: true, supported: true, suite: s, version: versionTLS13}
	c.looked = true
	for l := range labels {
		c.secrets.length[l] = uint8(copy(c.secrets.bytes[l][:], secret))
	}
	c.idLen[1] = 4
	return c, newTrafficKeys(s, 1, secret)
}

// What comes before the server's hello waits for it, up to a bound.
func TestQUICWaits(t *testing.T) {
	c, keys := openedQUIC()
	c.hello.answered = false
	var h heard
	sink := h.sink()
	for i := range uint32(maxWaiting + 4) {
		c.packets(0, sealShort(keys, i, "\x0c\x00"+string([]byte{byte(i)})+"x"), sink)
	}
	if len(c.waiting) != maxWaiting || c.Unopened() != 4 || len(h.streams) != 0 {
		t.Errorf("%d datagrams wait, %d are lost; want %d and 4", len(c.waiting), c.Unopened(), maxWaiting)
	}
	c.hello.answered = true
	c.Datagram(1, otherPackets, sink)
	if got := h.streams[streamID{0, 0}]; got == nil || got.Len() != maxWaiting || c.Held() > 8<<10 {
		t.Errorf("stream %v, holds %d bytes", got, c.Held())
	}
}

// otherPackets is a datagram with a packet that nobody can open.
var otherPackets = append([]byte("\xe0\x00\x00\x00\x01\x04dcid\x04scid\x40\x28"), make([]byte, 40)...)

// The early data of a client is heard.
func TestQUICEarlyData(t *testing.T) {
	c, keys := openedQUIC()
	header := []byte("\xd3\x00\x00\x00\x01\x04dcid\x00\x40\x1e\x00\x00\x00\x05")
	numberAt := len(header) - 4
	nonce := keys.current.IV
	nonce[11] ^= 5
	p := keys.current.AEAD.Seal(bytes.Clone(header), nonce[:], []byte("\x0b\x00\x05early..."[:8]+"\x00\x00"), header)
	mask := keys.current.Mask(p[numberAt+4:][:16])
	p[0] ^= mask[0] & 0x0f
	for i := range 4 {
		p[numberAt+i] ^= mask[1+i]
	}
	var h heard
	c.packets(0, p, h.sink())
	if got := h.streams[streamID{0, 0}]; got == nil || got.String() != "early" || h.ends != 1 {
		t.Errorf("stream %v, %d packets not opened", got, c.Unopened())
	}
	c.packets(1, p, Sink{})
	if c.Unopened() != 1 {
		t.Error("a server sent early data")
	}
}

// Another connection between the same ends is heard too.
func TestQUICAgain(t *testing.T) {
	first, keys := converseQUIC(t, false, []byte(answer))
	second, more := converseQUIC(t, false, []byte(answer))
	for r, s := range more.byRandom {
		keys.byRandom[r] = s
	}
	var h heard
	sink := h.sink()
	c := NewQUIC(keys)
	for _, s := range slices.Concat(first, second) {
		c.Datagram(s.side, s.p, sink)
	}
	if got := h.list(0) + ", " + h.list(1); got != "1 20 1 20, 2 8 11 15 20 2 8 11 15 20" || h.streams[streamID{1, 0}].String() != answer+answer {
		t.Errorf("%s; %q", got, h.streams[streamID{1, 0}])
	}
}

// FuzzQUIC gives packets to a connection whose hellos are done.
func FuzzQUIC(f *testing.F) {
	_, keys := openedQUIC()
	f.Add(sealShort(keys, 1, "\x0a\x00\x05hello\x00"), sealShort(keys, 2, "\x0f\x00\x05\x02hi"))
	f.Add([]byte("\xe0\x00\x00\x00\x01\x04dcid\x00\x05hello"), []byte{0x40})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		fuzzguard.Watch(t)
		c, _ := openedQUIC()
		var h heard
		sink := h.sink()
		for _, p := range [][]byte{a, b, a} {
			c.packets(0, p, sink)
			c.Datagram(1, p, sink)
		}
		if c.Held() > 4<<20 {
			t.Fatalf("holds %d bytes", c.Held())
		}
	})
}
