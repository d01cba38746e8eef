package anomaly

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

// start is where the tests' time begins.
const start = int64(1_700_000_000_000_000_000)

func at(d time.Duration) int64 { return start + int64(d) }

func addr(s string) flow.Addr { return flow.AddrFrom(netip.MustParseAddr(s)) }

// opened returns a TCP connection that a SYN opened.
func opened(src, dst string, port uint16, d time.Duration) *tracker.Event {
	return &tracker.Event{
		Kind: tracker.Opened, Network: "lab", Probe: "p", Src: addr(src), Dst: addr(dst), SrcPort: 40000, DstPort: port,
		Protocol: flow.TCP, TCPFlags: flow.SYN, Time: at(d), SrcPackets: 1, SrcBytes: 74,
	}
}

// shown returns a fingerprint of a TCP connection.
func shown(src, dst string, port uint16, t ja4.Type, value string, d time.Duration) *tracker.Event {
	ev := opened(src, dst, port, d)
	ev.Kind, ev.Type, ev.Value, ev.PacketNum = tracker.Fingerprinted, t, value, 4
	return ev
}

// with returns ev changed by f.
func with(ev *tracker.Event, f func(ev *tracker.Event)) *tracker.Event {
	f(ev)
	return ev
}

// feed gives events to an engine with rs and returns what they raised, as
// "index rule", and the anomalies.
func feed(rs *Rules, evs []*tracker.Event) (fired []string, all []tracker.Anomaly) {
	e := NewEngine(rs, 99)
	for i, ev := range evs {
		e.Event(ev, 0, func(x *Raised) {
			what := x.Rule.ID
			if x.Suppressed {
				what = "-" + what
			} else {
				all = append(all, x.Anomaly)
			}
			fired = append(fired, fmt.Sprintf("%d %s", i, what))
		})
	}
	return fired, all
}

// load compiles one rules file.
func load(t testing.TB, text string) *Rules {
	t.Helper()
	rs, err := Load(File{"rules.yaml", []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// events returns n events, the ith made by f.
func events(n int, f func(i int) *tracker.Event) (all []*tracker.Event) {
	for i := range n {
		all = append(all, f(i))
	}
	return all
}

// history returns the fingerprints of one type, a second apart.
func history(t ja4.Type, values ...string) tracker.History {
	h := tracker.History{Type: t, TotalCount: uint64(len(values))}
	for i, v := range values {
		h.Events = append(h.Events, tracker.FingerprintEvent{
			Value: v, SeenAt: at(time.Duration(i+1) * time.Second), PacketNum: uint64(10 * (i + 1)), Probe: "p",
		})
	}
	return h
}

// snapshot returns a connection with fingerprints.
func snapshot(hs ...tracker.History) *tracker.Snapshot {
	return &tracker.Snapshot{
		Network: "lab", Src: addr("10.0.0.5"), Dst: addr("192.0.2.80"), SrcPort: 40000, DstPort: 443, Protocol: flow.TCP,
		FirstSeen: at(0), LastSeen: at(time.Minute), Fingerprints: hs,
	}
}

// rulesOf returns the rules of anomalies, in order.
func rulesOf(as []tracker.Anomaly) string {
	var ids []string
	for _, a := range as {
		ids = append(ids, a.Rule)
	}
	return strings.Join(ids, " ")
}
