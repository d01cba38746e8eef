package ja4

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/whorl-net/whorl/internal/fuzzguard"
)

// tlsServerHello is a server hello of TLS 1.3, or a retry request.
func tlsServerHello(retry bool) []byte {
	body := helloSpec{
		version: 0x0303, random: 0x22, ciphers: []uint16{0x1301},
		extensions: []extension{{extSupportedVersions, numbers(0x0304)}, {0x0033, make([]byte, 36)}},
	}.serverBody()
	if retry {
		copy(body[2:], retryRandom)
	}
	return message(MessageServerHello, body)
}

// tls12ServerHello is a server hello of TLS 1.2.
func tls12ServerHello() []byte {
	return message(MessageServerHello, helloSpec{version: 0x0303, ciphers: []uint16{0xc02f},
		extensions: []extension{{0xff01, []byte{0}}}}.serverBody())
}

func encrypted(n int) []byte { return bytes.Repeat([]byte{0xa5}, n) }

type tlsCase struct {
	name   string
	bytes  []byte
	want   string // messages, as collector prints them
	status Status
}

func tlsCases() []tlsCase {
	join := func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	hello := message(MessageClientHello, chrome().body(TLS))
	early := chrome()
	early.extensions = append(early.extensions, empty(extEarlyData))
	earlyHello := message(MessageClientHello, early.body(TLS))
	certificate := message(MessageCertificate, make([]byte, 3000))
	done := message(MessageServerHelloDone, nil)
	ccs := record(recordChangeCipherSpec, whole, []byte{1})
	h, eh := len(hello)-4, len(earlyHello)-4
	sh13, hrr, sh12 := tlsServerHello(false), tlsServerHello(true), tls12ServerHello()
	return []tlsCase{
		{"one hello in one record", record(22, whole, hello), fmt.Sprintf("t1/%d", h), StatusMore},
		{"one hello over many records", record(22, 17, hello), fmt.Sprintf("t1/%d", h), StatusMore},
		{"one byte per record", record(22, 1, hello), fmt.Sprintf("t1/%d", h), StatusMore},
		{"an empty record between", join(record(22, whole, hello[:100]), record(22, whole, nil), record(22, whole, hello[100:])),
			fmt.Sprintf("t1/%d", h), StatusMore},
		{"several messages in one record", record(22, whole, join(sh12, certificate, done)),
			fmt.Sprintf("t2/%d t11/3000 t14/0", len(sh12)-4), StatusDone},
		{"the same over records that cut everywhere", record(22, 1001, join(sh12, certificate, done)),
			fmt.Sprintf("t2/%d t11/3000 t14/0", len(sh12)-4), StatusDone},
		{"client with certificate", join(record(22, whole, hello), record(22, whole, join(certificate, message(MessageClientKeyExchange, make([]byte, 66))))),
			fmt.Sprintf("t1/%d t11/3000 t16/66", h), StatusDone},
		{"TLS 1.3 server hello is the last in clear", join(record(22, whole, sh13), ccs, record(23, whole, encrypted(900))),
			fmt.Sprintf("t2/%d", len(sh13)-4), StatusDone},
		{"retry request, then the second server hello after a CCS", join(record(22, whole, hrr), ccs, record(22, whole, sh13)),
			fmt.Sprintf("t2/%d t2/%d", len(hrr)-4, len(sh13)-4), StatusDone},
		{"second client hello after a CCS", join(record(22, whole, hello), ccs, record(22, whole, hello), record(23, whole, encrypted(60))),
			fmt.Sprintf("t1/%d t1/%d", h, h), StatusDone},
		{"second client hello without a CCS", join(record(22, whole, hello), record(22, whole, hello)),
			fmt.Sprintf("t1/%d t1/%d", h, h), StatusMore},
		{"encrypted Finished after a CCS is no message", join(record(22, whole, sh12), ccs, record(22, whole, encrypted(40))),
			fmt.Sprintf("t2/%d", len(sh12)-4), StatusDone},
		{"encrypted record that begins like a hello", join(record(22, whole, sh12), ccs, record(22, whole, append([]byte{1, 0, 0, 36}, encrypted(36)...))),
			fmt.Sprintf("t2/%d", len(sh12)-4), StatusDone},
		{"hello after CCS with bytes behind it", join(record(22, whole, hello), ccs, record(22, whole, append(slices.Clone(hello), 0))),
			fmt.Sprintf("t1/%d", h), StatusDone},
		{"empty record after CCS", join(record(22, whole, hello), ccs, record(22, whole, nil), record(22, whole, hello)),
			fmt.Sprintf("t1/%d t1/%d", h, h), StatusMore},
		{"warning alert goes on", join(record(22, whole, hello), record(21, whole, []byte{1, 112}), record(22, whole, hello)),
			fmt.Sprintf("t1/%d t1/%d", h, h), StatusMore},
		{"fatal alert ends", join(record(22, whole, hello), record(21, whole, []byte{2, 40}), record(22, whole, hello)),
			fmt.Sprintf("t1/%d", h), StatusDone},
		{"encrypted alert ends", join(record(22, whole, sh12), ccs, record(21, whole, encrypted(26))), fmt.Sprintf("t2/%d", len(sh12)-4), StatusDone},
		{"any alert after a CCS ends", join(record(22, whole, hello), ccs, record(21, whole, []byte{1, 0}), record(22, whole, hello)),
			fmt.Sprintf("t1/%d", h), StatusDone},
		{"a message cut by a CCS is given up", join(record(22, whole, hello[:50]), ccs, record(22, whole, hello)), fmt.Sprintf("t1/%d", h), StatusMore},
		{"application data ends", join(record(22, whole, hello), record(23, whole, encrypted(500)), record(22, whole, hello)),
			fmt.Sprintf("t1/%d", h), StatusDone},
		{"early data does not", join(record(22, whole, earlyHello), ccs, record(23, whole, encrypted(500)), record(22, whole, hello)),
			fmt.Sprintf("t1/%d t1/%d", eh, h), StatusMore},
		{"much of it does", join(record(22, whole, earlyHello), ccs, record(23, whole, encrypted(maxEarlyBytes+1)), record(22, whole, hello)),
			fmt.Sprintf("t1/%d", eh), StatusDone},
		{"heartbeat is passed over", join(record(22, whole, hello), record(24, whole, encrypted(30)), record(22, whole, hello)),
			fmt.Sprintf("t1/%d t1/%d", h, h), StatusMore},
		{"begins with application data", record(23, whole, encrypted(40)), "", StatusDone},
		{"begins with a heartbeat", record(24, whole, encrypted(30)), "", StatusInvalid},
		{"HTTP", []byte("GET / HTTP/1.1\r\n\r\n"), "", StatusInvalid},
		{"SSH", []byte("SSH-2.0-x\r\n"), "", StatusInvalid},
		{"wrong major version", []byte{22, 4, 1, 0, 4, 1, 0, 0, 0}, "", StatusInvalid},
		{"record too long", []byte{22, 3, 1, 0xff, 0xff, 1}, "", StatusInvalid},
		{"unknown handshake type", record(22, whole, message(99, make([]byte, 10))), "", StatusInvalid},
		{"unknown handshake type, cut", record(22, whole, []byte{99, 0}), "", StatusInvalid},
		{"bad CCS", join(record(22, whole, hello), record(20, whole, []byte{1, 1})), fmt.Sprintf("t1/%d", h), StatusInvalid},
		{"sync lost", join(record(22, whole, hello), []byte("garbage")), fmt.Sprintf("t1/%d", h), StatusInvalid},
		{"message announced too large", record(22, whole, []byte{11, 1, 0, 0}), "", StatusTooLarge},
		{"many messages, too much together", record(22, whole, bytes.Repeat(certificate, 30)),
			strings.TrimSpace(strings.Repeat("t11/3000 ", 21)), StatusTooLarge},
		{"nothing", nil, "", StatusMore},
	}
}

// What a stream says does not depend on how its bytes are cut.
func TestTLSStream(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range tlsCases() {
		check := func(how string, cut func(rest int) int) {
			t.Helper()
			var s TLSStream
			var got collector
			status := StatusMore
			for p := c.bytes; len(p) > 0; {
				n := min(max(cut(len(p)), 1), len(p))
				status = s.Write(p[:n], got.take)
				p = p[n:]
				if held := s.Held(); held > 2*MaxHandshakeBytes {
					t.Fatalf("%s, %s: holds %d bytes", c.name, how, held)
				}
			}
			if list := strings.Join(got.got, " "); list != c.want || status != c.status {
				t.Errorf("%s, %s: %v after [%s]\nwant %v after [%s]", c.name, how, status, list, c.status, c.want)
			}
			if status != StatusMore && s.Held() != 0 {
				t.Errorf("%s, %s: holds %d bytes after %v", c.name, how, s.Held(), status)
			}
		}
		check("whole", func(n int) int { return n })
		check("bytes", func(int) int { return 1 })
		for range 20 {
			check("random", func(int) int { return 1 + rng.IntN(400) })
		}
	}
}

// Cut in two at every byte, a stream gives the same messages with the same content.
func TestTLSStreamCutAnywhere(t *testing.T) {
	for _, c := range tlsCases() {
		if len(c.bytes) > 5000 {
			continue
		}
		var whole TLSStream
		var want collector
		whole.Write(c.bytes, want.take)
		for cut := range c.bytes {
			var s TLSStream
			var got collector
			s.Write(c.bytes[:cut], got.take)
			s.Write(c.bytes[cut:], got.take)
			if !slices.EqualFunc(got.all, want.all, sameMessage) {
				t.Fatalf("%s cut at %d: %v, want %v", c.name, cut, got.got, want.got)
			}
		}
	}
}

func sameMessage(a, b Message) bool {
	return a.Transport == b.Transport && a.Type == b.Type && bytes.Equal(a.Body, b.Body)
}

// A hello that a segment holds whole costs no memory.
func TestTLSStreamAllocations(t *testing.T) {
	b := record(22, whole, message(MessageClientHello, chrome().body(TLS)))
	emit := func(Message) {}
	if n := testing.AllocsPerRun(100, func() {
		var s TLSStream
		s.Write(b, emit)
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func TestLooksLikeTLS(t *testing.T) {
	for _, c := range []struct {
		bytes string
		want  Guess
	}{
		{"", NeedMore},
		{"\x16", NeedMore},
		{"\x16\x03", NeedMore},
		{"\x16\x03\x01\x02\x00", NeedMore},
		{"\x16\x03\x01\x02\x00\x01", Yes},
		{"\x16\x03\x03\x00\x50\x02rest", Yes},
		{"\x16\x03\x01\x02\x00\x0b", No},
		{"\x16\x03\x01\x00\x00", No},
		{"\x16\x03\x01\x40\x01", No},
		{"\x16\x03\x10", No},
		{"\x16\x02", No},
		{"\x17\x03\x03\x00\x10\x01", No},
		{"\x15", NeedMore},
		{"\x15\x03\x01\x00\x02\x01\x70", NeedMore},
		{"\x15\x03\x01\x00\x02\x01\x70\x16\x03", NeedMore},
		{"\x15\x03\x01\x00\x02\x01\x70\x16\x03\x03\x00\x50\x02", Yes},
		{"\x15\x03\x01\x00\x02\x01\x70\x17\x03\x03\x00\x50\x02", No},
		{"\x15\x03\x01\x00\x02\x02\x28\x16\x03\x03\x00\x50\x02", No}, // fatal
		{"\x15\x03\x01\x00\x1a", No},                                 // encrypted
		{"\x15\x02", No},
		{"GET /", No},
		{"\x05\x01\x00", No},
	} {
		if got := LooksLikeTLS([]byte(c.bytes)); got != c.want {
			t.Errorf("LooksLikeTLS(%q) = %d, want %d", c.bytes, got, c.want)
		}
	}
}

func BenchmarkTLSStream(b *testing.B) {
	hello := record(22, whole, message(MessageClientHello, chrome().body(TLS)))
	for _, size := range []int{len(hello), 300} {
		b.Run(fmt.Sprintf("pieces=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			emit := func(Message) {}
			for b.Loop() {
				var s TLSStream
				for p := range slices.Chunk(hello, size) {
					s.Write(p, emit)
				}
			}
		})
	}
}

func FuzzTLSStream(f *testing.F) {
	for _, c := range tlsCases() {
		if len(c.bytes) < 8000 {
			f.Add(c.bytes, uint16(100))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		fuzzguard.Watch(t)
		var one, two TLSStream
		var want, got collector
		first := one.Write(b, want.take)
		at := min(int(cut), len(b))
		two.Write(b[:at], got.take)
		second := two.Write(b[at:], got.take)
		if first != second || !slices.EqualFunc(got.all, want.all, sameMessage) {
			t.Fatalf("cut at %d: %v %v\nwhole: %v %v", at, second, got.got, first, want.got)
		}
	})
}
