package analyst

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/analyst/anomaly"
	"github.com/whorl-net/whorl/internal/analyst/state"
	"github.com/whorl-net/whorl/internal/fuzzguard"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

const (
	chrome = "t13d1516h2_8daaf6152771_02713d6af862"
	curl   = "t13d3112h2_e8f1e7e78f70_b26ce05bbdd6"
)

// A fingerprint is new once: for the connection that introduced it to its
// network after the time of learning, in queries and in the feed.
func TestNew(t *testing.T) {
	r := newRig(t, 4, Config{Learn: time.Hour}, false)
	learned, first, second := tuple("10.0.0.1", "192.0.2.1", 1, 443), tuple("10.0.0.2", "192.0.2.1", 2, 443), tuple("10.0.0.3", "192.0.2.1", 3, 443)
	r.submit("lab", 0, batch([]act{syn(learned, 0), hello(learned, 1, ja4.TypeJA4, chrome)}))
	r.submit("lab", time.Minute, batch([]act{
		syn(first, 2*time.Hour), hello(first, 2*time.Hour, ja4.TypeJA4, chrome), hello(first, 2*time.Hour+1, ja4.TypeJA4, curl),
		syn(second, 2*time.Hour), hello(second, 2*time.Hour+2, ja4.TypeJA4, curl),
	}))
	r.submit("other", 2*time.Minute, batch([]act{syn(first, 0), hello(first, 0, ja4.TypeJA4, curl)}))
	if s := r.get(first, "lab"); !s.New || !slices.Contains(anomalyRules(s), "new-fingerprint") {
		t.Errorf("the first is not new: %s", verdict(s))
	}
	for _, s := range []*tracker.Snapshot{r.get(second, "lab"), r.get(first, "other")} {
		if s.New || len(s.Anomalies) > 0 {
			t.Errorf("one that is not the first, or learned, is new: %s", verdict(s))
		}
	}
	want := []string{
		"tcp/10.0.0.1:1-192.0.2.1:443@lab",
		"tcp/10.0.0.2:2-192.0.2.1:443@lab new [fingerprint-change 2h0m0.000000001s 3 \"the client of this connection became another one\" 2] " +
			"[new-fingerprint 2h0m0.000000001s 3 \"ja4 " + curl + " is new in network lab\" 1]",
		"tcp/10.0.0.2:2-192.0.2.1:443@other", "tcp/10.0.0.3:3-192.0.2.1:443@lab",
	}
	if got := verdicts(r.flush(3 * time.Minute)); !slices.Equal(got, want) {
		t.Errorf("the feed has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if n := r.found.count.Load(); n != 0 || r.found.bytes.Load() != 0 {
		t.Errorf("%d findings, %d bytes are left of connections that are gone", n, r.found.bytes.Load())
	}
	page, next := r.Fingerprints(0, 10, nil)
	if len(page) != 3 || next != 0 || page[0].Value != chrome || !page[0].Learned || page[0].Connections != 2 ||
		page[1].Value != curl || page[1].Learned || page[1].FirstID() != "tcp/10.0.0.2:2-192.0.2.1:443@lab" || page[1].FirstProbe != "probe-lab" ||
		page[1].Connections != 2 || page[2].Network != "other" || !page[2].Learned {
		t.Errorf("remembered are %+v", page)
	}
}

// A network whose first packet has a wrong clock is not learned for ever.
func TestLearningEndsByTheLog(t *testing.T) {
	r := newRig(t, 1, Config{Learn: time.Hour}, false)
	one, two := tuple("10.0.0.1", "192.0.2.1", 1, 443), tuple("10.0.0.2", "192.0.2.1", 2, 443)
	r.submit("lab", 0, batch([]act{syn(one, 10_000*time.Hour)}))
	r.submit("lab", 3*time.Hour, batch([]act{syn(two, time.Hour), hello(two, time.Hour, ja4.TypeJA4, chrome)}))
	if s := r.get(two, "lab"); !s.New {
		t.Error("it is still being learned after three hours of the log")
	}
}

// A scan is attached to the connection that crossed the threshold, live and in
// the feed, and to no other.
func TestScanThroughATracker(t *testing.T) {
	r := newRig(t, 8, Config{Learn: time.Hour}, false)
	var acts []act
	for i := range 30 {
		acts = append(acts, syn(tuple("10.0.0.1", "192.0.2.1", 40000, uint16(1000+i)), time.Duration(i)*time.Second))
	}
	r.submit("lab", time.Minute, batch(acts))
	if s := r.get(acts[20].flow, "lab"); !slices.Equal(anomalyRules(s), []string{"port-scan"}) || s.Anomalies[0].RaisedAt != at(20*time.Second) {
		t.Errorf("the 21st port: %s", verdict(s))
	}
	odd := 0
	for _, e := range r.flush(2 * time.Minute) {
		if len(e.Connection.Anomalies) > 0 {
			odd++
			if e.Connection.DstPort != 1020 {
				t.Error(verdict(&e.Connection))
			}
		}
	}
	if odd != 1 {
		t.Errorf("%d connections have an anomaly, want 1", odd)
	}
	for _, s := range r.Stats().Rules {
		if want := map[string]uint64{"port-scan": 1}[s.ID]; s.Raised != want || s.Suppressed != 0 {
			t.Errorf("rule %s: %+v", s.ID, s)
		}
	}
}

// A connection that the tables condemn, here by a combination, is said to be so
// as soon as the last part is there, live and in the feed, and counted once.
func TestKnownBadThroughATracker(t *testing.T) {
	r := newRig(t, 2, Config{Learn: time.Hour}, false)
	tu := tuple("10.0.0.1", "192.0.2.1", 40000, 443)
	r.submit("lab", 0, batch([]act{syn(tu, 0), hello(tu, 1, ja4.TypeJA4, "t13d190900_9dc949149365_97f8aa674fd9")}))
	if s := r.get(tu, "lab"); s.KnownBad || len(s.Anomalies) > 0 {
		t.Errorf("half of a combination condemns: %s", verdict(s))
	}
	r.submit("lab", 0, batch([]act{{flow: tu, at: 2, back: true, flags: flow.ACK, fps: []ja4.Event{{Type: ja4.TypeJA4S, Value: "t130200_1301_a56c5b993250"}}}}))
	live := r.get(tu, "lab")
	gone := r.flush(time.Minute)
	for _, s := range []*tracker.Snapshot{live, &gone[0].Connection} {
		if !s.KnownBad || !slices.Equal(anomalyRules(s), []string{"known-bad"}) || s.Anomalies[0].RaisedAt != at(2) || len(s.Anomalies[0].Evidence) != 2 {
			t.Errorf("not said to be bad: %s", verdict(s))
		}
	}
	for _, s := range r.Stats().Rules {
		if s.ID == "known-bad" && s.Raised != 1 {
			t.Errorf("raised %d times, want 1", s.Raised)
		}
	}
}

// traffic returns acts of all kinds, from a seed, in the order of time.
func traffic(seed uint64, n int) (acts []act) {
	r := rand.New(rand.NewPCG(seed, 3))
	at := time.Duration(0)
	host := func(n int) string { return fmt.Sprintf("10.0.%d.%d", n/200, n%200+1) }
	for len(acts) < n {
		at += time.Duration(r.IntN(400)) * time.Millisecond
		client, server := host(r.IntN(40)), fmt.Sprintf("192.0.2.%d", r.IntN(20)+1)
		switch r.IntN(12) {
		case 0: // a scan
			for i := range r.IntN(30) {
				acts = append(acts, syn(tuple(client, server, 50000, uint16(i+1)), at))
			}
		case 1: // a sweep
			for i := range r.IntN(80) {
				acts = append(acts, syn(tuple(client, host(500+i), 50001, 22), at))
			}
		case 2: // SSH
			tu := tuple(client, server, uint16(40000+r.IntN(5000)), 22)
			acts = append(acts, syn(tu, at), hello(tu, at, ja4.TypeJA4SSH, []string{"c76s76_c71s59_c0s70", "c36s36_c51s80_c69s0"}[r.IntN(2)]))
		default:
			tu := tuple(client, server, uint16(40000+r.IntN(20000)), 443)
			acts = append(acts, act{flow: tu, at: at, flags: flow.SYN, fps: []ja4.Event{{Type: ja4.TypeJA4T, Value: "64240_2-1-3-1-1-4_1460_8"}}})
			for range 1 + r.IntN(3) {
				acts = append(acts, hello(tu, at, ja4.TypeJA4, fmt.Sprintf("t13d1516h2_%012x_02713d6af862", r.IntN(60))))
			}
		}
	}
	return acts[:n]
}

// play submits acts in batches as cut says and returns what was said of each
// connection.
func (r *rig) play(acts []act, cut func() int) []string {
	r.Helper()
	for len(acts) > 0 {
		n := min(cut(), len(acts))
		r.submit("lab", acts[n-1].at, batch(acts[:n]))
		acts = acts[n:]
	}
	return verdicts(r.flush(time.Hour))
}

// What is found is a function of the traffic: not of the number of shards, nor of
// how batches are cut.
func TestShardsAndCutsDoNotMatter(t *testing.T) {
	for seed := range uint64(2) {
		acts := traffic(seed, 2000)
		cfg := Config{Learn: 20 * time.Second}
		want := newRig(t, 1, cfg, false).play(acts, func() int { return 100 })
		odd := 0
		for _, line := range want {
			odd += strings.Count(line, "[")
		}
		if odd < 20 {
			t.Fatalf("seed %d: only %d anomalies: the traffic is too tame", seed, odd)
		}
		r := rand.New(rand.NewPCG(seed, 4))
		for _, shards := range []int{1, 2, 64} {
			got := newRig(t, shards, cfg, false).play(acts, func() int { return 1 + r.IntN(300) })
			for i := range want {
				if i >= len(got) || got[i] != want[i] {
					t.Fatalf("seed %d, %d shards: connection %d of %d (%d) is\n%s\nwant\n%s", seed, shards, i, len(want), len(got), got[i], want[i])
				}
			}
		}
	}
}

// recorded returns the outputs of a tracker for traffic.
func recorded(t testing.TB, seed uint64, n int) []*tracker.Output {
	r := newRig(t, 8, Config{Learn: 20 * time.Second}, true)
	r.play(traffic(seed, n), func() int { return 50 })
	return r.outputs
}

// amendments replays outputs and returns what was amended.
func amendments(a *Analyst, outputs []*tracker.Output) (lines []string) {
	for _, o := range outputs {
		a.Take(o, func(d *tracker.Departure, f *Findings) {
			s := tracker.Snapshot{Key: d.Key, Network: d.Network}
			f.Apply(&s)
			lines = append(lines, verdict(&s))
		})
	}
	return lines
}

// An analyst that was saved and restored anywhere finds the same as one that was
// not, passes over what it has seen, and saves the same bytes in the end.
func TestSaveRestoreAnywhere(t *testing.T) {
	outputs := recorded(t, 1, 3000)
	small := anomalySmall(t)
	cfg := Config{Learn: 20 * time.Second, Seed: 7, Rules: small}
	whole, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	want := amendments(whole, outputs)
	end, _, err := whole.Save(nil)
	if err != nil || len(want) < 20 {
		t.Fatal(len(want), err)
	}
	for cut := 1; cut < len(outputs); cut += 7 {
		one, _ := New(cfg)
		got := amendments(one, outputs[:cut])
		data, position, err := one.Save([]byte("prefix"))
		if !outputs[cut-1].Last {
			if !errors.Is(err, ErrMidway) {
				t.Fatalf("saved in the middle of an entry: %v", err)
			}
			continue
		}
		if err != nil || position != outputs[cut-1].Position {
			t.Fatal(position, err)
		}
		two, _ := New(Config{Learn: 20 * time.Second, Seed: 8, Rules: small})
		if err := two.Restore(data[len("prefix"):]); err != nil {
			t.Fatal(err)
		}
		if again, _, _ := two.Save(nil); !bytes.Equal(again, data[len("prefix"):]) {
			t.Fatalf("cut at %d: the restored state saves other bytes", cut)
		}
		// The log is replayed from before the state.
		got = append(got, amendments(two, outputs[cut/2:])...)
		if !slices.Equal(got, want) {
			t.Fatalf("cut at %d: %d findings, want %d", cut, len(got), len(want))
		}
		if last, _, _ := two.Save(nil); !bytes.Equal(last, end) {
			t.Fatalf("cut at %d: the end is another", cut)
		}
	}
}

// Damaged bytes are an error and leave an empty analyst that works.
func TestRestoreRefusesDamage(t *testing.T) {
	outputs := recorded(t, 2, 600)
	small := anomalySmall(t)
	a, _ := New(Config{Rules: small})
	amendments(a, outputs)
	data, _, err := a.Save(nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(data); i += 1 + len(data)/100 {
		b, _ := New(Config{Rules: small})
		if err := b.Restore(data[:i]); !errors.Is(err, state.ErrDamaged) {
			t.Fatalf("%d of %d bytes: %v", i, len(data), err)
		}
		if b.Position() != 0 || b.Stats().Fingerprints != 0 {
			t.Fatal("something is left of a damaged state")
		}
	}
	if err := a.Restore(append(slices.Clone(data), 0)); !errors.Is(err, state.ErrDamaged) {
		t.Errorf("a byte too many: %v", err)
	}
	other := slices.Clone(data)
	other[0] = 99
	if err := a.Restore(other); err == nil || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("another version: %v", err)
	}
}

// Whatever the bytes are, Restore ends with a state or an error, and what comes
// after works.
func FuzzRestore(f *testing.F) {
	outputs := recorded(f, 2, 300)
	small := anomalySmall(f)
	a, _ := New(Config{Rules: small})
	amendments(a, outputs)
	data, _, err := a.Save(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzguard.Watch(t)
		a, _ := New(Config{Rules: small})
		if err := a.Restore(data); err != nil {
			return
		}
		for _, o := range outputs {
			c := *o
			c.Position += a.Position()
			a.Take(&c, nil)
		}
		if _, _, err := a.Save(nil); err != nil {
			t.Error(err)
		}
	})
}

// anomalySmall returns rules whose state is small, so that a fuzzer is quick.
func anomalySmall(t testing.TB) *anomaly.Rules {
	var b strings.Builder
	b.WriteString("builtin:\n")
	for _, id := range []string{"client-change", "ja4-flood", "certificate-diversity", "port-scan", "host-sweep", "connection-flood", "ssh-fan-out", "beacon-fast", "beacon-slow"} {
		fmt.Fprintf(&b, "  %s: {keys: 64}\n", id)
	}
	return rules(t, b.String())
}

// A reload takes effect behind its position: what was submitted before is judged
// by the old rules, whenever it is taken.
func TestReloadAtAPosition(t *testing.T) {
	outputs := recorded(t, 3, 3000)
	cfg := Config{Learn: 20 * time.Second}
	next := rules(t, "builtin:\n  port-scan: {enabled: false}\n  host-sweep: {threshold: 10}\n")
	position := outputs[len(outputs)/2].Position
	late, _ := New(cfg) // is told when it is there
	half := slices.IndexFunc(outputs, func(o *tracker.Output) bool { return o.Position > position })
	want := amendments(late, outputs[:half])
	late.Reload(next, position)
	want = append(want, amendments(late, outputs[half:])...)
	early, _ := New(cfg) // is told long before
	early.Reload(rules(t, ""), position+5)
	early.Reload(next, position) // replaces what waits for a later position
	if got := amendments(early, outputs); !slices.Equal(got, want) || len(want) == 0 {
		t.Errorf("%d findings, want %d", len(got), len(want))
	}
	never, _ := New(cfg)
	if got := amendments(never, outputs); slices.Equal(got, want) {
		t.Error("the reload made no difference")
	}
	if late.Rules() != next || early.Rules() != next {
		t.Error("the rules in force are not those of the reload")
	}
}

// The allowlist silences and counts, in the stream and for single connections.
func TestSuppression(t *testing.T) {
	r := newRig(t, 2, Config{Rules: rules(t, "allow:\n- {id: scanner, rules: [port-scan], filter: 'src:10.0.0.1'}\n- filter: ja4ssh:c76*\n")}, false)
	var acts []act
	for i := range 30 {
		acts = append(acts, syn(tuple("10.0.0.1", "192.0.2.1", 40000, uint16(1000+i)), time.Duration(i)*time.Second))
		acts = append(acts, syn(tuple("10.0.0.2", "192.0.2.1", 40000, uint16(1000+i)), time.Duration(i)*time.Second))
	}
	shell := tuple("10.0.0.3", "192.0.2.1", 40000, 22)
	acts = append(acts, syn(shell, 0), hello(shell, 1, ja4.TypeJA4SSH, "c76s76_c71s59_c0s70"))
	r.submit("lab", time.Minute, batch(acts))
	for _, e := range r.flush(time.Minute) {
		if c := &e.Connection; len(c.Anomalies) > 0 && c.Src.String() != "10.0.0.2" {
			t.Errorf("not silenced: %s", verdict(c))
		}
	}
	for _, s := range r.Stats().Rules {
		switch s.ID {
		case "port-scan":
			if s.Raised != 1 || s.Suppressed != 1 || s.Keys != 2 { // a third source came once only
				t.Errorf("%+v", s)
			}
		case "reverse-ssh":
			if s.Raised != 0 || s.Suppressed != 1 {
				t.Errorf("%+v", s)
			}
		}
	}
}

// Somebody who invents fingerprints, hosts and connections cannot make the
// analyst remember more than its limits; what had to go is counted.
func TestInventionsAreBounded(t *testing.T) {
	a, err := New(Config{MaxFingerprints: 1000, MaxFindingBytes: 256 << 10, Rules: anomalySmall(t)})
	if err != nil {
		t.Fatal(err)
	}
	ev := tracker.Event{Network: "lab", Probe: "p", Protocol: flow.TCP, TCPFlags: flow.SYN, DstPort: 443, SrcPort: 40000}
	for i := range 20_000 {
		ev.Src = flow.AddrFrom4([4]byte{100, byte(i >> 16), byte(i >> 8), byte(i)})
		ev.Dst = flow.AddrFrom4([4]byte{200, byte(i >> 16), byte(i >> 8), byte(i)})
		ev.UID[5], ev.UID[9], ev.UID[10], ev.UID[11] = byte(i), byte(i>>16), byte(i>>8), byte(i)
		ev.Time = start + int64(i)*1e6
		opened, shown := ev, ev
		opened.Kind = tracker.Opened
		shown.Kind, shown.Type, shown.Value = tracker.Fingerprinted, ja4.TypeJA4, fmt.Sprintf("t13d1516h2_%012x_02713d6af862", i)
		a.Take(&tracker.Output{Position: uint64(i + 1), Last: true, Items: []tracker.Item{{Event: &opened}, {Event: &shown}}}, nil)
	}
	s := a.Stats()
	if s.Fingerprints != 1000 || s.FingerprintsForgotten != 19_000 || s.FindingBytes > 256<<10 || s.NewLost == 0 {
		t.Errorf("%+v", s)
	}
	if uint64(s.Connections)+s.NewLost != 20_000 {
		t.Errorf("%d connections are new and %d had no room, want 20,000", s.Connections, s.NewLost)
	}
	for _, r := range s.Rules {
		if r.ID == "new-fingerprint" && (r.Raised == 0 || r.Raised+r.Dropped != 20_000) {
			t.Errorf("%+v", r)
		}
		if r.Keys > 64 {
			t.Errorf("rule %s holds %d keys", r.ID, r.Keys)
		}
	}
	data, _, err := a.Save(nil)
	if err != nil || len(data) > 1<<20 {
		t.Errorf("%d bytes are saved, %v", len(data), err)
	}
}

// Anomalies of high severity find room when those of low severity do not.
func TestRoomForWhatMatters(t *testing.T) {
	var st store
	st.clear(4 << 10)
	n := 0
	for ; st.add(tracker.UID{byte(n), 5: byte(n)}, tracker.Anomaly{Rule: "low", Severity: tracker.SeverityLow}) == kept; n++ {
	}
	if got := st.add(tracker.UID{99}, tracker.Anomaly{Rule: "high", Severity: tracker.SeverityHigh}); n == 0 || got != kept {
		t.Errorf("after %d low ones a high one is %v", n, got)
	}
	if got := st.add(tracker.UID{99}, tracker.Anomaly{Rule: "high", Severity: tracker.SeverityHigh}); got != twice {
		t.Errorf("the same rule again is %v", got)
	}
}

// Findings are merged into what a connection shows by itself: oldest first, one
// for each rule, up to the limit.
func TestApply(t *testing.T) {
	s := tracker.Snapshot{Anomalies: []tracker.Anomaly{{Rule: "own", RaisedAt: 20}, {Rule: "last", RaisedAt: 40}}}
	f := Findings{New: true, Anomalies: []tracker.Anomaly{{Rule: "scan", RaisedAt: 30}, {Rule: "own", RaisedAt: 1}, {Rule: "first", RaisedAt: 10}, {Rule: "at", RaisedAt: 20}}}
	f.Apply(&s)
	if got, want := anomalyRules(&s), []string{"first", "at", "own", "scan", "last"}; !slices.Equal(got, want) || !s.New {
		t.Errorf("%v, want %v", got, want)
	}
	for i := range 100 {
		f.Anomalies = append(f.Anomalies, tracker.Anomaly{Rule: fmt.Sprint("more", i), RaisedAt: 100})
	}
	if f.Apply(&s); len(s.Anomalies) != MaxAnomalies || s.Anomalies[0].Rule != "first" {
		t.Errorf("%d anomalies, want %d", len(s.Anomalies), MaxAnomalies)
	}
}

// Queries read findings while outputs are taken.
func TestConcurrentQueries(t *testing.T) {
	outputs := recorded(t, 5, 2000)
	a, _ := New(Config{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 200 {
			for _, o := range outputs[:5] {
				for _, it := range o.Items {
					if it.Event != nil {
						s := tracker.Snapshot{UID: it.Event.UID}
						a.Enrich(&s)
						a.Annotate(&s)
						a.Evicted(&tracker.Eviction{Connection: s})
					}
				}
			}
			a.Stats()
			a.Fingerprints(0, 10, nil)
		}
	}()
	for i, o := range outputs {
		a.Take(o, func(*tracker.Departure, *Findings) {})
		if i%50 == 0 {
			a.Reload(anomaly.Builtin(), o.Position)
		}
	}
	<-done
}

// Config refuses what makes no sense.
func TestConfig(t *testing.T) {
	for _, cfg := range []Config{
		{Learn: -1}, {NewTypes: 1 << ja4.TypeJA4L}, {MaxFingerprints: -1}, {MaxFingerprintBytes: 1}, {MaxFindingBytes: 1},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v is not refused", cfg)
		}
	}
}
