//go:build e2e

package faults

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/whorl-net/whorl/client"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// auditor is subscribers that read the whole feed, each from its own cursor,
// and are cut off at random. What one of them saw with a number, all must have
// seen with that number, and so must who reads it again.
type auditor struct {
	mu     sync.Mutex       // guards what follows
	feed   map[uint64]entry // by sequence
	seen   []uint8          // evictions by connection
	got    sums
	wrong  []string
	gaps   []string
	cuts   int
	places []uint64 // the newest sequence of each subscriber

	stop context.CancelFunc
	wg   sync.WaitGroup
}

// entry is what was seen with a sequence.
type entry struct {
	conn conn
	hash uint64
}

// complain notes what should not be.
func (a *auditor) complain(format string, args ...any) {
	if len(a.wrong) < 20 {
		a.wrong = append(a.wrong, fmt.Sprintf(format, args...))
	}
}

// startAuditor follows the feed of the collector at addr with n subscribers
// from its beginning. Each is cut off after up to cutAfter evictions, if that is
// not 0.
func startAuditor(t testing.TB, addr string, n, cutAfter int) *auditor {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	a := &auditor{feed: make(map[uint64]entry), places: make([]uint64, n), stop: cancel}
	for i := range n {
		cl := dial(t, addr)
		a.wg.Go(func() { a.follow(ctx, cl, i, cutAfter, rand.New(rand.NewPCG(uint64(i), 5))) })
	}
	t.Cleanup(a.end)
	return a
}

func (a *auditor) end() { a.stop(); a.wg.Wait() }

// follow is one subscriber.
func (a *auditor) follow(ctx context.Context, cl *client.Client, i, cutAfter int, rng *rand.Rand) {
	cursor := ""
	for ctx.Err() == nil {
		limit := 0
		if cutAfter > 0 {
			limit = 1 + rng.IntN(cutAfter)
		}
		cursor = a.watch(ctx, cl, i, cursor, limit)
		select { // a stream that ended, by us or by a fault
		case <-ctx.Done():
		case <-time.After(time.Duration(rng.IntN(100)) * time.Millisecond):
		}
	}
}

// watch reads until it is cut off, and returns its cursor.
func (a *auditor) watch(ctx context.Context, cl *client.Client, i int, cursor string, limit int) string {
	req := &whorlv1.WatchRequest{Subscriber: fmt.Sprintf("auditor-%d", i), Start: &whorlv1.WatchRequest_FromOldest{FromOldest: true}}
	if cursor != "" {
		req.Start = &whorlv1.WatchRequest_AfterCursor{AfterCursor: cursor}
	}
	n := 0
	for e, err := range cl.Watch(ctx, req) {
		if err != nil {
			break
		}
		a.take(i, &e)
		cursor = e.Cursor
		if e.Eviction != nil {
			if n++; limit > 0 && n >= limit {
				a.mu.Lock()
				a.cuts++
				a.mu.Unlock()
				break
			}
		}
	}
	return cursor
}

func (a *auditor) take(i int, e *client.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e.Gap != nil {
		a.gaps = append(a.gaps, fmt.Sprintf("subscriber %d: %v", i, e.Gap))
		return
	}
	v := e.Eviction
	if v == nil {
		return
	}
	if v.GetSequence() != a.places[i]+1 {
		a.complain("subscriber %d: sequence %d after %d", i, v.GetSequence(), a.places[i])
	}
	a.places[i] = v.GetSequence()
	k := v.GetConnection()
	c, err := connOf(k.GetSrcIp())
	if err != nil {
		a.complain("sequence %d: %v", v.GetSequence(), err)
		return
	}
	got := sums{connections: 1, packets: k.GetPacketCount(), bytes: k.GetByteCount(), srcPackets: k.GetSrcPacketCount(), srcBytes: k.GetSrcByteCount()}
	for _, h := range k.GetFingerprints() {
		got.fingerprints += h.GetTotalCount()
	}
	this := entry{c, hash(v, got)}
	if before, known := a.feed[v.GetSequence()]; known {
		if before != this {
			a.complain("sequence %d was connection %d and is %d now, or its content differs", v.GetSequence(), before.conn, c)
		}
		return
	}
	a.feed[v.GetSequence()] = this
	a.got.add(got)
	for int(c) >= len(a.seen) {
		a.seen = append(a.seen, make([]uint8, 1<<16)...)
	}
	if a.seen[c]++; a.seen[c] > 1 {
		a.complain("connection %d left %d times (sequence %d, %s)", c, a.seen[c], v.GetSequence(), v.GetCause())
	}
	if want := c.sums(); got != want {
		a.complain("connection %d left with %+v, want %+v (sequence %d, %s)", c, got, want, v.GetSequence(), v.GetCause())
	}
}

// hash is of what must not differ between two readings.
func hash(v *whorlv1.Eviction, s sums) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, v.GetConnection().GetUid(), v.GetCause(), s)
	binary.Write(h, binary.LittleEndian, v.GetEvictedAt().AsTime().UnixNano())
	return h.Sum64()
}

// settled waits until every subscriber has read n evictions, and reports
// whether they did.
func (a *auditor) settled(n uint64, patience time.Duration) bool {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		a.mu.Lock()
		done := true
		for _, p := range a.places {
			done = done && p >= n
		}
		a.mu.Unlock()
		if done {
			return true
		}
	}
	return false
}

// verdict compares the feed with the truth of a feeder that has finished, and
// returns what is wrong.
func (a *auditor) verdict(f *feeder, patience time.Duration) (wrong []string) {
	all := a.settled(f.truth.connections, patience)
	time.Sleep(500 * time.Millisecond) // what comes beyond would be double
	a.mu.Lock()
	defer a.mu.Unlock()
	wrong = append(wrong, a.wrong...)
	wrong = append(wrong, a.gaps...)
	if !all {
		wrong = append(wrong, fmt.Sprintf("the subscribers are at %v, want %d", a.places, f.truth.connections))
	}
	if a.got != f.truth {
		wrong = append(wrong, fmt.Sprintf("the feed holds %+v, sent were %+v", a.got, f.truth))
	}
	missing := 0
	for c := range f.conns {
		if f.sent(c) && (int(c) >= len(a.seen) || a.seen[c] == 0) {
			missing++
		}
	}
	if missing > 0 {
		wrong = append(wrong, fmt.Sprintf("%d of %d connections are not in the feed", missing, f.truth.connections))
	}
	return wrong
}

// counted compares what the collector counted with what was sent.
func counted(t testing.TB, cl *client.Client, f *feeder) (wrong []string) {
	st := status(t, cl)
	if st.GetPacketsApplied() != f.truth.packets || st.GetBytesApplied() != f.truth.bytes {
		wrong = append(wrong, fmt.Sprintf("the collector applied %d packets and %d bytes, sent were %d and %d",
			st.GetPacketsApplied(), st.GetBytesApplied(), f.truth.packets, f.truth.bytes))
	}
	evicted := uint64(0)
	for _, e := range st.GetEvictions() {
		evicted += e.GetCount()
	}
	if st.GetConnectionsOpened() != f.truth.connections || st.GetConnections() != 0 || evicted != f.truth.connections {
		wrong = append(wrong, fmt.Sprintf("%d connections opened, %d live, %d evicted; sent were %d",
			st.GetConnectionsOpened(), st.GetConnections(), evicted, f.truth.connections))
	}
	return wrong
}
