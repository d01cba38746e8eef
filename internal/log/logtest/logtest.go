// Package logtest is the suite that every log.Log passes, whatever it is stored
// in. It knows nothing but the interface, and waits for events, never for time.
package logtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/log"
)

// Open makes an empty log that holds at most maxBytes as Record.Bytes counts
// them. The suite closes it.
type Open func(t *testing.T, maxBytes int64) log.Log

// roomy is a bound that no test but those of the bound comes near.
const roomy = 32 << 20

// Run runs the suite, but for the tests named in without.
func Run(t *testing.T, open Open, without ...string) {
	for _, tc := range []struct {
		name string
		test func(t *testing.T, open func(maxBytes int64) log.Log)
	}{
		{"PositionsAreDense", positionsAreDense},
		{"GroupsAreAllOrNone", groupsAreAllOrNone},
		{"LogTimeNeverGoesBack", logTimeNeverGoesBack},
		{"WhatIsReadIsWhatWasAppended", whatIsReadIsWhatWasAppended},
		{"BatchAndNoteAreHandedOnOnce", batchAndNoteAreHandedOnOnce},
		{"OneReaderAtATime", oneReaderAtATime},
		{"ReaderWaits", readerWaits},
		{"TrimLetsGo", trimLetsGo},
		{"TrimKeepsWhatIsUnread", trimKeepsWhatIsUnread},
		{"FullBlocks", fullBlocks},
		{"CloseEndsAll", closeEndsAll},
		{"ConcurrentAppends", concurrentAppends},
		{"Model", model},
	} {
		if slices.Contains(without, tc.name) {
			continue
		}
		t.Run(tc.name, func(t *testing.T) {
			tc.test(t, func(maxBytes int64) log.Log {
				l := open(t, maxBytes)
				t.Cleanup(func() { l.Close() })
				return l
			})
		})
	}
}

// record makes one that carries n.
func record(n int) log.Record {
	return log.Record{
		LogTime: int64(n), Kind: log.KindBatch, Data: binary.BigEndian.AppendUint64(nil, uint64(n)),
		Session: log.Session{Probe: fmt.Sprint("edge", n%3), Network: "lab", ID: [16]byte{15: byte(n)}, Live: n%2 == 0},
	}
}

func number(r *log.Record) int { return int(binary.BigEndian.Uint64(r.Data)) }

func appendAll(t *testing.T, l log.Log, records ...log.Record) log.Position {
	t.Helper()
	p, err := l.Append(t.Context(), records...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func reader(t *testing.T, l log.Log, after log.Position) log.Reader {
	t.Helper()
	r, err := l.Reader(after)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// read returns n records or fails.
func read(t *testing.T, r log.Reader, n int) (records []log.Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for len(records) < n {
		more, err := r.Next(ctx)
		if err != nil {
			t.Fatalf("after %d of %d records: %v", len(records), n, err)
		}
		if len(more) == 0 {
			t.Fatal("Next returned nothing and no error")
		}
		records = append(records, more...)
	}
	if len(records) > n {
		t.Fatalf("read %d records, want %d", len(records), n)
	}
	return records
}

// until waits for a condition that other goroutines bring about.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 30 s", what)
		}
	}
}

func positionsAreDense(t *testing.T, open func(int64) log.Log) {
	l := open(roomy)
	if s := l.Stats(); s.First != 1 || s.Last != 0 || s.Bytes != 0 {
		t.Errorf("empty log: %+v", s)
	}
	if p := appendAll(t, l, record(1)); p != 1 {
		t.Errorf("first position is %d", p)
	}
	records := []log.Record{record(2), record(3), record(4)}
	if p := appendAll(t, l, records...); p != 4 {
		t.Errorf("a group of three ends at %d", p)
	}
	if records[0].Position != 2 || records[2].Position != 4 {
		t.Errorf("the group was told positions %d to %d", records[0].Position, records[2].Position)
	}
	if p := appendAll(t, l); p != 4 {
		t.Errorf("appending nothing returns %d, want the newest, 4", p)
	}
	if s := l.Stats(); s.First != 1 || s.Last != 4 || s.Bytes <= 0 {
		t.Errorf("%+v", s)
	}
}

func groupsAreAllOrNone(t *testing.T, open func(int64) log.Log) {
	l := open(roomy)
	bad := record(2)
	bad.Kind = 0
	if _, err := l.Append(t.Context(), record(1), bad); err == nil {
		t.Error("a record without a kind was taken")
	}
	if s := l.Stats(); s.Last != 0 {
		t.Errorf("the good half of a bad group was taken: %+v", s)
	}
}

func logTimeNeverGoesBack(t *testing.T, open func(int64) log.Log) {
	l := open(roomy)
	in := []int64{5, 7, 6, 1, 7, 9}
	for _, at := range in {
		appendAll(t, l, log.Record{Kind: log.KindTick, LogTime: at})
	}
	want := []int64{5, 7, 7, 7, 7, 9}
	for i, r := range read(t, reader(t, l, 0), len(in)) {
		if r.LogTime != want[i] {
			t.Errorf("record %d has log time %d, want %d", i, r.LogTime, want[i])
		}
	}
}

func whatIsReadIsWhatWasAppended(t *testing.T, open func(int64) log.Log) {
	l := open(roomy)
	kinds := []log.Record{
		{Kind: log.KindTick, LogTime: 1}, record(2),
		{Kind: log.KindFlush, LogTime: 3, Data: []byte("all")},
		{Kind: log.KindClose, LogTime: 4, Session: record(4).Session},
	}
	for n := 5; n <= 600; n++ {
		kinds = append(kinds, record(n))
	}
	appendAll(t, l, kinds...)
	for _, after := range []int{0, 1, 3, 599, 600} {
		r := reader(t, l, log.Position(after))
		for i, got := range read(t, r, len(kinds)-after) {
			want := kinds[after+i]
			if got.Position != log.Position(after+i+1) || got.Kind != want.Kind || got.LogTime != want.LogTime ||
				got.Session != want.Session || !bytes.Equal(got.Data, want.Data) {
				t.Fatalf("after %d, record %d is %+v, want %+v", after, i, got, want)
			}
		}
		if s := l.Stats(); s.Read != log.Position(len(kinds)) {
			t.Errorf("read up to %d of %d", s.Read, len(kinds))
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Reader(601); err == nil {
		t.Error("a reader started ahead of the newest record")
	}
}

func batchAndNoteAreHandedOnOnce(t *testing.T, open func(int64) log.Log) {
	l := open(roomy)
	in := record(1)
	in.Batch, in.Note = &flow.Batch{Sequence: 9}, "whom to tell"
	appendAll(t, l, in)
	for again := range 2 {
		r := reader(t, l, 0)
		got := read(t, r, 1)[0]
		if number(&got) != 1 {
			t.Errorf("reading %d: data %x", again, got.Data)
		}
		// A log that comes back from a disk may have neither, even at first.
		if again > 0 && (got.Batch != nil || got.Note != nil) {
			t.Errorf("read again: batch %v, note %v", got.Batch, got.Note)
		}
		if got.Batch != nil && got.Batch != in.Batch {
			t.Errorf("batch is a copy")
		}
		r.Close()
	}
}

func oneReaderAtATime(t *testing.T, open func(int64) log.Log) {
	l := open(roomy)
	appendAll(t, l, record(1))
	first := reader(t, l, 0)
	if _, err := l.Reader(0); !errors.Is(err, log.ErrReading) {
		t.Errorf("a second reader: %v, want ErrReading", err)
	}
	first.Close()
	first.Close()
	if _, err := first.Next(t.Context()); err == nil {
		t.Error("a closed reader reads on")
	}
	read(t, reader(t, l, 0), 1)
}

func readerWaits(t *testing.T, open func(int64) log.Log) {
	l := open(roomy)
	r := reader(t, l, 0)
	reason := errors.New("patience is over")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(reason)
	if _, err := r.Next(ctx); !errors.Is(err, reason) {
		t.Errorf("got %v, want %v", err, reason)
	}
	got := make(chan int, 1)
	go func() {
		records, err := r.Next(context.Background())
		if err != nil || len(records) != 1 {
			got <- -1
			return
		}
		got <- number(&records[0])
	}()
	appendAll(t, l, record(7))
	if n := <-got; n != 7 {
		t.Errorf("woke with %d, want 7", n)
	}
}

func trimLetsGo(t *testing.T, open func(int64) log.Log) {
	l := open(roomy)
	for n := 1; n <= 10; n++ {
		appendAll(t, l, record(n))
	}
	r := reader(t, l, 0)
	read(t, r, 10)
	before := l.Stats().Bytes
	for _, upTo := range []log.Position{6, 2, 6} { // less than before changes nothing
		if err := l.Trim(upTo); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Trim(11); err == nil {
		t.Error("trimmed what was never appended")
	}
	if s := l.Stats(); s.First != 7 || s.Last != 10 || s.Bytes >= before || s.Bytes <= 0 {
		t.Errorf("%+v, %d bytes before", s, before)
	}
	r.Close()
	if _, err := l.Reader(5); !errors.Is(err, log.ErrTrimmed) {
		t.Errorf("reading what is gone: %v, want ErrTrimmed", err)
	}
	for i, got := range read(t, reader(t, l, 6), 4) {
		if number(&got) != 7+i {
			t.Errorf("record %d is number %d", i, number(&got))
		}
	}
	if err := l.Trim(10); err != nil {
		t.Fatal(err)
	}
	if s := l.Stats(); s.First != 11 || s.Bytes != 0 {
		t.Errorf("all trimmed: %+v", s)
	}
	if p := appendAll(t, l, record(11)); p != 11 {
		t.Errorf("the position after all were trimmed is %d", p)
	}
}

func trimKeepsWhatIsUnread(t *testing.T, open func(int64) log.Log) {
	l := open(roomy)
	for n := 1; n <= 4; n++ {
		appendAll(t, l, record(n))
	}
	if err := l.Trim(4); err != nil {
		t.Fatal(err)
	}
	if got := read(t, reader(t, l, 0), 4); number(&got[0]) != 1 {
		t.Errorf("first record read is %d", number(&got[0]))
	}
	if s := l.Stats(); s.First != 5 || s.Bytes != 0 {
		t.Errorf("read and trimmed before: %+v", s)
	}
}

// small is a bound that holds a few records.
const small = 4096

func fullBlocks(t *testing.T, open func(int64) log.Log) {
	l := open(small)
	huge := record(1)
	huge.Data = make([]byte, small+1)
	if _, err := l.Append(t.Context(), huge); !errors.Is(err, log.ErrTooLarge) {
		t.Errorf("a record larger than the log: %v, want ErrTooLarge", err)
	}
	full, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("patience is over")
	n := 0
	appended := make(chan log.Position)
	go func() {
		defer close(appended)
		for {
			p, err := l.Append(full, record(n+1))
			if err != nil {
				if !errors.Is(err, reason) {
					t.Errorf("a full log: %v, want %v", err, reason)
				}
				return
			}
			n++
			appended <- p
		}
	}()
	for l.Stats().Waits == 0 {
		select {
		case <-appended:
		default:
			runtime.Gosched()
		}
	}
	cancel(reason)
	for range appended {
	}
	s := l.Stats()
	if s.Last != log.Position(n) || s.Bytes > s.MaxBytes || n < 2 {
		t.Fatalf("%d records were taken: %+v", n, s)
	}

	// Room wakes who waits; the records keep their order.
	done := make(chan error, 1)
	go func() {
		_, err := l.Append(context.Background(), record(n+1))
		done <- err
	}()
	until(t, "the append waits", func() bool { return l.Stats().Waits == 2 })
	r := reader(t, l, 0)
	read(t, r, n)
	if err := l.Trim(1); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := read(t, r, 1); number(&got[0]) != n+1 || got[0].Position != log.Position(n+1) {
		t.Errorf("got %+v", got[0])
	}
}

func closeEndsAll(t *testing.T, open func(int64) log.Log) {
	l := open(small)
	r := reader(t, l, 0)
	n := 0
	for next := record(1); l.Stats().Bytes+next.Bytes() <= small; next = record(n + 1) {
		appendAll(t, l, next)
		n++
	}
	big := record(0)
	big.Data = make([]byte, small-1024)
	waiting := make(chan error, 1)
	go func() {
		_, err := l.Append(context.Background(), big)
		waiting <- err
	}()
	until(t, "the append waits", func() bool { return l.Stats().Waits == 1 })
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; !errors.Is(err, log.ErrClosed) {
		t.Errorf("the waiting append: %v, want ErrClosed", err)
	}
	if _, err := l.Append(t.Context(), record(1)); !errors.Is(err, log.ErrClosed) {
		t.Errorf("a later append: %v, want ErrClosed", err)
	}
	read(t, r, n)
	if _, err := r.Next(t.Context()); !errors.Is(err, log.ErrClosed) {
		t.Errorf("the reader at the end: %v, want ErrClosed", err)
	}
}

// Appends of many goroutines: each record once, groups together, and each
// writer's own records in its order, while a reader trims behind itself.
func concurrentAppends(t *testing.T, open func(int64) log.Log) {
	const writers, groups, size = 4, 100, 3
	l := open(64 << 10)
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for g := range groups {
				var rs []log.Record
				for i := range size {
					rs = append(rs, record(w<<20|g*size+i))
				}
				if _, err := l.Append(t.Context(), rs...); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	r := reader(t, l, 0)
	var next [writers]int
	for got := 0; got < writers*groups*size; {
		records, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range records {
			got++
			n := number(&records[i])
			w := n >> 20
			if records[i].Position != log.Position(got) || n&(1<<20-1) != next[w] {
				t.Fatalf("position %d holds record %d of writer %d, want %d", records[i].Position, n&(1<<20-1), w, next[w])
			}
			next[w]++
		}
		if err := l.Trim(records[len(records)-1].Position); err != nil {
			t.Fatal(err)
		}
	}
	all.Wait()
}

// model compares a log with a slice under random operations.
func model(t *testing.T, open func(int64) log.Log) {
	rapid.Check(t, func(rt *rapid.T) {
		l := open(roomy)
		defer l.Close()
		var (
			want    []int // number of each record, by position-1
			read    int   // records read
			trimmed int
			r       log.Reader
		)
		var err error
		if r, err = l.Reader(0); err != nil {
			rt.Fatal(err)
		}
		defer func() { r.Close() }()
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(rt *rapid.T) {
				var group []log.Record
				for range rapid.IntRange(1, 20).Draw(rt, "records") {
					want = append(want, len(want)*7)
					group = append(group, record(want[len(want)-1]))
				}
				if p, err := l.Append(context.Background(), group...); err != nil || int(p) != len(want) {
					rt.Fatalf("append: %d, %v, want %d", p, err, len(want))
				}
			},
			"read": func(rt *rapid.T) {
				if read == len(want) {
					rt.Skip()
				}
				records, err := r.Next(context.Background())
				if err != nil || len(records) == 0 {
					rt.Fatalf("read: %d, %v", len(records), err)
				}
				for i := range records {
					if int(records[i].Position) != read+1 || number(&records[i]) != want[read] {
						rt.Fatalf("position %d holds %d, want %d", records[i].Position, number(&records[i]), want[read])
					}
					read++
				}
			},
			"trim": func(rt *rapid.T) {
				n := rapid.IntRange(0, len(want)).Draw(rt, "up to")
				if err := l.Trim(log.Position(n)); err != nil {
					rt.Fatal(err)
				}
				trimmed = max(trimmed, n)
			},
			"reopen": func(rt *rapid.T) {
				gone := min(trimmed, read)
				r.Close()
				read = rapid.IntRange(gone, len(want)).Draw(rt, "after")
				if r, err = l.Reader(log.Position(read)); err != nil {
					rt.Fatal(err)
				}
			},
			"": func(rt *rapid.T) {
				s := l.Stats()
				if int(s.Last) != len(want) || int(s.First) > read+1 {
					rt.Fatalf("%+v: %d appended, %d read, %d trimmed", s, len(want), read, trimmed)
				}
			},
		})
	})
}
