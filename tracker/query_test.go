package tracker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
)

// Get finds a connection by either direction's key, GetUID one incarnation.
func TestGet(t *testing.T) {
	r := newRig(t, Config{Epoch: 7})
	r.submit(at(0), r.origin("lab", "p"), printsOf(udp(1), 0, ja4.Event{Type: ja4.TypeJA4, Value: "v", Raw: "raw", ServerName: "host"}))
	for _, tu := range []flow.Tuple{udp(1), udp(1).Reverse()} {
		if s := r.get(tu, "lab"); s == nil || s.Network != "lab" || s.ID() != "udp/10.0.0.1:1-192.0.2.0:443@lab" {
			t.Fatalf("%v: %+v", tu, s)
		}
	}
	s := r.get(udp(1), "lab")
	u, err := ParseUID(s.UID.String())
	if err != nil || u != s.UID || len(s.UID.String()) != UIDLen || string(u.Append([]byte("uid "))) != "uid "+s.UID.String() {
		t.Fatalf("uid %v reads as %v, %v", s.UID, u, err)
	}
	var got Snapshot
	if !r.GetUID(u, Bare, &got) || got.PacketCount != 1 || got.Fingerprints != nil || got.Observers != nil || got.ServerName != "" {
		t.Errorf("bare: %+v", got)
	}
	if !r.GetUID(u, Newest, &got) || got.LatestFingerprint(ja4.TypeJA4) != "v" || got.RawFingerprints != nil || len(got.Observers) != 1 {
		t.Errorf("newest: %+v", got)
	}
	if !r.GetUID(u, Full, &got) || got.RawHistory(ja4.TypeJA4).Events[0].Value != "raw" || got.ServerName != "host" {
		t.Errorf("full: %+v", got)
	}
	// The same 5-tuple again is another incarnation.
	r.submit(at(0), r.origin("lab", "p"), batchOf(pkt{flow: udp(1), at: time.Minute}))
	if r.GetUID(u, Bare, &got) {
		t.Errorf("the old uid finds %+v", got)
	}
	if now := r.get(udp(1), "lab"); now.UID == u || now.UID.slot() != u.slot() {
		t.Errorf("uid %v after %v, want another in the same slot", now.UID, u)
	}
	for _, u := range []UID{{}, makeUID(8, 0, 1, 1), makeUID(7, 65535, 1, 1), makeUID(7, 0, 1<<32-1, 1), makeUID(7, u.shard(), 0, 0)} {
		if r.GetUID(u, Bare, &got) {
			t.Errorf("uid %v finds %+v", u, got)
		}
	}
}

// ParseUID takes what String gives and nothing else.
func TestParseUIDRefusesOthers(t *testing.T) {
	for _, s := range []string{"", "0", "0000000000000000000000000l", "0000000000000000000000000A", "00000000000000000000000001", "000000000000000000000000000"} {
		if u, err := ParseUID(s); !errors.Is(err, ErrUID) {
			t.Errorf("%q reads as %v, %v", s, u, err)
		}
	}
}

// Newest copies the newest event of each type and the true TotalCount.
func TestNewest(t *testing.T) {
	r := newRig(t, Config{})
	for i := range 1500 {
		r.submit(at(0), Origin{}, printsOf(udp(1), 0, ja4.Event{Type: ja4.TypeJA4SSH, Value: fmt.Sprint(i), Raw: "raw"}))
	}
	var s Snapshot
	k, _ := keyOf(udp(1))
	if !r.Get(k, "", Newest, &s) {
		t.Fatal("not tracked")
	}
	h := s.History(ja4.TypeJA4SSH)
	if len(s.Fingerprints) != 1 || len(h.Events) != 1 || h.Events[0].Value != "1499" || h.TotalCount != 1500 || len(s.RawFingerprints) != 0 {
		t.Errorf("newest: %+v", s)
	}
}

// A connection that is alive during a whole walk is on exactly one page, while
// others come and go; nothing appears twice.
func TestPageShowsEachOnce(t *testing.T) {
	r := newRig(t, Config{Shards: 4, MaxConnections: 20000})
	const stay = 3000
	var b flow.Batch
	for i := range stay {
		b.AddPacket(b.AddFlow(udp(i)), false, at(0), 100, 0)
		b.AddPacket(uint32(i), true, at(0), 100, 0)
	}
	r.submit(at(0), Origin{}, &b)
	x := rand.New(rand.NewPCG(5, 5))
	var page []Snapshot
	for walk := range 8 {
		seen := map[UID]int{}
		names := map[flow.Key]int{}
		var c Cursor
		for more := true; more; {
			page, c, more = r.Page(c, Bare, 1+x.IntN(400), page)
			for i := range page {
				seen[page[i].UID]++
				names[page[i].Key]++
			}
			var churn flow.Batch // opens some, and replaces those of the last time
			for range 50 {
				churn.AddPacket(churn.AddFlow(udp(1<<20+x.IntN(2000))), false, at(time.Duration(walk)*31*time.Second), 100, 0)
			}
			for i := range stay {
				churn.AddPacket(churn.AddFlow(udp(i)), false, at(time.Duration(walk)*31*time.Second), 100, 0)
			}
			r.submit(at(0), Origin{}, &churn)
			r.tick(at(0))
		}
		for u, n := range seen {
			if n != 1 {
				t.Fatalf("walk %d: %v appears %d times", walk, u, n)
			}
		}
		for i := range stay {
			tu := udp(i)
			if k, _ := tu.Key(); names[k] != 1 {
				t.Fatalf("walk %d: %v appears %d times", walk, k, names[k])
			}
		}
	}
}

// Any cursor is safe.
func TestPageTakesAnyCursor(t *testing.T) {
	r := newRig(t, Config{Shards: 2})
	r.submit(at(0), Origin{}, batchOf(pkt{flow: udp(1)}, pkt{flow: udp(2)}, pkt{flow: udp(3)}))
	for _, c := range []Cursor{{}, {0, 1}, {0, 1<<32 - 1}, {1, 1<<32 - 300}, {2, 0}, {1<<32 - 1, 1<<32 - 1}} {
		for range 10 {
			var more bool
			var page []Snapshot
			if page, c, more = r.Page(c, Full, 0, nil); !more {
				break
			}
			if len(page) > 1 {
				t.Fatalf("limit 0 gives %d", len(page))
			}
		}
	}
}

// Queries of all kinds run beside ingest, evictions and flushes without a race,
// and see whole connections only.
func TestQueriesDuringIngest(t *testing.T) {
	r := newRig(t, Config{Shards: 4, Workers: 4, MaxConnections: 2000, MaxMemoryBytes: 2 << 20,
		OnEvict: func(int, *Eviction) {}, Enrich: func(s *Snapshot) { s.IdentifiedApp = s.ServerName }})
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	check := func(s *Snapshot) {
		n := uint64(0)
		for _, o := range s.Observers {
			n = max(n, o.PacketCount)
		}
		if s.PacketCount != n || s.ByteCount != 100*n || s.IdentifiedApp != s.ServerName || s.LastSeen < s.FirstSeen {
			t.Errorf("torn: %+v", s)
			stop()
		}
		for _, h := range s.Fingerprints {
			for _, e := range h.Events {
				if e.Value != s.Key.String() {
					t.Errorf("%v has the fingerprint of %v", s.Key, e.Value)
					stop()
				}
			}
		}
	}
	for i := range 3 {
		x := rand.New(rand.NewPCG(9, uint64(i)))
		wg.Go(func() {
			var s Snapshot
			var page []Snapshot
			var c Cursor
			for ctx.Err() == nil {
				tu := udp(x.IntN(4000))
				k, _ := tu.Key()
				if r.Get(k, "", Full, &s) {
					check(&s)
					if u := s.UID; r.GetUID(u, Full, &s) && s.Key != k {
						t.Errorf("uid of %v finds %v", k, s.Key)
					}
				}
				var more bool
				if page, c, more = r.Page(c, Full, 100, page); !more {
					c = Cursor{}
				}
				for i := range page {
					check(&page[i])
				}
				r.Count()
				r.ShardStatus()
			}
		})
	}
	x := rand.New(rand.NewPCG(9, 9))
	now := time.Duration(0)
	end := time.Now().Add(500 * time.Millisecond)
	for ctx.Err() == nil && time.Now().Before(end) {
		var b flow.Batch
		for range 200 {
			tu := udp(x.IntN(4000))
			k, _ := tu.Key()
			now += time.Millisecond
			b.AddPacket(b.AddFlow(tu), x.IntN(2) == 0, at(now), 100, 0)
			if x.IntN(4) == 0 {
				b.Fingerprints = append(b.Fingerprints, flow.Fingerprint{Flow: uint32(len(b.Flows) - 1), Row: uint32(b.Rows()),
					Event: ja4.Event{Type: ja4.TypeJA4, Value: k.String(), ServerName: "host"}})
			}
		}
		o := r.origin("", fmt.Sprint("p", x.IntN(3)))
		r.submit(at(now), o, &b)
		switch x.IntN(20) {
		case 0:
			r.tick(at(now))
		case 1:
			r.flush(at(now), FlushRequest{Match: func(s *Snapshot) bool { return s.PacketCount > 3 }, Detail: Newest})
		case 2:
			r.origin("", fmt.Sprint("q", x.IntN(1000)))
		}
	}
	stop()
	wg.Wait()
	r.checkInvariants()
}

// What a query or an eviction gave stays as it was when its Clone is kept, and
// reused memory shows nothing of what was in it before.
func TestReusedSnapshots(t *testing.T) {
	r := newRig(t, Config{Enrich: func(s *Snapshot) { s.Anomalies = append(s.Anomalies, Anomaly{Description: s.ServerName}) }})
	r.submit(at(0), Origin{}, printsOf(udp(1), 0, ja4.Event{Type: ja4.TypeJA4, Value: "first", Raw: "raw", ServerName: "host"}))
	r.submit(at(0), r.origin("", "q"), batchOf(pkt{flow: udp(2)}))
	var s Snapshot
	k1, _ := keyOf(udp(1))
	k2, _ := keyOf(udp(2))
	r.Get(k1, "", Full, &s)
	kept := s.Clone()
	r.Get(k2, "", Full, &s)
	if len(s.Fingerprints) != 0 || len(s.RawFingerprints) != 0 || s.ServerName != "" || len(s.Anomalies) != 1 || s.Observers[0].Probe != "q" {
		t.Errorf("reused: %+v", s)
	}
	if kept.LatestFingerprint(ja4.TypeJA4) != "first" || kept.Observers[0].Probe != "" || kept.Anomalies[0].Description != "host" {
		t.Errorf("kept: %+v", kept)
	}
}

func keyOf(tu flow.Tuple) (flow.Key, bool) { return tu.Key() }

// In steady state a packet allocates nothing, on the way in, in the shard and
// when its connection leaves.
func TestSteadyStateDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	left := 0
	r := newRig(t, Config{MaxConnections: 4096, Shards: 4, Workers: 1, OnEvict: func(int, *Eviction) { left++ }})
	ctx := context.Background()
	done := make(chan struct{}, 1)
	finish := func() { done <- struct{}{} }
	n, b := 0, new(flow.Batch)
	step := func() {
		b.Reset()
		for i := range 500 { // old connections
			b.AddPacket(b.AddFlow(udp(i)), false, at(time.Duration(n)*time.Millisecond), 100, 0)
			b.AddPacket(uint32(i), true, at(time.Duration(n)*time.Millisecond), 100, 0)
		}
		for i := range 500 { // new ones
			tu := tuple(n*500 + i)
			b.AddPacket(b.AddFlow(tu), false, at(time.Duration(n)*time.Millisecond), 100, flow.SYN)
		}
		n++
		if err := r.Submit(ctx, Entry{LogTime: at(0)}, Origin{}, b, finish); err != nil {
			t.Fatal(err)
		}
		<-done
	}
	for range 50 {
		step()
	}
	// The pool of jobs may be emptied by a garbage collection: not per packet.
	if avg := testing.AllocsPerRun(100, step); avg > 5 {
		t.Errorf("%v allocations for 1,500 packets and 500 evictions", avg)
	}
	if left < 10000 {
		t.Errorf("only %d evictions", left)
	}
	var s Snapshot
	k, _ := keyOf(udp(1))
	if avg := testing.AllocsPerRun(100, func() { r.Get(k, "", Full, &s) }); avg != 0 {
		t.Errorf("Get without fingerprints: %v allocations", avg)
	}
	var page []Snapshot
	walk := func() {
		var c Cursor
		for more := true; more; {
			page, c, more = r.Page(c, Newest, 500, page)
		}
	}
	walk()
	if avg := testing.AllocsPerRun(10, walk); avg != 0 {
		t.Errorf("a walk without fingerprints: %v allocations", avg)
	}
}
