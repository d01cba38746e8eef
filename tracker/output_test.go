package tracker

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
)

// What a Tracker puts out is a function of the log: the same items in the same
// order, whatever the number of workers and their timing.
func TestOutputIsOrdered(t *testing.T) {
	for seed := range uint64(sequences(t, 16)) {
		r := newTraffic(seed)
		cfg := tight(r)
		cfg.Shards = 8
		cfg.MaxConnections, cfg.MaxMemoryBytes = max(cfg.MaxConnections, 8), max(cfg.MaxMemoryBytes, 8*minShardMemoryBytes)
		steps := stepsOf(r, 150)
		cfg.Workers = 1
		want := record(t, cfg, steps)
		if len(want.lines) < len(steps) {
			t.Fatalf("seed %d: only %d lines", seed, len(want.lines))
		}
		if !slices.IsSorted(want.positions) {
			t.Fatalf("seed %d: positions go back", seed)
		}
		for _, cfg.Workers = range []int{2, 5, 8} {
			got := record(t, cfg, steps)
			same(t, fmt.Sprintf("seed %d, %d workers", seed, cfg.Workers), want.lines, got.lines)
		}
	}
}

// Where no limit binds, what rows led to stands in the order of the rows, also
// for another number of shards.
func TestOutputFollowsRows(t *testing.T) {
	for seed := range uint64(sequences(t, 16)) {
		r := newTraffic(seed)
		steps := stepsOf(r, 100)
		events := func(shards int) (lines []string) {
			cfg := Config{Shards: shards, Workers: min(shards, 3), MaxConnections: 1 << 14, MaxMemoryBytes: 64 << 20, Events: true}
			cfg.OnOutput = func(o *Output) {
				for _, i := range o.Items {
					if e := i.Event; e != nil {
						c := *e
						c.UID = UID{}
						lines = append(lines, fmt.Sprintf("%d %+v", o.Position, c))
					}
				}
			}
			rig := newRig(t, cfg)
			for i := range steps {
				submitStep(t, rig.Tracker, &steps[i])
			}
			settle(t, rig.Tracker)
			return lines
		}
		same(t, fmt.Sprintf("seed %d", seed), events(1), events(16))
	}
}

// Each connection is opened, then fingerprinted as its history says, then
// departs; each entry ends once.
func TestEventsTellTheHistory(t *testing.T) {
	r := newTraffic(3)
	steps := slices.DeleteFunc(stepsOf(r, 400), func(s step) bool {
		return s.batch != nil && len(s.batch.Fingerprints) > 100 // keep histories whole
	})
	type life struct {
		values  []string
		departs int
	}
	lives := map[UID]*life{}
	ends := map[uint64]int{}
	numbers := map[int]uint64{}
	cfg := Config{
		Shards: 8, Workers: 3, MaxConnections: 8 * 6, Events: true,
		Encode: func(dst []byte, e *Eviction) []byte {
			for _, h := range e.Connection.Fingerprints {
				for _, v := range h.Events {
					dst = fmt.Append(dst, h.Type, "=", v.Value, "@", v.PacketNum, v.Probe, v.SeenAt, "\n")
				}
			}
			return dst
		},
		OnOutput: func(o *Output) {
			for _, i := range o.Items {
				if e := i.Event; e != nil {
					if e.Kind == Opened {
						if lives[e.UID] != nil {
							t.Errorf("%v is opened twice", e.UID)
						}
						lives[e.UID] = new(life)
						continue
					}
					l := lives[e.UID]
					l.values = append(l.values, fmt.Sprint(e.Type, "=", e.Value, "@", e.PacketNum, e.Probe, e.Time))
					continue
				}
				d := i.Departure
				l := lives[d.UID]
				if l == nil || l.departs > 0 {
					t.Errorf("%v departs before it is opened, or twice", d.UID)
					return
				}
				l.departs++
				body := strings.Split(strings.TrimSuffix(string(d.Body), "\n"), "\n")
				if len(d.Body) == 0 {
					body = nil
				}
				slices.Sort(body)
				slices.Sort(l.values)
				if !slices.Equal(body, l.values) {
					t.Errorf("%v departs with %q, its events said %q", d.UID, body, l.values)
				}
				if numbers[d.Shard]++; d.Number != numbers[d.Shard] {
					t.Errorf("shard %d: eviction %d where %d was next", d.Shard, d.Number, numbers[d.Shard])
				}
			}
			if o.Last {
				ends[o.Position]++
			}
		},
	}
	rig := newRig(t, cfg)
	for i := range steps {
		submitStep(t, rig.Tracker, &steps[i])
	}
	submitStep(t, rig.Tracker, &step{kind: jobFlush})
	settle(t, rig.Tracker)
	for _, s := range steps {
		if ends[s.entry.Position] != 1 {
			t.Errorf("entry %d ends %d times", s.entry.Position, ends[s.entry.Position])
		}
	}
	n := rig.Count()
	if uint64(len(lives)) != n.Opened || n.Opened < 500 || n.Live != 0 {
		t.Errorf("%d connections, %d opened, %d live", len(lives), n.Opened, n.Live)
	}
}

// An event says what is known of the connection at that packet.
func TestEventContent(t *testing.T) {
	var got []Event
	r := newRig(t, Config{Events: true, Epoch: 3, OnOutput: func(o *Output) {
		for _, i := range o.Items {
			if i.Event != nil {
				got = append(got, *i.Event)
			}
		}
	}})
	tu := tuple(1)
	key, _ := tu.Key()
	b := batchOf( // the first packet comes from the server
		pkt{flow: tu, at: 0, flags: flow.SYN | flow.ACK, back: true, bytes: 60},
		pkt{flow: tu, at: time.Second, flags: flow.ACK | flow.PSH, bytes: 700},
		pkt{flow: tu, at: 2 * time.Second, flags: flow.ACK, bytes: 50},
	)
	print := func(row uint32, value string) {
		b.Fingerprints = append(b.Fingerprints, flow.Fingerprint{Row: row, Event: ja4.Event{
			Type: ja4.TypeJA4, Value: value, Raw: "raw " + value, ServerName: "example.org",
		}})
	}
	print(2, "one")
	print(2, "one") // changes nothing
	print(3, "two")
	print(0, "three")
	r.submit(at(0), r.origin("lab", "p"), b)
	r.submit(at(0), r.origin("lab", "p"), batchOf(pkt{flow: tu, at: 3 * time.Second, flags: flow.ACK})) // says nothing
	settle(t, r.Tracker)

	var s Snapshot
	if !r.Get(key, "lab", Full, &s) {
		t.Fatal("not tracked")
	}
	opened := Event{
		Kind: Opened, UID: s.UID, Key: key, Network: "lab", Probe: "p",
		Src: tu.Src, SrcPort: tu.SrcPort, Dst: tu.Dst, DstPort: tu.DstPort, Protocol: flow.TCP,
		Time: at(0), TCPFlags: flow.SYN | flow.ACK, DstPackets: 1, DstBytes: 60,
	}
	one := opened
	one.Kind, one.Time, one.TCPFlags, one.SrcPackets, one.SrcBytes = Fingerprinted, at(time.Second), flow.ACK|flow.PSH, 1, 700
	one.Type, one.Value, one.Raw, one.ServerName, one.PacketNum = ja4.TypeJA4, "one", "raw one", "example.org", 2
	two := one
	two.Time, two.TCPFlags, two.SrcPackets, two.SrcBytes = at(2*time.Second), flow.ACK, 2, 750
	two.Value, two.Raw, two.Previous, two.PacketNum = "two", "raw two", "one", 3
	three := two
	three.TCPFlags, three.Value, three.Raw, three.Previous = 0, "three", "raw three", "two"
	same(t, "events", []Event{opened, one, two, three}, got)
	if s := Opened.String() + Fingerprinted.String() + EventKind(9).String(); s != "openedfingerprintedevent" {
		t.Errorf("kinds are called %q", s)
	}
}

// Who does not read holds up the workers, then Submit, with a bounded amount in
// between; then all comes, in order.
func TestOutputWaits(t *testing.T) {
	const conns = 40_000
	read := make(chan struct{})
	var seen, outputs atomic.Int64
	var last atomic.Uint64
	r := newRig(t, Config{
		MaxConnections: 2 * conns, Shards: 4, Workers: 2, QueueBatches: 4,
		Encode: func(dst []byte, _ *Eviction) []byte { return append(dst, make([]byte, 100)...) },
		OnOutput: func(o *Output) {
			<-read
			outputs.Add(1)
			for _, i := range o.Items {
				if len(i.Departure.Body) != 100 {
					t.Errorf("a body of %d bytes", len(i.Departure.Body))
				}
				seen.Add(1)
			}
			if o.Last && last.Swap(o.Position) >= o.Position {
				t.Errorf("entry %d ends late", o.Position)
			}
		},
	})
	b := new(flow.Batch)
	for i := range conns {
		b.AddPacket(b.AddFlow(udp(i)), false, at(0), 100, 0)
	}
	go func() { read <- struct{}{} }()
	r.submit(at(0), Origin{}, b)
	if err := r.Flush(t.Context(), Entry{LogTime: at(0)}, FlushRequest{}, nil); err != nil {
		t.Fatal(err)
	}
	held := func() uint64 {
		for {
			n := r.Count().Evicted[CauseFlush]
			time.Sleep(20 * time.Millisecond)
			if r.Count().Evicted[CauseFlush] == n {
				return n
			}
		}
	}
	// The totals are published with the shard's end; live connections are not
	// touched while their worker waits.
	if n := held(); n == conns {
		t.Error("the flush came to its end, with nobody reading")
	}
	for range 3 { // with the flush, all that may be under way
		if err := r.Tick(t.Context(), Entry{LogTime: at(0)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.Tick(ctx, Entry{LogTime: at(0)}, nil); err == nil {
		t.Error("Tick did not wait")
	}
	close(read)
	settle(t, r.Tracker)
	if seen.Load() != conns || last.Load() != 5 {
		t.Errorf("%d departures, last entry %d; want %d, 5", seen.Load(), last.Load(), conns)
	}
	if n := int(outputs.Load()); n < conns/outputItems {
		t.Errorf("%d outputs for %d departures", n, conns)
	}
	for _, w := range r.workers {
		if w.parts > partsPerWorker {
			t.Errorf("worker %d made %d parts", w.id, w.parts)
		}
	}
}

// The end of ctx stops a Tracker whose workers wait for somebody to read.
func TestStopWhileNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		tr, err := New(Config{
			MaxConnections: 50_000, Shards: 1, Workers: 1,
			OnOutput: func(*Output) { <-ctx.Done() },
		})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error)
		go func() { ended <- tr.Run(ctx) }()
		b := new(flow.Batch)
		for i := range 30_000 {
			b.AddPacket(b.AddFlow(udp(i)), false, at(0), 100, 0)
		}
		if err := tr.Submit(ctx, Entry{}, Origin{}, b, nil); err != nil {
			t.Fatal(err)
		}
		if err := tr.Flush(ctx, Entry{}, FlushRequest{}, func(int) { t.Error("done is called") }); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// Entries have to come in order; one that does not changes nothing.
func TestPositionsRise(t *testing.T) {
	var ends []uint64
	r := newRig(t, Config{OnOutput: func(o *Output) { ends = append(ends, o.Position) }})
	b := batchOf(pkt{flow: udp(1)})
	for _, c := range []struct {
		position uint64
		ok       bool
	}{{5, true}, {5, false}, {4, false}, {0, true}, {6, false}, {9, true}, {0, true}} {
		err := r.Submit(t.Context(), Entry{Position: c.position}, Origin{}, b, nil)
		if (err == nil) != c.ok {
			t.Errorf("position %d: %v", c.position, err)
		}
	}
	settle(t, r.Tracker)
	same(t, "positions", []uint64{5, 6, 9, 10}, ends)
	if n := r.Count().Packets; n != 4 {
		t.Errorf("%d packets, want 4", n)
	}
}

// Putting out opened connections and departures does not allocate.
func TestOutputDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	items := 0
	r := newRig(t, Config{
		MaxConnections: 4096, Shards: 4, Workers: 2, Events: true,
		Encode:   func(dst []byte, e *Eviction) []byte { return append(dst, make([]byte, 200)...) },
		OnOutput: func(o *Output) { items += len(o.Items) },
	})
	done := make(chan struct{}, 1)
	finish := func() { done <- struct{}{} }
	n, b := 0, new(flow.Batch)
	step := func() {
		b.Reset()
		for range 2000 {
			b.AddPacket(b.AddFlow(tuple(n)), false, at(time.Duration(n)*time.Microsecond), 60, flow.SYN)
			n++
		}
		if err := r.Submit(context.Background(), Entry{}, Origin{}, b, finish); err != nil {
			t.Fatal(err)
		}
		<-done
	}
	for range 50 {
		step()
	}
	items = 0
	if avg := testing.AllocsPerRun(100, step); avg > 5 {
		t.Errorf("%v allocations for 2,000 connections opened and evicted", avg)
	}
	if items != 101*4000 {
		t.Errorf("%d items, want %d", items, 101*4000)
	}
	runtime.KeepAlive(b)
}
