package ja4plus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/whorl-net/whorl/internal/fuzzguard"
	"github.com/whorl-net/whorl/ja4"
)

// dhcp builds a DHCPv4 message with the given option bytes.
func dhcp(options ...byte) []byte {
	b := make([]byte, dhcpOptions, dhcpOptions+len(options))
	b[0] = 1
	binary.BigEndian.PutUint32(b[dhcpOptions-4:], dhcpMagic)
	return append(b, options...)
}

func TestDHCP(t *testing.T) {
	tests := []struct {
		name    string
		options []byte
		want    string
	}{
		{"discover", []byte{53, 1, 1, 61, 2, 1, 2, 50, 4, 0, 0, 0, 0, 55, 4, 1, 3, 6, 42, 255, 0, 0}, "disco0000in_61-55_1-3-6-42"},
		{"offer", []byte{53, 1, 2, 1, 4, 255, 255, 255, 0, 58, 4, 0, 0, 7, 8, 59, 1, 0, 51, 1, 0, 54, 1, 0, 255}, "offer0000nn_1-58-59-51-54_00"},
		{"the type alone", []byte{53, 1, 3}, "reqst0000nn_00_00"},
		{"maximum size", []byte{53, 1, 1, 57, 2, 5, 220}, "disco1500nn_57_00"},
		{"maximum size is capped", []byte{53, 1, 1, 57, 2, 255, 255}, "disco9999nn_57_00"},
		{"maximum size of another length", []byte{53, 1, 1, 57, 1, 9}, "disco0000nn_57_00"},
		{"a client name", []byte{53, 1, 1, 81, 4, 0, 0, 0, 'a'}, "disco0000nd_00_00"},
		{"an empty client name", []byte{53, 1, 1, 81, 3, 0, 0, 0}, "disco0000nn_00_00"},
		{"a client name that is the root", []byte{53, 1, 1, 81, 4, 4, 0, 0, 0}, "disco0000nn_00_00"},
		{"pad bytes, repeated options", []byte{0, 0, 53, 1, 1, 0, 12, 1, 'a', 0, 12, 1, 'b'}, "disco0000nn_12-12_00"},
		{"two parameter lists", []byte{53, 1, 1, 55, 2, 1, 3, 55, 1, 6}, "disco0000nn_55-55_1-3-6"},
		{"nothing behind the end counts", []byte{53, 1, 1, 255, 12, 1, 'a'}, "disco0000nn_00_00"},
		{"an option that is cut short ends it", []byte{53, 1, 1, 12, 1, 'a', 60, 9, 'x'}, "disco0000nn_12_00"},
		{"an option without length ends it", []byte{53, 1, 1, 12, 1, 'a', 60}, "disco0000nn_12_00"},
		{"the first type counts", []byte{53, 1, 1, 53, 1, 2}, "disco0000nn_00_00"},
		{"the last type with a name", []byte{53, 1, 18}, "dhtls0000nn_00_00"},
		{"a type without a name", []byte{53, 1, 19}, "000190000nn_00_00"},
		{"type zero", []byte{53, 1, 0}, "000000000nn_00_00"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := DHCP(dhcp(tt.options...))
			if want := (ja4.Event{Type: ja4.TypeJA4D, Value: tt.want}); err != nil || got != want {
				t.Errorf("DHCP(%v) = %+v, %v; want %s", tt.options, got, err, tt.want)
			}
		})
	}
}

// Each of the 18 message types has its name.
func TestDHCPTypes(t *testing.T) {
	const names = "disco offer reqst decln dpack dpnak relse infor frenw lqery lunas lunkn lactv blklq lqdon actlq lqsta dhtls"
	for i, name := range strings.Fields(names) {
		if got, err := DHCP(dhcp(53, 1, byte(i+1))); err != nil || got.Value != name+"0000nn_00_00" {
			t.Errorf("type %d: %s, %v; want %s", i+1, got.Value, err, name)
		}
	}
}

func TestDHCPRefuses(t *testing.T) {
	wrongMagic := dhcp(53, 1, 1)
	wrongMagic[236] ^= 1
	long := []byte{53, 1, 1}
	for range 64 {
		long = append(long, 200, 0)
	}
	requested := append([]byte{53, 1, 1, 55, 100}, bytes.Repeat([]byte{111}, 100)...)
	tests := []struct {
		name    string
		payload []byte
		want    error
	}{
		{"nothing", nil, ErrNotDHCP},
		{"too short", dhcp()[:dhcpOptions-1], ErrNotDHCP},
		{"BOOTP: no cookie", make([]byte, 300), ErrNotDHCP},
		{"another cookie", wrongMagic, ErrNotDHCP},
		{"no options", dhcp(), ErrNotDHCP},
		{"no message type", dhcp(12, 1, 'a', 255), ErrNotDHCP},
		{"a message type of another length", dhcp(53, 2, 1, 1), ErrNotDHCP},
		{"a message type behind the end", dhcp(255, 53, 1, 1), ErrNotDHCP},
		{"many options", dhcp(long...), ErrDHCPTooLong},
		{"many parameters", dhcp(requested...), ErrDHCPTooLong},
	}
	for _, tt := range tests {
		if e, err := DHCP(tt.payload); !errors.Is(err, tt.want) || e != (ja4.Event{}) {
			t.Errorf("%s: %+v, %v; want %v", tt.name, e, err, tt.want)
		}
	}
}

// The bound of a value is exact.
func TestDHCPLongestValue(t *testing.T) {
	// "disco0000nn_" and "_00" leave 240: 60 options of 3 digits are 239.
	options := []byte{53, 1, 1}
	for range 60 {
		options = append(options, 200, 0)
	}
	e, err := DHCP(dhcp(options...))
	if err != nil || len(e.Value) != MaxDHCPBytes-1 {
		t.Errorf("%d bytes, %v; want %d", len(e.Value), err, MaxDHCPBytes-1)
	}
	if _, err := DHCP(dhcp(append(options, 1, 0)...)); err != ErrDHCPTooLong {
		t.Errorf("two bytes more: %v, want %v", err, ErrDHCPTooLong)
	}
}

// option6 builds a DHCPv6 option.
func option6(code uint16, data ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, code)
	b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
	return append(b, data...)
}

// dhcp6 builds a DHCPv6 message.
func dhcp6(kind byte, options ...[]byte) []byte {
	return append([]byte{kind, 1, 2, 3}, bytes.Join(options, nil)...)
}

// relay wraps a message in a relay-forward or relay-reply.
func relay(kind byte, options ...[]byte) []byte {
	return append(append([]byte{kind, 0}, make([]byte, 32)...), bytes.Join(options, nil)...)
}

func zeros(n int) []byte { return make([]byte, n) }

func with(b []byte, options ...[]byte) []byte { return append(b, bytes.Join(options, nil)...) }

func TestDHCPv6(t *testing.T) {
	clientID := option6(1, zeros(14)...)
	address := option6(5, with(zeros(24), option6(13, 0, 0))...)
	tests := []struct {
		name    string
		message []byte
		want    string
	}{
		{"solicit", dhcp6(1, clientID, option6(6, 0, 23, 0, 24), option6(8, 0, 0), option6(25, zeros(12)...)), "solct0014nn_1-6-8-25_23-24"},
		{"reply with a prefix", dhcp6(7, option6(25, with(zeros(12), option6(26, zeros(25)...))...), clientID, option6(2, 1)), "reply0014nn_25-26-1-2_00"},
		{"nested options come behind their parent, depth first", dhcp6(7, option6(3, with(zeros(12), address, option6(13, 0, 0))...), option6(2)), "reply0000nn_3-5-13-13-2_00"},
		{"temporary address", dhcp6(3, option6(4, with(zeros(4), option6(5, zeros(24)...))...)), "reqst0000in_4-5_00"},
		{"a non-temporary address is no request for one", dhcp6(3, option6(3, with(zeros(12), option6(5, zeros(24)...))...)), "reqst0000nn_3-5_00"},
		{"what is nested in a prefix", dhcp6(7, option6(26, with(zeros(25), option6(67, 1))...)), "reply0000nn_26-67_00"},
		{"nothing is nested in others", dhcp6(7, option6(17, with(zeros(4), option6(5, zeros(24)...))...)), "reply0000nn_17_00"},
		{"an identity association that is too short", dhcp6(7, option6(3, zeros(11)...)), "reply0000nn_3_00"},
		{"client name", dhcp6(1, option6(39, 0, 1, 'a')), "solct0000nd_39_00"},
		{"empty client name", dhcp6(1, option6(39, 0)), "solct0000nn_39_00"},
		{"client name that is the root", dhcp6(1, option6(39, 0, 0)), "solct0000nn_39_00"},
		{"no options", dhcp6(11), "inreq0000nn_00_00"},
		{"an odd request list", dhcp6(1, option6(6, 0, 23, 0)), "solct0000nn_6_23"},
		{"two request lists", dhcp6(1, option6(6, 0, 23), option6(6, 1, 0)), "solct0000nn_6-6_23-256"},
		{"an option that is cut short ends it", dhcp6(1, option6(8, 0, 0), []byte{0, 1, 0, 9, 1}), "solct0000nn_8_00"},
		{"a cut nested option does not end its parent's list", dhcp6(1, option6(3, with(zeros(12), []byte{0, 5, 0, 9})...), option6(8)), "solct0000nn_3-8_00"},
		{"a relayed message", relay(12, option6(18, 'x'), option6(9, dhcp6(1, clientID)...)), "solct0014nn_1_00"},
		{"a twice relayed message", relay(13, option6(9, relay(13, option6(9, dhcp6(7, clientID)...))...)), "reply0014nn_1_00"},
		{"a type without a name", dhcp6(38), "000380000nn_00_00"},
		{"a long client id", dhcp6(1, option6(1, zeros(12000)...)), "solct9999nn_1_00"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := DHCPv6(tt.message)
			if want := (ja4.Event{Type: ja4.TypeJA4D6, Value: tt.want}); err != nil || got != want {
				t.Errorf("DHCPv6(%x) = %+v, %v; want %s", tt.message, got, err, tt.want)
			}
		})
	}
}

// Each of the 37 message types has its name, but for the two that relay.
func TestDHCPv6Types(t *testing.T) {
	const names = `solct advrt reqst confm renew rebnd reply relse decln recon inreq - - query qrply qdone qdata rereq rrply
		v4qry v4res acqry sttls bdudp brply poreq pores urqst ureqa udone conne connr dconn state conta arinf arrep`
	if n := len(strings.Fields(names)); n != 37 {
		t.Fatalf("%d names, want 37", n)
	}
	for i, name := range strings.Fields(names) {
		if name == "-" {
			continue
		}
		if got, err := DHCPv6(dhcp6(byte(i + 1))); err != nil || got.Value != name+"0000nn_00_00" {
			t.Errorf("type %d: %s, %v; want %s", i+1, got.Value, err, name)
		}
	}
}

func TestDHCPv6Refuses(t *testing.T) {
	deep := dhcp6(1)
	for range maxDHCP6Relays + 1 {
		deep = relay(12, option6(9, deep...))
	}
	many := bytes.Repeat(option6(100), 70)
	wide := option6(6, bytes.Repeat([]byte{0, 100}, 70)...)
	tests := []struct {
		name    string
		payload []byte
		want    error
	}{
		{"nothing", nil, ErrNotDHCP},
		{"too short", []byte{1, 2, 3}, ErrNotDHCP},
		{"type zero", dhcp6(0), ErrNotDHCP},
		{"a relay message that is too short", relay(12)[:33], ErrNotDHCP},
		{"a relay message that carries nothing", relay(12, option6(18, 'x')), ErrNotDHCP},
		{"relayed too often", deep, ErrNotDHCP},
		{"many options", dhcp6(1, many), ErrDHCPTooLong},
		{"many requested options", dhcp6(1, wide), ErrDHCPTooLong},
	}
	for _, tt := range tests {
		if e, err := DHCPv6(tt.payload); !errors.Is(err, tt.want) || e != (ja4.Event{}) {
			t.Errorf("%s: %+v, %v; want %v", tt.name, e, err, tt.want)
		}
	}
	if _, err := DHCPv6(deep[34+4:]); err != nil {
		t.Errorf("relayed as often as allowed: %v", err)
	}
}

// Options nested without end are looked into only so far.
func TestDHCPv6Depth(t *testing.T) {
	nested := option6(3, zeros(12)...)
	for range 50 {
		nested = option6(3, with(zeros(12), nested)...)
	}
	got, err := DHCPv6(dhcp6(1, nested, option6(8)))
	if want := "solct0000nn_" + strings.Repeat("3-", maxDHCP6Depth+1) + "8_00"; err != nil || got.Value != want {
		t.Errorf("%s, %v; want %s", got.Value, err, want)
	}
}

func TestDHCPAllocations(t *testing.T) {
	four := dhcp(53, 1, 1, 61, 2, 1, 2, 50, 4, 0, 0, 0, 0, 55, 4, 1, 3, 6, 42, 255)
	six := dhcp6(1, option6(1, zeros(14)...), option6(6, 0, 23, 0, 24))
	not := make([]byte, 400)
	for name, tt := range map[string]struct {
		run  func()
		want float64
	}{
		"DHCP":   {func() { DHCP(four) }, 1},
		"DHCPv6": {func() { DHCPv6(six) }, 1},
		"no DHCP": {func() {
			DHCP(not)
			DHCPv6(not)
		}, 0},
	} {
		if n := testing.AllocsPerRun(100, tt.run); n > tt.want {
			t.Errorf("%s: %v allocations, want %v", name, n, tt.want)
		}
	}
}

func FuzzDHCP(f *testing.F) {
	f.Add(dhcp(53, 1, 1, 61, 2, 1, 2, 50, 4, 0, 0, 0, 0, 55, 4, 1, 3, 6, 42, 255))
	f.Add(dhcp6(1, option6(1, zeros(14)...), option6(3, with(zeros(12), option6(5, zeros(24)...))...)))
	f.Add(relay(12, option6(9, dhcp6(1)...)))
	f.Fuzz(func(t *testing.T, payload []byte) {
		fuzzguard.Watch(t)
		four, err4 := DHCP(payload)
		six, err6 := DHCPv6(payload)
		for _, r := range []struct {
			e   ja4.Event
			err error
		}{{four, err4}, {six, err6}} {
			if r.err != nil {
				continue
			}
			if len(r.e.Value) > MaxDHCPBytes || strings.Count(r.e.Value, "_") != 2 || strings.IndexByte(r.e.Value, '_') != 11 {
				t.Errorf("%x: %s", payload, r.e.Value)
			}
		}
	})
}

// BenchmarkDHCP: one message of each kind; the values are the only
// allocations.
func BenchmarkDHCP(b *testing.B) {
	four := dhcp(53, 1, 1, 61, 2, 1, 2, 50, 4, 0, 0, 0, 0, 55, 4, 1, 3, 6, 42, 255)
	six := dhcp6(1, option6(1, zeros(14)...), option6(3, with(zeros(12), option6(5, zeros(24)...))...), option6(6, 0, 23, 0, 24))
	for _, v := range []struct {
		name string
		run  func()
	}{{"v4", func() { DHCP(four) }}, {"v6", func() { DHCPv6(six) }}} {
		b.Run(fmt.Sprintf("version=%s", v.name), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				v.run()
			}
		})
	}
}
