package tracker

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/whorl-net/whorl/flow"
)

// event is one packet of a log for the tests of replay.
type event struct {
	tuple flow.Tuple
	back  bool
	time  int64
	flags uint8
	print *flow.Fingerprint // without flow and row
}

// logOf makes a random log: packet times that mostly rise, with gaps up to
// several minutes, packets that come late, and reuse of tuples.
func logOf(r *traffic, n int) []event {
	all := make([]event, n)
	for i := range all {
		e := event{tuple: r.tuple(), back: r.chance(40)}
		switch k := r.IntN(100); {
		case k < 85 || i == 0:
			r.now += r.Int64N(int64(200 * time.Millisecond))
		case k < 90:
			r.now += r.seconds(60)
		case k < 91:
			r.now += r.seconds(400)
		}
		e.time = r.now
		if r.chance(8) {
			e.time -= r.seconds(100)
		}
		e.flags = r.flags(e.tuple.Protocol)
		if r.chance(20) {
			e.print = &flow.Fingerprint{Event: r.event()}
		}
		all[i] = e
	}
	return all
}

// replay submits log cut into batches at random, each spanning less than the
// hold, with ticks at random times. speed is how fast log time runs.
func replay(t *testing.T, log []event, cfg Config, r *rand.Rand, live bool) []*Eviction {
	rig := newRig(t, cfg)
	o, err := rig.Origin("lab", "p", live)
	if err != nil {
		t.Fatal(err)
	}
	logTime := log[0].time
	for len(log) > 0 {
		b := new(flow.Batch)
		seen := map[flow.Tuple]uint32{}
		newest := int64(0)
		for n := 1 + r.IntN(40); n > 0 && len(log) > 0; n-- {
			e := log[0]
			if newest > 0 && e.time-newest > int64(time.Second) {
				break
			}
			newest = max(newest, e.time)
			f, ok := seen[e.tuple]
			if !ok {
				f = b.AddFlow(e.tuple)
				seen[e.tuple] = f
			}
			b.AddPacket(f, e.back, e.time, 100, e.flags)
			if e.print != nil {
				p := *e.print
				p.Flow, p.Row = f, uint32(b.Rows())
				b.Fingerprints = append(b.Fingerprints, p)
			}
			log = log[1:]
		}
		if live { // ticks only up to what comes next
			for r.IntN(3) == 0 && newest > logTime {
				logTime += r.Int64N(newest - logTime + 1)
				rig.tick(logTime)
			}
			logTime = max(logTime, newest)
		} else if r.IntN(3) == 0 { // the whole replay takes less than its hold
			logTime += int64(time.Millisecond)
			rig.tick(logTime)
		}
		rig.submit(logTime, o, b)
	}
	rig.tick(logTime + int64(time.Hour))
	rig.checkInvariants()
	gone := rig.evictions()
	for _, e := range gone {
		e.Number = 0
		normal(&e.Connection)
	}
	slices.SortFunc(gone, byConnection)
	return gone
}

// The same packets give the same evictions, however they are cut into batches,
// however often a tick comes, on any number of shards and workers, live or at
// full speed.
func TestReplayIsEqual(t *testing.T) {
	for seed := range uint64(5) {
		tr := &traffic{Rand: rand.New(rand.NewPCG(seed, 1)), now: epochTime, hosts: 5, values: 20}
		log := logOf(tr, 1000)
		want := replay(t, log, Config{Shards: 1, MaxMemoryBytes: 64 << 20, MaxConnections: 1 << 16}, tr.Rand, false)
		if len(want) < 100 {
			t.Fatalf("seed %d: only %d evictions", seed, len(want))
		}
		for _, c := range []struct{ shards, workers int }{{1, 1}, {4, 3}, {64, 2}} {
			for _, live := range []bool{false, true} {
				name := fmt.Sprintf("seed %d, %d shards, %d workers, live %v", seed, c.shards, c.workers, live)
				got := replay(t, log, Config{
					Shards: c.shards, Workers: c.workers, HashSeed: seed, MaxMemoryBytes: 64 << 20, MaxConnections: 1 << 16,
					LiveHold: 2 * time.Second, // a batch spans up to one
				}, tr.Rand, live)
				same(t, name, want, got)
			}
		}
	}
}

// The same log gives the same evictions with the same numbers in each shard,
// whatever the workers do: also at the limits, where what a shard has room for
// decides. A log that is applied again after a crash relies on it.
func TestSameLogSameOrder(t *testing.T) {
	run := func(workers int) [][]string {
		all := make([][]string, 8)
		cfg := Config{
			Shards: 8, Workers: workers, HashSeed: 1, MaxConnections: 64, MaxMemoryBytes: 8 * minShardMemoryBytes,
			OnEvict: func(shard int, e *Eviction) {
				c := e.Connection.Clone()
				all[shard] = append(all[shard], fmt.Sprint(e.Number, e.Cause, e.EvictedAt, *c))
			},
		}
		rig := newRig(t, cfg)
		r := &traffic{Rand: rand.New(rand.NewPCG(7, 7)), now: epochTime, hosts: 20, values: 200}
		for i := range 400 {
			o := rig.origin([]string{"default", "lab"}[r.IntN(2)], fmt.Sprint("p", r.IntN(5)))
			switch {
			case i%17 == 0:
				rig.tick(r.now)
			case i%71 == 0:
				rig.flush(r.now, FlushRequest{Probe: "p1"})
			default:
				rig.submit(r.now, o, r.batch())
			}
		}
		rig.checkInvariants()
		return all
	}
	want := run(1)
	for i := range want {
		if len(want[i]) < 100 {
			t.Fatalf("shard %d: only %d evictions", i, len(want[i]))
		}
	}
	same(t, "evictions by shard", want, run(8))
}
