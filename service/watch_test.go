package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// watch starts a subscription whose place is fixed when it returns.
func (r *rig) watch(ctx context.Context, req *whorlv1.WatchRequest) grpc.ServerStreamingClient[whorlv1.WatchResponse] {
	r.t.Helper()
	w, err := r.feed.Watch(ctx, req)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := w.Header(); err != nil {
		r.t.Fatal(err)
	}
	return w
}

// evict sends n connections through the table and has them flushed into the
// feed.
func (r *rig) evict(session string, n int) {
	r.t.Helper()
	p, w := r.report(helloOf("evictor", session))
	b := packets(w.GetAppliedSequence()+1, 0, upTo(n)...)
	withFingerprint(b, ja4.TypeJA4, "t13d1516h2_8daaf6152771_02713d6af862")
	p.batch(b)
	p.finish(true)
}

// collect receives until the stream ends or max evictions came.
func collect(t *testing.T, w grpc.ServerStreamingClient[whorlv1.WatchResponse], most int) (evictions []*whorlv1.Eviction, gaps []*whorlv1.Gap, cursor string) {
	t.Helper()
	for len(evictions) < most {
		resp, err := w.Recv()
		if errors.Is(err, io.EOF) {
			return evictions, gaps, cursor
		}
		if err != nil {
			t.Fatal(err)
		}
		if resp.GetCursor() == "" || resp.GetServerTime() == nil {
			t.Errorf("message without cursor or time: %v", resp)
		}
		if resp.GetGap() != nil {
			gaps = append(gaps, resp.GetGap())
		}
		evictions = append(evictions, resp.GetEvictions()...)
		cursor = resp.GetCursor()
	}
	return evictions, gaps, cursor
}

// dense checks that sequences run from first without holes.
func dense(t *testing.T, evictions []*whorlv1.Eviction, first uint64) {
	t.Helper()
	for i, e := range evictions {
		if e.GetSequence() != first+uint64(i) {
			t.Fatalf("eviction %d has sequence %d, want %d", i, e.GetSequence(), first+uint64(i))
		}
	}
}

// A quiet feed still speaks: it tells its place at once, then one heartbeat per
// interval, each with a cursor.
func TestWatchHeartbeat(t *testing.T) {
	for _, tt := range []struct {
		ask  *durationpb.Duration
		want time.Duration
	}{
		{nil, 10 * time.Second}, {durationpb.New(time.Second), time.Second}, {durationpb.New(5 * time.Minute), 5 * time.Minute},
	} {
		inBubble(t, func(t *testing.T) {
			r := newRig(t, Config{})
			w := r.watch(t.Context(), &whorlv1.WatchRequest{HeartbeatInterval: tt.ask})
			for i := range 3 {
				start := time.Now()
				resp, err := w.Recv()
				if err != nil {
					t.Fatalf("heartbeat %d: %v", i, err)
				}
				want := tt.want
				if i == 0 {
					want = 0
				}
				if got := time.Since(start); got != want || resp.GetCursor() == "" {
					t.Errorf("heartbeat %d after %v, cursor %q; want after %v, with a cursor", i, got, resp.GetCursor(), want)
				}
			}
		})
	}
}

// Who starts now is told that place before anything else, so that a stream cut
// before the first eviction can be resumed without a loss. Who names a place
// knows it: the first heartbeat is one interval away.
func TestWatchTellsWhereNowIs(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.evict("s1", 3)
		ctx, cut := context.WithCancel(t.Context())
		w := r.watch(ctx, &whorlv1.WatchRequest{Filter: "src:10.0.0.0/31"})
		first, err := w.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if want := r.totals().GetEpoch() + ".3"; first.GetCursor() != want || len(first.GetEvictions()) != 0 || first.GetGap() != nil {
			t.Fatalf("first message %v: want a heartbeat at %s", first, want)
		}
		cut()
		r.evict("s2", 3)
		w = r.watch(t.Context(), &whorlv1.WatchRequest{Start: &whorlv1.WatchRequest_AfterCursor{AfterCursor: first.GetCursor()}})
		got, gaps, cursor := collect(t, w, 3)
		if len(gaps) != 0 {
			t.Errorf("gaps %v after the cut, want none", gaps)
		}
		dense(t, got, 4)
		start := time.Now()
		w = r.watch(t.Context(), &whorlv1.WatchRequest{Start: &whorlv1.WatchRequest_AfterCursor{AfterCursor: cursor}})
		if _, err := w.Recv(); err != nil || time.Since(start) != defaultHeartbeat {
			t.Errorf("first heartbeat after %v, %v; want after %v", time.Since(start), err, defaultHeartbeat)
		}
	})
}

// Every eviction is numbered one higher than the one before, carries its cause,
// time and whole connection, and comes as soon as it happens.
func TestWatchDeliversEvictions(t *testing.T) {
	r := newRig(t, Config{})
	w := r.watch(t.Context(), &whorlv1.WatchRequest{Subscriber: "siem"})
	r.evict("s1", 250)
	got, _, _ := collect(t, w, 250)
	dense(t, got, 1)
	e := got[0]
	if e.GetCause() != whorlv1.EvictionCause_EVICTION_CAUSE_FLUSH || e.GetEvictedAt() == nil || e.GetConnection().GetId() == "" || e.GetConnection().GetPacketCount() != 1 {
		t.Errorf("eviction %v: want flush, a time and a connection of 1 packet", e)
	}
	subs := r.totals().GetSubscribers()
	if len(subs) != 1 || subs[0].GetSubscriber() != "siem" {
		t.Errorf("subscribers %v, want siem", subs)
	}
}

// Idle connections leave when the network's clock says so: while packets come,
// and, when none do, by the ticks of the log.
func TestIdleConnectionsReachTheFeedByTicks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, Config{})
		w := r.watch(t.Context(), &whorlv1.WatchRequest{})
		hello := helloOf("probe-1", "s1")
		hello.Kind = whorlv1.SessionKind_SESSION_KIND_LIVE
		p, _ := r.report(hello)
		b := &flow.Batch{Sequence: 1}
		b.AddPacket(b.AddFlow(tuple(1)), false, time.Now().UnixNano(), 100, flow.SYN)
		start := time.Now()
		p.batch(b)
		p.acked(1)
		got, _, _ := collect(t, w, 1)
		if d := time.Since(start); d < 30*time.Second || d > 35*time.Second || got[0].GetCause() != whorlv1.EvictionCause_EVICTION_CAUSE_IDLE {
			t.Errorf("evicted after %v, %v; want idle after 30s and little more", d, got[0].GetCause())
		}
	})
}

// The start positions: oldest, a cursor, a time, and now.
func TestWatchStartsWhereAsked(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.evict("s1", 3)
		time.Sleep(time.Minute)
		middle := timestamppb.Now()
		r.evict("s2", 4)
		epoch := r.totals().GetEpoch()
		for name, tt := range map[string]struct {
			req         *whorlv1.WatchRequest
			first, most uint64
		}{
			"oldest":      {&whorlv1.WatchRequest{Start: &whorlv1.WatchRequest_FromOldest{FromOldest: true}}, 1, 7},
			"cursor":      {&whorlv1.WatchRequest{Start: &whorlv1.WatchRequest_AfterCursor{AfterCursor: epoch + ".2"}}, 3, 5},
			"cursor 0":    {&whorlv1.WatchRequest{Start: &whorlv1.WatchRequest_AfterCursor{AfterCursor: epoch + ".0"}}, 1, 7},
			"since":       {&whorlv1.WatchRequest{Start: &whorlv1.WatchRequest_Since{Since: middle}}, 4, 4},
			"since ever":  {&whorlv1.WatchRequest{Start: &whorlv1.WatchRequest_Since{Since: timestamppb.New(time.Unix(0, 0))}}, 1, 7},
			"last":        {&whorlv1.WatchRequest{Start: &whorlv1.WatchRequest_Last{Last: 2}}, 6, 2},
			"last of few": {&whorlv1.WatchRequest{Start: &whorlv1.WatchRequest_Last{Last: 100}}, 1, 7},
			"now":         {&whorlv1.WatchRequest{}, 0, 0},
			"limit":       {&whorlv1.WatchRequest{Start: &whorlv1.WatchRequest_FromOldest{FromOldest: true}, Limit: 2}, 1, 2},
			"max_batch":   {&whorlv1.WatchRequest{Start: &whorlv1.WatchRequest_FromOldest{FromOldest: true}, MaxBatch: 1}, 1, 7},
		} {
			tt.req.NoFollow = true
			got, gaps, cursor := collect(t, r.watch(t.Context(), tt.req), 100)
			if uint64(len(got)) != tt.most || len(gaps) != 0 {
				t.Errorf("%s: %d evictions, gaps %v; want %d and none", name, len(got), gaps, tt.most)
			}
			dense(t, got, tt.first)
			if want := fmt.Sprintf("%s.%d", epoch, tt.first+tt.most-1); tt.most > 0 && cursor != want {
				t.Errorf("%s: cursor %s at the end, want %s", name, cursor, want)
			}
		}
	})
}

// A filter and a projection decide what is in a message; the cursor moves past
// what was left out.
func TestWatchFiltersAndProjects(t *testing.T) {
	r := newRig(t, Config{})
	r.evict("s1", 300)
	epoch := r.totals().GetEpoch()
	for name, tt := range map[string]struct {
		req  *whorlv1.WatchRequest
		want int
	}{
		"text":           {&whorlv1.WatchRequest{Filter: "src:10.0.0.0/28"}, 16},
		"typed":          {&whorlv1.WatchRequest{Include: []*whorlv1.ConnectionFilter{{SrcIp: []string{"10.0.0.0/28"}}}}, 16},
		"cause":          {&whorlv1.WatchRequest{Filter: "cause:flush src:10.0.0.0/28"}, 16},
		"another cause":  {&whorlv1.WatchRequest{Filter: "cause:idle"}, 0},
		"fingerprint":    {&whorlv1.WatchRequest{Filter: "ja4:t13d*"}, 1},
		"fields":         {&whorlv1.WatchRequest{Fields: []string{"id"}}, 300},
		"filter, fields": {&whorlv1.WatchRequest{Filter: "src:10.0.0.0/28", Fields: []string{"id"}}, 16},
		"basic":          {&whorlv1.WatchRequest{View: whorlv1.ConnectionView_CONNECTION_VIEW_BASIC, Filter: "ja4:t13d*"}, 1},
		"no such type":   {&whorlv1.WatchRequest{FingerprintTypes: []string{"ja4h"}, Filter: "ja4:t13d*"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			tt.req.Start, tt.req.NoFollow = &whorlv1.WatchRequest_FromOldest{FromOldest: true}, true
			got, _, cursor := collect(t, r.watch(t.Context(), tt.req), 1000)
			if len(got) != tt.want {
				t.Errorf("%d evictions, want %d", len(got), tt.want)
			}
			if want := epoch + ".300"; cursor != want {
				t.Errorf("cursor %s at the end, want %s", cursor, want)
			}
			for _, e := range got {
				if e.GetSequence() == 0 || e.GetCause() == 0 || e.GetEvictedAt() == nil || e.GetConnection().GetId() == "" {
					t.Fatalf("eviction %v lacks its head", e)
				}
				if tt.req.GetFields() != nil && e.GetConnection().GetSrcIp() != "" {
					t.Fatalf("eviction %v: want the id alone", e)
				}
				if tt.req.GetFingerprintTypes() != nil && len(e.GetConnection().GetFingerprints()) != 0 {
					t.Fatalf("eviction %v: want no ja4", e)
				}
			}
		})
	}
}

// A limit with a filter counts what matched, and the cursor stands right behind
// the last of it.
func TestWatchLimitCountsMatches(t *testing.T) {
	r := newRig(t, Config{})
	r.evict("s1", 200)
	req := &whorlv1.WatchRequest{Start: &whorlv1.WatchRequest_FromOldest{FromOldest: true}, Filter: "src:10.0.0.0/25", Limit: 5}
	var all []*whorlv1.Eviction
	for len(all) < 128 {
		got, _, cursor := collect(t, r.watch(t.Context(), req), 1000)
		if len(got) == 0 || len(got) > 5 {
			t.Fatalf("%d evictions, want up to 5", len(got))
		}
		all = append(all, got...)
		if !strings.HasSuffix(cursor, fmt.Sprintf(".%d", got[len(got)-1].GetSequence())) {
			t.Fatalf("cursor %s behind sequence %d", cursor, got[len(got)-1].GetSequence())
		}
		req.Start = &whorlv1.WatchRequest_AfterCursor{AfterCursor: cursor}
		req.Limit = min(5, uint64(128-len(all)))
	}
	seen := make(map[uint64]bool)
	for _, e := range all {
		if seen[e.GetSequence()] {
			t.Fatalf("sequence %d twice", e.GetSequence())
		}
		seen[e.GetSequence()] = true
	}
}

// smallFeed holds little, so that events are overwritten.
func smallFeed() Config { return Config{FeedMaxBytes: 64 << 10} }

// What is no longer held is told as one gap with an exact count, or ends the
// watch with the oldest cursor when asked for that.
func TestWatchGaps(t *testing.T) {
	r := newRig(t, smallFeed())
	for i := range 5 {
		r.evict(fmt.Sprint("s", i), 500)
	}
	st := r.totals()
	if st.GetFeed().GetHeldEvents() >= 2500 {
		t.Fatalf("%d events held, want fewer than happened", st.GetFeed().GetHeldEvents())
	}
	held := st.GetFeed().GetHeldEvents()
	first := func() *whorlv1.WatchRequest {
		return &whorlv1.WatchRequest{Start: &whorlv1.WatchRequest_AfterCursor{AfterCursor: st.GetEpoch() + ".7"}, NoFollow: true}
	}
	got, gaps, _ := collect(t, r.watch(t.Context(), first()), 10_000)
	if len(gaps) != 1 || gaps[0].GetCause() != whorlv1.GapCause_GAP_CAUSE_RETENTION ||
		gaps[0].GetFirstLostSequence() != 8 || gaps[0].GetLostCount() != 2500-7-held || gaps[0].GetLastLostSequence() != 2500-held {
		t.Errorf("gaps %v, want one of %d from 8", gaps, 2500-7-held)
	}
	dense(t, got, 2501-held)
	if uint64(len(got)) != held {
		t.Errorf("%d evictions, want the %d held", len(got), held)
	}

	req := first()
	req.GapPolicy = whorlv1.GapPolicy_GAP_POLICY_FAIL
	_, err := r.watch(t.Context(), req).Recv()
	checkError(t, err, codes.OutOfRange, ReasonCursorGone)
	if m := errorInfo(err).GetMetadata(); m["oldest_cursor"] != st.GetFeed().GetOldestCursor() || m["lost_count"] != fmt.Sprint(2500-7-held) {
		t.Errorf("metadata %v: want oldest cursor %s", m, st.GetFeed().GetOldestCursor())
	}

	elsewhere := &whorlv1.WatchRequest{Start: &whorlv1.WatchRequest_AfterCursor{AfterCursor: "abc123abc123.7"}, NoFollow: true}
	got, gaps, _ = collect(t, r.watch(t.Context(), elsewhere), 10_000)
	if len(gaps) == 0 || gaps[0].GetCause() != whorlv1.GapCause_GAP_CAUSE_NEW_EPOCH || gaps[0].GetLostCount() != 0 || uint64(len(got)) != held {
		t.Errorf("another epoch: gaps %v, %d evictions; want new_epoch first, then all %d held", gaps, len(got), held)
	}
	elsewhere.GapPolicy = whorlv1.GapPolicy_GAP_POLICY_FAIL
	_, err = r.watch(t.Context(), elsewhere).Recv()
	checkError(t, err, codes.OutOfRange, ReasonCursorGone)
	if n := r.drop("watch.events_lost"); n == 0 {
		t.Error("lost events are not in the drops")
	}
}

// Bad subscriptions are refused, each by the name of its field.
func TestBadWatchesNameTheField(t *testing.T) {
	r := newRig(t, Config{})
	epoch := r.totals().GetEpoch()
	for _, tt := range []struct {
		field, reason string
		req           *whorlv1.WatchRequest
	}{
		{"after_cursor", ReasonBadCursor, &whorlv1.WatchRequest{Start: &whorlv1.WatchRequest_AfterCursor{AfterCursor: "nonsense"}}},
		{"after_cursor", ReasonBadCursor, &whorlv1.WatchRequest{Start: &whorlv1.WatchRequest_AfterCursor{AfterCursor: "zz.1"}}},
		{"after_cursor", ReasonBadCursor, &whorlv1.WatchRequest{Start: &whorlv1.WatchRequest_AfterCursor{AfterCursor: epoch + ".99"}}},
		{"since", ReasonBadField, &whorlv1.WatchRequest{Start: &whorlv1.WatchRequest_Since{Since: &timestamppb.Timestamp{Nanos: -1}}}},
		{"filter", ReasonBadFilter, &whorlv1.WatchRequest{Filter: "prot:tcp"}},
		{"fields[0]", ReasonBadField, &whorlv1.WatchRequest{Fields: []string{"nope"}}},
		{"heartbeat_interval", ReasonBadField, &whorlv1.WatchRequest{HeartbeatInterval: durationpb.New(time.Millisecond)}},
		{"heartbeat_interval", ReasonBadField, &whorlv1.WatchRequest{HeartbeatInterval: durationpb.New(time.Hour)}},
		{"max_batch", ReasonBadField, &whorlv1.WatchRequest{MaxBatch: 1001}},
		{"gap_policy", ReasonBadField, &whorlv1.WatchRequest{GapPolicy: 9}},
		{"subscriber", ReasonBadField, &whorlv1.WatchRequest{Subscriber: "a\nb"}},
	} {
		t.Run(tt.field, func(t *testing.T) {
			w, err := r.feed.Watch(t.Context(), tt.req)
			if err != nil {
				t.Fatal(err)
			}
			_, err = w.Recv()
			checkError(t, err, codes.InvalidArgument, tt.reason)
			checkField(t, err, tt.field)
		})
	}
}

// One subscriber more than the limit is refused, and let in when one has left.
func TestTooManySubscribers(t *testing.T) {
	r := newRig(t, Config{MaxSubscribers: 1})
	ctx, cancel := context.WithCancel(t.Context())
	first := r.watch(ctx, &whorlv1.WatchRequest{})
	w, err := r.feed.Watch(t.Context(), &whorlv1.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Recv()
	checkError(t, err, codes.ResourceExhausted, ReasonTooManyReaders)
	cancel()
	for err = error(nil); err == nil; _, err = first.Recv() { // what was sent before may still come
	}
	for r.totals().GetSubscribers() != nil { // until the handler has left
		time.Sleep(time.Millisecond)
	}
	r.watch(t.Context(), &whorlv1.WatchRequest{})
}

// Twenty subscribers get everything although one of them reads nothing; that one
// is told after 30 s to read or leave, and the collector has not waited for it.
func TestStuckSubscriberHoldsUpNobody(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, Config{})
		stuck := r.watch(t.Context(), &whorlv1.WatchRequest{Subscriber: "stuck"})
		const readers, each, rounds = 19, 500, 4
		type result struct {
			n    int
			last uint64
		}
		results := make(chan result, readers)
		for range readers {
			conn := r.dial() // of its own: streams of one connection share its window
			t.Cleanup(func() { conn.Close() })
			w, err := whorlv1.NewFeedServiceClient(conn).Watch(t.Context(), &whorlv1.WatchRequest{Limit: each * rounds})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Header(); err != nil {
				t.Fatal(err)
			}
			go func() {
				var res result
				for {
					resp, err := w.Recv()
					if err != nil {
						results <- res
						return
					}
					for _, e := range resp.GetEvictions() {
						if e.GetSequence() != res.last+1 {
							res.n = -1 << 30
						}
						res.n, res.last = res.n+1, e.GetSequence()
					}
				}
			}()
		}
		start := time.Now()
		for i := range rounds {
			r.evict(fmt.Sprint("s", i), each)
		}
		for range readers {
			if got := <-results; got.n != each*rounds {
				t.Errorf("a reader got %+v, want %d in order", got, each*rounds)
			}
		}
		if d := time.Since(start); d >= stalledAfter {
			t.Errorf("readers waited %v", d)
		}
		time.Sleep(stalledAfter + defaultHeartbeat)
		synctest.Wait()
		if n := r.drop("watch.readers_stalled"); n != 1 {
			t.Errorf("%d readers stalled, want 1", n)
		}
		// What was on its way still comes; from the cursor of the last of it the
		// stuck one resumes, and catches up without a hole or a repeat.
		var got []*whorlv1.Eviction
		cursor := ""
		for {
			resp, err := stuck.Recv()
			if err != nil {
				checkError(t, err, codes.ResourceExhausted, ReasonSlowReader)
				break
			}
			got, cursor = append(got, resp.GetEvictions()...), resp.GetCursor()
		}
		if len(got) == each*rounds {
			t.Fatal("the stuck reader had everything: it was not stuck")
		}
		again := r.watch(t.Context(), &whorlv1.WatchRequest{
			Start: &whorlv1.WatchRequest_AfterCursor{AfterCursor: cursor}, NoFollow: true,
		})
		for {
			resp, err := again.Recv()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if resp.GetGap() != nil {
				t.Fatalf("gap %v: the feed holds all of it", resp.GetGap())
			}
			got = append(got, resp.GetEvictions()...)
		}
		if len(got) != each*rounds {
			t.Errorf("the stuck reader got %d in the end, want %d", len(got), each*rounds)
		}
		dense(t, got, 1)
	})
}

// Whoever resumes from its own cursor, however often it is cut, has in the end
// exactly the feed.
func TestResumedWatchesAddUpToTheFeed(t *testing.T) {
	r := newRig(t, Config{})
	const total = 2000
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := range total / 100 {
			r.evict(fmt.Sprint("s", i), 100)
		}
	})
	rng := rand.New(rand.NewPCG(1, 2))
	req := &whorlv1.WatchRequest{Start: &whorlv1.WatchRequest_FromOldest{FromOldest: true}, MaxBatch: 7}
	var got []*whorlv1.Eviction
	for len(got) < total {
		ctx, cancel := context.WithCancel(t.Context())
		w := r.watch(ctx, req)
		for range 1 + rng.IntN(20) {
			if len(got) == total {
				break
			}
			resp, err := w.Recv()
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, resp.GetEvictions()...)
			req.Start = &whorlv1.WatchRequest_AfterCursor{AfterCursor: resp.GetCursor()}
		}
		cancel()
	}
	writer.Wait()
	dense(t, got, 1)
}

// A reader that falls out of the feed while it is connected is told what it lost,
// to the eviction, and goes on; what it got and what it lost add up.
func TestSlowReaderIsToldWhatItLost(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, smallFeed())
		conn := r.dial() // of its own: it must not fill the window of others
		defer conn.Close()
		w, err := whorlv1.NewFeedServiceClient(conn).Watch(t.Context(), &whorlv1.WatchRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Header(); err != nil {
			t.Fatal(err)
		}
		const total = 8000
		for i := range total / 1000 {
			r.evict(fmt.Sprint("s", i), 1000)
		}
		next, lost, gaps := uint64(1), uint64(0), 0
		for next <= total {
			resp, err := w.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if g := resp.GetGap(); g != nil {
				gaps++
				if g.GetCause() != whorlv1.GapCause_GAP_CAUSE_SLOW_READER || g.GetFirstLostSequence() != next ||
					g.GetLostCount() != g.GetLastLostSequence()-g.GetFirstLostSequence()+1 {
					t.Errorf("gap %v at %d: want slow_reader from there, with an exact count", g, next)
				}
				next = g.GetLastLostSequence() + 1
				lost += g.GetLostCount()
			}
			for _, e := range resp.GetEvictions() {
				if e.GetSequence() != next {
					t.Fatalf("sequence %d, want %d", e.GetSequence(), next)
				}
				next++
			}
		}
		if gaps == 0 || lost == 0 {
			t.Errorf("%d gaps of %d, want some", gaps, lost)
		}
		if subs := r.totals().GetSubscribers(); len(subs) != 1 || subs[0].GetLost() != lost || subs[0].GetBacklog() != 0 {
			t.Errorf("status %v: want %d lost and no backlog", subs, lost)
		}
	})
}
