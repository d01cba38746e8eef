package ja4plus

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/whorl-net/whorl/internal/fuzzguard"
	"github.com/whorl-net/whorl/ja4"
)

// tlsExtension is one extension of a hand-built server hello.
type tlsExtension struct {
	kind uint16
	body []byte
}

func serverHelloBody(version, cipher uint16, list ...tlsExtension) []byte {
	b := binary.BigEndian.AppendUint16(nil, version)
	b = append(b, make([]byte, 32)...)
	b = append(b, 3, 's', 'i', 'd')
	b = binary.BigEndian.AppendUint16(b, cipher)
	b = append(b, 0)
	var block []byte
	for _, e := range list {
		block = binary.BigEndian.AppendUint16(block, e.kind)
		block = binary.BigEndian.AppendUint16(block, uint16(len(e.body)))
		block = append(block, e.body...)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(block)))
	return append(b, block...)
}

// Values whose hash is known: those of section lists that FoxIO publishes.
func TestServerHello(t *testing.T) {
	none := func(kinds ...uint16) (list []tlsExtension) {
		for _, k := range kinds {
			list = append(list, tlsExtension{kind: k})
		}
		return list
	}
	v13 := tlsExtension{0x002b, []byte{3, 4}}
	alpn := func(name string) tlsExtension {
		return tlsExtension{0x0010, append([]byte{0, byte(len(name) + 1), byte(len(name))}, name...)}
	}
	var many []tlsExtension
	for i := range 120 {
		many = append(many, tlsExtension{kind: 0x4000 + uint16(i)})
	}
	for _, c := range []struct {
		name       string
		transport  ja4.Transport
		body       []byte
		value, raw string // an empty value: only raw is compared
	}{
		{"TLS 1.2", ja4.TLS, serverHelloBody(0x0303, 0xc02b, append(none(0x0000, 0xff01, 0x000b, 0x0023), alpn("http/1.1"))...),
			"t1205h1_c02b_845f7282a956", "t1205h1_c02b_0000,ff01,000b,0023,0010"},
		{"TLS 1.3", ja4.TLS, serverHelloBody(0x0303, 0x1301, tlsExtension{0x0033, make([]byte, 36)}, v13),
			"t130200_1301_234ea6891581", "t130200_1301_0033,002b"},
		{"QUIC, wire order kept", ja4.QUIC, serverHelloBody(0x0303, 0x1301, v13, tlsExtension{0x0033, nil}),
			"q130200_1301_a56c5b993250", "q130200_1301_002b,0033"},
		{"DTLS", ja4.DTLS, serverHelloBody(0xfefd, 0xc02b), "dd20000_c02b_000000000000", "dd20000_c02b_"},
		{"DTLS 1.3", ja4.DTLS, serverHelloBody(0xfefd, 0x1301, tlsExtension{0x002b, []byte{0xfe, 0xfc}}), "", "dd30100_1301_002b"},
		{"SSL 3.0 without extensions", ja4.TLS, serverHelloBody(0x0300, 0x0005)[:2+32+4+3], "ts30000_0005_000000000000", "ts30000_0005_"},
		{"GREASE is dropped", ja4.TLS, serverHelloBody(0x0303, 0x1301, append(none(0x2a2a, 0x0017, 0xfafa), v13)...), "", "t130200_1301_0017,002b"},
		{"repeated extensions are listed", ja4.TLS, serverHelloBody(0x0303, 1, none(0x0017, 0x0017)...), "", "t120200_0001_0017,0017"},
		{"ALPN that is no text", ja4.TLS, serverHelloBody(0x0303, 1, alpn("\xab\xcd")), "", "t1201ad_0001_0010"},
		{"short versions extension", ja4.TLS, serverHelloBody(0x0303, 1, tlsExtension{0x002b, []byte{3}}), "", "t120100_0001_002b"},
		{"cut in the second extension", ja4.TLS, serverHelloBody(0x0303, 1, none(0x0017, 0x0023)...)[:2+32+4+3+2+6], "", "t120100_0001_0017"},
	} {
		e, err := ServerHello(c.transport, c.body)
		if err != nil || e.Type != ja4.TypeJA4S || e.Raw != c.raw || c.value != "" && e.Value != c.value {
			t.Errorf("%s: %v, %v\nwant %s, raw %s", c.name, e, err, c.value, c.raw)
		}
		if _, err := ja4.Parse(ja4.TypeJA4S, e.Value); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if e, err := ServerHello(ja4.TLS, serverHelloBody(0x0303, 1, many...)); err != nil || e.Value[:7] != "t129900" {
		t.Errorf("120 extensions: %v, %v; want a count of 99", e, err)
	}
	if _, err := ServerHello('x', serverHelloBody(0x0303, 1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("transport x: %v, want ErrMalformed", err)
	}
}

// A server hello cut before its extensions is an error, later it is not; no
// cut panics.
func TestCutServerHello(t *testing.T) {
	body := serverHelloBody(0x0303, 1, tlsExtension{0x0017, []byte("abc")}, tlsExtension{0x0010, []byte{0, 3, 2, 'h', '2'}})
	fixed := 2 + 32 + 4 + 3
	for cut := range len(body) {
		_, err := ServerHello(ja4.TLS, body[:cut])
		if (err != nil) != (cut < fixed) || err != nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
}

// A server hello costs the two strings of its event.
func TestServerHelloAllocations(t *testing.T) {
	body := serverHelloBody(0x0303, 0x1301, tlsExtension{0x0033, make([]byte, 36)}, tlsExtension{0x002b, []byte{3, 4}})
	if n := testing.AllocsPerRun(100, func() { ServerHello(ja4.TLS, body) }); n != 2 {
		t.Errorf("%v allocations, want 2", n)
	}
}

func BenchmarkServerHello(b *testing.B) {
	body := serverHelloBody(0x0303, 0x1301, tlsExtension{0x0033, make([]byte, 36)}, tlsExtension{0x002b, []byte{3, 4}})
	b.ReportAllocs()
	for b.Loop() {
		ServerHello(ja4.TLS, body)
	}
}

func FuzzServerHello(f *testing.F) {
	f.Add(byte('t'), serverHelloBody(0x0303, 0x1301, tlsExtension{0x0033, make([]byte, 36)}, tlsExtension{0x002b, []byte{3, 4}}))
	f.Add(byte('d'), serverHelloBody(0xfefd, 0x1301))
	f.Fuzz(func(t *testing.T, tr byte, body []byte) {
		fuzzguard.Watch(t)
		e, err := ServerHello(ja4.Transport(tr), body)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if _, err := ja4.Parse(ja4.TypeJA4S, e.Value); err != nil {
			t.Fatal(err)
		}
	})
}
