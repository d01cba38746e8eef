package feed

import (
	"strings"
	"testing"

	"github.com/whorl-net/whorl/internal/jet/jettest"
)

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

// A time within a block is found in it.
func TestSeekWithinABlock(t *testing.T) {
	messages := &jettest.Memory{}
	var e blockEncoder
	for b := range uint64(8) {
		c := &chunk{}
		for i := range uint64(10) {
			c.data = appendFrame(c.data, evictionTag, 10*b+i+1, body(10*b+i+1, 20))
			c.times = append(c.times, int64(1000*b+100*i))
		}
		if _, err := messages.Append(t.Context(), e.encode(10*b+1, Through{b, 0}, []span{{c.data, c.times}})); err != nil {
			t.Fatal(err)
		}
	}
	j := withoutMemory(t, messages)
	for _, tc := range []struct {
		since int64
		first uint64
	}{{0, 1}, {1, 2}, {900, 10}, {901, 11}, {3450, 36}, {7900, 80}} {
		r, err := j.ReadSince(t.Context(), tc.since)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := drain(t, r); len(got) == 0 || got[0] != tc.first {
			t.Errorf("since %d: %v, want from %d", tc.since, got, tc.first)
		}
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
