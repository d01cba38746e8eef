package flow_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/fuzzguard"
)

func tuple(t *testing.T, proto flow.Protocol, src, dst string) flow.Tuple {
	t.Helper()
	s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	return flow.Tuple{Src: flow.AddrFrom(s.Addr()), Dst: flow.AddrFrom(d.Addr()), SrcPort: s.Port(), DstPort: d.Port(), Protocol: proto}
}

// Both directions give one key, and exactly one of them is the reversed one.
func TestKeyIsEqualForBothDirections(t *testing.T) {
	for _, ends := range [][2]string{
		{"10.0.0.5:51234", "93.184.216.34:443"},
		{"93.184.216.34:443", "10.0.0.5:51234"},
		{"10.0.0.5:1", "10.0.0.5:2"},
		{"[2001:db8::1]:1", "[2001:db8::]:65535"},
		{"[::1]:9", "127.0.0.1:9"},
	} {
		forth := tuple(t, flow.TCP, ends[0], ends[1])
		back := forth.Reverse()
		k1, r1 := forth.Key()
		k2, r2 := back.Key()
		if k1 != k2 || r1 == r2 {
			t.Errorf("%v: %v (reversed %v) and %v (reversed %v)", ends, k1, r1, k2, r2)
		}
	}
}

// The id names the lower end first, brackets IPv6, and leaves out the default
// network.
func TestID(t *testing.T) {
	for _, c := range []struct {
		tuple   flow.Tuple
		network string
		want    string
	}{
		{tuple(t, flow.TCP, "93.184.216.34:443", "10.0.0.5:51234"), "default", "tcp/10.0.0.5:51234-93.184.216.34:443"},
		{tuple(t, flow.UDP, "[2001:db8::2]:53", "[2001:db8::1]:9"), "", "udp/[2001:db8::1]:9-[2001:db8::2]:53"},
		{tuple(t, flow.SCTP, "10.0.0.1:1", "10.0.0.2:2"), "lab", "sctp/10.0.0.1:1-10.0.0.2:2@lab"},
		{tuple(t, 47, "10.0.0.1:0", "10.0.0.2:0"), "lab", "47/10.0.0.1:0-10.0.0.2:0@lab"},
	} {
		k, _ := c.tuple.Key()
		if got := k.ID(c.network); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

// An id is read in either direction and says what is wrong with it otherwise.
func TestParseID(t *testing.T) {
	want, _ := func() (flow.Key, bool) {
		tu := tuple(t, flow.TCP, "10.0.0.5:51234", "93.184.216.34:443")
		return tu.Key()
	}()
	for _, s := range []string{"tcp/10.0.0.5:51234-93.184.216.34:443", "TCP/93.184.216.34:443-10.0.0.5:51234", "6/10.0.0.5:51234-93.184.216.34:443@default"} {
		k, network, err := flow.ParseID(s)
		if err != nil || k != want || network != "default" {
			t.Errorf("%s: %v, %q, %v", s, k, network, err)
		}
	}
	for s, problem := range map[string]string{
		"":                                "no /",
		"tcp":                             "no /",
		"tpc/10.0.0.1:1-10.0.0.2:2":       `"tpc" is not a protocol`,
		"tcp/10.0.0.1:1":                  "no - between",
		"tcp/10.0.0.300:1-10.0.0.2:2":     `"10.0.0.300:1" is not address:port`,
		"tcp/10.0.0.1:1-10.0.0.2:99999":   `"10.0.0.2:99999" is not address:port`,
		"tcp/10.0.0.1:1-10.0.0.2:2@":      "0 bytes",
		"tcp/10.0.0.1:1-10.0.0.2:2@a b":   "byte 2",
		"300/10.0.0.1:1-10.0.0.2:2":       `"300" is not a protocol`,
		"tcp/2001:db8::1:1-2001:db8::2:2": "is not address:port",
	} {
		_, _, err := flow.ParseID(s)
		if !errors.Is(err, flow.ErrID) || !strings.Contains(err.Error(), problem) {
			t.Errorf("%q: %v, want …%s…", s, err, problem)
		}
	}
}

// Key and text are each other's inverse, and direction never matters.
func FuzzKey(f *testing.F) {
	f.Add([]byte("0123456789abcdef0123456789abcdef01236"), "lab")
	f.Fuzz(func(t *testing.T, b []byte, network string) {
		fuzzguard.Watch(t)
		if len(b) < 37 || flow.CheckNetwork(network) != nil {
			return
		}
		tu := flow.Tuple{Src: flow.Addr(b[:16]), Dst: flow.Addr(b[16:32]), SrcPort: uint16(b[32])<<8 | uint16(b[33]), DstPort: uint16(b[34])<<8 | uint16(b[35]), Protocol: flow.Protocol(b[36])}
		k, _ := tu.Key()
		back := tu.Reverse()
		if k2, _ := back.Key(); k2 != k {
			t.Fatalf("%v and its reverse: %v, %v", tu, k, k2)
		}
		got, n, err := flow.ParseID(k.ID(network))
		if err != nil || got != k || n != network {
			t.Fatalf("%s: %v, %s, %v", k.ID(network), got, n, err)
		}
	})
}

func FuzzParseID(f *testing.F) {
	f.Add("tcp/10.0.0.5:51234-93.184.216.34:443@lab")
	f.Add("udp/[2001:db8::1]:9-[2001:db8::2]:53")
	f.Fuzz(func(t *testing.T, s string) {
		fuzzguard.Watch(t)
		k, network, err := flow.ParseID(s)
		if err != nil {
			return
		}
		if again, n, err := flow.ParseID(k.ID(network)); err != nil || again != k || n != network {
			t.Fatalf("%q reads as %s, which reads as %v, %s, %v", s, k.ID(network), again, n, err)
		}
	})
}

// Making a key allocates nothing.
func TestKeyDoesNotAllocate(t *testing.T) {
	tu := tuple(t, flow.TCP, "93.184.216.34:443", "10.0.0.5:51234")
	var sink flow.Key
	if n := testing.AllocsPerRun(100, func() { sink, _ = tu.Key() }); n != 0 {
		t.Errorf("%v allocations for %v", n, sink)
	}
}
