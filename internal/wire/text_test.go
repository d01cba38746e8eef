package wire

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"unsafe"

	"github.com/whorl-net/whorl/flow"
)

// Addresses and keys read as netip and flow write them.
func TestAppendAddrText(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	addrs := []flow.Addr{
		{}, flow.AddrFrom4([4]byte{}), flow.AddrFrom4([4]byte{255, 255, 255, 255}), flow.AddrFrom4([4]byte{9, 10, 99, 100}),
		flow.AddrFrom(netip.MustParseAddr("2001:db8::1")), flow.AddrFrom(netip.MustParseAddr("::1.2.3.4")),
	}
	for range 2000 {
		a := flow.AddrFrom4([4]byte{byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())})
		if r.IntN(4) == 0 {
			for i := range a {
				a[i] = byte(r.Uint32()) & byte(r.Uint32()>>7)
			}
		}
		addrs = append(addrs, a)
	}
	for i := range addrs {
		a := &addrs[i]
		tight := append(make([]byte, 0, 1), '<')
		if got, want := string(appendAddrText(tight, a)), "<"+a.String(); got != want {
			t.Errorf("address %x: got %q, want %q", a[:], got, want)
		}
		tuple := flow.Tuple{Src: *a, Dst: addrs[r.IntN(len(addrs))], SrcPort: uint16(r.Uint32()), DstPort: uint16(r.Uint32()), Protocol: flow.Protocol(r.Uint32())}
		key, _ := tuple.Key()
		if got, want := string(appendKey(nil, &key)), key.String(); got != want {
			t.Errorf("key: got %q, want %q", got, want)
		}
	}
}

// A text that came before takes no memory; one that is long is not remembered.
func TestTexts(t *testing.T) {
	var all texts
	same := func(a, b string) bool { return unsafe.StringData(a) == unsafe.StringData(b) }
	p := []byte("t13d1516h2_8daaf6152771_02713d6af862")
	first := all.of(p)
	if again := all.of([]byte(string(p))); again != string(p) || !same(first, again) {
		t.Errorf("%q came as %q, the same memory: %v", p, again, same(first, again))
	}
	p[0] = 'q'
	if got := all.of(p); got != string(p) || first[0] != 't' {
		t.Errorf("got %q for %q; the first is %q now", got, p, first)
	}
	long := []byte(strings.Repeat("x", maxText+1))
	if a, b := all.of(long), all.of(long); a != b || same(a, b) {
		t.Error("a long text was remembered")
	}
	if got := all.of(nil); got != "" {
		t.Errorf("nothing came as %q", got)
	}
}
