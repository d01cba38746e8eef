package client

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/whorl-net/whorl/internal/spool"
)

// The ring against an obvious model: a list of sequences with what became of
// each. Every sequence is in exactly one place, in order, and sizes add up.
func TestRingAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := ring{maxBytes: 1000, next: 1}
		type batch struct {
			size, packets int
			lost, sent    bool
		}
		model := map[uint64]*batch{}
		durable := uint64(0)
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				n := rapid.IntRange(1, 400).Draw(t, "size")
				h := held{first: r.next, last: r.next, body: make([]byte, n), packets: uint64(n) * 3, bytes: 1}
				model[r.next] = &batch{size: n, packets: n * 3}
				for !r.fits(n) {
					gone, ok := r.giveUp()
					if !ok {
						break
					}
					b := model[gone.first]
					if b == nil || b.sent || b.lost || gone.first != gone.last {
						t.Fatalf("gave up %+v, which was sent or lost already", gone)
					}
					b.lost = true
				}
				if r.fits(n) {
					r.push(h)
					return
				}
				model[h.first].lost = true
				r.pushLost(h, reasonRingFull)
			},
			"take": func(t *rapid.T) {
				if len(r.queued) == 0 {
					t.Skip("nothing is queued") // rapid draws another action instead: no check is left out
				}
				h := r.take()
				for s := h.first; s <= h.last; s++ {
					model[s].sent = true
				}
			},
			"ack": func(t *rapid.T) {
				if len(r.sent) == 0 {
					t.Skip("nothing was sent") // rapid draws another action instead
				}
				to := r.sent[rapid.IntRange(0, len(r.sent)-1).Draw(t, "which")].last
				want := uint64(0)
				for s, b := range model {
					if s <= to {
						if !b.lost {
							want += uint64(b.packets)
						}
						delete(model, s)
					}
				}
				if counted, rejected := r.trim(to); counted != want || rejected != 0 {
					t.Fatalf("trim(%d) counted %d and rejected %d, want %d and 0", to, counted, rejected, want)
				}
				durable = to
			},
			"welcome": func(t *rapid.T) {
				counted := durable
				if len(r.sent) > 0 {
					counted = r.sent[rapid.IntRange(0, len(r.sent)-1).Draw(t, "which")].last
				}
				r.rewind(counted)
				for s, b := range model {
					b.sent = s <= counted
				}
			},
			"": func(t *rapid.T) {
				size, sentBytes, next := 0, 0, r.oldest()
				for i, h := range slices.Concat(r.sent, r.queued) {
					if h.first != next || h.last < h.first {
						t.Fatalf("entry %d is %d to %d, want it to begin at %d", i, h.first, h.last, next)
					}
					next = h.last + 1
					packets := 0
					for s := h.first; s <= h.last; s++ {
						if b := model[s]; b == nil || b.lost != h.lost() || b.sent != (i < len(r.sent)) {
							t.Fatalf("sequence %d: in the ring lost=%v sent=%v, in the model %+v", s, h.lost(), i < len(r.sent), b)
						}
						packets += model[s].packets
					}
					if uint64(packets) != h.packets {
						t.Fatalf("entry %+v: want %d packets", h, packets)
					}
					size += len(h.body)
					if i < len(r.sent) {
						sentBytes += len(h.body)
					}
				}
				if next != r.next || size != r.size || sentBytes != r.sentBytes {
					t.Fatalf("next %d, size %d, sent %d; want %d, %d, %d", r.next, r.size, r.sentBytes, next, size, sentBytes)
				}
				if r.size > r.maxBytes && r.batches() > 1 {
					t.Fatalf("%d bytes held, at most %d fit", r.size, r.maxBytes)
				}
			},
		})
	})
}

// The wait doubles from 100 ms to 5 s and is drawn between half and all of it.
func TestBackoff(t *testing.T) {
	var b backoff
	for want := minBackoff; ; want *= 2 {
		want = min(want, maxBackoff)
		if d := b.delay(); d < want/2 || d > want {
			t.Fatalf("delay %v, want %v to %v", d, want/2, want)
		}
		if want == maxBackoff {
			break
		}
	}
	b.reset()
	if d := b.delay(); d > minBackoff {
		t.Errorf("delay after reset %v, want at most %v", d, minBackoff)
	}
}

// A run that grew while it was being read is read again: what was written behind
// it meanwhile must not be taken for read.
func TestRingLoadsOnlyTheRunThatWasRead(t *testing.T) {
	sp, _, err := spool.Open(t.TempDir(), spool.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer sp.Close(1, 1, nil)
	r := ring{maxBytes: 1000, next: 1}
	spill := func() {
		var group []spool.Record
		r.unspooled(func(h *held) bool {
			h.writing = true
			group = append(group, spool.Record{First: h.first, Last: h.last, Packets: h.packets, Body: h.body})
			return true
		})
		ranges, err := sp.Append(group)
		if err != nil {
			t.Fatal(err)
		}
		r.store(ranges)
	}
	push := func() { r.push(held{first: r.next, last: r.next, body: []byte{1}, packets: 5}) }
	push()
	push()
	spill()
	run := r.queued[0].stored
	records, rest, err := sp.Read(*run, 100)
	if err != nil {
		t.Fatal(err)
	}
	push()
	spill()
	if r.load(run, records, rest); r.batches() != 3 || r.queued[0].last != 3 {
		t.Fatalf("after a load of an older run %d batches up to %d are held, want 3 up to 3", r.batches(), r.queued[0].last)
	}
	run = r.queued[0].stored
	if records, rest, err = sp.Read(*run, 100); err != nil {
		t.Fatal(err)
	}
	if r.load(run, records, rest); r.batches() != 3 || len(r.queued) != 3 || r.storedBatches != 0 {
		t.Fatalf("loaded: %+v", r.queued)
	}
}
