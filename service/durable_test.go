package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/log"
	"github.com/whorl-net/whorl/internal/wire"
	"github.com/whorl-net/whorl/ja4"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"github.com/whorl-net/whorl/tracker"
)

// durable makes cfg one of a data directory, with a table small enough for
// evictions of every cause.
func durable(dir string) Config {
	return Config{
		DataDir: dir, DrainTimeout: 20 * time.Second,
		Tracker: tracker.Config{Shards: 4, MaxConnections: 1200},
	}
}

// newDiskRig starts a collector on a data directory and waits until it serves.
func newDiskRig(t *testing.T, cfg Config) *rig {
	t.Helper()
	r := newRig(t, cfg)
	r.awaitServing()
	return r
}

// awaitServing waits until the restore is over.
func (r *rig) awaitServing() {
	r.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		st := r.totals()
		if st.GetState() == "serving" {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("state %s, restore %v after 20 s", st.GetState(), st.GetRestore())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// awaitEmpty waits until every connection has left by the log's time.
func (r *rig) awaitEmpty() {
	r.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for r.totals().GetConnections() > 0 {
		if time.Now().After(deadline) {
			r.t.Fatalf("%d connections are live after 30 s", r.totals().GetConnections())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// end stops the collector as an operator does.
func (r *rig) end() {
	r.t.Helper()
	r.stop()
	if err := <-r.ended; err != nil {
		r.t.Errorf("Run returned %v", err)
	}
	r.ended <- nil
}

var errCrash = errors.New("crash")

// crash ends the collector with nothing written that was not written before, as
// far as a process can do that to itself.
func (r *rig) crash() {
	r.t.Helper()
	r.collector.parts.fail(errCrash)
	if err := <-r.ended; !errors.Is(err, errCrash) {
		r.t.Errorf("Run returned %v", err)
	}
	r.ended <- nil
}

// all returns the live connections, by id.
func (r *rig) all() map[string]*whorlv1.Connection {
	r.t.Helper()
	out := make(map[string]*whorlv1.Connection)
	stream, err := r.tracker.Export(r.t.Context(), &whorlv1.ExportRequest{})
	if err != nil {
		r.t.Fatal(err)
	}
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			r.t.Fatal(err)
		}
		for _, c := range resp.GetConnections() {
			out[c.GetUid()] = c
		}
	}
}

// history returns the whole feed.
func (r *rig) history() []*whorlv1.Eviction {
	r.t.Helper()
	w := r.watch(r.t.Context(), &whorlv1.WatchRequest{
		Start: &whorlv1.WatchRequest_FromOldest{FromOldest: true}, NoFollow: true, MaxBatch: 1000,
	})
	var out []*whorlv1.Eviction
	for {
		m, err := w.Recv()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			r.t.Fatal(err)
		}
		if m.GetGap() != nil {
			r.t.Fatalf("gap %v", m.GetGap())
		}
		out = append(out, m.GetEvictions()...)
	}
}

// traffic is what a probe reports in a test: batches of two networks and flows
// that come and go, with fingerprints and a Lost record here and there.
func traffic(seed uint64, batches int) (encoded [][]byte, packetCount uint64) {
	rng := rand.New(rand.NewPCG(seed, 7))
	encoded = make([][]byte, 1, batches+1)
	for i := 1; i <= batches; i++ {
		flows := make([]int, 1+rng.IntN(60))
		for k := range flows {
			flows[k] = i*3 + rng.IntN(400)
		}
		b := packets(uint64(i), time.Duration(i)*250*time.Millisecond, flows...)
		for range rng.IntN(4) {
			withFingerprint(b, ja4.TypeJA4, fmt.Sprintf("t13d1516h2_%012x_02713d6af862", rng.IntN(40)))
		}
		if rng.IntN(20) == 0 {
			b = &flow.Batch{Sequence: uint64(i), Lost: &flow.Lost{
				FirstSequence: uint64(i), LastSequence: uint64(i), Packets: 5, Reason: "ring-full",
			}}
		}
		packetCount += uint64(b.Rows())
		encoded = append(encoded, wire.AppendBatch(nil, b))
	}
	return encoded, packetCount
}

// deliver reports batches from where the session stands up to last, and returns
// up to where they were acknowledged as durable. It stops when the stream does.
func (r *rig) deliver(t *testing.T, encoded [][]byte, last uint64) (acked uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	stream, err := r.ingest.Ingest(ctx)
	if err != nil {
		return 0
	}
	hello := helloOf("probe-1", "s1")
	if r.collector.cfg.Tracker.Timeouts.TCPHalfOpen == liveTimeout {
		hello.Kind = whorlv1.SessionKind_SESSION_KIND_LIVE
	}
	if stream.Send(&whorlv1.IngestRequest{Message: &whorlv1.IngestRequest_Hello{Hello: hello}}) != nil {
		return 0
	}
	resp, err := stream.Recv()
	if err != nil {
		return 0
	}
	acked = resp.GetWelcome().GetDurableSequence()
	for next := resp.GetWelcome().GetAppliedSequence() + 1; next <= last; next++ {
		b := new(whorlv1.Batch)
		if err := proto.Unmarshal(encoded[next], b); err != nil {
			t.Fatal(err)
		}
		if stream.Send(&whorlv1.IngestRequest{Message: &whorlv1.IngestRequest_Batch{Batch: b}}) != nil {
			break
		}
	}
	_ = stream.CloseSend()
	for {
		resp, err := stream.Recv()
		if err != nil {
			return acked
		}
		if durable := resp.GetAck().GetDurableSequence(); durable > acked {
			acked = durable
		}
	}
}

// A collector that was stopped goes on where it was: the connections with their
// histories, the counters, the sessions, the names, the feed.
func TestStoppedCollectorGoesOn(t *testing.T) {
	dir := t.TempDir()
	encoded, packetCount := traffic(1, 200)
	r := newDiskRig(t, durable(dir))
	if acked := r.deliver(t, encoded, 120); acked != 120 {
		t.Fatalf("acknowledged up to %d, want 120", acked)
	}
	push := &whorlv1.PushRequest{IdempotencyKey: "k", Network: "lab", Flows: []*whorlv1.PushedFlow{{
		SrcIp: "10.0.0.1", SrcPort: 1, DstIp: "10.0.0.2", DstPort: 2, Protocol: "tcp",
	}}}
	if _, err := r.ingest.Push(t.Context(), push); err != nil {
		t.Fatal(err)
	}
	before, live, fed := r.totals(), r.all(), r.history()
	r.end()

	r = newDiskRig(t, durable(dir))
	after := r.totals()
	if after.GetRestore() != nil || after.GetDurability() != "disk" || after.GetDataDir() != dir {
		t.Errorf("status %v", after)
	}
	for _, c := range []struct {
		what string
		get  func(*whorlv1.GetStatusResponse) uint64
	}{
		{"packets applied", (*whorlv1.GetStatusResponse).GetPacketsApplied},
		{"packets acknowledged", (*whorlv1.GetStatusResponse).GetPacketsAcknowledged},
		{"connections", (*whorlv1.GetStatusResponse).GetConnections},
		{"opened", (*whorlv1.GetStatusResponse).GetConnectionsOpened},
	} {
		if c.get(before) != c.get(after) {
			t.Errorf("%s: %d before, %d after", c.what, c.get(before), c.get(after))
		}
	}
	if before.GetEpoch() != after.GetEpoch() || before.GetFeed().GetNewestCursor() != after.GetFeed().GetNewestCursor() {
		t.Errorf("feed at %s before, %s after", before.GetFeed().GetNewestCursor(), after.GetFeed().GetNewestCursor())
	}
	checkSame(t, live, r.all())
	if again := r.history(); !slices.EqualFunc(fed, again, func(a, b *whorlv1.Eviction) bool { return proto.Equal(a, b) }) {
		t.Errorf("the feed has %d events, had %d", len(again), len(fed))
	}
	if got, err := r.ingest.Push(t.Context(), push); err != nil || !got.GetDuplicate() {
		t.Errorf("a push that was made before: %v, %v; want a duplicate", got, err)
	}
	// The probe learns where its session stands and sends the rest.
	if acked := r.deliver(t, encoded, 200); acked != 200 {
		t.Errorf("acknowledged up to %d, want 200", acked)
	}
	if got := r.totals().GetPacketsApplied(); got != packetCount+1 {
		t.Errorf("%d packets applied, want %d", got, packetCount+1)
	}
	if got := r.probe("probe-1").GetPacketsApplied(); got != packetCount {
		t.Errorf("%d packets of the session applied, want %d", got, packetCount)
	}
	r.checkIdentities()
}

// checkSame compares connections by their uid, and shows the first that differs.
func checkSame(t *testing.T, before, after map[string]*whorlv1.Connection) {
	t.Helper()
	if len(before) != len(after) {
		t.Errorf("%d connections before, %d after", len(before), len(after))
	}
	for uid, c := range after {
		if !proto.Equal(c, before[uid]) {
			t.Errorf("connection %s:\n%v before\n%v after", uid, before[uid], c)
			return
		}
	}
}

// settle has everything evicted that is due, and waits until that is in the feed.
func (r *rig) settle() {
	r.t.Helper()
	c := r.collector
	position, err := c.log.Append(r.t.Context(), log.Record{Kind: log.KindTick})
	if err != nil {
		r.t.Fatal(err)
	}
	for c.applier.done.Load() < uint64(position) {
		time.Sleep(time.Millisecond)
	}
	if err := c.journal.WaitDurable(r.t.Context(), uint64(position)); err != nil {
		r.t.Fatal(err)
	}
}

// checkIdentities checks what must hold whenever the streams rest.
func (r *rig) checkIdentities() {
	r.t.Helper()
	r.settle()
	st := r.totals()
	if a, b := st.GetPacketsAcknowledged(), st.GetPacketsApplied()+st.GetPacketsReplaying(); a != b {
		r.t.Errorf("%d packets acknowledged, %d applied or about to be", a, b)
	}
	evicted := uint64(0)
	for _, e := range st.GetEvictions() {
		evicted += e.GetCount()
	}
	if a, b := st.GetConnectionsOpened(), st.GetConnections()+evicted; a != b {
		r.t.Errorf("%d connections opened, %d live or evicted", a, b)
	}
	newest := st.GetFeed().GetNewestCursor()
	if want := fmt.Sprintf("%s.%d", st.GetEpoch(), evicted); newest != want {
		r.t.Errorf("the feed is at %s, want %s", newest, want)
	}
}

// A checkpoint behind a record that never reaches the tracker, the end of a
// session, is as good as any: the next start needs nothing of the log.
func TestCheckpointBehindTheEndOfASession(t *testing.T) {
	dir := t.TempDir()
	r := newDiskRig(t, durable(dir))
	p, _ := r.report(helloOf("edge", "s"))
	p.batch(packets(1, time.Second, 1, 2, 3))
	p.finish(false)
	r.end()
	files, err := filepath.Glob(filepath.Join(dir, "checkpoints", "[0-9]*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v; want one checkpoint", files, err)
	}
	r = newDiskRig(t, durable(dir))
	if got := r.totals().GetCheckpoint(); got.GetConnections() != 3 {
		t.Errorf("started from checkpoint %v, want the one with 3 connections", got)
	}
	if files, err = filepath.Glob(filepath.Join(dir, "checkpoints", "[0-9]*")); err != nil || len(files) != 1 || strings.Contains(files[0], "damaged") {
		t.Errorf("after the start: %v, %v", files, err)
	}
}

// However often a collector is cut down, and wherever, it ends up as one that
// was not: every packet counted once, the same evictions under the same numbers,
// the same connections. The one that was not is made by applying the whole log
// again, from an empty table into an empty feed.
func TestCrashesLoseAndDoubleNothing(t *testing.T) {
	seeds := 2
	if n, err := strconv.Atoi(os.Getenv("WHORL_CRASH_SEEDS")); err == nil {
		seeds = n
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			cfg := durable(t.TempDir())
			cfg.keepLog = true
			if seed%2 == 1 { // a live probe, whose clock the log's time moves on
				cfg.Tracker.Timeouts.TCPHalfOpen = liveTimeout
			}
			packetCount := crashOften(t, cfg, seed)
			r := newDiskRig(t, cfg)
			settle := func() {
				if seed%2 == 1 { // else what is live is a matter of when one looks
					r.awaitEmpty()
				}
			}
			settle()
			if got := r.totals().GetPacketsApplied(); got != packetCount {
				t.Errorf("%d packets applied, want %d", got, packetCount)
			}
			r.checkIdentities()
			p, _ := r.report(helloOf("probe-1", "s1"))
			if got := r.probe("probe-1").GetPacketsApplied(); got != packetCount {
				t.Errorf("%d packets of the session applied, want %d", got, packetCount)
			}
			_ = p.stream.CloseSend()
			cut, cutLive, cutFeed := r.totals(), r.all(), r.history()
			r.end()

			// Nothing of the life before but its log.
			for _, gone := range []string{"checkpoints", "jetstream/jetstream/$G/streams/feed"} {
				path := filepath.Join(cfg.DataDir, gone)
				if _, err := os.Stat(path); err != nil {
					t.Fatal(err)
				}
				if err := os.RemoveAll(path); err != nil {
					t.Fatal(err)
				}
			}
			r = newDiskRig(t, cfg)
			settle()
			r.checkIdentities()
			whole, feed := r.totals(), r.history()
			if whole.GetPacketsApplied() != cut.GetPacketsApplied() || whole.GetConnectionsOpened() != cut.GetConnectionsOpened() {
				t.Errorf("%d packets, %d connections; cut short %d, %d", whole.GetPacketsApplied(), whole.GetConnectionsOpened(),
					cut.GetPacketsApplied(), cut.GetConnectionsOpened())
			}
			checkSame(t, r.all(), cutLive)
			if len(feed) != len(cutFeed) || len(feed) == 0 {
				t.Errorf("%d evictions, cut short %d", len(feed), len(cutFeed))
			}
			for i := range min(len(feed), len(cutFeed)) {
				if !proto.Equal(feed[i], cutFeed[i]) {
					t.Fatalf("eviction %d:\n%v\ncut short:\n%v", i+1, feed[i], cutFeed[i])
				}
			}
		})
	}
}

// liveTimeout is short enough to be waited for.
const liveTimeout = 300 * time.Millisecond

// crashOften has a probe report everything to a collector that crashes all the
// time, and returns how many packets that are.
func crashOften(t *testing.T, cfg Config, seed uint64) (packetCount uint64) {
	const batches = 200
	encoded, packetCount := traffic(seed, batches)
	rng := rand.New(rand.NewPCG(seed, 3))
	// Checkpoints come all the time, and so in the middle of crashes.
	cfg.CheckpointEvery, cfg.CheckpointLogBytes = time.Nanosecond, 1
	crashes := 0
	for acked := uint64(0); acked < batches; crashes++ {
		if crashes == 200 {
			t.Fatalf("acknowledged up to %d after %d crashes", acked, crashes)
		}
		r := newDiskRig(t, cfg)
		timer := time.AfterFunc(time.Duration(rng.IntN(150))*time.Millisecond, func() { r.collector.parts.fail(errCrash) })
		acked = max(acked, r.deliver(t, encoded, min(batches, acked+uint64(1+rng.IntN(80)))))
		if timer.Stop() && cfg.Tracker.Timeouts.TCPHalfOpen == liveTimeout && rng.IntN(2) == 0 {
			time.Sleep(2 * liveTimeout) // what is live leaves, by the log's time
		}
		r.crash()
	}
	t.Logf("%d crashes", crashes)
	return packetCount
}

// A log that is small fills up and is let go of, again and again: probes wait,
// and everything is counted.
func TestSmallLogGoesOn(t *testing.T) {
	cfg := durable(t.TempDir())
	cfg.LogMaxBytes = 1 << 20
	cfg.CheckpointEvery = time.Hour // only a log that fills up calls for one
	r := newDiskRig(t, cfg)
	const batches, rows = 200, 1500
	encoded, want := noise(batches, rows), uint64(batches*rows)
	for acked, tries := uint64(0), 0; acked < batches; tries++ {
		if tries == 10 {
			t.Fatalf("acknowledged up to %d of %d: %v", acked, batches, r.totals().GetLog())
		}
		acked = r.deliver(t, encoded, batches)
	}
	st := r.totals()
	if st.GetPacketsApplied() != want {
		t.Errorf("%d packets applied, want %d", st.GetPacketsApplied(), want)
	}
	if st.GetLog().GetFirstPosition() < 2 || st.GetLog().GetMaxBytes() > 1<<20 {
		t.Errorf("log %v: nothing was let go of", st.GetLog())
	}
	r.checkIdentities()
}

// noise makes encoded batches, from 1 on, that take much room in a log.
func noise(batches, rows int) (encoded [][]byte) {
	rng := rand.New(rand.NewPCG(1, 1))
	encoded = [][]byte{nil}
	for i := 1; i <= batches; i++ {
		b := packets(uint64(i), time.Duration(i)*time.Millisecond, upTo(100)...)
		for b.Rows() < rows { // what cannot be compressed
			b.AddPacket(uint32(rng.IntN(100)), false, epochStart+int64(i)*1e6+rng.Int64N(1e6), rng.Uint32N(1<<20), uint8(rng.Uint32()))
		}
		encoded = append(encoded, wire.AppendBatch(nil, b))
	}
	return encoded
}

// A log that rounds at one and the same place let go of as a whole fills up
// afterwards, and calls for a round again.
func TestLogFillsUpBehindTheNewestRound(t *testing.T) {
	cfg := durable(t.TempDir())
	cfg.LogMaxBytes = 1 << 20
	cfg.CheckpointEvery = time.Hour
	r := newDiskRig(t, cfg)
	const batches = 150
	encoded := noise(batches, 1500)
	if acked := r.deliver(t, encoded, 10); acked != 10 {
		t.Fatalf("acknowledged up to %d, want 10", acked)
	}
	k := r.collector.checkpointer
	for whole := false; !whole; { // a tick may come between two rounds
		if err := k.round(t.Context()); err != nil {
			t.Fatal(err)
		}
		k.mu.Lock()
		whole = k.trimmed == log.Position(k.newest.Oldest)
		k.mu.Unlock()
	}
	for acked, tries := uint64(0), 0; acked < batches; tries++ {
		if tries == 4 {
			t.Fatalf("acknowledged up to %d of %d: %v", acked, batches, r.totals().GetLog())
		}
		acked = r.deliver(t, encoded, batches)
	}
}

// A checkpoint that is damaged is set aside, and the one before it does; when
// there is none, the collector says so instead of starting with what it lost.
func TestDamagedCheckpointGoesBackOne(t *testing.T) {
	cfg := durable(t.TempDir())
	encoded, _ := traffic(3, 120)
	for n := range 3 { // three lives, each with a checkpoint at its end
		r := newDiskRig(t, cfg)
		if last := uint64(40 * (n + 1)); r.deliver(t, encoded, last) != last {
			t.Fatal("not everything was acknowledged")
		}
		r.end()
	}
	r := newDiskRig(t, cfg)
	r.settle()
	before := r.all()
	r.crash()

	files, err := filepath.Glob(filepath.Join(cfg.DataDir, "checkpoints", "*.whorl"))
	if err != nil || len(files) != 2 {
		t.Fatalf("checkpoints %v, %v; want 2", files, err)
	}
	damage := func(path string) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 1
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	damage(files[1])
	r = newDiskRig(t, cfg)
	r.settle()
	checkSame(t, before, r.all())
	r.checkIdentities()
	if _, err := os.Stat(files[1] + ".damaged"); err != nil {
		t.Errorf("the damaged one is not there to be looked at: %v", err)
	}
	// Behind two checkpoints more the log is no longer whole.
	for range 2 {
		if err := r.collector.checkpointer.round(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(10 * time.Second); r.collector.log.Stats().First == 1; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("log %+v: nothing was trimmed", r.collector.log.Stats())
		}
	}
	r.crash()

	if files, err = filepath.Glob(filepath.Join(cfg.DataDir, "checkpoints", "*.whorl")); err != nil || len(files) != 2 {
		t.Fatalf("checkpoints %v, %v; want 2", files, err)
	}
	damage(files[0])
	damage(files[1])
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.cfg.Listeners = []net.Listener{bufconn.Listen(1)}
	if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "no checkpoint that can be read") {
		t.Errorf("run without a checkpoint: %v", err)
	}
}

// While a collector restores, whoever asks is told to come again, and the status
// says how far it is.
func TestRestoringTurnsCallsAway(t *testing.T) {
	r := newDiskRig(t, durable(t.TempDir()))
	c := r.collector
	c.condition.restores(5, 1<<40)
	for _, call := range []func() error{
		func() error { _, err := r.tracker.Count(t.Context(), &whorlv1.CountRequest{}); return err },
		func() error {
			w, err := r.feed.Watch(t.Context(), &whorlv1.WatchRequest{})
			if err == nil {
				_, err = w.Recv()
			}
			return err
		},
		func() error {
			s, err := r.ingest.Ingest(t.Context())
			if err == nil {
				_, err = s.Recv()
			}
			return err
		},
		func() error {
			_, err := r.status.FlushConnections(t.Context(), &whorlv1.FlushConnectionsRequest{})
			return err
		},
	} {
		err := call()
		checkError(t, err, codes.Unavailable, ReasonRestoring)
		if len(status.Convert(err).Details()) != 2 {
			t.Errorf("%v says nothing about when to try again", err)
		}
	}
	st := r.totals()
	if st.GetState() != "restoring" || st.GetRestore().GetFromPosition() != 5 || st.GetRestore().GetToPosition() != 1<<40 {
		t.Errorf("state %s, restore %v", st.GetState(), st.GetRestore())
	}
	c.condition.restored()
	if _, err := r.tracker.Count(t.Context(), &whorlv1.CountRequest{}); err != nil {
		t.Errorf("after the restore: %v", err)
	}
}

// One data directory serves one collector, and only with its number of shards.
func TestDataDirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	r := newDiskRig(t, durable(dir))
	if _, err := New(durable(dir)); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("second collector: %v", err)
	}
	r.end()
	cfg := durable(dir)
	cfg.Tracker.Shards = 8
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "--shards 4") {
		t.Errorf("other shards: %v", err)
	}
}

// A start that fails before anybody is served leaves no data directory behind.
func TestFailedStartLeavesNoDirectory(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, spoil := range map[string]func(cfg *Config){
		"address taken": func(cfg *Config) { cfg.Listen = []string{taken.Addr().String()} },
		"no rules":      func(cfg *Config) { cfg.Knowledge.Rules = []string{"/nonexistent"} },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := durable(filepath.Join(t.TempDir(), "data"))
			spoil(&cfg)
			c, err := New(cfg)
			if err == nil {
				err = c.Run(t.Context())
			}
			if err == nil {
				t.Fatal("it started")
			}
			if _, err := os.Stat(cfg.DataDir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the data directory: %v", err)
			}
		})
	}
}
