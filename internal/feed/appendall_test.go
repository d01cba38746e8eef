package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
)

// AppendAll is Append of one event after another, however they are cut into
// calls: the same numbers, bytes and newest evictions, and what is too large is
// refused alone.
func TestAppendAllIsAppendOfEach(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	one := newJournal(t, Config{Epoch: "e", MaxBytes: 1 << 20})
	all := newJournal(t, Config{Epoch: "e", MaxBytes: 1 << 20})
	all.hashSeed = one.hashSeed // which keys share a bucket decides which is forgotten
	for call := range 200 {
		var events []Event
		for range r.IntN(3 * maxAppendRun) {
			size := r.IntN(400)
			if r.IntN(500) == 0 {
				size = MaxEventBytes + 1
			}
			events = append(events, Event{Position: uint64(call + 1), Key: testKey(r.IntN(2000)), Network: "default", Body: bytes.Repeat([]byte{byte(call)}, size)})
		}
		for i := range events {
			if _, err := one.Append(context.Background(), int64(call), &events[i]); err != nil && !errors.Is(err, ErrTooLarge) {
				t.Fatal(err)
			}
		}
		if n, err := all.AppendAll(context.Background(), int64(call), events); err != nil || n != len(events) {
			t.Fatalf("AppendAll of %d: %d, %v", len(events), n, err)
		}
	}
	if got, want := all.Stats(), one.Stats(); got != want {
		t.Errorf("stats are %+v, want %+v", got, want)
	}
	if one.Stats().Refused == 0 || one.Stats().Released == 0 {
		t.Errorf("nothing was refused or nothing let go of: %+v", one.Stats())
	}
	if got, want := allFrames(t, all), allFrames(t, one); !bytes.Equal(got, want) {
		t.Errorf("%d bytes of frames, want the %d of Append", len(got), len(want))
	}
	for i := range 2000 {
		sequence, event, ok := all.Recent(testKey(i), "default")
		want, wantEvent, wantOK := one.Recent(testKey(i), "default")
		if sequence != want || ok != wantOK || !bytes.Equal(event, wantEvent) {
			t.Fatalf("newest eviction of connection %d is %d, %v; want %d, %v", i, sequence, ok, want, wantOK)
		}
	}
}

func allFrames(t *testing.T, j *Journal) (frames []byte) {
	t.Helper()
	for r := j.ReadOldest(); ; {
		b, err := r.Next(context.Background(), 1000, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if b.Len() == 0 {
			return frames
		}
		frames = append(frames, b.Frames(0, b.Len())...)
	}
}

// A call that fails says how far it came: what is behind has no number.
func TestAppendAllSaysHowFarItCame(t *testing.T) {
	j := newJournal(t, Config{})
	events := make([]Event, 3*maxAppendRun)
	for i := range events {
		events[i] = Event{Position: uint64(10 + i), Key: testKey(i), Network: "default", Body: body(uint64(i+1), 10)}
	}
	const bad = maxAppendRun + 7
	events[bad].Position = 3
	if n, err := j.AppendAll(context.Background(), 1, events); n != bad || !errors.Is(err, ErrOrder) {
		t.Errorf("with event %d out of order: %d, %v; want %d and ErrOrder", bad, n, err, bad)
	}
	if got := j.Newest().Sequence; got != bad {
		t.Errorf("the newest event is %d, want %d", got, bad)
	}
	j.Close()
	if n, err := j.AppendAll(context.Background(), 1, events[bad+1:]); n != 0 || !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %d, %v; want 0 and ErrClosed", n, err)
	}
}

// What a reader or Recent gave out never changes, though the memory of chunks
// that nobody was given is used again.
func TestWhatWasGivenOutNeverChanges(t *testing.T) {
	type kept struct{ given, was []byte }
	var all []kept
	keep := func(p []byte) { all = append(all, kept{p, bytes.Clone(p)}) }
	j := newJournal(t, Config{MaxBytes: MinMaxBytes})
	for i := range 20_000 {
		key := testKey(i)
		if _, err := j.Append(context.Background(), int64(i), &Event{Key: key, Network: "default", Body: bytes.Repeat([]byte{byte(i)}, 90)}); err != nil {
			t.Fatal(err)
		}
		switch {
		case i%997 == 0:
			b, err := j.ReadLast(5).Next(context.Background(), 5, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			keep(b.Frames(0, b.Len()))
		case i%1009 == 0:
			_, event, ok := j.Recent(key, "default")
			if !ok {
				t.Fatalf("event %d is not known", i)
			}
			keep(event)
		}
	}
	for i, k := range all {
		if !bytes.Equal(k.given, k.was) {
			t.Fatalf("bytes number %d of %d that were given out have changed", i, len(all))
		}
	}
}

// A full journal that nobody reads needs no memory for what comes.
func TestFullJournalDoesNotAllocate(t *testing.T) {
	j := newJournal(t, Config{MaxBytes: MinMaxBytes})
	events := make([]Event, 256)
	for i := range events {
		events[i] = Event{Key: testKey(i), Network: "default", Body: body(1, 100)}
	}
	fill := func() {
		if n, err := j.AppendAll(context.Background(), 1, events); err != nil {
			t.Fatalf("%d of %d: %v", n, len(events), err)
		}
	}
	for range 100 {
		fill()
	}
	if n := testing.AllocsPerRun(100, fill); n > 0 {
		t.Errorf("%v allocations for %d events, more than the journal has room for", n, len(events))
	}
}

// BenchmarkAppendAll: evictions of a flood, each of another connection, per
// event; run=1 is Append.
func BenchmarkAppendAll(b *testing.B) {
	for _, run := range []int{1, 256} {
		b.Run(fmt.Sprintf("run=%d", run), func(b *testing.B) {
			j := newJournal(b, Config{MaxBytes: 64 << 20})
			events := make([]Event, run)
			p := body(1, 400)
			next := 0
			for b.Loop() {
				for i := range events {
					events[i] = Event{Key: testKey(next), Network: "default", Body: p}
					next++
				}
				if run == 1 {
					if _, err := j.Append(context.Background(), 1, &events[0]); err != nil {
						b.Fatal(err)
					}
					continue
				}
				if _, err := j.AppendAll(context.Background(), 1, events); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(next), "ns/event")
		})
	}
}
