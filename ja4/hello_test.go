package ja4

import (
	"errors"
	"strings"
	"testing"

	"github.com/whorl-net/whorl/internal/fuzzguard"
)

func mustHello(t testing.TB, tr Transport, body []byte) Hello {
	t.Helper()
	h, err := ClientHello(tr, body)
	if err != nil {
		t.Fatalf("ClientHello(%x): %v", body, err)
	}
	return h
}

// The four forms of one hello agree with what FoxIO publishes for it, and
// Event says the same as the single methods.
func TestForms(t *testing.T) {
	h := mustHello(t, TLS, chrome().body(TLS))
	for _, c := range []struct{ name, got, want string }{
		{"Value", h.Value(), chromeValue},
		{"Raw", h.Raw(), chromeRaw},
		{"ValueOriginal", h.ValueOriginal(), chromeOriginal},
		{"RawOriginal", h.RawOriginal(), chromeRawOriginal},
		{"ServerName", h.ServerName(), "example.com"},
	} {
		if c.got != c.want {
			t.Errorf("%s = %q\nwant %q", c.name, c.got, c.want)
		}
	}
	if got, want := h.Event(), (Event{TypeJA4, chromeValue, chromeRaw, "example.com"}); got != want {
		t.Errorf("Event = %v, want %v", got, want)
	}
	if got, want := h.EventOriginal(), (Event{TypeJA4O, chromeOriginal, chromeRawOriginal, "example.com"}); got != want {
		t.Errorf("EventOriginal = %v, want %v", got, want)
	}
}

// The first character is the transport, whatever the extensions say.
func TestTransportComesFromFraming(t *testing.T) {
	for _, tr := range []Transport{TLS, QUIC, DTLS} {
		spec := chrome()
		spec.extensions = append(spec.extensions, empty(0x0039)) // quic_transport_parameters
		h := mustHello(t, tr, spec.body(tr))
		if got := h.Value(); got[0] != byte(tr) {
			t.Errorf("transport %c: %s", tr, got)
		}
	}
	if _, err := ClientHello('x', chrome().body(TLS)); !errors.Is(err, ErrMalformed) {
		t.Errorf("transport x: %v, want ErrMalformed", err)
	}
}

// Part a, one rule at a time.
func TestPrefix(t *testing.T) {
	list := func(n int, first uint16) (l []uint16) {
		for i := range n {
			l = append(l, first+uint16(i))
		}
		return l
	}
	exts := func(n int) (l []extension) {
		for i := range n {
			l = append(l, empty(0x4000+uint16(i)))
		}
		return l
	}
	ciphers := []uint16{0x1301}
	for _, c := range []struct {
		name      string
		transport Transport
		spec      helloSpec
		want      string
	}{
		{"nothing but a cipher", TLS, helloSpec{version: 0x0303, ciphers: ciphers}, "t12i010000"},
		{"no block of extensions", TLS, helloSpec{version: 0x0301, ciphers: ciphers, noBlock: true}, "t10i010000"},
		{"no cipher", TLS, helloSpec{version: 0x0302}, "t11i000000"},
		{"SSL 3.0", TLS, helloSpec{version: 0x0300, ciphers: ciphers}, "ts3i010000"},
		{"SSL 2.0", TLS, helloSpec{version: 0x0002, ciphers: ciphers}, "ts2i010000"},
		{"unknown legacy version", TLS, helloSpec{version: 0x0505, ciphers: ciphers}, "t00i010000"},
		{"legacy TLS 1.3", TLS, helloSpec{version: 0x0304, ciphers: ciphers}, "t13i010000"},
		{"highest version, any order", TLS, helloSpec{version: 0x0303, ciphers: ciphers,
			extensions: []extension{versions(0x0302, 0x0304, 0x0303)}}, "t13i010100"},
		{"the extension may be lower than the legacy version", TLS, helloSpec{version: 0x0303, ciphers: ciphers,
			extensions: []extension{versions(0x0301)}}, "t10i010100"},
		{"GREASE version ignored", TLS, helloSpec{version: 0x0303, ciphers: ciphers,
			extensions: []extension{versions(0xfafa, 0x0303)}}, "t12i010100"},
		{"only GREASE versions: legacy", TLS, helloSpec{version: 0x0302, ciphers: ciphers,
			extensions: []extension{versions(0x0a0a, 0xfafa)}}, "t11i010100"},
		{"no versions: legacy", TLS, helloSpec{version: 0x0302, ciphers: ciphers,
			extensions: []extension{versions()}}, "t11i010100"},
		{"empty versions extension: legacy", TLS, helloSpec{version: 0x0302, ciphers: ciphers,
			extensions: []extension{empty(extSupportedVersions)}}, "t11i010100"},
		{"unknown highest version (a draft)", TLS, helloSpec{version: 0x0303, ciphers: ciphers,
			extensions: []extension{versions(0x7f1c, 0x0303)}}, "t00i010100"},
		{"odd versions length: the pairs", TLS, helloSpec{version: 0x0303, ciphers: ciphers,
			extensions: []extension{{extSupportedVersions, []byte{3, 3, 4, 9}}}}, "t13i010100"},
		{"versions length beyond the extension", TLS, helloSpec{version: 0x0303, ciphers: ciphers,
			extensions: []extension{{extSupportedVersions, []byte{200, 3, 4}}}}, "t13i010100"},
		{"DTLS 1.0", DTLS, helloSpec{version: 0xfeff, ciphers: ciphers}, "dd1i010000"},
		{"DTLS 1.2 with a cookie", DTLS, helloSpec{version: 0xfefd, ciphers: ciphers, cookie: []byte("cookie")}, "dd2i010000"},
		{"DTLS newest is smallest", DTLS, helloSpec{version: 0xfefd, ciphers: ciphers,
			extensions: []extension{versions(0xfefd, 0xfefc, 0xfeff)}}, "dd3i010100"},
		{"DTLS ignores what is no DTLS version", DTLS, helloSpec{version: 0xfefd, ciphers: ciphers,
			extensions: []extension{versions(0x0304, 0xfeff)}}, "dd1i010100"},
		{"DTLS with nothing usable: legacy", DTLS, helloSpec{version: 0xfefd, ciphers: ciphers,
			extensions: []extension{versions(0x0304)}}, "dd2i010100"},
		{"DTLS ignores versions newer than it knows", DTLS, helloSpec{version: 0xfefd, ciphers: ciphers,
			extensions: []extension{versions(0xfefb, 0xfefd)}}, "dd2i010100"},
		{"of repeated extensions the first counts", TLS, helloSpec{version: 0x0303, ciphers: ciphers,
			extensions: []extension{versions(0x0301), versions(0x0304), alpn("h2"), alpn("h3")}}, "t10i0104h2"},
		{"SNI", TLS, helloSpec{version: 0x0303, ciphers: ciphers, extensions: []extension{serverName("a.b")}}, "t12d010100"},
		{"SNI with an address", TLS, helloSpec{version: 0x0303, ciphers: ciphers, extensions: []extension{serverName("192.0.2.1")}}, "t12d010100"},
		{"empty SNI extension is presence", TLS, helloSpec{version: 0x0303, ciphers: ciphers, extensions: []extension{empty(extServerName)}}, "t12d010100"},
		{"GREASE not counted, SCSVs and private use counted", TLS, helloSpec{version: 0x0303,
			ciphers:    []uint16{0x0a0a, 0x00ff, 0x5600, 0xfe00, 0xfeff, 0xfafa, 0xfafb, 0x1a0a},
			extensions: []extension{empty(0x2a2a), empty(0xff01), empty(0xff01)}}, "t12i060200"},
		{"counts are capped at 99", TLS, helloSpec{version: 0x0303, ciphers: list(120, 0x4000), extensions: exts(105)}, "t12i999900"},
		{"99 is not capped", TLS, helloSpec{version: 0x0303, ciphers: list(99, 0x4000), extensions: exts(98)}, "t12i999800"},
		{"100 is", TLS, helloSpec{version: 0x0303, ciphers: list(100, 0x4000), extensions: exts(100)}, "t12i999900"},
	} {
		h := mustHello(t, c.transport, c.spec.body(c.transport))
		if got := h.Value()[:prefixLen]; got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// The two ALPN characters: first and last byte of the first name if both are
// ASCII letters or digits, else the outer hex digits.
func TestALPN(t *testing.T) {
	for _, c := range []struct {
		name string
		ext  extension
		want string
	}{
		{"none", empty(0x4000), "00"},
		{"h2", alpn("h2"), "h2"},
		{"http/1.1", alpn("http/1.1"), "h1"},
		{"first of several", alpn("http/1.1", "h2"), "h1"},
		{"one character", alpn("h"), "hh"},
		{"one byte that is no character", alpn("\xab"), "ab"},
		{"upper case stays", alpn("Hx-Z"), "HZ"},
		{"blank first", alpn("\x20a"), "21"},
		{"bad last", alpn("0\xab"), "3b"},
		{"hex of the whole name", alpn("0\xab\xcd1"), "01"}, // 30abcd31: both ends are alphanumeric
		{"hex, bad both", alpn("\xab\xcd"), "ad"},
		{"GREASE is a name like any other", alpn("\x0a\x0a", "h2"), "0a"},
		{"neighbours of the alphanumerics", alpn("/:"), "2a"},
		{"@ and [", alpn("@["), "4b"},
		{"` and {", alpn("`{"), "6b"},
		{"NUL and DEL", alpn("\x00\x7f"), "0f"},
		{"empty extension", empty(extALPN), "00"},
		{"empty list", alpn(), "00"},
		{"empty list with bytes behind it", extension{extALPN, []byte{0, 0, 2, 'h', '2'}}, "00"},
		{"empty first name", alpn("", "h2"), "00"},
		{"name longer than the list", extension{extALPN, []byte{0, 3, 9, 'h', '2'}}, "00"},
		{"list longer than the extension", extension{extALPN, []byte{9, 9, 2, 'h', '2'}}, "h2"},
		{"one byte of extension", extension{extALPN, []byte{0}}, "00"},
	} {
		spec := helloSpec{version: 0x0303, ciphers: []uint16{0x1301}, extensions: []extension{c.ext}}
		h := mustHello(t, TLS, spec.body(TLS))
		if got := h.Value()[8:10]; got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// The lists of the raw forms, where the sections are empty or odd.
func TestRaw(t *testing.T) {
	for _, c := range []struct {
		name            string
		spec            helloSpec
		sorted, inOrder string
	}{
		{"nothing", helloSpec{version: 0x0303}, "t12i000000__", "t12i000000__"},
		{"SNI alone counts in original order only",
			helloSpec{version: 0x0303, ciphers: []uint16{2, 1}, extensions: []extension{serverName("a")}},
			"t12d020100_0001,0002_", "t12d020100_0002,0001_0000"},
		{"SNI and ALPN", helloSpec{version: 0x0303, ciphers: []uint16{1}, extensions: []extension{alpn("h2"), serverName("a")}},
			"t12d0102h2_0001_", "t12d0102h2_0001_0010,0000"},
		{"algorithms in wire order without GREASE", helloSpec{version: 0x0303, ciphers: []uint16{1},
			extensions: []extension{empty(0x0017), algorithms(0x0804, 0x0a0a, 0x0403)}},
			"t12i010200_0001_000d,0017_0804,0403", "t12i010200_0001_0017,000d_0804,0403"},
		{"no algorithms, no underscore", helloSpec{version: 0x0303, ciphers: []uint16{1}, extensions: []extension{algorithms()}},
			"t12i010100_0001_000d", "t12i010100_0001_000d"},
		{"only GREASE algorithms", helloSpec{version: 0x0303, ciphers: []uint16{1}, extensions: []extension{algorithms(0x1a1a)}},
			"t12i010100_0001_000d", "t12i010100_0001_000d"},
		{"algorithms of other extensions do not count", helloSpec{version: 0x0303, ciphers: []uint16{1},
			extensions: []extension{{0x0022, append16(nil, numbers(0x0403))}, {0x0032, append16(nil, numbers(0x0503))}}},
			"t12i010200_0001_0022,0032", "t12i010200_0001_0022,0032"},
		{"of repeated algorithms the first count", helloSpec{version: 0x0303, ciphers: []uint16{1},
			extensions: []extension{algorithms(0x0804), algorithms(0x0403)}},
			"t12i010200_0001_000d,000d_0804", "t12i010200_0001_000d,000d_0804"},
		{"repeated extensions are all listed", helloSpec{version: 0x0303, ciphers: []uint16{1, 1},
			extensions: []extension{empty(0x0023), empty(0x0005), empty(0x0023)}},
			"t12i020300_0001,0001_0005,0023,0023", "t12i020300_0001,0001_0023,0005,0023"},
	} {
		h := mustHello(t, TLS, c.spec.body(TLS))
		if got := h.Raw(); got != c.sorted {
			t.Errorf("%s: Raw %s\nwant %s", c.name, got, c.sorted)
		}
		if got := h.RawOriginal(); got != c.inOrder {
			t.Errorf("%s: RawOriginal %s\nwant %s", c.name, got, c.inOrder)
		}
	}
	h := mustHello(t, TLS, helloSpec{version: 0x0303}.body(TLS))
	if got, want := h.Value(), "t12i000000_000000000000_000000000000"; got != want {
		t.Errorf("empty lists: %s, want %s", got, want)
	}
	// 0000 hashed as a list of one: the first 12 digits of SHA-256("0000").
	h = mustHello(t, TLS, helloSpec{version: 0x0303, extensions: []extension{serverName("a")}}.body(TLS))
	if got, want := h.ValueOriginal(), "t12d000100_000000000000_9af15b336e6a"; got != want {
		t.Errorf("SNI alone: %s, want %s", got, want)
	}
}

// A hello cut short inside its extensions is what was whole; cut before them
// it is an error. No cut panics.
func TestCutHello(t *testing.T) {
	spec := chrome()
	body := spec.body(TLS)
	blockAt := len(body) - len(extensionBlock(spec.extensions)) - 2
	for cut := range len(body) + 1 {
		h, err := ClientHello(TLS, body[:cut])
		if wantErr := cut < blockAt; (err != nil) != wantErr || err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatalf("cut at %d: error %v, want one: %t", cut, err, wantErr)
		}
		if err == nil {
			if got := h.Raw(); !strings.HasPrefix(got[1:], "12") && !strings.HasPrefix(got[1:], "13") {
				t.Fatalf("cut at %d: %s", cut, got)
			}
		}
	}
	// SNI is whole, the next extension is not.
	end := blockAt + 2 + 4 + len(serverName("example.com").body) + 4 + 3
	h := mustHello(t, TLS, body[:end])
	if got, want := h.RawOriginal(), "t12d150100_1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035_0000"; got != want {
		t.Errorf("cut in the third extension: %s\nwant %s", got, want)
	}
}

// Names that are not printable ASCII, or too long, do not leave as a ServerName.
func TestServerName(t *testing.T) {
	long := strings.Repeat("a", 255)
	for _, c := range []struct {
		name string
		ext  extension
		want string
	}{
		{"plain", serverName("Example.COM"), "Example.COM"},
		{"255 bytes", serverName(long), long},
		{"256 bytes", serverName(long + "a"), ""},
		{"control", serverName("a\x1b[31m"), ""},
		{"blank", serverName("a b"), ""},
		{"not ASCII", serverName("bücher.example"), ""},
		{"empty", serverName(""), ""},
		{"other kind first", extension{extServerName, append16(nil, append(append16([]byte{7}, []byte("x")), append16([]byte{0}, []byte("y"))...))}, "y"},
		{"cut short", extension{extServerName, []byte{0, 9, 0, 0, 9, 'a'}}, ""},
	} {
		spec := helloSpec{version: 0x0303, extensions: []extension{c.ext}}
		h := mustHello(t, TLS, spec.body(TLS))
		if got := h.ServerName(); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// A hello with all the ciphers there are is fingerprinted; its raw form is
// too long for an event.
func TestHugeHello(t *testing.T) {
	var spec helloSpec
	spec.version = 0x0303
	for i := range 30000 {
		spec.ciphers = append(spec.ciphers, uint16(i))
	}
	h := mustHello(t, TLS, spec.body(TLS))
	e := h.Event()
	if e.Value[:10] != "t12i990000" || e.Raw != "" {
		t.Errorf("event %s with %d raw bytes, want t12i990000… and none", e.Value, len(e.Raw))
	}
	if got := len(h.Raw()); got < 29000*5 {
		t.Errorf("Raw has %d bytes", got)
	}
}

// What the documentation says about a hello: Event allocates its three
// strings, parsing nothing.
func TestHelloAllocations(t *testing.T) {
	body := chrome().body(TLS)
	if n := testing.AllocsPerRun(100, func() {
		if h, _ := ClientHello(TLS, body); h.version == 0 {
			t.Fail()
		}
	}); n != 0 {
		t.Errorf("ClientHello: %v allocations, want 0", n)
	}
	h := mustHello(t, TLS, body)
	if n := testing.AllocsPerRun(100, func() { h.Event() }); n != 3 {
		t.Errorf("Event: %v allocations, want 3", n)
	}
}

func BenchmarkHello(b *testing.B) {
	body := chrome().body(TLS)
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			ClientHello(TLS, body)
		}
	})
	b.Run("event", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			h, _ := ClientHello(TLS, body)
			h.Event()
		}
	})
}

func FuzzClientHello(f *testing.F) {
	f.Add(byte('t'), chrome().body(TLS))
	f.Add(byte('d'), helloSpec{version: 0xfefd, cookie: []byte("c"), ciphers: []uint16{1}}.body(DTLS))
	f.Add(byte('q'), []byte{})
	f.Fuzz(func(t *testing.T, tr byte, body []byte) {
		fuzzguard.Watch(t)
		h, err := ClientHello(Transport(tr), body)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		e := h.Event()
		if _, err := Parse(TypeJA4, e.Value); err != nil {
			t.Fatalf("%s: %v", e.Value, err)
		}
		if e.Value != h.Value() || e.Raw != "" && e.Raw != h.Raw() {
			t.Fatalf("Event %v differs from Value %s or Raw %s", e, h.Value(), h.Raw())
		}
		if o := h.EventOriginal(); o.Value[:prefixLen] != e.Value[:prefixLen] {
			t.Fatalf("%s and %s differ in part a", o.Value, e.Value)
		}
	})
}
