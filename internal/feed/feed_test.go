package feed

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/whorl-net/whorl/internal/fuzzguard"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/whorl-net/whorl/flow"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newJournal(t testing.TB, cfg Config) *Journal {
	t.Helper()
	j, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func testKey(n int) *flow.Key {
	k := flow.Key{B: flow.AddrFrom4([4]byte{10, 0, 0, 1}), BPort: 443, Protocol: flow.TCP}
	binary.BigEndian.PutUint32(k.A[:], uint32(n))
	return &k
}

// body is what event n says: its own number, padded to size.
func body(n uint64, size int) []byte {
	c := &whorlv1.Connection{PacketCount: n, ServerName: strings.Repeat("x", size)}
	p, err := proto.Marshal(&whorlv1.Eviction{Connection: c})
	if err != nil {
		panic(err)
	}
	return p
}

// add appends n events; the content of each is its sequence. When it returns
// readers get them.
func add(t testing.TB, j *Journal, now int64, n, size int) {
	t.Helper()
	defer func() {
		if err := j.WaitDurable(context.Background(), 0); err != nil {
			t.Fatal(err)
		}
	}()
	for range n {
		next := j.Place().Sequence + 1
		got, err := j.Append(context.Background(), now, &Event{Key: testKey(int(next)), Network: "default", Body: body(next, size)})
		if err != nil {
			t.Fatal(err)
		}
		if got != next {
			t.Fatalf("sequence %d, want %d", got, next)
		}
	}
}

// check reads the block as a subscriber does and returns the sequences.
func check(t testing.TB, b *Block) (sequences []uint64) {
	t.Helper()
	var m whorlv1.WatchResponse
	if err := proto.Unmarshal(b.Frames(0, b.Len()), &m); err != nil {
		t.Fatalf("frames are no WatchResponse: %v", err)
	}
	if len(m.GetEvictions()) != b.Len() {
		t.Fatalf("%d evictions in the frames of %d events", len(m.GetEvictions()), b.Len())
	}
	for i, e := range m.GetEvictions() {
		if e.GetSequence() != b.First+uint64(i) || e.GetConnection().GetPacketCount() != e.GetSequence() {
			t.Fatalf("event %d of a block from %d is %v", i, b.First, e)
		}
		one := new(whorlv1.Eviction)
		if err := proto.Unmarshal(b.Event(i), one); err != nil || !proto.Equal(one, e) {
			t.Fatalf("event %d alone: %v, %v", i, one, err)
		}
		sequences = append(sequences, e.GetSequence())
	}
	return sequences
}

// drain reads until there is nothing more.
func drain(t testing.TB, r *Reader) (sequences []uint64, gaps []Gap) {
	t.Helper()
	for {
		b, err := r.Next(context.Background(), 100, 1<<20)
		if errors.Is(err, ErrClosed) {
			return sequences, gaps
		}
		if err != nil {
			t.Fatal(err)
		}
		if b.Gap != nil {
			gaps = append(gaps, *b.Gap)
		}
		if b.Len() == 0 && b.Gap == nil {
			return sequences, gaps
		}
		sequences = append(sequences, check(t, &b)...)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, cfg := range []Config{{Epoch: "A"}, {Epoch: "a.b"}, {Epoch: strings.Repeat("a", 44)}, {MaxBytes: 1}, {MaxBytes: -1}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
	if a, b := newJournal(t, Config{}), newJournal(t, Config{}); a.Epoch() == b.Epoch() {
		t.Errorf("two journals have the epoch %s", a.Epoch())
	}
}

// A cursor is one text, both ways, and at most 64 bytes.
func TestCursorText(t *testing.T) {
	for _, c := range []Cursor{{"7f3a9c", 8812}, {"0", 0}, {strings.Repeat("z", maxEpochLen), 1<<64 - 1}} {
		got, err := ParseCursor(c.String())
		if err != nil || got != c || len(c.String()) > MaxCursorLen {
			t.Errorf("%v: got %v, %v (%d bytes)", c, got, err, len(c.String()))
		}
	}
	for _, s := range []string{"", ".", "a", "a.", ".1", "a.01", "a.+1", "a.-1", "a.18446744073709551616", "A.1", "a b.1", "a.b.1", "a.1\n", strings.Repeat("a", 60) + ".1234", strings.Repeat("a", 44) + ".1"} {
		if c, err := ParseCursor(s); !errors.Is(err, ErrCursor) {
			t.Errorf("%q: got %v, %v, want ErrCursor", s, c, err)
		}
	}
}

func FuzzParseCursor(f *testing.F) {
	f.Add("7f3a9c.8812")
	f.Add("a.18446744073709551616")
	f.Fuzz(func(t *testing.T, s string) {
		fuzzguard.Watch(t)
		c, err := ParseCursor(s)
		if err == nil && c.String() != s {
			t.Fatalf("%q is read as %q", s, c)
		}
		if err != nil && len(err.Error()) > 512 {
			t.Fatalf("the error repeats %d bytes", len(err.Error()))
		}
	})
}

// Each way to start begins where it says.
func TestStartPositions(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		j := open(t, Config{Epoch: "e"})
		for now := int64(1); now <= 10; now++ {
			add(t, j, now*100, 1, 10)
		}
		after := func(c string) *Reader {
			cursor, err := ParseCursor(c)
			if err != nil {
				t.Fatal(err)
			}
			r, err := j.ReadAfter(cursor)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		since := func(at int64) *Reader {
			r, err := j.ReadSince(t.Context(), at)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		for _, tc := range []struct {
			name string
			r    *Reader
			want uint64 // first sequence; 0: nothing
		}{
			{"oldest", j.ReadOldest(), 1}, {"now", j.ReadNow(), 0},
			{"last 3", j.ReadLast(3), 8}, {"last 10", j.ReadLast(10), 1}, {"last 1000", j.ReadLast(1000), 1}, {"last 0", j.ReadLast(0), 0},
			{"after e.0", after("e.0"), 1}, {"after e.7", after("e.7"), 8}, {"after e.10", after("e.10"), 0},
			{"since 0", since(0), 1}, {"since 300", since(300), 3}, {"since 301", since(301), 4},
			{"since 1000", since(1000), 10}, {"since 1001", since(1001), 0},
		} {
			t.Run(tc.name, func(t *testing.T) {
				got, gaps := drain(t, tc.r)
				if len(gaps) > 0 {
					t.Fatalf("gaps %v", gaps)
				}
				if tc.want == 0 && len(got) > 0 || tc.want > 0 && (len(got) != int(11-tc.want) || got[0] != tc.want) {
					t.Errorf("got %v, want from %d", got, tc.want)
				}
				if c := tc.r.Cursor(); c != j.Newest() || tc.r.Backlog() != 0 {
					t.Errorf("ends at %v with a backlog of %d", c, tc.r.Backlog())
				}
			})
		}
		if _, err := j.ReadAfter(Cursor{"e", 11}); !errors.Is(err, ErrCursor) {
			t.Errorf("a cursor ahead of the newest: %v", err)
		}
	})
}

// A cursor of another epoch is told of, once, and all that is held follows.
func TestNewEpoch(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		empty, err := open(t, Config{Epoch: "new"}).ReadAfter(Cursor{"old", 3})
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-empty.Ready():
		default:
			t.Error("a reader with a gap to tell waits")
		}
		if got, gaps := drain(t, empty); len(got) != 0 || len(gaps) != 1 {
			t.Errorf("an empty journal: gaps %v, events %v", gaps, got)
		}

		j := open(t, Config{Epoch: "new"})
		add(t, j, 1, 5, 10)
		r, err := j.ReadAfter(Cursor{"old", 1000})
		if err != nil {
			t.Fatal(err)
		}
		got, gaps := drain(t, r)
		if len(gaps) != 1 || gaps[0] != (Gap{Cause: GapNewEpoch}) || len(got) != 5 {
			t.Errorf("gaps %v, events %v", gaps, got)
		}
	})
}

// Blocks keep to both limits, but always make progress.
func TestBlockLimits(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		j := open(t, Config{})
		add(t, j, 1, 10, 100)
		r := j.ReadOldest()
		for _, tc := range []struct{ events, bytes, want int }{{3, 1 << 20, 3}, {100, 300, 2}, {1, 1 << 20, 1}, {100, 1, 1}, {0, 0, 1}, {100, 1 << 20, 2}} {
			b, err := r.Next(context.Background(), tc.events, tc.bytes)
			if err != nil || b.Len() != tc.want {
				t.Fatalf("%d events of at most %d bytes: got %d (%v), want %d", tc.events, tc.bytes, b.Len(), err, tc.want)
			}
			check(t, &b)
		}
	})
}

// Retention by bytes: what is held fits, and what left is counted to the event.
func TestRetentionByBytes(t *testing.T) {
	j := newJournal(t, Config{MaxBytes: MinMaxBytes})
	early := j.ReadOldest()
	started := j.ReadOldest()
	add(t, j, 1, 1, 10)
	if b, err := started.Next(context.Background(), 1, 1); err != nil || b.Len() != 1 {
		t.Fatal(b, err)
	}
	add(t, j, 1, 2999, 200)

	s := j.Stats()
	if s.Events+s.Released != 3000 || s.Released == 0 || s.Bytes > MinMaxBytes || s.Bytes < MinMaxBytes/2 {
		t.Fatalf("%+v", s)
	}
	if j.held > MinMaxBytes+j.held/10 {
		t.Errorf("holds %d bytes of memory, at most %d", j.held, MinMaxBytes)
	}
	for _, c := range j.chunks[len(j.chunks):cap(j.chunks)] {
		if c != nil {
			t.Fatal("a chunk that was let go of is still referred to")
		}
	}
	oldest := s.Oldest.Sequence + 1
	if got, want := oldest, s.Released+1; got != want {
		t.Errorf("oldest is %d after %d were released", got, s.Released)
	}
	for _, tc := range []struct {
		name string
		r    *Reader
		want Gap
	}{
		{"a reader that never read", early, Gap{GapRetention, 1, oldest - 1, oldest - 1}},
		{"a slow reader", started, Gap{GapSlowReader, 2, oldest - 1, oldest - 2}},
	} {
		got, gaps := drain(t, tc.r)
		if len(gaps) != 1 || gaps[0] != tc.want || got[0] != oldest || len(got) != int(s.Events) {
			t.Errorf("%s: gaps %v, %d events from %d; want %v", tc.name, gaps, len(got), got[0], tc.want)
		}
	}
	if r := j.ReadLast(1 << 40); r.pos != oldest-1 {
		t.Errorf("last of very many starts behind %d, want %d", r.pos, oldest-1)
	}
}

// Retention by age works while events come, and, by Trim, while none come.
func TestRetentionByAge(t *testing.T) {
	j := newJournal(t, Config{MaxBytes: MinMaxBytes, MaxAge: 100})
	add(t, j, 1000, 20, 1000)
	add(t, j, 1050, 20, 1000)
	add(t, j, 1101, 10, 1000) // makes new chunks: those that end at 1000 may go
	if s := j.Stats(); s.Released == 0 || s.OldestTime > 1050 {
		t.Errorf("at 1101: %+v", s)
	}
	j.Trim(1151)
	if s := j.Stats(); s.OldestTime < 1050 && s.Events > 20 {
		t.Errorf("at 1151: %+v", s)
	}
	j.Trim(1202)
	if s := j.Stats(); s.Events != 0 || s.Bytes != 0 || s.OldestTime != 0 || s.Oldest != s.Newest || j.held != 0 {
		t.Errorf("at 1202: %+v, %d bytes held", s, j.held)
	}
	j.Trim(5) // a clock that goes back changes nothing
	add(t, j, 5, 1, 10)
	if s := j.Stats(); s.OldestTime != 1101 || s.Newest.Sequence != 51 {
		t.Errorf("after a clock that went back: %+v", s)
	}

	forever := newJournal(t, Config{MaxAge: -1})
	add(t, forever, 1, 1, 10)
	forever.Trim(1 << 62)
	if s := forever.Stats(); s.Events != 1 {
		t.Errorf("no limit of age: %+v", s)
	}
}

// An event larger than a chunk has one of its own; one beyond the limit gets no
// number and is counted.
func TestLargeEvents(t *testing.T) {
	j := newJournal(t, Config{MaxBytes: MinMaxBytes})
	add(t, j, 1, 1, 10)
	add(t, j, 1, 1, MaxEventBytes-100)
	if _, err := j.Append(context.Background(), 1, &Event{Key: testKey(1), Network: "", Body: make([]byte, MaxEventBytes+1)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
	add(t, j, 1, 3, 10)
	got, _ := drain(t, j.ReadOldest())
	if s := j.Stats(); s.Refused != 1 || s.Newest.Sequence != 5 || len(got) < 3 {
		t.Errorf("%+v, read %v", s, got)
	}
}

// What is in a block stays as it is while the journal goes on.
func TestBlocksAreImmutable(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		j := open(t, Config{MaxBytes: MinMaxBytes})
		add(t, j, 1, 5, 100)
		b, err := j.ReadOldest().Next(context.Background(), 100, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		before := bytes.Clone(b.Frames(0, b.Len()))
		_ = append(b.Frames(0, 1), "appended by a careless reader"...)
		add(t, j, 1, 2000, 100)
		if !bytes.Equal(before, b.Frames(0, b.Len())) {
			t.Error("the bytes of a block changed")
		}
		if got := check(t, &b); len(got) != 5 {
			t.Errorf("got %v", got)
		}
	})
}

func TestRecent(t *testing.T) {
	j := newJournal(t, Config{MaxBytes: MinMaxBytes})
	if _, _, ok := j.Recent(testKey(1), "default"); ok {
		t.Error("an empty journal remembers")
	}
	add(t, j, 1, 10, 100)
	sequence, event, ok := j.Recent(testKey(7), "")
	var e whorlv1.Eviction
	if !ok || sequence != 7 || proto.Unmarshal(event, &e) != nil || e.GetSequence() != 7 {
		t.Errorf("got %d, %v, %v", sequence, &e, ok)
	}
	if _, _, ok := j.Recent(testKey(7), "lab"); ok {
		t.Error("remembers it in another network")
	}
	if _, err := j.Append(context.Background(), 1, &Event{Key: testKey(7), Network: "default", Body: body(11, 0)}); err != nil {
		t.Fatal(err)
	}
	if sequence, _, _ := j.Recent(testKey(7), "default"); sequence != 11 {
		t.Errorf("the newest eviction is %d, want 11", sequence)
	}
	add(t, j, 1, 2000, 200)
	if sequence, _, ok := j.Recent(testKey(8), "default"); ok {
		t.Errorf("remembers %d, which is held no more", sequence)
	}
	for i := range 4 * recentSlots {
		j.recent.put(uint64(i)*0x9e3779b97f4a7c15|1, uint64(i))
	}
	if len(j.recent.slots) != recentSlots {
		t.Errorf("remembers %d connections, at most %d", len(j.recent.slots), recentSlots)
	}
}

// A reader that has caught up sleeps until an append, the end of the feed, or
// the end of its patience.
func TestWait(t *testing.T) {
	for name, open := range inMemory {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { waits(t, open) })
		})
	}
}

func waits(t *testing.T, open opener) {
	j := open(t, Config{})
	woken := make(chan error, 3)
	for range 3 {
		go func() { woken <- j.ReadNow().Wait(t.Context()) }()
	}
	synctest.Wait()
	if len(woken) > 0 {
		t.Fatal("a reader woke for nothing")
	}
	time.Sleep(time.Hour)
	add(t, j, 1, 1, 10)
	synctest.Wait()
	if len(woken) != 3 || <-woken != nil || <-woken != nil || <-woken != nil {
		t.Fatalf("%d of 3 readers woke", len(woken))
	}

	reason := errors.New("patience is over")
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, reason)
	defer cancel()
	if err := j.ReadNow().Wait(ctx); !errors.Is(err, reason) {
		t.Errorf("got %v, want %v", err, reason)
	}

	r := j.ReadLast(1)
	go func() { woken <- j.ReadNow().Wait(t.Context()) }()
	synctest.Wait()
	j.Close()
	j.Close()
	if err := <-woken; err != nil {
		t.Error(err)
	}
	if b, err := r.Next(context.Background(), 10, 1000); err != nil || b.Len() != 1 {
		t.Errorf("what was held before the end: %d events, %v", b.Len(), err)
	}
	if _, err := r.Next(context.Background(), 10, 1000); !errors.Is(err, ErrClosed) {
		t.Errorf("at the end: %v", err)
	}
	if _, err := j.Append(context.Background(), 1, &Event{Key: testKey(1), Network: "", Body: nil}); !errors.Is(err, ErrClosed) {
		t.Errorf("append after the end: %v", err)
	}
}

// The law of the feed: however a subscriber stops, resumes by cursor and falls
// behind, what it got and what it was told it lost are the feed, each sequence
// once, in order.
func TestResumedReadersSeeTheFeed(t *testing.T) {
	for name, open := range inMemory {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) { resumes(t, rt, open) })
		})
	}
}

func resumes(t *testing.T, rt *rapid.T, open opener) {
	j := open(t, Config{Epoch: "e", MaxBytes: MinMaxBytes, MaxAge: 50})
	r, now := j.ReadOldest(), int64(0)
	next := uint64(1) // what the subscriber expects
	read := func() bool {
		b, err := r.Next(context.Background(), rapid.IntRange(1, 300).Draw(rt, "events"), rapid.IntRange(1, 1<<16).Draw(rt, "bytes"))
		if err != nil {
			rt.Fatal(err)
		}
		if g := b.Gap; g != nil {
			if g.First != next || g.Last < g.First || g.Count != g.Last-g.First+1 || g.Cause == GapNewEpoch {
				rt.Fatalf("gap %+v where %d was expected", *g, next)
			}
			next = g.Last + 1
		}
		for _, s := range check(t, &b) {
			if s != next {
				rt.Fatalf("event %d where %d was expected", s, next)
			}
			next++
		}
		if r.Cursor() != (Cursor{"e", next - 1}) {
			rt.Fatalf("cursor %v behind event %d", r.Cursor(), next-1)
		}
		return b.Len() > 0 || b.Gap != nil
	}
	rt.Repeat(map[string]func(*rapid.T){
		"append": func(rt *rapid.T) {
			now += int64(rapid.IntRange(0, 20).Draw(rt, "time"))
			add(t, j, now, rapid.IntRange(1, 200).Draw(rt, "n"), rapid.IntRange(0, 2000).Draw(rt, "size"))
		},
		"read": func(*rapid.T) { read() },
		"trim": func(rt *rapid.T) {
			now += int64(rapid.IntRange(0, 100).Draw(rt, "time"))
			j.Trim(now)
		},
		"resume": func(rt *rapid.T) {
			c, err := ParseCursor(r.Cursor().String())
			if err != nil {
				rt.Fatal(err)
			}
			if r, err = j.ReadAfter(c); err != nil {
				rt.Fatal(err)
			}
		},
	})
	for read() {
	}
	if newest := j.Newest().Sequence; next != newest+1 {
		rt.Fatalf("ends at %d of %d", next-1, newest)
	}
}

// Appends from several goroutines get each number once, and readers that run
// beside them see every event once, in order.
func TestConcurrentAppendsAndReaders(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		const writers, each, readers = 4, 2000, 6
		j := open(t, Config{})
		var all sync.WaitGroup
		for w := range writers {
			all.Go(func() {
				for i := range each {
					if _, err := j.Append(context.Background(), int64(i), &Event{Key: testKey(w), Network: "default", Body: []byte{4<<3 | 2, 0}}); err != nil {
						t.Error(err)
						return
					}
					if i%100 == 0 {
						j.Stats()
						j.Recent(testKey(w), "default")
					}
				}
			})
		}
		for n := range readers {
			all.Go(func() {
				r, next := j.ReadOldest(), uint64(1)
				rnd := rand.New(rand.NewPCG(uint64(n), 1))
				for next <= writers*each {
					if err := r.Wait(t.Context()); err != nil {
						t.Error(err)
						return
					}
					b, err := r.Next(context.Background(), 1+rnd.IntN(500), 1<<20)
					if err != nil || b.Gap != nil {
						t.Error(err, b.Gap)
						return
					}
					for i := range b.Len() {
						var e whorlv1.Eviction
						if err := proto.Unmarshal(b.Event(i), &e); err != nil || e.GetSequence() != next {
							t.Errorf("reader %d: %v, %v, want sequence %d", n, &e, err, next)
							return
						}
						next++
					}
				}
			})
		}
		all.Wait()
	})
}

// An append allocates only when a chunk begins: far less than once per event.
func TestAppendDoesNotAllocate(t *testing.T) {
	j := newJournal(t, Config{})
	p, key := body(1, 300), testKey(1)
	append1 := func() {
		if _, err := j.Append(context.Background(), 1, &Event{Key: key, Network: "default", Body: p}); err != nil {
			t.Fatal(err)
		}
	}
	append1()
	if n := testing.AllocsPerRun(500, append1); n > 0 {
		t.Errorf("%v allocations per append", n)
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{300, 1000} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			j := newJournal(b, Config{MaxBytes: 64 << 20})
			p, key := body(1, size), testKey(1)
			b.ReportAllocs()
			i := int64(0)
			for b.Loop() {
				i++
				key.APort = uint16(i)
				if _, err := j.Append(context.Background(), i, &Event{Key: key, Network: "default", Body: p}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkNext: one subscriber that catches up, per event.
func BenchmarkNext(b *testing.B) {
	j := newJournal(b, Config{})
	p, key := body(1, 300), testKey(1)
	for range 100_000 {
		if _, err := j.Append(context.Background(), 1, &Event{Key: key, Network: "default", Body: p}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	events := 0
	for b.Loop() {
		for r := j.ReadOldest(); ; {
			block, err := r.Next(context.Background(), 100, 1<<20)
			if err != nil {
				b.Fatal(err)
			}
			if block.Len() == 0 {
				break
			}
			events += block.Len()
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(events), "ns/event")
}

// The epoch of a cursor that a collector gave out has the length and the digits
// of one.
func TestParseGivenWantsAnEpochOfACollector(t *testing.T) {
	if c, err := ParseGiven("7f3a9c02d1e4.8812"); err != nil || c != (Cursor{"7f3a9c02d1e4", 8812}) {
		t.Errorf("%v, %v", c, err)
	}
	for _, text := range []string{"zz.1", "zzzzzzzzzzzz.1", "7f3a9c02d1e.1", "7f3a9c02d1e40.1", "7F3A9C02D1E4.1", "7f3a9c02d1e4", ""} {
		if c, err := ParseGiven(text); !errors.Is(err, ErrCursor) || c != (Cursor{}) {
			t.Errorf("%q: %v, %v; want ErrCursor", text, c, err)
		}
	}
}
