package feed

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/jet/jettest"
	"github.com/whorl-net/whorl/internal/wire"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"github.com/whorl-net/whorl/tracker"
)

// script is what a log makes of a collector: for each position the events it
// leads to. It is the same in every replay.
type script [][][]byte

// play appends the events of the positions from first on, and marks each.
func (s script) play(t testing.TB, j *Journal, first int, stop func(position int) bool) {
	t.Helper()
	for i := first; i < len(s); i++ {
		for _, event := range s[i] {
			_, err := j.Append(context.Background(), int64(i), &Event{Position: uint64(i + 1), Key: testKey(1), Body: event})
			if err != nil {
				t.Fatal(err)
			}
			if stop(i) {
				return
			}
		}
		j.Mark(uint64(i + 1))
	}
}

// text is what an event says, read from the feed.
func text(t testing.TB, event []byte) string {
	t.Helper()
	var e whorlv1.Eviction
	if err := proto.Unmarshal(event, &e); err != nil {
		t.Fatal(err)
	}
	return e.GetConnection().GetServerName()
}

func saying(what string) []byte {
	p, err := proto.Marshal(&whorlv1.Eviction{Connection: &whorlv1.Connection{ServerName: what}})
	if err != nil {
		panic(err)
	}
	return p
}

// However often a collector crashes, between or within the events of a position,
// and from wherever before its stored feed it replays its log: the feed is that of
// a collector that never crashed, sequence by sequence, and no reader ever saw
// anything else.
func TestReplaysGiveTheSameFeed(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var s script
		var want []string
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		for i := range 30 {
			var events [][]byte
			for range []int{0, 0, 1, 2, 40}[rnd.IntN(5)] {
				want = append(want, string(rune('a'+i%26))+strings.Repeat("x", rnd.IntN(300)))
				events = append(events, saying(want[len(want)-1]))
			}
			s = append(s, events)
		}
		messages := &jettest.Memory{}
		var seen atomic.Uint64 // newest event a reader had
		from := 0
		for life := range 6 {
			j := openStored(t, Config{Epoch: "e", MaxBytes: MinMaxBytes}, messages)
			if newest := j.Newest().Sequence; newest < seen.Load() {
				rt.Fatalf("a reader saw event %d, the newest after a crash is %d", seen.Load(), newest)
			}
			crash := rapid.IntRange(0, len(want)+1).Draw(rt, "crash")
			n := 0
			s.play(t, j, from, func(int) bool {
				n++
				return life < 5 && n == crash
			})
			if life == 5 || rapid.Bool().Draw(rt, "wait") {
				if err := j.WaitDurable(context.Background(), j.DurableThrough()); err != nil {
					rt.Fatal(err)
				}
			}
			r := j.ReadOldest()
			for {
				b, err := r.Next(t.Context(), 100, 1<<20)
				if err != nil || b.Gap != nil {
					rt.Fatalf("%v, gap %v", err, b.Gap)
				}
				if b.Len() == 0 {
					break
				}
				for i := range b.Len() {
					sequence := b.First + uint64(i)
					if got := text(t, b.Event(i)); got != want[sequence-1] {
						rt.Fatalf("life %d: event %d says %.10q, want %.10q", life, sequence, got, want[sequence-1])
					}
					seen.Store(max(seen.Load(), sequence))
				}
			}
			if life == 5 && r.Cursor().Sequence != uint64(len(want)) {
				rt.Fatalf("the feed ends at %d of %d", r.Cursor().Sequence, len(want))
			}
			// The next life begins where a checkpoint may be: anywhere that the
			// stored feed is complete.
			from = rapid.IntRange(0, int(min(j.DurableThrough(), uint64(len(s))))).Draw(rt, "replay from")
			messages = messages.Copy()
			j.Close()
		}
	})
}

// Discoveries share the numbering, are told apart, and are not made again by a
// replay.
func TestDiscoveries(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		j := open(t, Config{Epoch: "e"})
		if _, err := j.Append(t.Context(), 1, &Event{Position: 1, Key: testKey(1), Body: saying("one")}); err != nil {
			t.Fatal(err)
		}
		body, err := proto.Marshal(&whorlv1.Discovery{EvictionSequence: 1})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := j.AppendDiscovery(t.Context(), 2, body); err != nil || n != 2 {
			t.Fatal(n, err)
		}
		if _, err := j.Append(t.Context(), 3, &Event{Position: 1, Key: testKey(1), Body: saying("three")}); err != nil {
			t.Fatal(err)
		}
		if err := j.WaitDurable(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		b, err := j.ReadOldest().Next(t.Context(), 10, 1<<20)
		if err != nil || b.Len() != 3 || b.Discovery(0) || !b.Discovery(1) || b.Discovery(2) {
			t.Fatal(b.Len(), err)
		}
		var m whorlv1.WatchResponse
		if err := proto.Unmarshal(b.Frames(0, 3), &m); err != nil {
			t.Fatal(err)
		}
		if len(m.GetEvictions()) != 2 || len(m.GetDiscoveries()) != 1 || m.GetDiscoveries()[0].GetSequence() != 2 || m.GetEvictions()[1].GetSequence() != 3 {
			t.Errorf("%v", &m)
		}
	})
}

// Nobody reads what is not stored; a store that takes nothing is shown, holds
// Append up, and goes on by itself.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		messages := &jettest.Memory{Fault: func(int) jettest.Fault {
			if down.Load() {
				return jettest.Refused
			}
			return jettest.None
		}}
		j := openStored(t, Config{MaxBytes: MinMaxBytes}, messages)
		add(t, j, 1, 3, 100)
		down.Store(true)
		r, appended := j.ReadNow(), make(chan int, 1)
		go func() {
			n := 0
			for ; n < 1000; n++ {
				if _, err := j.Append(t.Context(), 2, &Event{Position: 1, Key: testKey(1), Body: body(uint64(4+n), 100)}); err != nil {
					t.Error(err)
				}
			}
			j.Mark(1)
			appended <- n
		}()
		time.Sleep(time.Minute)
		s := j.Stats()
		if s.Newest.Sequence < 3 || s.Pending == 0 || s.Err == nil || s.Failures == 0 || len(appended) > 0 {
			t.Errorf("during the outage: %+v, %d appended", s, len(appended))
		}
		if got, _ := drain(t, r); len(got) != int(s.Newest.Sequence-3) {
			t.Errorf("readers got %v, the newest stored is %d", got, s.Newest.Sequence)
		}
		if j.DurableThrough() != 0 {
			t.Errorf("durable through %d", j.DurableThrough())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := j.WaitDurable(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting: %v", err)
		}
		if _, err := j.AppendDiscovery(ctx, 2, make([]byte, 1000)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("an append with a deadline: %v", err)
		}
		down.Store(false)
		<-appended
		if err := j.WaitDurable(t.Context(), 1); err != nil {
			t.Error(err)
		}
		if s := j.Stats(); s.Err != nil || s.Pending != 0 || s.Newest.Sequence != 1003 {
			t.Errorf("after the outage: %+v", s)
		}
		if got, gaps := drain(t, j.ReadOldest()); len(got) != 1003 || len(gaps) > 0 {
			t.Errorf("%d events, gaps %v", len(got), gaps)
		}

		// A journal that is closed during an outage gives up at once.
		down.Store(true)
		if _, err := j.Append(t.Context(), 2, &Event{Position: 2, Key: testKey(1), Body: body(1004, 100)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		began := time.Now()
		tail := j.ReadNow()
		j.Close()
		if d := time.Since(began); d > time.Second {
			t.Errorf("closing took %v", d)
		}
		if _, err := tail.Next(t.Context(), 1, 1); !errors.Is(err, ErrClosed) {
			t.Errorf("a reader at the end: %v", err)
		}
		if err := j.WaitDurable(t.Context(), 2); !errors.Is(err, ErrClosed) {
			t.Errorf("waiting for what is not stored: %v", err)
		}
	})
}

// The feed is stored in few blocks under load, and at once after a pause.
func TestBlocksAdapt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		messages := &jettest.Memory{}
		j, err := Open(t.Context(), Config{}, messages)
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		appendOne := func() {
			if _, err := j.Append(t.Context(), 1, &Event{Key: testKey(1), Body: body(1, 100)}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		appendOne()
		synctest.Wait()
		if n := j.Newest().Sequence; n != 1 {
			t.Errorf("after a pause the newest is %d at once, want 1", n)
		}
		before := messages.Appends()
		for range 10_000 {
			appendOne()
			time.Sleep(time.Millisecond)
		}
		if n := messages.Appends() - before; n < 35 || n > 50 {
			t.Errorf("%d blocks in 10 s, want about 40", n)
		}
	})
}

// Who is at the end of a closed journal, or far behind, is told the end when all
// that is stored was read.
func TestReopenedJournalGoesOn(t *testing.T) {
	dir := t.TempDir()
	for life := range uint64(3) {
		t.Run("", func(t *testing.T) {
			j := openStored(t, Config{Epoch: "e"}, jetStream(t, dir))
			if got := j.Newest(); got != (Cursor{"e", life * 500}) || j.Through() != (Through{Position: life}) && life == 0 {
				t.Fatalf("life %d begins behind %v, through %v", life, got, j.Through())
			}
			for range 500 {
				if _, err := j.Append(t.Context(), 1, &Event{Position: life + 1, Key: testKey(1), Body: body(j.Place().Sequence+1, 300)}); err != nil {
					t.Fatal(err)
				}
			}
			j.Mark(life + 1)
			j.Close()
			if got, gaps := drain(t, j.ReadOldest()); len(gaps) > 0 || len(got) != int(life+1)*500 {
				t.Errorf("%d events, gaps %v", len(got), gaps)
			}
		})
	}
}

// DurableThrough is behind what waits to be stored, and with what was marked when
// nothing waits.
func TestDurableThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		j := openStored(t, Config{}, &jettest.Memory{Fault: func(int) jettest.Fault {
			if down.Load() {
				return jettest.Refused
			}
			return jettest.None
		}})
		step := func(what string, want uint64) {
			t.Helper()
			synctest.Wait()
			if got := j.DurableThrough(); got != want {
				t.Errorf("%s: durable through %d, want %d", what, got, want)
			}
		}
		appendAt := func(position uint64) {
			t.Helper()
			if _, err := j.Append(t.Context(), 1, &Event{Position: position, Key: testKey(1), Body: saying("x")}); err != nil {
				t.Fatal(err)
			}
		}
		step("new", 0)
		j.Mark(2)
		step("marked, without events", 2)
		appendAt(3)
		step("stored, not marked", 2)
		j.Mark(3)
		step("stored and marked", 3)
		down.Store(true)
		appendAt(5)
		appendAt(6)
		j.Mark(9)
		step("events wait", 4)
		down.Store(false)
		if err := j.WaitDurable(t.Context(), 9); err != nil {
			t.Fatal(err)
		}
		step("stored again", 9)
	})
}

// A crash in the middle of the events of one position, which fill many blocks: the
// replay leaves out those that are stored, and makes the others.
func TestCrashWithinAPosition(t *testing.T) {
	const n, size = 400, 20 << 10
	flushed := make(chan struct{})
	messages := &jettest.Memory{Fault: func(n int) jettest.Fault {
		<-flushed // the events wait behind the first block
		if n > 3 {
			return jettest.Refused
		}
		return jettest.None
	}}
	j := openStored(t, Config{Epoch: "e"}, messages)
	flush := func(j *Journal) {
		t.Helper()
		for i := range n {
			if _, err := j.Append(t.Context(), 1, &Event{Position: 7, Key: testKey(1), Body: body(uint64(i+1), size)}); err != nil {
				t.Fatal(err)
			}
		}
		j.Mark(7)
	}
	flush(j)
	close(flushed)
	for j.Stats().Failures == 0 {
		time.Sleep(time.Millisecond)
	}
	stored := j.Newest().Sequence
	if stored == 0 || stored > n/2 {
		t.Fatalf("%d of %d events were stored", stored, n)
	}
	j = openStored(t, Config{Epoch: "e"}, messages.Copy())
	if want := (Through{7, stored}); j.Through() != want {
		t.Errorf("the store is complete through %+v, want %+v", j.Through(), want)
	}
	flush(j)
	if err := j.WaitDurable(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	if got, gaps := drain(t, j.ReadOldest()); len(got) != n || len(gaps) > 0 {
		t.Errorf("%d events of %d, gaps %v", len(got), n, gaps)
	}
}

// Events out of the order of the log are refused, not numbered.
func TestOrderOfTheLog(t *testing.T) {
	j := newJournal(t, Config{})
	j.Mark(5)
	if _, err := j.Append(t.Context(), 1, &Event{Position: 5, Key: testKey(1)}); !errors.Is(err, ErrOrder) {
		t.Errorf("got %v, want ErrOrder", err)
	}
	if n, err := j.Append(t.Context(), 1, &Event{Position: 6, Key: testKey(1), Body: saying("")}); err != nil || n != 1 {
		t.Error(n, err)
	}
	if got := j.Place(); got != (Place{1, Through{6, 1}}) || j.DurableThrough() != 5 {
		t.Errorf("%+v, durable through %d", got, j.DurableThrough())
	}
}

// recentTuple is that of connection n; every other one has its ends the other way.
func recentTuple(n int) flow.Tuple {
	t := flow.Tuple{
		Src: flow.AddrFrom4([4]byte{192, 0, 2, byte(n)}), SrcPort: 40000,
		Dst: flow.AddrFrom4([4]byte{198, 51, 100, 1}), DstPort: 443, Protocol: flow.TCP,
	}
	if n%2 == 1 {
		t.Src, t.SrcPort, t.Dst, t.DstPort = t.Dst, t.DstPort, t.Src, t.SrcPort
	}
	return t
}

// Recent remembers what was evicted before a restart.
func TestRecentAfterARestart(t *testing.T) {
	messages := &jettest.Memory{}
	j := openStored(t, Config{Epoch: "e"}, messages)
	for n := range 20 {
		e, tuple := &tracker.Eviction{}, recentTuple(n)
		e.Connection.Network = "lab"
		e.Connection.Src, e.Connection.SrcPort = tuple.Src, tuple.SrcPort
		e.Connection.Dst, e.Connection.DstPort = tuple.Dst, tuple.DstPort
		e.Connection.Protocol = tuple.Protocol
		e.Connection.Key, _ = tuple.Key()
		if _, err := j.Append(t.Context(), 1, &Event{Key: &e.Connection.Key, Network: "lab", Body: wire.AppendEviction(nil, e)}); err != nil {
			t.Fatal(err)
		}
	}
	j.Close()
	j = openStored(t, Config{Epoch: "e"}, messages)
	for n := range 20 {
		tuple := recentTuple(n)
		key, _ := tuple.Key()
		if sequence, _, ok := j.Recent(&key, "lab"); !ok || sequence != uint64(n+1) {
			t.Errorf("connection %d: event %d, %v", n, sequence, ok)
		}
	}
}
