package tracker

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/whorl-net/whorl/flow"
)

// saved is a checkpoint: a head, and each shard at a place of its own.
type saved struct {
	head   []byte
	at     uint64 // of the head
	shards [][]byte
}

// image returns a shard as it is now, and its place in the log.
func image(t testing.TB, tr *Tracker, shard int) []byte {
	t.Helper()
	got := make(chan []byte, 1)
	err := tr.SaveShard(context.Background(), shard, func(i *ShardImage) {
		got <- i.AppendTo(nil)
		i.Release()
	})
	if err != nil {
		t.Fatal(err)
	}
	return <-got
}

// wholeState returns all that a Tracker knows, as bytes.
func wholeState(t testing.TB, tr *Tracker) [][]byte {
	all := [][]byte{tr.SaveHead(nil)}
	for i := range tr.shards {
		all = append(all, image(t, tr, i))
	}
	return all
}

// restore returns a running Tracker that goes on from s, with what it puts out.
func restore(t testing.TB, cfg Config, s *saved) (*rig, *recorder) {
	t.Helper()
	out := new(recorder)
	cfg.Events, cfg.Encode, cfg.OnOutput = true, encodeText, out.take
	tr, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.RestoreHead(s.head); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i, data := range s.shards {
		all.Go(func() {
			if _, err := tr.RestoreShard(i, data); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return startRig(t, tr), out
}

// A Tracker that is restored from shards saved at different places, and is given
// the log again from the head's place, ends in the same state to the byte and
// puts out the same, as one that never stopped; with any number of workers.
func TestRestoreIsExact(t *testing.T) {
	var sum Totals
	n := sequences(t, 150)
	for seed := range uint64(n) {
		got := testRestore(t, seed)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		for i := range sum.Evicted {
			sum.Evicted[i] += got.Evicted[i]
		}
		sum.Late += got.Late
		sum.Future += got.Future
		sum.FingerprintsCapped += got.FingerprintsCapped
		sum.FingerprintsNoRoom += got.FingerprintsNoRoom
		sum.FingerprintsOrphaned += got.FingerprintsOrphaned
		sum.ObserversCapped += got.ObserversCapped
	}
	if n >= 100 && slices.Contains(append(sum.Evicted[1:], sum.Late, sum.Future, sum.FingerprintsCapped,
		sum.FingerprintsNoRoom, sum.FingerprintsOrphaned, sum.ObserversCapped), 0) {
		t.Errorf("something never happened in %d sequences: %+v", n, sum)
	}
}

// sequences returns how many random sequences a property test is to try: n, or
// what WHORL_SEQUENCES says.
func sequences(t *testing.T, n int) int {
	v := os.Getenv("WHORL_SEQUENCES")
	if v == "" {
		if raceEnabled {
			return n / 8
		}
		return n
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func testRestore(t *testing.T, seed uint64) Totals {
	r := newTraffic(seed)
	cfg := tight(r)
	steps := stepsOf(r, 20+r.IntN(100))
	head := r.IntN(len(steps))
	places := make([]int, cfg.Shards)
	for i := range places {
		places[i] = head + r.IntN(min(30, len(steps)-head)+1)
	}
	return compareRestored(t, cfg, steps, head, places, func() int { return 1 + r.IntN(min(4, cfg.Shards)) })
}

// A sweep that is broken off goes on where it was.
func TestRestoreAmidSweep(t *testing.T) {
	const conns = 9_000
	open, steps := new(flow.Batch), []step{}
	for i := range conns {
		open.AddPacket(open.AddFlow(udp(i)), false, at(0), 100, 0)
	}
	steps = append(steps, step{batch: open})
	for i := range 8 { // each sweeps a part
		steps = append(steps, step{batch: batchOf(
			pkt{flow: tuple(i), at: 40 * time.Second}, pkt{flow: tuple(i + 100), at: 40 * time.Second},
			pkt{flow: tuple(i + 200), at: 40 * time.Second}, pkt{flow: udp(i * 999), at: 40*time.Second - time.Duration(i)},
		)})
	}
	for i := range steps {
		steps[i].entry.Position = uint64(1 + i)
	}
	for _, places := range [][]int{{1, 1, 1}, {2, 4, 3}, {3, 3, 3}} {
		cfg := Config{Shards: len(places), MaxMemoryBytes: 64 << 20, MaxConnections: conns * 2}
		compareRestored(t, cfg, steps, 1, places, func() int { return 2 })
	}
}

// compareRestored runs steps through a Tracker, saves its head behind head of
// them and each shard behind as many as places says, runs them again from there,
// and compares. It returns the totals.
func compareRestored(t *testing.T, cfg Config, steps []step, head int, places []int, workers func() int) Totals {
	t.Helper()
	cfg.Workers = workers()
	out := new(recorder)
	whole := cfg
	whole.Events, whole.Encode, whole.OnOutput = true, encodeText, out.take
	rig := newRig(t, whole)
	s := saved{shards: make([][]byte, cfg.Shards)}
	for i := range len(steps) + 1 {
		if i == head {
			s.head, s.at = rig.SaveHead(nil), rig.Position()
		}
		for shard, place := range places {
			if place == i {
				s.shards[shard] = image(t, rig.Tracker, shard)
			}
		}
		if i < len(steps) {
			submitStep(t, rig.Tracker, &steps[i])
		}
	}
	settle(t, rig.Tracker)
	want := wholeState(t, rig.Tracker)

	cfg.Workers = workers()
	again, rest := restore(t, cfg, &s)
	again.checkInvariants()
	for i := head; i < len(steps); i++ {
		submitStep(t, again.Tracker, &steps[i])
	}
	settle(t, again.Tracker)
	again.checkInvariants()
	got := wholeState(t, again.Tracker)
	for i := range want {
		if !bytes.Equal(want[i], got[i]) {
			t.Fatalf("part %d of the state differs", i)
		}
	}
	sameTotals(t, rig.Count(), again.Count())
	last := s.at
	for _, place := range places {
		if place > 0 {
			last = max(last, steps[place-1].entry.Position)
		}
	}
	same(t, "outputs behind all images", out.behind(last), rest.behind(last))
	if n := len(rest.lines); n > 0 && rest.positions[0] <= s.at {
		t.Fatalf("entry %d is put out, the head is at %d", rest.positions[0], s.at)
	}
	rig.stop()
	again.stop()
	return rig.Count()
}

// behind returns what was put out behind a place.
func (r *recorder) behind(position uint64) (lines []string) {
	for i, l := range r.lines {
		if r.positions[i] > position {
			lines = append(lines, l)
		}
	}
	return lines
}

// sameTotals compares all but the memory that slabs have taken.
func sameTotals(t *testing.T, want, got Totals) {
	t.Helper()
	want.MemoryBytes, got.MemoryBytes = 0, 0
	same(t, "totals", want, got)
}

// checkpointOf returns a checkpoint of a table with everything in it.
func checkpointOf(t testing.TB, cfg Config, seed uint64, n int) *saved {
	r := newTraffic(seed)
	r.networks, r.probes, r.hosts = 3, 6, 12
	rig := newRig(t, cfg)
	for _, s := range stepsOf(r, n) {
		if s.kind != jobFlush {
			submitStep(t, rig.Tracker, &s)
		}
	}
	all := wholeState(t, rig.Tracker)
	return &saved{head: all[0], at: rig.Position(), shards: all[1:]}
}

var checkpointConfig = Config{Shards: 2, MaxConnections: 1 << 12, MaxMemoryBytes: 8 << 20, Epoch: 5, HashSeed: 9}

// A checkpoint is refused by a Tracker that it was not made for, with a word on
// why; with other limits and timeouts it is taken.
func TestRestoreRefuses(t *testing.T) {
	s := checkpointOf(t, checkpointConfig, 1, 60)
	for _, c := range []struct {
		do   func(c *Config)
		want string
	}{
		{func(c *Config) {}, ""},
		{func(c *Config) { c.Shards = 3 }, "made for 2 shards, this tracker has 3"},
		{func(c *Config) { c.Epoch++ }, "made in epoch 5, this is epoch 6"},
		{func(c *Config) { c.HashSeed++ }, "made with another hash seed"},
	} {
		cfg := checkpointConfig
		c.do(&cfg)
		tr, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		err = tr.RestoreHead(s.head)
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, ErrCheckpoint) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%v, want %q", err, c.want)
		}
		if c.want != "" {
			continue
		}
		for _, w := range []struct {
			shard int
			data  []byte
			want  string
		}{
			{1, s.shards[0], "this is shard 0"},
			{2, s.shards[1], "there are 2 shards"},
			{0, s.head, "this is not a shard"},
			{0, append([]byte("S\x02"), s.shards[0][2:]...), "version 2, want 1"},
			{0, append(bytes.Clone(s.shards[0]), 0), "1 bytes too many"},
		} {
			if _, err := tr.RestoreShard(w.shard, w.data); err == nil || !strings.Contains(err.Error(), w.want) {
				t.Errorf("shard %d: %v, want %q", w.shard, err, w.want)
			}
			if tr, err = New(cfg); err != nil {
				t.Fatal(err)
			}
			if err = tr.RestoreHead(s.head); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := tr.RestoreShard(0, s.shards[0]); err != nil {
			t.Error(err)
		}
		if _, err := tr.RestoreShard(0, s.shards[0]); err == nil {
			t.Error("a shard is restored twice")
		}
		if err := tr.RestoreHead(s.head); err == nil {
			t.Error("a head is restored twice")
		}
	}
}

// Other timeouts and limits than those of the checkpoint hold from then on, and
// nothing is lost over it.
func TestRestoreWithOtherLimits(t *testing.T) {
	cfg := checkpointConfig
	cfg.Timeouts = Timeouts{TCP: time.Hour, TCPHalfOpen: time.Hour, TCPClosed: time.Hour, UDPOneWay: time.Hour, UDP: Never, Other: time.Hour}
	s := checkpointOf(t, cfg, 2, 300)
	for _, to := range []Timeouts{
		{},
		{TCP: Never, TCPHalfOpen: Never, TCPClosed: Never, UDPOneWay: Never, UDP: Never, Other: Never},
		{TCP: 2 * time.Hour, TCPHalfOpen: time.Millisecond, TCPClosed: time.Second, UDPOneWay: time.Minute, UDP: time.Hour, Other: 24 * time.Hour},
	} {
		for _, n := range []int{2, 20, 1 << 14} {
			cfg := checkpointConfig
			cfg.Timeouts, cfg.MaxConnections = to, n
			rig, _ := restore(t, cfg, s)
			live := rig.Count().Live
			if live < 50 {
				t.Fatalf("only %d connections", live)
			}
			checkWheelsAll(t, rig)
			steps := stepsOf(newTraffic(3), 100)
			for i := range steps {
				steps[i].entry.Position = 0
				submitStep(t, rig.Tracker, &steps[i])
			}
			settle(t, rig.Tracker)
			checkWheelsAll(t, rig)
			if n := rig.Count(); n.Live > n.MaxConnections {
				t.Errorf("%d connections, at most %d", n.Live, n.MaxConnections)
			}
			submitStep(t, rig.Tracker, &step{kind: jobFlush})
			settle(t, rig.Tracker)
			n := rig.Count()
			var evicted uint64
			for _, v := range n.Evicted {
				evicted += v
			}
			if n.Live != 0 || evicted != n.Opened {
				t.Errorf("%d live, %d evicted of %d opened", n.Live, evicted, n.Opened)
			}
		}
	}
}

func checkWheelsAll(t *testing.T, r *rig) {
	t.Helper()
	for _, s := range r.shards {
		checkWheels(t, s)
		checkCells(t, s)
	}
}

// Damaged data is refused, whatever is damaged, or makes a table that holds
// together; it never costs more memory than its length allows.
func FuzzRestore(f *testing.F) {
	s := checkpointOf(f, checkpointConfig, 1, 40)
	small := checkpointOf(f, checkpointConfig, 3, 5)
	f.Add(s.head, s.shards[0])
	f.Add(small.head, small.shards[0])
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, head, shard []byte) {
		for _, head := range [][]byte{head, s.head, small.head} {
			tr, err := New(checkpointConfig)
			if err != nil {
				t.Fatal(err)
			}
			if err := tr.RestoreHead(head); err != nil {
				if !errors.Is(err, ErrCheckpoint) {
					t.Fatal(err)
				}
				continue
			}
			position, err := tr.RestoreShard(0, shard)
			if err != nil {
				if !errors.Is(err, ErrCheckpoint) {
					t.Fatal(err)
				}
				continue
			}
			rig := startRig(t, tr)
			rig.checkInvariants()
			b := batchOf(handshake(tuple(1), 0)...)
			b.AddPacket(b.AddFlow(udp(3)), false, at(time.Hour), 100, 0)
			for p := range uint64(3) { // it works, if its place leaves room
				if err := tr.Submit(t.Context(), Entry{Position: position + p + 1}, Origin{}, b, nil); err != nil {
					return
				}
			}
			if err := tr.Flush(t.Context(), Entry{}, FlushRequest{}, nil); err != nil {
				t.Fatal(err)
			}
			settle(t, tr)
			rig.checkInvariants()
			image(t, tr, 0)
			rig.stop()
		}
	})
}

// Each single byte of a checkpoint may be wrong, and the data may end anywhere:
// it is refused, or makes a table that holds together.
func TestRestoreOfDamage(t *testing.T) {
	s := checkpointOf(t, checkpointConfig, 4, 12)
	restored := 0
	try := func(head, shard []byte) (ok bool) {
		tr, err := New(checkpointConfig)
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.RestoreHead(head); err != nil {
			return false
		}
		if _, err = tr.RestoreShard(0, shard); err != nil {
			return false
		}
		(&rig{TB: t, Tracker: tr}).checkInvariants()
		restored++
		return true
	}
	if !try(s.head, s.shards[0]) {
		t.Fatal("not restored")
	}
	r := newTraffic(1)
	for i := 0; i < len(s.shards[0]); i += 1 + len(s.shards[0])/1500 {
		if try(s.head, s.shards[0][:i]) {
			t.Errorf("restored from %d bytes of %d", i, len(s.shards[0]))
		}
		for range 3 {
			damaged := bytes.Clone(s.shards[0])
			damaged[i] ^= byte(1 + r.IntN(255))
			try(s.head, damaged)
		}
	}
	for i := range s.head {
		if try(s.head[:i], s.shards[0]) {
			t.Errorf("restored from %d bytes of %d of the head", i, len(s.head))
		}
		damaged := bytes.Clone(s.head)
		damaged[i] ^= byte(1 + r.IntN(255))
		try(damaged, s.shards[0])
	}
	if restored < 100 {
		t.Errorf("only %d were restored: nothing was shown", restored)
	}
}

// Labels that came after the head are known to the shards that saw them, and get
// their numbers again.
func TestRestoreOfLabels(t *testing.T) {
	cfg := checkpointConfig
	rig := newRig(t, cfg)
	batch := func(n int) *flow.Batch {
		return batchOf(pkt{flow: udp(n)}, pkt{flow: udp(n + 1)}, pkt{flow: udp(n + 2)})
	}
	rig.submit(at(0), rig.origin("first", "a"), batch(1))
	var s saved
	s.head = rig.SaveHead(nil)
	rig.submit(at(0), rig.origin("second", "b"), batch(10))
	s.shards = append(s.shards, image(t, rig.Tracker, 0))
	third := rig.origin("third", "c")
	rig.submit(at(0), third, batch(20))
	s.shards = append(s.shards, image(t, rig.Tracker, 1))

	again, _ := restore(t, cfg, &s)
	if again.Position() != 1 || again.Restored() != 3 {
		t.Errorf("head at %d, shards to %d, want 1, 3", again.Position(), again.Restored())
	}
	if err := again.SaveShard(t.Context(), 1, nil); err == nil {
		t.Error("a shard is saved that is ahead of the log")
	}
	if n, ok := again.labels.network("third"); !ok || n != 3 {
		t.Errorf("the third network has number %d, %v", n, ok)
	}
	again.submit(at(0), again.origin("second", "b"), batch(10))
	if o := again.origin("third", "c"); o != third {
		t.Errorf("origin %v, want %v", o, third)
	}
	again.submit(at(0), third, batch(20))
	if n := again.Count(); n.Live != 9 || n.Packets != 9 {
		t.Errorf("%d connections, %d packets, want 9", n.Live, n.Packets)
	}
	if again.get(udp(21), "third") == nil {
		t.Error("a connection of the third network is not tracked")
	}
}
