package tracker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/whorl-net/whorl/flow"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// epochTime is where the tests' time begins, in Unix nanoseconds.
const epochTime = int64(1_700_000_000_000_000_000)

// at returns a time d after epochTime.
func at(d time.Duration) int64 { return epochTime + int64(d) }

// rig is a running Tracker whose calls wait until they are applied.
type rig struct {
	testing.TB
	*Tracker
	stop func()
	mu   sync.Mutex
	gone []*Eviction // guarded by mu; the connections are clones
}

// newRig starts a Tracker that ends with the test. It collects evictions unless
// cfg has an OnEvict or an OnOutput.
func newRig(t testing.TB, cfg Config) *rig {
	t.Helper()
	r := &rig{TB: t}
	if cfg.OnEvict == nil && cfg.OnOutput == nil {
		cfg.OnEvict = func(_ int, e *Eviction) {
			c := *e
			c.Connection = *e.Connection.Clone()
			r.mu.Lock()
			defer r.mu.Unlock()
			r.gone = append(r.gone, &c)
		}
	}
	tr, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.start(tr)
	return r
}

// startRig runs a Tracker that ends with the test, or with stop.
func startRig(t testing.TB, tr *Tracker) *rig {
	r := &rig{TB: t}
	r.start(tr)
	return r
}

func (r *rig) start(tr *Tracker) {
	r.Tracker = tr
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- tr.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		stop()
		if err := <-ended; err != nil {
			r.Error(err)
		}
	})
	r.Cleanup(r.stop)
}

// origin returns the Origin of a probe that replays.
func (r *rig) origin(network, probe string) Origin {
	r.Helper()
	o, err := r.Origin(network, probe, false)
	if err != nil {
		r.Fatal(err)
	}
	return o
}

func (r *rig) submit(logTime int64, o Origin, b *flow.Batch) {
	r.Helper()
	done := make(chan struct{})
	if err := r.Submit(context.Background(), Entry{LogTime: logTime}, o, b, func() { close(done) }); err != nil {
		r.Fatal(err)
	}
	<-done
}

func (r *rig) tick(logTime int64) {
	r.Helper()
	done := make(chan struct{})
	if err := r.Tick(context.Background(), Entry{LogTime: logTime}, func() { close(done) }); err != nil {
		r.Fatal(err)
	}
	<-done
}

func (r *rig) flush(logTime int64, f FlushRequest) int {
	r.Helper()
	done := make(chan int, 1)
	if err := r.Flush(context.Background(), Entry{LogTime: logTime}, f, func(n int) { done <- n }); err != nil {
		r.Fatal(err)
	}
	return <-done
}

// evictions returns those since the last call.
func (r *rig) evictions() []*Eviction {
	r.mu.Lock()
	defer r.mu.Unlock()
	gone := r.gone
	r.gone = nil
	return gone
}

// live returns the whole table, sorted by byKey.
func (r *rig) live() []Snapshot {
	var all, page []Snapshot
	var c Cursor
	for more := true; more; {
		page, c, more = r.Page(c, Full, 100, page)
		for i := range page {
			all = append(all, *page[i].Clone())
		}
	}
	slices.SortFunc(all, byKey)
	return all
}

// get returns one connection, nil if it is not tracked.
func (r *rig) get(tu flow.Tuple, network string) *Snapshot {
	k, _ := tu.Key()
	var s Snapshot
	if !r.Get(k, network, Full, &s) {
		return nil
	}
	return &s
}

func byKey(a, b Snapshot) int {
	return cmp.Or(cmp.Compare(a.ID(), b.ID()), cmp.Compare(a.FirstSeen, b.FirstSeen),
		cmp.Compare(a.LastSeen, b.LastSeen), cmp.Compare(a.PacketCount, b.PacketCount),
		cmp.Compare(a.ByteCount, b.ByteCount))
}

func byConnection(a, b *Eviction) int {
	return cmp.Or(byKey(a.Connection, b.Connection), cmp.Compare(a.EvictedAt, b.EvictedAt))
}

// tuple returns a TCP tuple from client number n to one server.
func tuple(n int) flow.Tuple {
	return flow.Tuple{
		Src: flow.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), SrcPort: 40000,
		Dst: flow.AddrFrom4([4]byte{192, 0, 2, 1}), DstPort: 443, Protocol: flow.TCP,
	}
}

// pkt is one packet of a flow for batchOf.
type pkt struct {
	flow  flow.Tuple
	at    time.Duration
	flags uint8
	back  bool // sent by flow.Dst
	bytes uint32
}

// batchOf builds a batch with a row for each packet; each distinct tuple is one
// flow.
func batchOf(ps ...pkt) *flow.Batch {
	b := new(flow.Batch)
	seen := map[flow.Tuple]uint32{}
	for _, p := range ps {
		f, ok := seen[p.flow]
		if !ok {
			f = b.AddFlow(p.flow)
			seen[p.flow] = f
		}
		b.AddPacket(f, p.back, at(p.at), cmp.Or(p.bytes, 100), p.flags)
	}
	return b
}

// handshake are three packets that establish a TCP connection.
func handshake(tu flow.Tuple, d time.Duration) []pkt {
	return []pkt{
		{flow: tu, at: d, flags: flow.SYN},
		{flow: tu, at: d + time.Millisecond, flags: flow.SYN | flow.ACK, back: true},
		{flow: tu, at: d + 2*time.Millisecond, flags: flow.ACK},
	}
}

func (e *Eviction) String() string {
	return fmt.Sprintf("%s %v at %v, %d packets, seen %v to %v", e.Connection.ID(), e.Cause,
		time.Duration(e.EvictedAt-epochTime), e.Connection.PacketCount,
		time.Duration(e.Connection.FirstSeen-epochTime), time.Duration(e.Connection.LastSeen-epochTime))
}
