package tracker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
)

// A flood of SYNs into a full table evicts half-open connections and no
// established one.
func TestFloodKeepsEstablished(t *testing.T) {
	const room, busy, flood = 4000, 2000, 20000
	r := newRig(t, Config{MaxConnections: room, Shards: 2})
	established := func(d time.Duration) {
		var ps []pkt
		for i := range busy {
			ps = append(ps, handshake(tuple(i), d)...)
		}
		r.submit(at(d), Origin{}, batchOf(ps...))
	}
	established(0)
	for i := 0; i < flood; i += 1000 {
		var ps []pkt
		for n := range 1000 {
			ps = append(ps, pkt{flow: tuple(1<<20 + i + n), flags: flow.SYN, at: time.Second})
		}
		r.submit(at(time.Second), Origin{}, batchOf(ps...))
		r.checkInvariants()
	}
	n := r.Count()
	if n.Live > room || n.Opened != busy+flood || n.Live+n.Evicted[CauseCapacity] != n.Opened {
		t.Errorf("%+v, want at most %d live of %d", n, room, busy+flood)
	}
	for _, e := range r.evictions() {
		if e.Cause != CauseCapacity || e.Connection.TCPState != TCPHalfOpen {
			t.Fatalf("evicted %v, %v", e, e.Connection.TCPState)
		}
	}
	for i := range busy {
		if r.get(tuple(i), "") == nil {
			t.Fatalf("established connection %d is gone", i)
		}
	}
	r.flush(at(time.Second), FlushRequest{})
	r.checkInvariants()
}

// What has expired and is met on the way to a victim leaves as idle.
func TestCapacityMeetsExpired(t *testing.T) {
	r := newRig(t, Config{MaxConnections: 2})
	// A nanosecond beyond the deadline: only a tick would sweep it.
	r.submit(at(0), Origin{}, batchOf(pkt{flow: udp(1)}, pkt{flow: udp(2), at: 30*time.Second + 1}, pkt{flow: udp(3), at: 30*time.Second + 1}))
	gone := r.evictions()
	if len(gone) != 1 || gone[0].Cause != CauseIdle || gone[0].EvictedAt != at(30*time.Second) {
		t.Errorf("evicted %v, want one, idle, at 30s", gone)
	}
}

// A connection that is evicted in the middle of a batch and comes again in the
// same batch is a new one.
func TestEvictedWithinItsBatch(t *testing.T) {
	r := newRig(t, Config{MaxConnections: 3})
	r.submit(at(0), Origin{}, batchOf(pkt{flow: udp(1)}, pkt{flow: udp(2), at: 1}, pkt{flow: udp(3), at: 2}))
	old := r.get(udp(1), "").UID
	r.submit(at(0), Origin{}, batchOf(
		pkt{flow: udp(4), at: time.Second}, // takes the place of 1
		pkt{flow: udp(5), at: time.Second}, // of 2
		pkt{flow: udp(1), at: time.Second}, // of 3
		pkt{flow: udp(1), at: time.Second},
	))
	r.checkInvariants()
	if s := r.get(udp(1), ""); s == nil || s.UID == old || s.PacketCount != 2 {
		t.Errorf("%+v, want a new connection of 2 packets", s)
	}
	if gone := r.evictions(); len(gone) != 3 {
		t.Errorf("evicted %v, want 3", gone)
	}
}

// The same, when it was evicted for memory and its slot is still free.
func TestEvictedForMemoryWithinItsBatch(t *testing.T) {
	r := newRig(t, Config{MaxMemoryBytes: 256 << 10, MaxConnections: 1000, Shards: 1})
	print := func(i int) flow.Fingerprint {
		return flow.Fingerprint{Row: 1, Event: ja4.Event{Type: ja4.TypeJA4H, Value: fmt.Sprint(i), Raw: fmt.Sprint(i, strings.Repeat("z", 4000))}}
	}
	n := 0
	for ; r.Count().Evicted[CauseCapacity] == 0; n++ {
		b := batchOf(pkt{flow: udp(n), at: time.Duration(n)})
		b.Fingerprints = append(b.Fingerprints, print(n))
		r.submit(at(0), Origin{}, b)
	}
	r.evictions()
	b := batchOf(pkt{flow: udp(n), at: time.Second}, pkt{flow: udp(1), at: time.Second})
	b.Fingerprints = append(b.Fingerprints, print(n))
	r.submit(at(0), Origin{}, b)
	r.checkInvariants()
	gone := r.evictions()
	if s := r.get(udp(1), ""); len(gone) != 1 || gone[0].Connection.Key != s.Key || s.UID == gone[0].Connection.UID || s.PacketCount != 1 {
		t.Errorf("evicted %v, now %+v; want connection 1 evicted and opened again", gone, s)
	}
}

// For the memory of a fingerprint, no established connection or two-way UDP has
// to go that holds none itself.
func TestMemoryIsNotTakenFromWhoHasNone(t *testing.T) {
	r := newRig(t, Config{MaxMemoryBytes: 1 << 20, MaxConnections: 1000, Shards: 1})
	twoWay := func(from, n int) {
		var ps []pkt
		for i := range n {
			ps = append(ps, pkt{flow: udp(from + i)}, pkt{flow: udp(from + i), back: true})
		}
		r.submit(at(0), Origin{}, batchOf(ps...))
	}
	twoWay(0, 100)
	twoWay(500, 50)
	for i := range 1000 {
		r.submit(at(0), Origin{}, printsOf(udp(500+i%50), 0, ja4.Event{Type: ja4.TypeJA4H, Value: fmt.Sprint(i), Raw: fmt.Sprint(i, strings.Repeat("z", 1000))}))
	}
	if n := r.Count(); n.Live != 150 || n.FingerprintsNoRoom == 0 || n.MemoryBytes > 1<<20 {
		t.Errorf("%+v, want all 150 live and fingerprints left out", n)
	}
	r.checkInvariants()
}

// When full, the connection that goes is of the first class there is, and in
// it unused for longest, to the width of a bucket. Classes: closed, half-open,
// one-way UDP, other, two-way UDP, established.
func TestCapacityOrder(t *testing.T) {
	for seed := range uint64(6) {
		r := &traffic{Rand: rand.New(rand.NewPCG(seed, 3)), now: epochTime, hosts: 12}
		cfg := Config{MaxConnections: 60, Shards: 1, Timeouts: Timeouts{
			TCPHalfOpen: time.Hour, TCP: time.Hour, TCPClosed: time.Hour, UDPOneWay: time.Hour, UDP: time.Hour, Other: time.Hour}}
		rig, m := newRig(t, cfg), newModel(cfg)
		bucket := int64(time.Hour)/254 + 1
		victims := 0
		for range 1500 {
			r.now += r.Int64N(int64(time.Second))
			b := new(flow.Batch)
			tu := r.tuple()
			b.AddPacket(b.AddFlow(tu), r.chance(40), r.now, 100, r.flags(tu.Protocol))
			rig.submit(r.now, Origin{}, b)
			if rig.Count().Live > 60 {
				t.Fatalf("seed %d: %d live", seed, rig.Count().Live)
			}
			for _, e := range rig.evictions() {
				if e.Cause != CauseCapacity {
					continue
				}
				victims++
				k := modelKey{flow.DefaultNetwork, e.Connection.Key}
				v := m.conns[k]
				delete(m.conns, k)
				for _, c := range m.conns {
					if a, b := m.rank(c), m.rank(v); a < b || a == b && c.activity < v.activity-bucket {
						t.Fatalf("seed %d: evicted %v of class %d, and kept %v of class %d, unused for %v longer",
							seed, v.ID(), b, c.ID(), a, time.Duration(v.activity-c.activity))
					}
				}
			}
			m.batch(r.now, flow.DefaultNetwork, "", false, b)
			m.gone = nil
		}
		rig.checkInvariants()
		if victims < 250 {
			t.Fatalf("seed %d: only %d victims", seed, victims)
		}
	}
}

// rank returns the place of a connection's class in the order of eviction.
func (m *model) rank(c *modelConn) int {
	switch c.state() {
	case TCPClosed:
		return 0
	case TCPHalfOpen:
		return 1
	case TCPEstablished:
		return 5
	}
	switch {
	case c.Protocol != flow.UDP:
		return 3
	case c.sent[0] && c.sent[1]:
		return 4
	}
	return 2
}

// A flood of connections with fingerprints that are all different stays within
// the memory bound; old connections make room for the new ones' fingerprints.
func TestMemoryIsBounded(t *testing.T) {
	const limit = 4 << 20
	r := newRig(t, Config{MaxMemoryBytes: limit, MaxConnections: 100_000, Shards: 2})
	x := rand.New(rand.NewPCG(1, 1))
	for i := range 10_000 {
		e := ja4.Event{
			Type: ja4.TypeJA4H, Value: fmt.Sprintf("v%d-%s", i, strings.Repeat("x", x.IntN(100))),
			Raw: fmt.Sprintf("r%d-%s", i, strings.Repeat("y", x.IntN(2000))), ServerName: fmt.Sprintf("h%d.example", i),
		}
		r.submit(at(time.Duration(i)*time.Microsecond), Origin{}, printsOf(udp(i), time.Duration(i)*time.Microsecond, e))
		if i%1000 != 0 {
			continue
		}
		r.checkInvariants()
		n := r.Count()
		if n.MemoryBytes > limit {
			t.Fatalf("%d bytes after %d connections, at most %d", n.MemoryBytes, i, limit)
		}
		if s := r.get(udp(i), ""); s == nil || s.LatestFingerprint(ja4.TypeJA4H) != e.Value || s.RawHistory(ja4.TypeJA4H).Events[0].Value != e.Raw {
			t.Fatalf("the newest connection has %+v", s)
		}
	}
	n := r.Count()
	if n.FingerprintsNoRoom != 0 || n.Evicted[CauseCapacity] == 0 {
		t.Errorf("%+v, want evictions and no fingerprint left out", n)
	}
	r.flush(at(time.Second), FlushRequest{})
	r.checkInvariants()
	for _, s := range r.shards {
		if s.cells.inUse != 0 {
			t.Errorf("%d cells in use in an empty shard", s.cells.inUse)
		}
	}
}

// One connection cannot take the memory of all: beyond its share, what it
// brings is counted and left out.
func TestOneConnectionHasAShare(t *testing.T) {
	r := newRig(t, Config{MaxMemoryBytes: 8 << 20, MaxConnections: 1000, Shards: 1})
	var others []pkt
	for i := range 100 {
		others = append(others, pkt{flow: udp(10 + i)}, pkt{flow: udp(10 + i), back: true})
	}
	r.submit(at(0), Origin{}, batchOf(others...))
	for i := range 900 {
		r.submit(at(0), Origin{}, printsOf(udp(1), 0, ja4.Event{
			Type: ja4.TypeJA4H, Value: fmt.Sprint(i), Raw: fmt.Sprint(i, strings.Repeat("z", 8000))}))
	}
	n := r.Count()
	if n.FingerprintsNoRoom == 0 || n.Live != 101 {
		t.Errorf("%+v, want fingerprints left out and nobody evicted", n)
	}
	r.checkInvariants()
	if s := r.shards[0]; uint32(s.cells.inUse) > s.weightMax+3 {
		t.Errorf("%d cells in use, want at most %d", s.cells.inUse, s.weightMax)
	}
}

// Labels are bounded, and refused with ErrFull.
func TestOriginsAreBounded(t *testing.T) {
	tr, err := New(Config{MaxNetworks: 2, MaxProbes: 3})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		network, probe string
		full           bool
	}{
		{"", "", false}, {"default", "a", false}, {"lab", "b", false}, {"lab", "a", false},
		{"office", "a", true}, {"lab", "c", true}, {"lab", "b", false},
	} {
		if _, err := tr.Origin(c.network, c.probe, false); errors.Is(err, ErrFull) != c.full {
			t.Errorf("origin %q %q: %v, want full %v", c.network, c.probe, err, c.full)
		}
	}
	if _, err := tr.Origin("not a label", "a", false); err == nil || errors.Is(err, ErrFull) {
		t.Errorf("bad network: %v", err)
	}
	if _, err := tr.Origin("lab", strings.Repeat("p", 256), false); err == nil {
		t.Error("a probe label of 256 bytes is taken")
	}
	if err := tr.Submit(t.Context(), Entry{}, Origin{pair: 77}, new(flow.Batch), nil); err == nil {
		t.Error("an Origin of another tracker is taken")
	}
}

// Contradictory settings are refused with a sentence each.
func TestConfigIsChecked(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, ""},
		{Config{MaxConnections: 1}, ""},
		{Config{MaxMemoryBytes: 256 << 10}, ""},
		{Config{Timeouts: Timeouts{TCP: Never}}, ""},
		{Config{Shards: -1}, "Shards is -1, want 1 to 4096"},
		{Config{Shards: 4, Workers: 5}, "Workers is 5, want 1 to 4"},
		{Config{Shards: 4, MaxConnections: 3}, "MaxConnections is 3"},
		{Config{Shards: 4, MaxMemoryBytes: 1000}, "MaxMemoryBytes is 1000, want at least 1048576 for 4 shards"},
		{Config{Timeouts: Timeouts{UDP: time.Microsecond}}, "Timeouts.UDP is 1µs"},
		{Config{LiveHold: -time.Second}, "LiveHold is -1s"},
		{Config{MaxNetworks: 70000}, "MaxNetworks is 70000"},
	} {
		_, err := New(c.cfg)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", c.cfg, err, c.want)
		}
	}
}

// A malformed batch is refused whole.
func TestMalformedBatches(t *testing.T) {
	good := func() *flow.Batch {
		return printsOf(udp(1), 0, ja4.Event{Type: ja4.TypeJA4, Value: "v"})
	}
	r := newRig(t, Config{MaxConnections: 8})
	for _, c := range []struct {
		want string
		do   func(*flow.Batch)
	}{
		{"row 0 refers to flow 1 of 1", func(b *flow.Batch) { b.Flow[0] = 2 }},
		{"columns of 1 flows, 0 times", func(b *flow.Batch) { b.Time = nil }},
		{"row 0 has time -1", func(b *flow.Batch) { b.Time[0] = -1 }},
		{"row 0 has time", func(b *flow.Batch) { b.Time[0] = maxTime }},
		{"columns of 1 run packets, 0 run spans", func(b *flow.Batch) { b.RunPackets = []uint32{1} }},
		{"run of no packets", func(b *flow.Batch) { b.RunPackets, b.RunSpan = []uint32{0}, []uint64{0} }},
		{"run of 18446744073709551615 ns", func(b *flow.Batch) { b.RunPackets, b.RunSpan = []uint32{1}, []uint64{1<<64 - 1} }},
		{"fingerprint 0 refers to flow 1 of 1", func(b *flow.Batch) { b.Fingerprints[0].Flow = 1 }},
		{"fingerprint 0 refers to row 2 of 1", func(b *flow.Batch) { b.Fingerprints[0].Row = 2 }},
		{"fingerprint 0 has type 14", func(b *flow.Batch) { b.Fingerprints[0].Type = 14 }},
		{"value of 0 bytes", func(b *flow.Batch) { b.Fingerprints[0].Value = "" }},
		{"value of 256 bytes", func(b *flow.Batch) { b.Fingerprints[0].Value = strings.Repeat("v", 256) }},
		{"raw form of 8193 bytes", func(b *flow.Batch) { b.Fingerprints[0].Raw = strings.Repeat("v", 8193) }},
		{"server name of 256 bytes", func(b *flow.Batch) { b.Fingerprints[0].ServerName = strings.Repeat("v", 256) }},
		{"fingerprint 0 is of flow 1, its row of flow 0", func(b *flow.Batch) { b.Fingerprints[0].Flow = b.AddFlow(udp(2)) }},
	} {
		b := good()
		c.do(b)
		err := r.Submit(t.Context(), Entry{LogTime: at(0)}, Origin{}, b, func() { t.Error("done is called") })
		if !errors.Is(err, ErrBatch) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	r.submit(at(0), Origin{}, good())
	if n := r.Count(); n.Packets != 1 {
		t.Errorf("%d packets, want 1", n.Packets)
	}
}

// Done functions are called one at a time and in the order of Submit, whatever
// the workers do; so are those of ticks, flushes and empty batches.
func TestDoneInOrder(t *testing.T) {
	r := newRig(t, Config{Workers: 8, Shards: 64})
	var next, inside, bad atomic.Int64
	var wg sync.WaitGroup
	for i := range int64(2000) {
		wg.Add(1)
		done := func() {
			if inside.Add(1) != 1 || next.Add(1) != i+1 {
				bad.Add(1)
			}
			runtime.Gosched()
			inside.Add(-1)
			wg.Done()
		}
		var err error
		switch i % 5 {
		case 0:
			err = r.Tick(t.Context(), Entry{LogTime: at(0)}, done)
		case 1:
			err = r.Flush(t.Context(), Entry{LogTime: at(0)}, FlushRequest{Network: "none"}, func(int) { done() })
		case 2:
			err = r.Submit(t.Context(), Entry{LogTime: at(0)}, Origin{}, new(flow.Batch), done)
		default:
			var ps []pkt
			for n := range i % 100 {
				ps = append(ps, pkt{flow: udp(int(n))})
			}
			err = r.Submit(t.Context(), Entry{LogTime: at(0)}, Origin{}, batchOf(ps...), done)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if bad.Load() != 0 {
		t.Errorf("%d done functions out of order", bad.Load())
	}
}

// A full queue makes Submit wait; it ends with the cause when ctx does, and
// with ErrStopped when the tracker does.
func TestSubmitWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, err := New(Config{QueueBatches: 2, Workers: 1})
		if err != nil {
			t.Fatal(err)
		}
		b := batchOf(pkt{flow: udp(1)})
		for range 2 { // Run has not begun
			if err := tr.Submit(t.Context(), Entry{LogTime: at(0)}, Origin{}, b, nil); err != nil {
				t.Fatal(err)
			}
		}
		if q := tr.ShardStatus()[0]; q.QueueDepth != 2 || q.QueueCapacity != 2 {
			t.Errorf("queue %+v, want 2 of 2", q)
		}
		impatient := errors.New("impatient")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, impatient)
		defer cancel()
		if err := tr.Submit(ctx, Entry{LogTime: at(0)}, Origin{}, b, func() { t.Error("done is called") }); !errors.Is(err, impatient) {
			t.Errorf("submit to a full queue: %v, want %v", err, impatient)
		}
		run, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- tr.Run(run) }()
		done := make(chan struct{}) // what was given up holds nobody back
		if err := tr.Submit(t.Context(), Entry{LogTime: at(0)}, Origin{}, b, func() { close(done) }); err != nil {
			t.Fatal(err)
		}
		<-done
		if n := tr.Count(); n.Packets != 3 {
			t.Errorf("%d packets, want 3", n.Packets)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := tr.Submit(t.Context(), Entry{LogTime: at(0)}, Origin{}, b, nil); !errors.Is(err, ErrStopped) {
			t.Errorf("submit after the end: %v, want ErrStopped", err)
		}
		if err := tr.Run(t.Context()); err == nil {
			t.Error("Run works twice")
		}
	})
}

// Flush evicts what has expired first, then what matches, and counts that.
func TestFlush(t *testing.T) {
	r := newRig(t, Config{})
	lab := r.origin("lab", "p")
	r.submit(at(0), Origin{}, batchOf(pkt{flow: udp(1)}, pkt{flow: udp(2), at: 30*time.Second + 1}))
	r.submit(at(0), lab, printsOf(udp(3), 0, ja4.Event{Type: ja4.TypeJA4, Value: "t13d"}))
	r.submit(at(0), lab, batchOf(pkt{flow: udp(4)}))
	n := r.flush(at(0), FlushRequest{Network: "lab", Detail: Newest, Match: func(s *Snapshot) bool {
		return s.LatestFingerprint(ja4.TypeJA4) == "t13d"
	}})
	gone := r.evictions()
	slices.SortFunc(gone, func(a, b *Eviction) int { return cmp.Compare(a.Cause, b.Cause) })
	if n != 1 || len(gone) != 2 || gone[0].Cause != CauseIdle || gone[1].Cause != CauseFlush || gone[1].EvictedAt != at(0) {
		t.Errorf("flushed %d: %v, want one idle, one flushed at 0s", n, gone)
	}
	if n := r.flush(at(0), FlushRequest{Network: "nowhere"}); n != 0 {
		t.Errorf("flushed %d of an unknown network", n)
	}
	if n := r.flush(at(0), FlushRequest{}); n != 2 {
		t.Errorf("flushed %d, want 2", n)
	}
	r.checkInvariants()
}
