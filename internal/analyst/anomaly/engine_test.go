package anomaly

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/analyst/state"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

func ja4Number(i int) string { return fmt.Sprintf("t13d1516h2_%012x_02713d6af862", i) }

// Each built-in stream rule fires for the event that crosses its threshold, once,
// and not for what only looks like it.
func TestBuiltinStreamRules(t *testing.T) {
	second := time.Second
	for _, tt := range []struct {
		name string
		evs  []*tracker.Event
		want []string
	}{
		{"21 ports of one host within a minute", events(30, func(i int) *tracker.Event {
			return opened("10.0.0.5", "192.0.2.1", uint16(1000+i), time.Duration(i)*2*second)
		}), []string{"20 port-scan"}},
		{"20 ports", events(20, func(i int) *tracker.Event {
			return opened("10.0.0.5", "192.0.2.1", uint16(1000+i), time.Duration(i)*second)
		}), nil},
		{"one port in four seconds", events(100, func(i int) *tracker.Event {
			return opened("10.0.0.5", "192.0.2.1", uint16(1000+i), time.Duration(i)*4*second)
		}), nil},
		{"ports of several hosts", events(100, func(i int) *tracker.Event {
			return opened("10.0.0.5", fmt.Sprintf("192.0.%d.1", i%10), uint16(1000+i), time.Duration(i)*100*time.Millisecond)
		}), nil},
		{"answers of a server in the middle of a capture", events(100, func(i int) *tracker.Event {
			return with(opened("192.0.2.80", "10.0.0.5", uint16(40000+i), time.Duration(i)*second/10), func(ev *tracker.Event) {
				ev.TCPFlags = flow.ACK | flow.PSH
			})
		}), nil},
		{"a Xmas scan", events(21, func(i int) *tracker.Event {
			return with(opened("10.0.0.5", "192.0.2.1", uint16(1+i), time.Duration(i)*second/10), func(ev *tracker.Event) {
				ev.TCPFlags = flow.FIN | flow.PSH | 0x20
			})
		}), []string{"20 port-scan"}},
		{"a scan of UDP ports", events(21, func(i int) *tracker.Event {
			return with(opened("10.0.0.5", "192.0.2.1", uint16(1+i), time.Duration(i)*second/10), func(ev *tracker.Event) {
				ev.Protocol, ev.TCPFlags = flow.UDP, 0
			})
		}), []string{"20 port-scan"}},
		{"traceroute", events(90, func(i int) *tracker.Event {
			return with(opened("10.0.0.5", "192.0.2.1", uint16(33434+i), time.Duration(i)*second/10), func(ev *tracker.Event) {
				ev.Protocol, ev.TCPFlags = flow.UDP, 0
			})
		}), nil},
		{"51 hosts on one port", events(60, func(i int) *tracker.Event {
			return opened("10.0.0.5", fmt.Sprintf("192.%d.2.%d", i, i), 23, time.Duration(i)*second)
		}), []string{"50 host-sweep"}},
		{"51 neighbours on port 443", events(60, func(i int) *tracker.Event {
			return opened("10.0.0.5", fmt.Sprintf("192.0.2.%d", i), 443, time.Duration(i)*second)
		}), []string{"50 host-sweep"}},
		{"hosts of the whole Internet on port 443", events(500, func(i int) *tracker.Event {
			return opened("10.0.0.5", fmt.Sprintf("%d.0.2.%d", 11+i%200, i%250), 443, time.Duration(i)*second/10)
		}), nil},
		{"a ping sweep", events(51, func(i int) *tracker.Event {
			return with(opened("10.0.0.5", fmt.Sprintf("10.0.1.%d", i), 0, time.Duration(i)*second/10), func(ev *tracker.Event) {
				ev.Protocol, ev.TCPFlags, ev.SrcPort = flow.ICMP, 0, 8
			})
		}), []string{"50 host-sweep"}},
		{"5,001 connections to one port in ten seconds", events(6000, func(i int) *tracker.Event {
			return opened(fmt.Sprintf("100.%d.%d.%d", i>>16, i>>8&255, i&255), "192.0.2.1", 80, time.Duration(i)*time.Millisecond)
		}), []string{"5000 connection-flood"}},
		{"the same in fifty seconds", events(6000, func(i int) *tracker.Event {
			return opened(fmt.Sprintf("100.%d.%d.%d", i>>16, i>>8&255, i&255), "192.0.2.1", 80, time.Duration(i)*8*time.Millisecond)
		}), nil},
		{"SSH to 21 hosts", events(25, func(i int) *tracker.Event {
			return opened("10.0.0.5", fmt.Sprintf("192.0.2.%d", i), 22, time.Duration(i)*10*second)
		}), []string{"20 ssh-fan-out"}},
		{"SSH on other ports", events(21, func(i int) *tracker.Event {
			return shown("10.0.0.5", fmt.Sprintf("192.0.2.%d", i), 2222, ja4.TypeJA4SSH, "c36s36_c51s80_c69s0", time.Duration(i)*second)
		}), []string{"20 ssh-fan-out"}},
		{"21 different ja4", events(25, func(i int) *tracker.Event {
			return shown("10.0.0.5", "192.0.2.1", 443, ja4.TypeJA4, ja4Number(i), time.Duration(i)*10*second)
		}), []string{"20 ja4-flood"}},
		{"20 ja4 again and again", events(200, func(i int) *tracker.Event {
			return shown("10.0.0.5", fmt.Sprintf("192.0.2.%d", i%20), 443, ja4.TypeJA4, ja4Number(i%20), time.Duration(i)*second)
		}), nil},
		{"41 kinds of certificates", events(45, func(i int) *tracker.Event {
			return shown("10.0.0.5", "192.0.2.1", 443, ja4.TypeJA4X, fmt.Sprintf("%012x_a373a9f83c6b_0e17604154c5", i), time.Duration(i)*second)
		}), []string{"40 certificate-diversity"}},
		{"another client after eight equal ones", events(12, func(i int) *tracker.Event {
			value := "t13d1516h2_8daaf6152771_02713d6af862"
			if i%2 == 1 {
				value = "t13d1517h2_8daaf6152771_b0da82dd1658" // the same, resumed
			}
			if i == 8 {
				value = "t13d1810h1_85036bcba153_d41ae481755e"
			}
			return shown("10.0.0.5", "192.0.2.1", 443, ja4.TypeJA4, value, time.Duration(i)*time.Minute)
		}), []string{"8 client-change"}},
		{"another client after seven", events(12, func(i int) *tracker.Event {
			return shown("10.0.0.5", "192.0.2.1", 443, ja4.TypeJA4, ja4Number(i/7), time.Duration(i)*time.Minute)
		}), nil},
		{"two clients in turn", events(40, func(i int) *tracker.Event {
			return shown("10.0.0.5", "192.0.2.1", 443, ja4.TypeJA4, ja4Number(i%2), time.Duration(i)*time.Minute)
		}), nil},
		{"every 30 s", events(40, func(i int) *tracker.Event {
			return opened("10.0.0.5", "192.0.2.1", 8443, time.Duration(i)*30*second)
		}), []string{"16 beacon-fast"}},
		{"every 10 min", events(40, func(i int) *tracker.Event {
			return opened("10.0.0.5", "192.0.2.1", 8443, time.Duration(i)*10*time.Minute)
		}), []string{"8 beacon-slow"}},
		{"every 64 s by NTP", events(40, func(i int) *tracker.Event {
			return with(opened("10.0.0.5", "192.0.2.1", 123, time.Duration(i)*64*second), func(ev *tracker.Event) {
				ev.Protocol, ev.TCPFlags = flow.UDP, 0
			})
		}), nil},
		{"to a multicast group", events(40, func(i int) *tracker.Event {
			return with(opened("10.0.0.5", "239.1.1.1", 9999, time.Duration(i)*30*second), func(ev *tracker.Event) {
				ev.Protocol, ev.TCPFlags = flow.UDP, 0
			})
		}), nil},
		{"irregular", events(60, func(i int) *tracker.Event {
			return opened("10.0.0.5", "192.0.2.1", 8443, time.Duration(i*i*i%997)*second+time.Duration(i)*200*second)
		}), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fired, all := feed(Builtin(), tt.evs)
			if !slices.Equal(fired, tt.want) {
				t.Errorf("fired %v, want %v", fired, tt.want)
			}
			for _, a := range all {
				if a.Description == "" || a.Severity == 0 || a.RaisedAt == 0 || len(a.Evidence) < 2 || len(a.Evidence) > MaxEvidence {
					t.Errorf("the anomaly lacks something: %+v", a)
				}
			}
		})
	}
}

// The evidence names what was counted: ports and addresses, and the fingerprint.
func TestEvidence(t *testing.T) {
	_, all := feed(Builtin(), events(21, func(i int) *tracker.Event {
		return opened("10.0.0.5", "192.0.2.1", uint16(1000+i), time.Duration(i)*time.Second)
	}))
	a := all[0]
	var values []string
	for _, e := range a.Evidence {
		values = append(values, e.Value)
	}
	if a.Description != "10.0.0.5 has tried 21 ports of 192.0.2.1 within 1m" || a.RaisedAt != at(20*time.Second) || a.PacketNum != 1 ||
		!slices.Contains(values, "21 in 1m, more than 20") || !slices.Contains(values, "1000") {
		t.Errorf("a scan is described as %+v", a)
	}
	_, all = feed(Builtin(), events(21, func(i int) *tracker.Event {
		return shown("10.0.0.5", "192.0.2.1", 443, ja4.TypeJA4, ja4Number(i), time.Duration(i)*time.Second)
	}))
	if e := all[0].Evidence[0]; e.Type != ja4.TypeJA4 || e.Value != ja4Number(20) || e.Probe != "p" || e.SeenAt != at(20*time.Second) || all[0].PacketNum != 4 {
		t.Errorf("a flood of ja4 rests on %+v", e)
	}
}

// Networks are worlds of their own, and so are rules.
func TestKeysAreApart(t *testing.T) {
	e := NewEngine(Builtin(), 1)
	n := 0
	for i := range 40 {
		e.Event(opened("10.0.0.5", "192.0.2.1", uint16(1000+i), 0), i%2, func(*Raised) { n++ })
	}
	if n != 0 {
		t.Errorf("%d anomalies for 20 ports in each of two networks, want 0", n)
	}
}

// Rules from a file count what they say, with filter, key, prefixes, distinct
// fields and windows.
func TestRulesFromFile(t *testing.T) {
	for _, tt := range []struct {
		name, rule string
		evs        []*tracker.Event
		want       []string
	}{
		{"count by source", "key: src\n  threshold: 3\n  window: 1m\n  filter: dst.port:23", events(6, func(i int) *tracker.Event {
			return opened("10.0.0.5", "192.0.2.1", 23, time.Duration(i)*time.Second)
		}), []string{"3 own"}},
		{"what the filter leaves out", "key: src\n  threshold: 3\n  window: 1m\n  filter: dst.port:23", events(6, func(i int) *tracker.Event {
			return opened("10.0.0.5", "192.0.2.1", 24, time.Duration(i)*time.Second)
		}), nil},
		{"prefixes", "key: [src/24, dst.port]\n  distinct: src\n  threshold: 3\n  window: 1m\n  sliding: true", events(4, func(i int) *tracker.Event {
			return opened(fmt.Sprintf("10.0.0.%d", i), "192.0.2.1", 9000, time.Duration(i)*time.Second)
		}), []string{"3 own"}},
		{"another prefix", "key: [src/24, dst.port]\n  distinct: src\n  threshold: 3\n  window: 1m", events(4, func(i int) *tracker.Event {
			return opened(fmt.Sprintf("10.0.%d.1", i), "192.0.2.1", 9000, time.Duration(i)*time.Second)
		}), nil},
		{"IPv6 prefixes", "key: src/24\n  distinct: src\n  threshold: 3\n  window: 1m", events(4, func(i int) *tracker.Event {
			return opened(fmt.Sprintf("2001:db8::%d", i+1), "2001:db8::ff", 9000, time.Duration(i)*time.Second)
		}), []string{"3 own"}},
		{"fingerprints by filter", "on: ja4h\n  key: dst\n  distinct: fp\n  threshold: 1\n  window: 1m\n  filter: ja4h:po11*", events(4, func(i int) *tracker.Event {
			return shown("10.0.0.5", "192.0.2.1", 80, ja4.TypeJA4H, fmt.Sprintf("po11nn0%d0000_a_b_c", i), 0)
		}), []string{"1 own"}},
		{"server names", "on: ja4\n  key: src\n  distinct: sni\n  threshold: 2\n  window: 1m", events(5, func(i int) *tracker.Event {
			return with(shown("10.0.0.5", "192.0.2.1", 80, ja4.TypeJA4, ja4Number(1), 0), func(ev *tracker.Event) {
				ev.ServerName = fmt.Sprintf("h%d.example", i/2)
			})
		}), []string{"4 own"}},
		{"allowed", "key: src\n  threshold: 3\n  window: 1m\nallow:\n- rules: own\n  filter: src:10.0.0.0/24", events(6, func(i int) *tracker.Event {
			return opened("10.0.0.5", "192.0.2.1", 23, time.Duration(i)*time.Second)
		}), []string{"3 -own"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rs := load(t, "rules:\n- id: own\n  severity: low\n  text: \"{src} did {n}\"\n  "+tt.rule+"\n")
			fired, _ := feed(rs, tt.evs)
			if !slices.Equal(fired, tt.want) {
				t.Errorf("fired %v, want %v", fired, tt.want)
			}
		})
	}
}

// Settings of built-in rules are obeyed, and what is off does not fire.
func TestSettings(t *testing.T) {
	scan := events(30, func(i int) *tracker.Event {
		return opened("10.0.0.5", "192.0.2.1", uint16(1000+i), time.Duration(i)*time.Second)
	})
	fired, all := feed(load(t, "builtin:\n  port-scan: {threshold: 5, window: 2h, severity: critical}\n"), scan)
	if !slices.Equal(fired, []string{"5 port-scan"}) || all[0].Severity != tracker.SeverityCritical {
		t.Errorf("fired %v, %v", fired, all)
	}
	if fired, _ := feed(load(t, "builtin:\n  port-scan: {enabled: false}\n"), scan); len(fired) > 0 {
		t.Errorf("a rule that is off fired: %v", fired)
	}
	beats := events(10, func(i int) *tracker.Event {
		return opened("10.0.0.5", "192.0.2.1", 161, time.Duration(i)*5*time.Second)
	})
	if fired, _ := feed(load(t, "builtin:\n  beacon-fast: {intervals: 5, except-ports: []}\n  beacon-slow: {except-ports: []}\n"), beats); !slices.Equal(fired, []string{"5 beacon-fast"}) {
		t.Errorf("fired %v", fired)
	}
}

// A reload keeps what an unchanged rule has counted, and starts a changed one anew.
func TestReloadKeepsCounts(t *testing.T) {
	for _, tt := range []struct {
		name, settings string
		want           int
	}{
		{"nothing changed", "", 20},
		{"another severity", "builtin:\n  port-scan: {severity: high}\n", 20},
		{"another rule", "builtin:\n  host-sweep: {threshold: 3}\n", 20},
		{"another threshold", "builtin:\n  port-scan: {threshold: 21}\n", 31},
		{"another window", "builtin:\n  port-scan: {window: 2m}\n", 30},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := NewEngine(Builtin(), 1)
			got := -1
			for i := range 40 {
				if i == 10 {
					e.Use(load(t, tt.settings))
				}
				e.Event(opened("10.0.0.5", "192.0.2.1", uint16(1000+i), 0), 0, func(x *Raised) {
					if x.Rule.ID == rulePortScan {
						got = i
					}
				})
			}
			if got != tt.want {
				t.Errorf("fired at port %d, want %d", got, tt.want)
			}
		})
	}
}

// The state of an Engine can be saved and restored anywhere; state of rules that
// are gone is left out.
func TestEngineSaveRestore(t *testing.T) {
	evs := slices.Concat(
		events(60, func(i int) *tracker.Event {
			return opened("10.0.0.5", "192.0.2.1", uint16(1000+i), time.Duration(i)*time.Second)
		}),
		events(60, func(i int) *tracker.Event {
			return opened("10.0.0.6", fmt.Sprintf("192.0.2.%d", i), 22, time.Duration(i)*time.Second)
		}),
		events(60, func(i int) *tracker.Event {
			return shown("10.0.0.7", "192.0.2.1", 443, ja4.TypeJA4, ja4Number(i), time.Duration(i)*time.Second)
		}),
		events(60, func(i int) *tracker.Event {
			return opened("10.0.0.8", "192.0.2.1", 8443, time.Duration(i)*30*time.Second)
		}),
	)
	want, _ := feed(Builtin(), evs)
	for cut := range evs {
		if cut%7 != 0 {
			continue
		}
		e := NewEngine(Builtin(), 99)
		var fired []string
		for i, ev := range evs {
			if i == cut {
				var w state.Writer
				e.Save(&w)
				e = NewEngine(Builtin(), 99)
				r := state.NewReader(w.B)
				if err := e.Restore(r); err != nil || r.End() != nil {
					t.Fatal(err, r.End())
				}
				var again state.Writer
				e.Save(&again)
				if !slices.Equal(w.B, again.B) {
					t.Fatalf("cut at %d: the restored engine saves other bytes", cut)
				}
				other := NewEngine(load(t, "builtin:\n  port-scan: {enabled: false}\n  beacon-fast: {enabled: false}\n  beacon-slow: {enabled: false}\n"), 99)
				if r := state.NewReader(w.B); other.Restore(r) != nil || r.End() != nil {
					t.Fatal("state of rules that are off is not left out:", r.End())
				}
			}
			e.Event(ev, 0, func(x *Raised) { fired = append(fired, fmt.Sprintf("%d %s", i, x.Rule.ID)) })
		}
		if !slices.Equal(fired, want) {
			t.Fatalf("cut at %d: fired %v, want %v", cut, fired, want)
		}
	}
}

// An event that no rule wants costs no allocation, nor does one that is counted.
func TestEventDoesNotAllocate(t *testing.T) {
	e := NewEngine(load(t, "rules:\n- {id: own, severity: low, text: x, key: [src, sni], threshold: 1000000, window: 1m, filter: 'dst.port:443 network:lab'}\n"), 1)
	evs := []*tracker.Event{
		opened("10.0.0.5", "192.0.2.1", 443, 0), shown("10.0.0.5", "192.0.2.1", 443, ja4.TypeJA4, ja4Number(1), 0),
		shown("10.0.0.5", "192.0.2.1", 443, ja4.TypeJA4L, "100_64", 0),
	}
	if n := testing.AllocsPerRun(1000, func() {
		for _, ev := range evs {
			e.Event(ev, 0, func(x *Raised) { t.Errorf("raised %s", x.Rule.ID) })
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// Texts name what happened; a text that is long stays one line.
func TestTexts(t *testing.T) {
	rs := load(t, `rules:
- {id: own, severity: low, key: src, on: [ja4], threshold: 1, window: 1m,
   text: "{src} {src.port} {dst} {dst.port} {proto} {network} {probe} {sni} {type} {value} {n} {threshold} {window}"}
`)
	_, all := feed(rs, events(2, func(i int) *tracker.Event {
		return with(shown("10.0.0.5", "192.0.2.1", 443, ja4.TypeJA4, "v", 0), func(ev *tracker.Event) { ev.ServerName = strings.Repeat("n", 255) })
	}))
	want := "10.0.0.5 40000 192.0.2.1 443 tcp lab p " + strings.Repeat("n", 80) + "… ja4 v 2 1 1m"
	if len(all) != 1 || all[0].Description != want {
		t.Errorf("the text is %v, want %q", all, want)
	}
}
