package feed

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
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

// fillBlocks stores blocks of ten events each and returns the messages.
func fillBlocks(t testing.TB, blocks int) *jettest.Memory {
	t.Helper()
	messages := &jettest.Memory{}
	j := openStored(t, Config{Epoch: "e"}, messages)
	for b := range blocks {
		for range 10 {
			if _, err := j.Append(t.Context(), int64(100*(b+1)), &Event{Position: uint64(b + 1), Key: testKey(b), Body: body(j.Place().Sequence+1, 50)}); err != nil {
				t.Fatal(err)
			}
		}
		j.Mark(uint64(b + 1))
		// One block at a time: the writer may have begun with some of them.
		if err := j.WaitDurable(t.Context(), uint64(b+1)); err != nil {
			t.Fatal(err)
		}
	}
	j.Close()
	return messages
}

// holding returns the number of the message that holds the event sequence.
func holding(t testing.TB, messages Messages, sequence uint64) (number uint64, info blockInfo) {
	t.Helper()
	for number := uint64(1); ; {
		m, err := messages.Read(t.Context(), number)
		if err != nil {
			t.Fatal(err)
		}
		if info, err = readBlockInfo(m.Data); err == nil && info.last() >= sequence {
			return m.Number, info
		}
		number = m.Number + 1
	}
}

// withoutMemory opens the journal with nothing in memory, so that all is read from
// the store.
func withoutMemory(t testing.TB, messages Messages) *Journal {
	t.Helper()
	j := openStored(t, Config{Epoch: "e"}, messages)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.chunks, j.held, j.used = nil, 0, 0
	return j
}

// What is damaged or missing in the store is one gap with the exact number, and
// all the rest is read.
func TestDamageIsAGap(t *testing.T) {
	for _, tc := range []struct {
		name   string
		damage func(p []byte) // nil: the message is missing
		cause  GapCause
	}{
		{"body", func(p []byte) { p[len(p)-1] ^= 1 }, GapDamaged},
		{"header", func(p []byte) { p[9] ^= 1 }, GapDamaged},
		{"missing", nil, GapDamaged},
	} {
		for _, inMemory := range []bool{false, true} {
			t.Run(tc.name, func(t *testing.T) {
				messages := fillBlocks(t, 30)
				number, info := holding(t, messages, 155)
				messages.Damage(number, tc.damage)
				j := withoutMemory(t, messages)
				if inMemory {
					j = openStored(t, Config{Epoch: "e"}, messages)
				}
				want := Gap{tc.cause, info.first, info.last(), info.last() - info.first + 1}
				if got, gaps := drain(t, j.ReadOldest()); len(gaps) != 1 || gaps[0] != want || len(got) != 300-int(want.Count) {
					t.Errorf("gaps %v, %d events; want %v", gaps, len(got), want)
				}
				// A reader that starts within what is lost is told what it loses.
				r, err := j.ReadAfter(Cursor{"e", info.last() - 1})
				if err != nil {
					t.Fatal(err)
				}
				want = Gap{tc.cause, info.last(), info.last(), 1}
				if got, gaps := drain(t, r); len(gaps) != 1 || gaps[0] != want || len(got) != 300-int(info.last()) {
					t.Errorf("gaps %v, %d events; want %v", gaps, len(got), want)
				}
			})
		}
	}
}

// What the store dropped to make room is a gap of retention.
func TestStoreRetention(t *testing.T) {
	messages := fillBlocks(t, 30)
	_, info := holding(t, messages, 101)
	for number := uint64(1); ; number++ {
		m, err := messages.Read(t.Context(), number)
		if err != nil {
			t.Fatal(err)
		}
		if first, err := readBlockInfo(m.Data); err != nil || first.first >= info.first {
			break
		}
		messages.Damage(m.Number, nil)
	}
	j := withoutMemory(t, messages)
	if got := j.Oldest(); got != (Cursor{"e", info.first - 1}) {
		t.Errorf("oldest is %v, want %d", got, info.first-1)
	}
	if s := j.Stats(); s.Released != info.first-1 || s.Events != 300-info.first+1 || s.OldestTime != info.firstTime {
		t.Errorf("%+v", s)
	}
	r, err := j.ReadAfter(Cursor{"e", 7})
	if err != nil {
		t.Fatal(err)
	}
	want := Gap{GapRetention, 8, info.first - 1, info.first - 8}
	if got, gaps := drain(t, r); len(gaps) != 1 || gaps[0] != want || len(got) != int(300-info.first+1) {
		t.Errorf("gaps %v, %d events; want %v", gaps, len(got), want)
	}
}

// Times and places that are no longer in memory are found in the store, in few
// reads.
func TestSeekInTheStore(t *testing.T) {
	messages := fillBlocks(t, 50)
	j := withoutMemory(t, messages)
	for _, tc := range []struct {
		since int64
		first uint64
	}{{0, 1}, {100, 1}, {101, 11}, {2500, 241}, {2501, 251}, {5000, 491}, {5001, 0}} {
		before := messages.Reads()
		r, err := j.ReadSince(t.Context(), tc.since)
		if err != nil {
			t.Fatal(err)
		}
		if reads := messages.Reads() - before; reads > 20 {
			t.Errorf("since %d: %d messages were read", tc.since, reads)
		}
		got, gaps := drain(t, r)
		if len(gaps) > 0 || tc.first == 0 && len(got) > 0 || tc.first > 0 && (len(got) == 0 || got[0] != tc.first || got[len(got)-1] != 500) {
			t.Errorf("since %d: gaps %v, %d events", tc.since, gaps, len(got))
		}
	}
	if got, _ := drain(t, j.ReadLast(123)); len(got) != 123 || got[0] != 378 {
		t.Errorf("the last 123: %d events", len(got))
	}
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

// A checkpoint that knows of events the store has lost keeps their numbers from
// being given again: readers get a gap.
func TestResume(t *testing.T) {
	messages := fillBlocks(t, 5)
	j := openStored(t, Config{Epoch: "e"}, messages)
	if err := j.Resume(Place{Sequence: 20, Through: Through{Position: 1}}); err != nil {
		t.Fatal(err)
	}
	if p := j.Place(); p.Sequence != 50 || p.Through.complete() < 4 {
		t.Errorf("an old checkpoint changed the place to %+v", p)
	}
	if err := j.Resume(Place{Sequence: 70, Through: Through{Position: 8}}); err != nil {
		t.Fatal(err)
	}
	for position := uint64(6); position <= 8; position++ {
		n, err := j.Append(t.Context(), 1, &Event{Position: position, Key: testKey(1), Body: body(71, 10)})
		if want := uint64(0); err != nil || position == 8 && n != 71 || position < 8 && n != want {
			t.Errorf("event of position %d is number %d, %v", position, n, err)
		}
	}
	if err := j.Resume(Place{}); err == nil {
		t.Error("resumed behind an append")
	}
	if err := j.WaitDurable(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	got, gaps := drain(t, j.ReadOldest())
	if len(got) != 51 || len(gaps) != 1 || gaps[0] != (Gap{GapDamaged, 51, 70, 20}) {
		t.Errorf("%d events, gaps %v", len(got), gaps)
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

// A damaged end is an error that says so, unless its header tells what is lost.
func TestDamagedEnd(t *testing.T) {
	messages := fillBlocks(t, 5)
	number, info := holding(t, messages, 50)
	messages.Damage(number, func(p []byte) { p[len(p)-1] ^= 1 })
	j := openStored(t, Config{Epoch: "e"}, messages)
	if got := j.Newest().Sequence; got != 50 {
		t.Errorf("the newest is %d", got)
	}
	if got, gaps := drain(t, j.ReadOldest()); len(gaps) != 1 || gaps[0].Count != 50-info.first+1 || len(got) != int(info.first-1) {
		t.Errorf("gaps %v, %d events", gaps, len(got))
	}
	messages.Damage(number, func(p []byte) { p[8] ^= 1 })
	if _, err := Open(t.Context(), Config{}, messages); err == nil || !strings.Contains(err.Error(), "newest block") {
		t.Errorf("got %v", err)
	}
}

// someBlock makes a stored block of n events.
func someBlock(n int, size int) []byte {
	var e blockEncoder
	rnd := rand.New(rand.NewPCG(1, uint64(n)))
	c := &chunk{first: 100}
	at := int64(1_700_000_000_000_000_000)
	for i := range n {
		at += rnd.Int64N(1e9)
		c.times = append(c.times, at)
		tag := byte(evictionTag)
		if rnd.IntN(10) == 0 {
			tag = discoveryTag
		}
		c.data = appendFrame(c.data, tag, 100+uint64(i), body(1, rnd.IntN(size)))
	}
	half := len(c.times) / 2
	spans := []span{{c.data, c.times}}
	if half > 0 { // times and frames of two chunks
		end := 0
		for i := range half {
			end += frameLen(c.data[end:], 100+uint64(i))
		}
		spans = []span{{c.data[:end], c.times[:half]}, {c.data[end:], c.times[half:]}}
	}
	return bytes.Clone(e.encode(100, Through{7, 3}, spans))
}

// A block says what went into it; whatever bit of it flips, it is refused.
func TestBlockFormat(t *testing.T) {
	for _, n := range []int{1, 2, 500} {
		p := someBlock(n, 200)
		info, err := readBlockInfo(p)
		if err != nil || info.first != 100 || info.count != n || info.through != (Through{7, 3}) {
			t.Fatalf("%+v, %v", info, err)
		}
		c, err := decodeBlock(p)
		if err != nil || len(c.ends) != n || c.times[0] != info.firstTime || c.times[n-1] != info.lastTime {
			t.Fatalf("%d events: %v", n, err)
		}
	}
	good := someBlock(3, 20)
	for bit := range 8 * len(good) {
		p := bytes.Clone(good)
		p[bit/8] ^= 1 << (bit % 8)
		if _, err := decodeBlock(p); err == nil {
			t.Fatalf("bit %d: no error", bit)
		}
	}
	for n := range good {
		if _, err := decodeBlock(good[:n]); !errors.Is(err, errBlock) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
}

// fixSums makes the checksums of a block right.
func fixSums(p []byte) {
	binary.LittleEndian.PutUint32(p[56:], crc32.Checksum(p[blockHeader:], castagnoli))
	binary.LittleEndian.PutUint32(p[60:], crc32.Checksum(p[:60], castagnoli))
}

// decodeBlock takes any bytes; what it accepts is a run of frames that can be
// handed to a subscriber.
func FuzzDecodeBlock(f *testing.F) {
	for _, n := range []int{1, 3, 40} {
		f.Add(someBlock(n, 100))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) >= blockHeader {
			p = bytes.Clone(p)
			fixSums(p)
		}
		c, err := decodeBlock(p)
		if err != nil {
			return
		}
		b := c.block(0, len(c.ends), len(c.data)+1)
		if b.Len() != len(c.ends) || b.First != c.first || len(b.Frames(0, b.Len())) != len(c.data) {
			t.Fatal("the block does not hold its events")
		}
		for i := range b.Len() {
			if event := b.Event(i); event[0] != sequenceTag {
				t.Fatalf("event %d begins with %d", i, event[0])
			}
		}
	})
}

// BenchmarkOldReader: a subscriber that reads what is no longer in memory, per
// event.
func BenchmarkOldReader(b *testing.B) {
	messages := &jettest.Memory{}
	j := openStored(b, Config{MaxBytes: 256 << 20}, messages)
	const n = 100_000
	for range n {
		if _, err := j.Append(b.Context(), 1, &Event{Key: testKey(1), Body: body(1, 300)}); err != nil {
			b.Fatal(err)
		}
	}
	j.Close()
	j = withoutMemory(b, messages)
	b.ReportAllocs()
	events := 0
	for b.Loop() {
		for r := j.ReadOldest(); ; {
			block, err := r.Next(b.Context(), 100, 1<<20)
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
