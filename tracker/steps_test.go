package tracker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
)

// step is one entry of a log for the tests of order and of replay.
type step struct {
	entry          Entry
	kind           jobKind
	network, probe string
	live           bool
	batch          *flow.Batch
	flush          FlushRequest
}

// stepsOf makes a random log: batches of several networks and probes, with late
// packets, runs and fingerprints, ticks and flushes.
func stepsOf(r *traffic, n int) []step {
	networks := []string{"default", "lab", "office"}[:r.networks]
	steps := make([]step, n)
	position, logTime := uint64(r.IntN(5)), epochTime
	for i := range steps {
		position += 1 + uint64(r.IntN(3))/2
		if r.chance(80) {
			logTime = max(logTime, r.now) + r.seconds(1)
		}
		s := &steps[i]
		s.entry = Entry{Position: position, LogTime: logTime}
		s.network, s.probe = networks[r.IntN(len(networks))], fmt.Sprint("p", r.IntN(r.probes))
		switch {
		case r.chance(10):
			s.kind = jobTick
		case r.chance(3):
			s.kind, s.flush = jobFlush, FlushRequest{Network: s.network}
			switch r.IntN(6) {
			case 0:
				s.flush = FlushRequest{}
			case 1:
				s.flush = FlushRequest{Probe: s.probe}
			case 2:
				s.flush.Detail = Newest
				s.flush.Match = func(s *Snapshot) bool { return s.PacketCount > 2 }
			}
		case r.chance(2): // what a probe could not keep
			s.batch = &flow.Batch{Lost: &flow.Lost{FirstSequence: 1, LastSequence: 9, Packets: 1000, Reason: "ring-full"}}
		case r.chance(3):
			s.live, s.batch = r.chance(50), r.storm()
		default:
			s.live, s.batch = r.chance(50), r.batch()
		}
	}
	return steps
}

// storm is a batch with a long history of one connection.
func (r *traffic) storm() *flow.Batch {
	b := r.batch()
	f := b.AddFlow(r.tuple())
	b.AddPacket(f, false, r.now, 100, flow.ACK)
	if len(b.RunPackets) > 0 {
		b.RunPackets, b.RunSpan = append(b.RunPackets, 1), append(b.RunSpan, 0)
	}
	for range r.IntN(1500) {
		e := ja4.Event{Type: ja4.TypeJA4SSH, Value: r.text()}
		b.Fingerprints = append(b.Fingerprints, flow.Fingerprint{Flow: f, Row: uint32(b.Rows()), Event: e})
	}
	return b
}

// submitStep submits without waiting.
func submitStep(t testing.TB, tr *Tracker, s *step) {
	t.Helper()
	err := error(nil)
	switch s.kind {
	case jobBatch:
		var o Origin
		if o, err = tr.Origin(s.network, s.probe, s.live); err == nil {
			err = tr.Submit(context.Background(), s.entry, o, s.batch, nil)
		}
	case jobTick:
		err = tr.Tick(context.Background(), s.entry, nil)
	case jobFlush:
		err = tr.Flush(context.Background(), s.entry, s.flush, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// settle waits until all that was submitted is applied and was put out.
func settle(t testing.TB, tr *Tracker) {
	t.Helper()
	done := make(chan struct{})
	if err := tr.Sync(context.Background(), func() { close(done) }); err != nil {
		t.Fatal(err)
	}
	<-done
}

// recorder writes down what a Tracker puts out, one line for each item and one
// for the end of each entry. It belongs to the merging goroutine.
type recorder struct {
	lines     []string
	positions []uint64 // of each line
	outputs   int
}

func (r *recorder) take(o *Output) {
	r.outputs++
	add := func(s string) {
		r.lines, r.positions = append(r.lines, s), append(r.positions, o.Position)
	}
	for _, i := range o.Items {
		switch {
		case i.Event != nil && i.Departure != nil:
			add("an item with two fields")
		case i.Event != nil:
			e := *i.Event
			e.UID, e.Key, e.Src, e.Dst = UID{}, flow.Key{}, flow.Addr{}, flow.Addr{} // slow to print
			add(fmt.Sprint(i.Event.UID, i.Event.Key, i.Event.Src, i.Event.Dst, e))
		default:
			d := i.Departure
			add(fmt.Sprint(d.Shard, d.Number, d.UID, d.Key, d.Network, d.Cause, d.EvictedAt) + string(d.Body))
		}
	}
	if o.Last {
		add(fmt.Sprintf("end of %d at %d", o.Position, o.LogTime))
	}
}

// encodeText is a Config.Encode for tests: all that an Eviction says, and that
// its Departure does not.
func encodeText(dst []byte, e *Eviction) []byte {
	c := &e.Connection
	dst = fmt.Append(dst, c.Src, c.TCPState, c.FirstSeen, c.LastSeen, c.PacketCount, c.ByteCount,
		c.SrcPacketCount, c.SrcByteCount, c.ServerName, c.Observers)
	for _, h := range c.Fingerprints {
		dst = fmt.Append(dst, h.Type, h.TotalCount, h.Events)
	}
	for _, h := range c.RawFingerprints {
		dst = fmt.Append(dst, h.Type, h.TotalCount, h.Events)
	}
	return dst
}

// record runs steps through a Tracker with cfg and returns what it put out.
func record(t testing.TB, cfg Config, steps []step) *recorder {
	t.Helper()
	r := new(recorder)
	cfg.Events, cfg.Encode, cfg.OnOutput = true, encodeText, r.take
	rig := newRig(t, cfg)
	for i := range steps {
		submitStep(t, rig.Tracker, &steps[i])
	}
	settle(t, rig.Tracker)
	rig.checkInvariants()
	return r
}

// newTraffic returns random traffic of a random kind.
func newTraffic(seed uint64) *traffic {
	r := &traffic{Rand: rand.New(rand.NewPCG(seed, 11)), now: epochTime}
	r.networks, r.probes, r.hosts, r.values = 1+r.IntN(3), 1+r.IntN(12), 1+r.IntN(12), 2+r.IntN(100)
	return r
}

// tight is a Config whose limits bind.
func tight(r *traffic) Config {
	shards := 1 << r.IntN(4)
	cfg := Config{Shards: shards, HashSeed: r.Uint64(), Epoch: 7}
	cfg.MaxConnections = shards * (1 + r.IntN(12))
	cfg.MaxMemoryBytes = int64(shards) * minShardMemoryBytes
	if r.chance(30) {
		cfg.MaxConnections, cfg.MaxMemoryBytes = 1<<14, 64<<20 // or do not
	}
	if r.chance(20) {
		cfg.Timeouts = Timeouts{TCP: Never, UDPOneWay: time.Second, Other: time.Hour, TCPClosed: 45 * time.Second}
	}
	return cfg
}
