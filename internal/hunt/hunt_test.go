package hunt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/enrich"
	"github.com/whorl-net/whorl/internal/feed"
	"github.com/whorl-net/whorl/internal/jet/jettest"
	"github.com/whorl-net/whorl/internal/wire"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	common = "t13d1516h2_8daaf6152771_02713d6af862"
	evil   = "t13d1516h2_eeeeeeeeeeee_02713d6af862"
	known  = "t13d1516h2_dddddddddddd_02713d6af862"
	answer = "t130200_1301_a56c5b993250"
)

const start = int64(1_800_000_000_000_000_000)

// rig is a tracker whose evictions go to a journal, judged by tables of a file.
type rig struct {
	t        testing.TB
	tables   string
	enricher *enrich.Enricher
	journal  *feed.Journal
	tracker  *tracker.Tracker
	ctx      context.Context

	submits  sync.Mutex // a tracker takes one entry at a time; guards position too
	position uint64
}

// newRig makes a rig with a journal in memory.
func newRig(t testing.TB, entries string, feedBytes int64) *rig {
	t.Helper()
	j, err := feed.New(feed.Config{MaxBytes: feedBytes})
	if err != nil {
		t.Fatal(err)
	}
	return newRigOn(t, entries, j)
}

func newRigOn(t testing.TB, entries string, j *feed.Journal) *rig {
	t.Helper()
	r := &rig{t: t, tables: filepath.Join(t.TempDir(), "bad.yaml"), journal: j}
	r.write(entries)
	var err error
	if r.enricher, err = enrich.New(enrich.Config{NoBuiltin: true, KnownBad: []string{r.tables}}); err != nil {
		t.Fatal(err)
	}
	if r.tracker, err = tracker.New(tracker.Config{
		Shards: 4, MaxConnections: 1 << 21, MaxMemoryBytes: 4 << 30, Enrich: r.enricher.Snapshot,
		OnEvict: func(_ int, e *tracker.Eviction) { r.keep(e) },
	}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r.ctx = ctx
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.tracker.Run(ctx)
	}()
	t.Cleanup(func() { stop(); <-ended })
	return r
}

// keep appends an eviction to the journal.
func (r *rig) keep(e *tracker.Eviction) {
	body := wire.AppendEviction(nil, e)
	if _, err := r.journal.Append(context.Background(), start, &feed.Event{Position: 1, Key: &e.Connection.Key, Network: e.Connection.Network, Body: body}); err != nil {
		r.t.Error(err)
	}
}

func (r *rig) write(entries string) {
	r.t.Helper()
	if err := os.WriteFile(r.tables, []byte("version: 1\nentries:\n"+entries), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) reload(entries string) enrich.Change {
	r.t.Helper()
	r.write(entries)
	c, err := r.enricher.Reload(nil, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func tuple(n int) flow.Tuple {
	return flow.Tuple{Src: flow.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), Dst: flow.AddrFrom4([4]byte{192, 0, 2, 1}),
		SrcPort: 40000, DstPort: 443, Protocol: flow.TCP}
}

// open makes connection n known to the tracker, with fingerprints as "type
// value".
func (r *rig) open(network string, first, count int, prints func(n int) []string) {
	r.t.Helper()
	o, err := r.tracker.Origin(network, "edge1", false)
	if err != nil {
		r.t.Fatal(err)
	}
	const rows = 1000
	for first, end := first, first+count; first < end; first += rows {
		b := new(flow.Batch)
		for n := first; n < min(first+rows, end); n++ {
			f := b.AddFlow(tuple(n))
			b.AddPacket(f, true, start, 100, 0x10)
			for _, p := range prints(n) {
				name, value, _ := strings.Cut(p, " ")
				typ, err := ja4.ParseType(name)
				if err != nil {
					r.t.Fatal(err)
				}
				b.Fingerprints = append(b.Fingerprints, flow.Fingerprint{Flow: f, Row: uint32(len(b.Flow)), Event: ja4.Event{Type: typ, Value: value, Raw: "raw_" + value}})
			}
		}
		r.submits.Lock()
		r.position++
		err := r.tracker.Submit(r.ctx, tracker.Entry{Position: r.position, LogTime: start}, o, b, func() {})
		r.submits.Unlock()
		if err != nil {
			r.t.Fatal(err)
		}
	}
	r.settle(r.ctx)
}

func (r *rig) settle(ctx context.Context) error {
	done := make(chan struct{})
	r.submits.Lock()
	err := r.tracker.Sync(ctx, func() { close(done) })
	r.submits.Unlock()
	if err != nil {
		return err
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// flush evicts every connection of a network.
func (r *rig) flush(network string) {
	r.t.Helper()
	done := make(chan int, 1)
	r.submits.Lock()
	r.position++
	err := r.tracker.Flush(r.ctx, tracker.Entry{Position: r.position, LogTime: start}, tracker.FlushRequest{Network: network}, func(n int) { done <- n })
	r.submits.Unlock()
	if err != nil {
		r.t.Fatal(err)
	}
	<-done
}

// hunter runs a Hunter until the test ends; each hunt is reported on the channel.
func (r *rig) hunter(cfg Config) (*Hunter, <-chan Result) {
	r.t.Helper()
	results := make(chan Result, 16)
	cfg.Live, cfg.Journal, cfg.Settle = r.tracker, r.journal, r.settle
	cfg.Done = func(x Result, err error) {
		if err != nil && !errors.Is(err, context.Canceled) {
			r.t.Error(err)
		}
		results <- x
	}
	if cfg.Share == 0 {
		cfg.Share = 100
	}
	h, err := New(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.Run(ctx)
	}()
	r.t.Cleanup(func() { stop(); <-ended })
	return h, results
}

// told is what the feed says of each connection.
type told struct {
	sequence  uint64 // of its eviction
	bad       bool   // its eviction said so
	discovery *wire.Discovery
}

func (r *rig) feed() map[tracker.UID]*told {
	r.t.Helper()
	all := make(map[tracker.UID]*told)
	of := func(u tracker.UID) *told {
		if all[u] == nil {
			all[u] = new(told)
		}
		return all[u]
	}
	reader := r.journal.ReadOldest()
	for {
		b, err := reader.Next(r.ctx, 1000, 1<<20)
		if err != nil {
			r.t.Fatal(err)
		}
		if b.Len() == 0 {
			return all
		}
		for i := range b.Len() {
			if b.Discovery(i) {
				d := new(wire.Discovery)
				if _, err := wire.DecodeDiscovery(b.Event(i), tracker.Full, d); err != nil {
					r.t.Fatal(err)
				}
				x := of(d.Connection.UID)
				if x.discovery != nil {
					r.t.Errorf("%s is announced twice", d.Connection.ID())
				}
				x.discovery = d
				continue
			}
			var e tracker.Eviction
			sequence, err := wire.DecodeEviction(b.Event(i), tracker.Full, &e)
			if err != nil {
				r.t.Fatal(err)
			}
			x := of(e.Connection.UID)
			x.sequence, x.bad = sequence, e.Connection.KnownBad
		}
	}
}

const (
	before = "- {id: old, app: Old, match: {ja4: " + known + "}}\n"
	after  = before + "- {id: new, app: New, confidence: 90, match: {ja4: " + evil + "}}\n" +
		"- {id: pair, app: Pair, match: {ja4: " + common + ", ja4s: " + answer + "}}\n"
)

// planted says what connection n shows, and whether the new entries condemn it.
func planted(n int) (prints []string, condemned bool) {
	switch n % 100 {
	case 7: // and it goes on with something else
		return []string{"ja4 " + evil, "ja4 " + common}, true
	case 17:
		return []string{"ja4 " + common, "ja4s " + answer}, true
	case 27: // was condemned before
		return []string{"ja4 " + known, "ja4 " + evil}, false
	case 37: // half a pair
		return []string{"ja4s " + answer}, false
	case 47:
		return nil, false
	}
	return []string{"ja4 " + common, "ja4t 64240_2-1-3-1-1-4_1460_8"}, false
}

func prints(n int) []string { p, _ := planted(n); return p }

// A hunt finds what new entries condemn among live and evicted connections, all
// of it, nothing else, and once.
func TestHuntFindsThePlanted(t *testing.T) {
	const live, held = 2000, 1500
	r := newRig(t, before, 64<<20)
	r.open("past", 0, held, prints)
	r.flush("past")
	r.open("now", 0, live, prints)
	h, results := r.hunter(Config{Now: func() int64 { return start + 5 }})
	h.Hunt(r.reload(after))
	got := <-results
	if want := (Result{Entries: 2, Live: live, Held: held, Found: (live + held) / 50, Announced: (live + held) / 50}); got != want {
		t.Fatalf("result %+v, want %+v", got, want)
	}
	all := r.feed()
	found := 0
	for n := range live + held {
		network := "past"
		if n >= held {
			network, n = "now", n-held
		}
		_, condemned := planted(n)
		tu := tuple(n)
		key, _ := tu.Key()
		for _, x := range all {
			if x.discovery == nil || x.discovery.Connection.Key != key || x.discovery.Connection.Network != network {
				continue
			}
			found++
			d := x.discovery
			if !condemned {
				t.Fatalf("%s is announced: %+v", d.Connection.ID(), d.Anomaly)
			}
			if d.EvictionSequence != x.sequence || (d.EvictionSequence == 0) != (network == "now") {
				t.Errorf("%s: eviction %d, announced with %d", d.Connection.ID(), x.sequence, d.EvictionSequence)
			}
			checkDiscovery(t, n, d)
		}
	}
	if found != (live+held)/50 {
		t.Errorf("%d found, want %d", found, (live+held)/50)
	}
	if s := h.Stats(); s.Hunts != 1 || s.Running || s.Total != got {
		t.Errorf("stats %+v", s)
	}

	// The same again is nothing new, and something better known neither.
	h.Hunt(r.reload(after))
	h.Hunt(r.reload(strings.ReplaceAll(after, "app: New", "app: Newer")))
	h.Hunt(r.reload(before))
	if s := h.Stats(); s.Hunts != 1 {
		t.Errorf("stats %+v", s)
	}
}

// checkDiscovery looks at what is said of connection n.
func checkDiscovery(t *testing.T, n int, d *wire.Discovery) {
	t.Helper()
	c := &d.Connection
	if d.DiscoveredAt != start+5 || d.Anomaly.Rule != "known-bad" || d.Anomaly.Severity != tracker.SeverityHigh || d.Anomaly.RaisedAt != start || d.Anomaly.PacketNum != 1 {
		t.Fatalf("%s: %+v", c.ID(), d.Anomaly)
	}
	if !c.KnownBad || len(c.TableMatches) == 0 || !c.TableMatches[0].Bad || len(c.RawFingerprints) == 0 || c.PacketCount != 1 {
		t.Fatalf("%s: %+v", c.ID(), c)
	}
	var evidence []string
	for _, e := range d.Anomaly.Evidence {
		evidence = append(evidence, fmt.Sprintf("%v %s %d %s", e.Type, e.Value, e.PacketNum, e.Probe))
	}
	want := []string{"ja4 " + evil + " 1 edge1"}
	description := "shows what New is known for (entry new of bad.yaml, added since)"
	if n%100 == 17 {
		want = []string{"ja4 " + common + " 1 edge1", "ja4s " + answer + " 1 edge1"}
		description = "shows what Pair is known for (entry pair of bad.yaml, added since)"
	}
	if !slices.Equal(evidence, want) || d.Anomaly.Description != description {
		t.Fatalf("%s: %s, evidence %q", c.ID(), d.Anomaly.Description, evidence)
	}
}

// Connections leave while the hunt is on, and new ones come: the feed tells of
// each that the new entries condemn, by a discovery while it lived, by its
// eviction, or by a discovery behind an eviction that did not tell.
func TestHuntWhileConnectionsLeave(t *testing.T) {
	r := newRig(t, before, 256<<20)
	const networks, each = 24, 400
	for i := range networks {
		r.open(fmt.Sprint("n", i), 0, each, prints)
	}
	h, results := r.hunter(Config{Share: 50})
	var feeder sync.WaitGroup
	feeder.Go(func() {
		for i := range networks {
			r.flush(fmt.Sprint("n", i))
			r.open(fmt.Sprint("m", i), 0, 50, prints)
			r.flush(fmt.Sprint("m", i))
		}
	})
	time.Sleep(2 * time.Millisecond) // into the middle
	h.Hunt(r.reload(after))
	<-results
	feeder.Wait()
	told, announced := 0, 0
	for u, x := range r.feed() {
		if x.sequence == 0 {
			t.Fatalf("%v was not evicted", u)
		}
		if x.discovery != nil {
			announced++
			if x.bad != (x.discovery.EvictionSequence == 0) {
				t.Errorf("%s: announced with eviction %d, of which its eviction says %v", x.discovery.Connection.ID(), x.discovery.EvictionSequence, x.bad)
			}
		}
		if x.bad || x.discovery != nil {
			told++
		}
	}
	// Of each hundred two are planted, and one was known before.
	if want := networks * (each/100*3 + 3); told != want {
		t.Errorf("%d told, want %d", told, want)
	}
	t.Logf("%d told, %d of them by the hunt", told, announced)
}

// What is announced is bounded; what is found is counted.
func TestHuntIsBounded(t *testing.T) {
	r := newRig(t, before, 64<<20)
	r.open("now", 0, 1000, func(int) []string { return []string{"ja4 " + evil} })
	h, results := r.hunter(Config{MaxDiscoveries: 10})
	h.Hunt(r.reload(after))
	if got := <-results; got.Found != 1000 || got.Announced != 10 || len(r.feed()) != 10 {
		t.Errorf("%+v, %d in the feed", got, len(r.feed()))
	}
}

// Evictions that leave the feed before the hunt gets to them are counted.
func TestHuntOfWhatIsGone(t *testing.T) {
	r := newRig(t, before, feed.MinMaxBytes)
	for i := range 20 {
		r.open("past", i*1000, 1000, prints)
		r.flush("past")
	}
	held := r.journal.Stats().Events
	h, results := r.hunter(Config{})
	h.Hunt(r.reload(after))
	if got := <-results; got.Held != held || got.Held == 20000 {
		t.Errorf("%+v, %d held", got, held)
	}
}

// What a journal has on disk is searched like what it has in memory, and what
// is on its way there too.
func TestHuntInTheStore(t *testing.T) {
	j, err := feed.Open(t.Context(), feed.Config{MaxBytes: feed.MinMaxBytes, Epoch: "e"}, &jettest.Memory{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.Close)
	r := newRigOn(t, before, j)
	const held = 600
	r.open("past", 0, held, prints)
	r.flush("past")
	h, results := r.hunter(Config{})
	h.Hunt(r.reload(after))
	if got := <-results; got.Held != held || got.Announced != held/50 || got.Lost != 0 {
		t.Errorf("%+v", got)
	}
}

// Changes that come during a hunt are one hunt after it, in which nothing is
// announced a second time.
func TestHuntsFollowOneAnother(t *testing.T) {
	r := newRig(t, before, 64<<20)
	r.open("past", 0, 3000, func(n int) []string { return []string{fmt.Sprintf("ja4t %d_2_3_4", n%30)} })
	r.flush("past")
	entries := before
	blocked := make(chan struct{})
	var once sync.Once
	h, results := r.hunter(Config{Condemns: func(c *tracker.Snapshot, ms []tracker.TableMatch) (int, tracker.Severity, bool) {
		once.Do(func() { <-blocked })
		return firstBad(c, ms)
	}})
	for i := range 10 {
		entries += fmt.Sprintf("- {id: e%d, match: {ja4t: %d_2_3_4}}\n", i, i)
		h.Hunt(r.reload(entries))
		for i == 0 && !h.Stats().Running {
			time.Sleep(time.Millisecond)
		}
	}
	close(blocked)
	first, second := <-results, <-results
	if first.Entries != 1 || first.Announced != 100 || second.Entries != 9 || second.Announced != 900 || first.Held != 3000 || second.Held != 3000 {
		t.Errorf("%+v, then %+v", first, second)
	}
	if n := len(r.feed()); n != 3000 {
		t.Errorf("%d connections in the feed, want 3000", n)
	}
}

// What the allowlist silences is not announced. An entry that condemns beside an
// allowed one is, also when the allowed one was there before.
func TestHuntHonoursTheAllowlist(t *testing.T) {
	r := newRig(t, "- {id: ours, bad: true, match: {ja4t: 1001_2_3_4}}\n", 64<<20)
	of := func(n int) []string { return []string{fmt.Sprintf("ja4t %d_2_3_4", 1000+n%4)} }
	r.open("past", 0, 400, of)
	r.flush("past")
	r.open("now", 0, 400, of)
	h, results := r.hunter(Config{Condemns: func(_ *tracker.Snapshot, ms []tracker.TableMatch) (int, tracker.Severity, bool) {
		i := slices.IndexFunc(ms, func(m tracker.TableMatch) bool { return m.Bad && m.Entry != "ours" && m.Entry != "allowed" })
		return i, tracker.SeverityCritical, i >= 0
	}})
	h.Hunt(r.reload("- {id: ours, bad: true, match: {ja4t: 1001_2_3_4}}\n" +
		"- {id: allowed, bad: true, match: {ja4t: [1001_2_3_4, 1002_2_3_4]}}\n- {id: theirs, bad: true, match: {ja4t: [1001_2_3_*, 1003_2_3_4]}}\n"))
	got := <-results
	// Of four kinds one is only allowed, two match the new entry, one of them beside
	// an allowed one of before.
	if got.Allowed != 200 || got.Found != 400 || got.Announced != 400 {
		t.Errorf("%+v", got)
	}
	for _, x := range r.feed() {
		d := x.discovery
		if d != nil && (d.Anomaly.Severity != tracker.SeverityCritical || !strings.Contains(d.Anomaly.Description, "entry theirs")) {
			t.Fatalf("%+v", d.Anomaly)
		}
	}
}

// A hunt ends with its context, wherever it is, and leaves nothing behind.
func TestHuntIsCancelled(t *testing.T) {
	r := newRig(t, before, 64<<20)
	r.open("now", 0, 5000, prints)
	ctx, stop := context.WithCancelCause(context.Background())
	why := errors.New("enough")
	var ended error
	h, err := New(Config{Live: r.tracker, Journal: r.journal, Share: 1, Done: func(_ Result, err error) { ended = err },
		Condemns: func(c *tracker.Snapshot, ms []tracker.TableMatch) (int, tracker.Severity, bool) {
			stop(why)
			return firstBad(c, ms)
		}})
	if err != nil {
		t.Fatal(err)
	}
	h.Hunt(r.reload(after))
	if err := h.Run(ctx); !errors.Is(err, why) {
		t.Errorf("Run: %v", err)
	}
	if !errors.Is(ended, why) || h.Stats().Hunts != 0 || h.Stats().Running {
		t.Errorf("hunt ended with %v, %+v", ended, h.Stats())
	}
}

func TestNewRefuses(t *testing.T) {
	j, err := feed.New(feed.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []Config{{}, {Journal: j}, {Live: new(tracker.Tracker)}, {Live: new(tracker.Tracker), Journal: j, Share: 101}, {Live: new(tracker.Tracker), Journal: j, MaxDiscoveries: -1}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
}

// BenchmarkHunt: what a hunt costs at the size of a large collector.
func BenchmarkHunt(b *testing.B) {
	const live, held = 1_000_000, 100_000
	r := newRig(b, before, 1<<30)
	r.open("past", 0, held, prints)
	r.flush("past")
	r.open("now", 0, live, prints)
	h, results := r.hunter(Config{MaxDiscoveries: 1 << 20})
	b.ResetTimer()
	for range b.N {
		r.reload(before)
		h.Hunt(r.reload(after))
		if got := <-results; got.Live != live || got.Found != (live+held)/50 {
			b.Fatalf("%+v", got)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(live+held), "ns/connection")
}
