package ja4

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/whorl-net/whorl/internal/fuzzguard"
)

// fragment is a handshake fragment of bytes [from, to) of body.
func fragment(kind MessageType, number uint16, body []byte, from, to int) []byte {
	put24 := func(b []byte, v int) []byte { return append(b, byte(v>>16), byte(v>>8), byte(v)) }
	b := put24([]byte{byte(kind)}, len(body))
	b = binary.BigEndian.AppendUint16(b, number)
	b = put24(put24(b, from), to-from)
	return append(b, body[from:to]...)
}

func dtlsRecordOf(kind byte, version, epoch uint16, payload []byte) []byte {
	b := binary.BigEndian.AppendUint16([]byte{kind}, version)
	b = binary.BigEndian.AppendUint16(b, epoch)
	return append16(append(b, 0, 0, 0, 0, 0, 7), payload)
}

// dtlsHandshake is a record of version 1.2 that holds the whole message.
func dtlsHandshake(kind MessageType, number uint16, body []byte) []byte {
	return dtlsRecordOf(recordHandshake, 0xfefd, 0, fragment(kind, number, body, 0, len(body)))
}

func dtlsHello(cookie string) []byte {
	return helloSpec{version: 0xfefd, random: 0x33, cookie: []byte(cookie), ciphers: []uint16{0xc02b, 0x00ff},
		extensions: []extension{serverName("whorl.test"), empty(0x000a), algorithms(0x0403)}}.body(DTLS)
}

const dtlsHelloRaw = "dd2d020300_00ff,c02b_000a,000d_0403"

func TestDTLSStream(t *testing.T) {
	join := func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	first, second := dtlsHello(""), dtlsHello("cookie of the server")
	f, s := fmt.Sprintf("d1/%d", len(first)), fmt.Sprintf("d1/%d", len(second))
	certificate := make([]byte, 3000)
	for i := range certificate {
		certificate[i] = byte(i)
	}
	piece := func(from, to int) []byte {
		return dtlsRecordOf(recordHandshake, 0xfefd, 0, fragment(MessageCertificate, 2, certificate, from, to))
	}
	sh := tlsServerHello(false)[4:]
	for _, c := range []struct {
		name      string
		datagrams [][]byte
		want      string
		status    Status
	}{
		{"hello", [][]byte{dtlsHandshake(1, 0, first)}, f, StatusMore},
		{"hello sent twice", [][]byte{dtlsHandshake(1, 0, first), dtlsHandshake(1, 0, first)}, f, StatusMore},
		{"hello with and without cookie", [][]byte{dtlsHandshake(1, 0, first), dtlsHandshake(1, 1, second)}, f + " " + s, StatusMore},
		{"the number may stay 0", [][]byte{dtlsHandshake(1, 0, first), dtlsHandshake(1, 0, second)}, f + " " + s, StatusMore},
		{"HelloVerifyRequest, then the flight of the server", [][]byte{
			dtlsHandshake(3, 0, []byte{0xfe, 0xff, 2, 1, 2}),
			join(dtlsHandshake(2, 1, sh), piece(0, 1000)), piece(1000, 2000), join(piece(2000, 3000), dtlsHandshake(14, 3, nil))},
			fmt.Sprintf("d3/5 d2/%d d11/3000 d14/0", len(sh)), StatusMore},
		{"fragments in any order, overlapping", [][]byte{piece(1500, 3000), piece(0, 900), piece(500, 1600)}, "d11/3000", StatusMore},
		{"two messages interleaved", [][]byte{piece(0, 1500),
			dtlsRecordOf(22, 0xfefd, 0, fragment(1, 0, first, 0, 20)), piece(1500, 3000),
			dtlsRecordOf(22, 0xfefd, 0, fragment(1, 0, first, 20, len(first)))}, "d11/3000 " + f, StatusMore},
		{"several fragments in one record", [][]byte{dtlsRecordOf(22, 0xfefd, 0,
			join(fragment(2, 1, sh, 0, len(sh)), fragment(14, 3, nil, 0, 0)))}, fmt.Sprintf("d2/%d d14/0", len(sh)), StatusMore},
		{"a lost message holds up none", [][]byte{dtlsHandshake(1, 7, first)}, f, StatusMore},
		{"five unfinished messages: the oldest is given up", [][]byte{
			dtlsRecordOf(22, 0xfefd, 0, fragment(1, 0, first, 0, 20)), dtlsRecordOf(22, 0xfefd, 0, fragment(1, 1, first, 0, 20)),
			dtlsRecordOf(22, 0xfefd, 0, fragment(1, 2, first, 0, 20)), dtlsRecordOf(22, 0xfefd, 0, fragment(1, 3, first, 0, 20)),
			dtlsRecordOf(22, 0xfefd, 0, fragment(1, 4, first, 0, 20)),
			dtlsRecordOf(22, 0xfefd, 0, fragment(1, 0, first, 20, len(first))), dtlsRecordOf(22, 0xfefd, 0, fragment(1, 4, first, 20, len(first)))},
			f, StatusMore},
		{"change of cipher spec is passed over, epoch 1 ends", [][]byte{join(dtlsHandshake(1, 0, first), dtlsRecordOf(20, 0xfefd, 0, []byte{1}),
			dtlsRecordOf(22, 0xfefd, 1, encrypted(60)), dtlsHandshake(1, 1, second))}, f, StatusDone},
		{"unified header of DTLS 1.3 ends", [][]byte{dtlsHandshake(1, 0, first), append([]byte{0x2f, 1, 0, 30}, encrypted(30)...)}, f, StatusDone},
		{"application data ends", [][]byte{dtlsHandshake(1, 0, first), dtlsRecordOf(23, 0xfefd, 0, encrypted(9))}, f, StatusDone},
		{"alert is passed over", [][]byte{dtlsRecordOf(21, 0xfefd, 0, []byte{1, 0}), dtlsHandshake(1, 0, first)}, f, StatusMore},
		{"foreign datagram between", [][]byte{dtlsHandshake(1, 0, first), []byte("STUN?"), dtlsHandshake(1, 1, second)}, f + " " + s, StatusMore},
		{"not DTLS", [][]byte{[]byte("hello, world, this is text")}, "", StatusInvalid},
		{"TLS", [][]byte{record(22, whole, message(1, first))}, "", StatusInvalid},
		{"record cut short", [][]byte{dtlsHandshake(1, 0, first)[:40]}, "", StatusInvalid},
		{"fragment beyond its message", [][]byte{dtlsRecordOf(22, 0xfefd, 0, []byte{1, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 2, 0, 0})}, "", StatusMore},
		{"message too large", [][]byte{dtlsRecordOf(22, 0xfefd, 0, []byte{11, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0})}, "", StatusTooLarge},
	} {
		var stream DTLSStream
		var got collector
		var status Status
		for _, p := range c.datagrams {
			status = stream.Datagram(p, got.take)
			if held := stream.Held(); held > 2*MaxHandshakeBytes {
				t.Fatalf("%s: holds %d bytes", c.name, held)
			}
		}
		if list := strings.Join(got.got, " "); list != c.want || status != c.status {
			t.Errorf("%s: %v after [%s], want %v after [%s]", c.name, status, list, c.status, c.want)
		}
		for _, m := range got.all {
			if m.Type == MessageCertificate && !bytes.Equal(m.Body, certificate) {
				t.Errorf("%s: the certificate is not what was sent", c.name)
			}
		}
	}
}

// Cut in fragments of any size, sent in any order, a hello gives its JA4.
func TestDTLSClientHello(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	body := dtlsHello("cookie")
	for range 50 {
		var datagrams [][]byte
		for at := 0; at < len(body); {
			n := min(1+rng.IntN(60), len(body)-at)
			datagrams = append(datagrams, dtlsRecordOf(recordHandshake, 0xfeff, 0, fragment(1, 1, body, at, at+n)))
			at += n
		}
		rng.Shuffle(len(datagrams), func(i, j int) { datagrams[i], datagrams[j] = datagrams[j], datagrams[i] })
		e, err := DTLSClientHello(datagrams...)
		if err != nil || e.Raw != dtlsHelloRaw || e.ServerName != "whorl.test" {
			t.Fatalf("%d fragments: %v, %v; want raw %s", len(datagrams), e, err, dtlsHelloRaw)
		}
	}
	if _, err := DTLSClientHello([]byte("no")); !errors.Is(err, ErrNoHello) {
		t.Errorf("error %v, want ErrNoHello", err)
	}
}

// Unfinished messages that together are too much end the stream.
func TestDTLSStreamBounds(t *testing.T) {
	var s DTLSStream
	body := make([]byte, 60000)
	status := StatusMore
	for number := range uint16(3) {
		for at := 0; at+12000 < len(body) && status == StatusMore; at += 12000 {
			status = s.Datagram(dtlsRecordOf(22, 0xfefd, 0, fragment(11, number, body, at, at+12000)), func(Message) {})
		}
	}
	if status != StatusTooLarge || s.Held() != 0 {
		t.Errorf("%v, holds %d bytes; want too-large and 0", status, s.Held())
	}
	// So do messages without end.
	s = DTLSStream{}
	status = StatusMore
	for i := 0; status == StatusMore && i < 1000; i++ {
		status = s.Datagram(dtlsHandshake(11, uint16(i), body[:5000]), func(Message) {})
	}
	if status != StatusTooLarge {
		t.Errorf("%v after 5 MB of handshake", status)
	}
}

func TestLooksLikeDTLS(t *testing.T) {
	hello := dtlsHello("")
	for _, c := range []struct {
		name string
		p    []byte
		want bool
	}{
		{"hello", dtlsHandshake(1, 0, hello), true},
		{"fragment of a hello", dtlsRecordOf(22, 0xfeff, 0, fragment(1, 0, hello, 10, 20)), true},
		{"server hello", dtlsHandshake(2, 1, hello), true},
		{"HelloVerifyRequest", dtlsHandshake(3, 0, hello), true},
		{"certificate", dtlsHandshake(11, 0, hello), false},
		{"epoch 1", dtlsRecordOf(22, 0xfefd, 1, fragment(1, 0, hello, 0, 5)), false},
		{"unknown version", dtlsRecordOf(22, 0xfe00, 0, fragment(1, 0, hello, 0, 5)), false},
		{"alert", dtlsRecordOf(21, 0xfefd, 0, []byte{2, 40}), false},
		{"empty", nil, false},
		{"cut short", dtlsHandshake(1, 0, hello)[:50], false},
	} {
		if got := LooksLikeDTLS(c.p); got != c.want {
			t.Errorf("%s: %t, want %t", c.name, got, c.want)
		}
	}
}

func FuzzDTLSStream(f *testing.F) {
	f.Add(dtlsHandshake(1, 0, dtlsHello("")), dtlsRecordOf(22, 0xfefd, 0, fragment(1, 1, dtlsHello("c"), 0, 30)))
	f.Add(dtlsRecordOf(22, 0xfefd, 0, fragment(1, 1, dtlsHello("c"), 30, 60)), []byte{0x2f})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		fuzzguard.Watch(t)
		var s DTLSStream
		for _, p := range [][]byte{a, b, a, b} {
			s.Datagram(p, func(m Message) { ClientHello(DTLS, m.Body) })
			if held := s.Held(); held > 2*MaxHandshakeBytes {
				t.Fatalf("holds %d bytes", held)
			}
		}
		LooksLikeDTLS(a)
	})
}
