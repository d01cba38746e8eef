package anomaly

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

const (
	chromeTCP   = "t13d1516h2_8daaf6152771_02713d6af862"
	safariTCP   = "t13d2014h2_a09f3c656075_14788d8d241b"
	linuxSYN    = "64240_2-4-8-1-3_1460_7"
	windowsSYN  = "64240_2-1-3-1-1-4_1460_8"
	appleSYN    = "65535_2-1-3-1-1-8-4-0-0_1460_6"
	reverseSSH  = "c76s76_c71s59_c0s70"
	interactive = "c36s36_c51s80_c69s0"
	upload      = "c1460s112_c187s13_c0s35"
)

// Each connection rule says what it says of a connection, and nothing of one
// that only looks like it.
func TestBuiltinConnectionRules(t *testing.T) {
	enriched := func(s *tracker.Snapshot, f func(s *tracker.Snapshot)) *tracker.Snapshot { f(s); return s }
	for _, tt := range []struct {
		name string
		s    *tracker.Snapshot
		want string
	}{
		{"nothing known", snapshot(), ""},
		{"a usual client", snapshot(history(ja4.TypeJA4, chromeTCP), history(ja4.TypeJA4T, windowsSYN)), ""},
		{"a reverse shell", snapshot(history(ja4.TypeJA4SSH, interactive, reverseSSH, interactive)), ruleReverseSSH},
		{"a shell", snapshot(history(ja4.TypeJA4SSH, interactive)), ""},
		{"a small upload", enriched(snapshot(history(ja4.TypeJA4SSH, upload)), func(s *tracker.Snapshot) { s.SrcByteCount = 100<<20 - 1 }), ""},
		{"a large upload", enriched(snapshot(history(ja4.TypeJA4SSH, upload)), func(s *tracker.Snapshot) { s.SrcByteCount = 100 << 20 }), ruleSSHUpload},
		{"many bytes of a shell", enriched(snapshot(history(ja4.TypeJA4SSH, interactive)), func(s *tracker.Snapshot) { s.SrcByteCount = 1 << 30 }), ""},
		{"another client", snapshot(history(ja4.TypeJA4, chromeTCP, safariTCP)), ruleFingerprint},
		{"another client in the end", snapshot(history(ja4.TypeJA4, chromeTCP, chromeTCP, safariTCP, safariTCP)), ruleFingerprint},
		{"a hello after a HelloRetryRequest", snapshot(history(ja4.TypeJA4, chromeTCP, "t13d1517h2_8daaf6152771_b0da82dd1658")), ""},
		{"Apple's TLS over Windows' TCP", snapshot(history(ja4.TypeJA4T, windowsSYN), history(ja4.TypeJA4, safariTCP)), ruleInconsistency},
		{"Apple's TLS over Linux' TCP", snapshot(history(ja4.TypeJA4, safariTCP), history(ja4.TypeJA4T, linuxSYN)), ruleInconsistency},
		{"Apple's TLS over Apple's TCP", snapshot(history(ja4.TypeJA4T, appleSYN), history(ja4.TypeJA4, safariTCP)), ""},
		{"Apple's TLS over an unknown TCP", snapshot(history(ja4.TypeJA4T, "1024_2_1460_00"), history(ja4.TypeJA4, safariTCP)), ""},
		{"Apple's TLS behind a proxy", snapshot(history(ja4.TypeJA4T, linuxSYN), history(ja4.TypeJA4H, "co11nn050000_a_b_c"), history(ja4.TypeJA4, safariTCP)), ""},
		{"a tunnel inside", enriched(snapshot(history(ja4.TypeJA4T, "64240_2-4-8-1-3_1380_7")), func(s *tracker.Snapshot) {
			s.MSSValue, s.TunnelIndicator = 1380, "WireGuard or IPsec VPN"
		}), ruleTunnel},
		{"a tunnel outside", enriched(snapshot(history(ja4.TypeJA4T, "64240_2-4-8-1-3_1380_7")), func(s *tracker.Snapshot) {
			s.Src, s.MSSValue, s.TunnelIndicator = addr("198.51.100.7"), 1380, "WireGuard or IPsec VPN"
		}), ""},
		{"a tunnel of the server", enriched(snapshot(history(ja4.TypeJA4TS, "64240_2-4-8-1-3_1380_7")), func(s *tracker.Snapshot) {
			s.MSSValue, s.TunnelIndicator = 1380, "WireGuard or IPsec VPN"
		}), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Builtin().Judge(tt.s, nil, nil)
			if rulesOf(got) != tt.want {
				t.Fatalf("%q, want %q", rulesOf(got), tt.want)
			}
			for _, a := range got {
				if a.Description == "" || a.Severity == 0 || a.RaisedAt <= start || a.PacketNum == 0 || len(a.Evidence) == 0 {
					t.Errorf("the anomaly lacks something: %+v", a)
				}
			}
		})
	}
}

// An anomaly is raised by the event that completed what it rests on.
func TestRaisedAt(t *testing.T) {
	a := Builtin().Judge(snapshot(history(ja4.TypeJA4, chromeTCP, chromeTCP, safariTCP)), nil, nil)[0]
	if a.RaisedAt != at(3*time.Second) || a.PacketNum != 30 || len(a.Evidence) != 2 || a.Evidence[0].Value != chromeTCP || a.Evidence[1].Value != safariTCP {
		t.Errorf("%+v", a)
	}
}

// bad returns a connection that two entries condemn.
func bad() *tracker.Snapshot {
	s := snapshot(history(ja4.TypeJA4, chromeTCP))
	s.KnownBad = true
	s.TableMatches = []tracker.TableMatch{
		{App: "Sliver", Bad: true, Confidence: 90, Entry: "sliver-pair", Source: "builtin", Note: "agent", Evidence: []tracker.Evidence{
			{Type: ja4.TypeJA4, Value: chromeTCP, PacketNum: 4, SeenAt: at(time.Second)},
			{Type: ja4.TypeJA4S, Value: "t130200_1301_a56c5b993250", PacketNum: 6, SeenAt: at(2 * time.Second)},
		}},
		{App: "Go", Confidence: 50, Entry: "go"},
		{Bad: true, Confidence: 40, Entry: "weak", Source: "own.yaml", Evidence: []tracker.Evidence{{Type: ja4.TypeJA4, Value: chromeTCP, SeenAt: at(time.Second)}}},
	}
	return s
}

// A known-bad connection is said to be so by its best entry; only entries that
// are named are silent, and a generic entry silences none.
func TestKnownBad(t *testing.T) {
	for _, tt := range []struct {
		name, allow, want string
		silent            int
	}{
		{"plain", "", "known to be bad: Sliver, agent (confidence 90)", 0},
		{"a generic entry", "allow:\n- filter: src:10.0.0.0/8\n", "known to be bad: Sliver, agent (confidence 90)", 0},
		{"the best is named", "allow:\n- known-bad: sliver-pair\n", "known to be bad: entry weak (confidence 40)", 0},
		{"named for others", "allow:\n- {known-bad: sliver-pair, filter: 'src:172.16.0.0/12'}\n", "known to be bad: Sliver, agent (confidence 90)", 0},
		{"both are named", "allow:\n- {known-bad: [weak, sliver-pair], filter: 'network:lab'}\n", "", 1},
		{"the rule is off", "builtin: {known-bad: {enabled: false}}\n", "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			silent := 0
			got := load(t, tt.allow).Judge(bad(), nil, func(r *Rule) { silent++ })
			text := ""
			if len(got) > 0 {
				text = got[0].Description
			}
			if len(got) > 1 || text != tt.want || silent != tt.silent {
				t.Errorf("%v, %d silent; want %q, %d", got, silent, tt.want, tt.silent)
			}
		})
	}
	a := Builtin().Judge(bad(), nil, nil)[0]
	if a.RaisedAt != at(2*time.Second) || a.PacketNum != 6 || len(a.Evidence) != 2 {
		t.Errorf("a combination is complete with its last part: %+v", a)
	}
}

// The allowlist silences what it names, by rule and by filter, and says so.
func TestAllow(t *testing.T) {
	s := snapshot(history(ja4.TypeJA4, chromeTCP, safariTCP), history(ja4.TypeJA4SSH, reverseSSH))
	for allow, want := range map[string]string{
		"":                               ruleFingerprint + " " + ruleReverseSSH,
		"allow:\n- rules: reverse-ssh\n": ruleFingerprint,
		"allow:\n- {rules: [reverse-ssh, port-scan], filter: 'src:10.0.0.5'}\n": ruleFingerprint,
		"allow:\n- {rules: [reverse-ssh], filter: 'src:10.0.0.6'}\n":            ruleFingerprint + " " + ruleReverseSSH,
		"allow:\n- filter: ja4:t13d2014h2_*\n":                                  "",
		"allow:\n- {known-bad: x, filter: 'src:10.0.0.5'}\n":                    ruleFingerprint + " " + ruleReverseSSH,
		"allow:\n- filter: network:other\n":                                     ruleFingerprint + " " + ruleReverseSSH,
	} {
		var silent []string
		got := load(t, allow).Judge(s, nil, func(r *Rule) { silent = append(silent, r.ID) })
		if rulesOf(got) != want || len(got)+len(silent) != 2 {
			t.Errorf("%q: %q and %v silent, want %q", allow, rulesOf(got), silent, want)
		}
	}
}

// A rule that only has a filter judges a connection by it, enrichment included.
func TestOwnConnectionRule(t *testing.T) {
	rs := load(t, `rules:
- {id: big-go, severity: critical, filter: 'app:Go* bytes:>=1000', text: '{src} is {value}'}
`)
	s := snapshot(history(ja4.TypeJA4, chromeTCP))
	if got := rs.Judge(s, nil, nil); len(got) > 0 {
		t.Errorf("%v, want none", got)
	}
	s.IdentifiedApp, s.ByteCount = "GoLang", 1000
	got := rs.Judge(s, nil, nil)
	if len(got) != 1 || got[0].Description != "10.0.0.5 is "+chromeTCP || got[0].Severity != tracker.SeverityCritical || got[0].RaisedAt != s.LastSeen {
		t.Errorf("%+v", got)
	}
}

// Many rules do not make a connection carry more than its limit.
func TestJudgeIsBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString("rules:\n")
	for i := range 200 {
		fmt.Fprintf(&b, "- {id: r%d, severity: low, filter: 'port:443', text: x}\n", i)
	}
	if got := load(t, b.String()).Judge(snapshot(), nil, nil); len(got) != MaxPerConnection {
		t.Errorf("%d anomalies, want %d", len(got), MaxPerConnection)
	}
}

// What is not odd costs no allocation.
func TestJudgeDoesNotAllocate(t *testing.T) {
	rs := load(t, "rules:\n- {id: own, severity: low, filter: 'port:444 ja4:t12*', text: x}\nallow:\n- rules: own\n")
	s := snapshot(history(ja4.TypeJA4, chromeTCP), history(ja4.TypeJA4T, windowsSYN), history(ja4.TypeJA4SSH, interactive))
	if n := testing.AllocsPerRun(1000, func() {
		if as := rs.Judge(s, nil, nil); len(as) > 0 {
			t.Error(as)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// BenchmarkJudge: a connection of a browser, nothing odd.
func BenchmarkJudge(b *testing.B) {
	rs := Builtin()
	s := snapshot(history(ja4.TypeJA4T, windowsSYN), history(ja4.TypeJA4TS, linuxSYN), history(ja4.TypeJA4L, "100_64"),
		history(ja4.TypeJA4LS, "100_64"), history(ja4.TypeJA4, chromeTCP), history(ja4.TypeJA4S, "t130200_1301_a56c5b993250"))
	b.ReportAllocs()
	for b.Loop() {
		if as := rs.Judge(s, nil, nil); len(as) > 0 {
			b.Fatal(as)
		}
	}
}

// The list of rules keeps its order: it is that of the documentation.
func TestBuiltinOrder(t *testing.T) {
	var ids []string
	for _, r := range Builtin().All() {
		ids = append(ids, r.ID)
		if r.Text() == "" || r.Source != "builtin" {
			t.Errorf("rule %s: %q of %q", r.ID, r.Text(), r.Source)
		}
	}
	if len(ids) != 16 || ids[0] != ruleKnownBad || !slices.Contains(ids, ruleInconsistency) {
		t.Errorf("the rules are %v", ids)
	}
}
