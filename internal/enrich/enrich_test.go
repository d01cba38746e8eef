package enrich

import (
	"testing"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/fuzzguard"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

// The MSS is the third part of a JA4T or JA4TS; 00 and anything else is none.
func TestMSS(t *testing.T) {
	for value, want := range map[string]uint16{
		"64240_2-1-3-1-1-4_1460_8":           1460,
		"26847_2-4-8-1-3_1460_7":             1460,
		"65535_2-1-3-1-1-8-4-0-0_1386_6":     1386,
		"62727_2-4-8-1-3_8961_7":             8961,
		"64240_2-1-3-1-1-4_1460_8_1-2-4-R6":  1460,
		"1024_2_1460_00":                     1460,
		"512_00_00_00":                       0,
		"":                                   0,
		"___":                                0,
		"64240_2":                            0,
		"64240_2_1460":                       1460,
		"64240_2_99999_8":                    0,
		"64240_2_-5_8":                       0,
		"64240_2_1460x_8":                    0,
		"t13d1516h2_8daaf6152771_0271ab_gcd": 0,
	} {
		got, ok := MSS(value)
		if got != want || ok != (want > 0) {
			t.Errorf("MSS(%q) = %d, %v; want %d", value, got, ok, want)
		}
	}
}

// The IP version decides what an MSS hints at; what no table names falls into a
// range. Plain Ethernet, jumbo frames and loopback are no tunnel.
func TestTunnel(t *testing.T) {
	for _, tt := range []struct {
		mss  uint16
		ipv6 bool
		want string
	}{
		{0, false, ""}, {0, true, ""},
		{1460, false, ""}, {1440, true, ""},
		{1440, false, "possible IPIP or 6in4 tunnel"}, {1420, true, "possible IPIP or 6in4 tunnel"},
		{8961, false, ""}, {8941, true, ""}, {8960, false, ""}, {8940, true, ""}, {1461, false, ""}, {1441, true, ""},
		{16344, false, ""}, {16396, false, ""}, {65495, false, ""}, {65475, true, ""}, {65476, true, ""},
		{1452, false, "possible PPPoE or DSL"}, {1432, true, "possible PPPoE or DSL"}, {1414, false, "possible PPPoE or DSL"},
		{1450, false, "possible PPTP tunnel"}, {1436, false, "possible GRE or IPsec tunnel"}, {1456, false, "possible VLAN or other 4-byte loss"},
		{1420, false, "possible cloud network or generic tunnel"}, {1410, false, "possible VXLAN overlay, tunnel or VPN"},
		{1380, false, "possible WireGuard or IPsec VPN"}, {1360, true, "possible WireGuard or IPsec VPN"}, {1372, false, "possible WireGuard VPN over PPPoE"},
		{1390, false, "possible cellular network"}, {1386, false, "likely VPN, tunnel or mobile network"},
		{1360, false, "possible generic tunnel, VPN or mobile network"}, {1320, false, "possible IPsec VPN"},
		{1240, false, "possible conservative tunnel or VPN (IPv6 minimum MTU)"}, {536, false, "possible modem or scanner (minimum MTU)"},
		{1403, false, "possible tunnel or DSL"}, {1455, false, "possible tunnel or DSL"},
		{1300, false, "likely VPN, tunnel or mobile network"}, {1201, false, "likely VPN, tunnel or mobile network"},
		{1199, false, "unusually small"}, {1, false, "unusually small"},
		{2000, false, ""}, {20000, false, ""}, {65535, false, ""}, {65535, true, ""},
	} {
		if got := Tunnel(tt.mss, tt.ipv6); got != tt.want {
			t.Errorf("Tunnel(%d, IPv6 %v) = %q, want %q", tt.mss, tt.ipv6, got, tt.want)
		}
	}
}

// The published thresholds decide the session; the wider rule is told apart, and
// only where they say nothing. What is not a JA4SSH says nothing.
func TestSSHSession(t *testing.T) {
	for value, want := range map[string][2]string{
		"c36s36_c51s80_c69s0":     {"Interactive SSH Session", ""},
		"c76s76_c71s59_c0s70":     {"Reverse SSH Session", ""},
		"c112s1460_c0s179_c21s0":  {"SSH File Transfer", ""},
		"c1460s112_c179s0_c0s21":  {"SSH File Transfer (Upload)", ""},
		"c64s64_c90s110_c70s2":    {"Unknown", "Interactive SSH Session"},
		"c36s36_c51s80_c60s0":     {"Unknown", "Interactive SSH Session"},
		"c400s36_c90s110_c3s2":    {"Unknown", ""},
		"c36s36_c51s80":           {"", ""},
		"":                        {"", ""},
		"t13d1516h2_8daaf_02713d": {"", ""},
	} {
		if session, hint := SSHSession(value); session != want[0] || hint != want[1] {
			t.Errorf("SSHSession(%q) = %q, %q; want %q", value, session, hint, want)
		}
	}
}

func fingerprint(typ ja4.Type, value string) tracker.History {
	return tracker.History{Type: typ, TotalCount: 1, Events: []tracker.FingerprintEvent{{Value: value}}}
}

// A snapshot gets what follows from its newest fingerprints: the client's MSS
// before the server's, by IP version.
func TestSnapshot(t *testing.T) {
	v4 := tracker.Snapshot{Src: flow.AddrFrom4([4]byte{10, 0, 0, 1})}
	v4.Fingerprints = []tracker.History{
		fingerprint(ja4.TypeJA4TS, "26847_2-4-8-1-3_1460_7"), fingerprint(ja4.TypeJA4T, "64240_2_1380_8"),
		fingerprint(ja4.TypeJA4SSH, "c36s36_c51s80_c69s0"),
	}
	Snapshot(&v4)
	if v4.MSSValue != 1380 || v4.MTUEstimate != 1420 || v4.TunnelIndicator != "possible WireGuard or IPsec VPN" || v4.SSHSessionType != "Interactive SSH Session" {
		t.Errorf("MSS %d, tunnel %q, ssh %q; want 1380, WireGuard, interactive", v4.MSSValue, v4.TunnelIndicator, v4.SSHSessionType)
	}
	v6 := tracker.Snapshot{Src: flow.Addr{0: 0x20, 1: 0x01}}
	v6.Fingerprints = []tracker.History{fingerprint(ja4.TypeJA4TS, "26847_2-4-8-1-3_1440_7")}
	Snapshot(&v6)
	if v6.MSSValue != 1440 || v6.MTUEstimate != 1500 || v6.TunnelIndicator != "" || v6.SSHSessionType != "" {
		t.Errorf("MSS %d, tunnel %q, ssh %q; want 1440 and nothing else", v6.MSSValue, v6.TunnelIndicator, v6.SSHSessionType)
	}
	loopback := tracker.Snapshot{Src: flow.AddrFrom4([4]byte{127, 0, 0, 1})}
	loopback.Fingerprints = []tracker.History{fingerprint(ja4.TypeJA4T, "65495_2-4-8-1-3_65495_7")}
	Snapshot(&loopback)
	if loopback.MSSValue != 65495 || loopback.TunnelIndicator != "" {
		t.Errorf("MSS %d, tunnel %q; want 65495 and no tunnel", loopback.MSSValue, loopback.TunnelIndicator)
	}
	if n := testing.AllocsPerRun(100, func() { Snapshot(&v4) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func FuzzSnapshot(f *testing.F) {
	f.Add("64240_2-1-3-1-1-4_1460_8", "c36s36_c51s80_c69s0", true)
	f.Add("___", "cs_cs_cs", false)
	f.Add("__100000", "0", false)
	f.Fuzz(func(t *testing.T, ja4t, ssh string, ipv6 bool) {
		fuzzguard.Watch(t)
		mss, ok := MSS(ja4t)
		if ok != (mss > 0) {
			t.Errorf("MSS(%q) = %d, %v", ja4t, mss, ok)
		}
		Tunnel(mss, ipv6)
		SSHSession(ssh)
	})
}
