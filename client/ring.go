package client

import (
	"github.com/whorl-net/whorl/flow"
)

// held is a batch that is kept until it is durable, or the Lost record that
// stands for batches which could not be kept.
type held struct {
	// first and last are the sequences it stands for: equal for a batch.
	first, last uint64
	// body is the encoded IngestRequest; nil for a Lost record, which is
	// encoded when it is sent because it grows until then.
	body []byte
	// packets and bytes are what was captured in it.
	packets, bytes uint64
	// rejected says that the collector refused it for good.
	rejected bool
}

func (h *held) lost() bool { return h.body == nil }

// ring holds the batches of a session in order: first those that were sent and
// may or may not be counted by the collector, then those it cannot know yet.
// Only the latter may be given up: whether one of the former is lost is not for
// the probe to say until the collector has answered a Hello.
//
// Not safe for concurrent use: the Reporter's mutex guards it.
type ring struct {
	maxBytes  int
	size      int // bytes of all bodies
	sentBytes int // bytes of the bodies in sent
	sent      []held
	queued    []held
	next      uint64 // sequence of the next batch, from 1
}

// reason of the Lost records a ring makes.
const reasonRingFull = "ring-full"

// fits reports whether n more bytes fit. An empty ring takes any batch.
func (r *ring) fits(n int) bool { return r.size == 0 || r.size+n <= r.maxBytes }

// push adds a batch, whose sequence is r.next, at the end.
func (r *ring) push(h held) {
	r.next = h.last + 1
	r.size += len(h.body)
	r.queued = append(r.queued, h)
}

// giveUp replaces the oldest batch that was never sent by a Lost record, or
// adds it to the one that is already there, and returns what was given up. It
// returns false when nothing is left to give up.
func (r *ring) giveUp() (gone held, ok bool) {
	// A rewind may have brought records back in front of others.
	for len(r.queued) > 1 && r.queued[0].lost() && r.queued[1].lost() {
		r.mergeFirst()
	}
	i := 0
	if len(r.queued) > 0 && r.queued[0].lost() {
		i = 1
	}
	if i >= len(r.queued) {
		return held{}, false
	}
	gone = r.queued[i]
	r.size -= len(gone.body)
	r.queued[i].body = nil
	if i == 1 {
		r.mergeFirst()
	}
	return gone, true
}

// mergeFirst makes one Lost record of the first two.
func (r *ring) mergeFirst() {
	a, b := r.queued[0], r.queued[1]
	r.queued = dropFirst(r.queued, 1)
	r.queued[0] = held{first: a.first, last: b.last, packets: a.packets + b.packets, bytes: a.bytes + b.bytes}
}

// pushLost adds a batch that is given up before it was ever kept.
func (r *ring) pushLost(h held) {
	h.body = nil
	r.next = h.last + 1
	if n := len(r.queued); n > 0 && r.queued[n-1].lost() {
		l := &r.queued[n-1]
		l.last, l.packets, l.bytes = h.last, l.packets+h.packets, l.bytes+h.bytes
		return
	}
	r.queued = append(r.queued, h)
}

// take moves the oldest unsent batch to the sent ones and returns it.
func (r *ring) take() held {
	h := r.queued[0]
	r.queued = dropFirst(r.queued, 1)
	r.sent = append(r.sent, h)
	r.sentBytes += len(h.body)
	return h
}

// trim forgets what is durable up to a sequence and returns how many packets of
// it are counted by the collector and how many it rejected.
func (r *ring) trim(durable uint64) (counted, rejected uint64) {
	// What is still queued was sent on an earlier stream, if it is durable.
	for _, part := range []*[]held{&r.sent, &r.queued} {
		n := 0
		for n < len(*part) && (*part)[n].last <= durable {
			h := &(*part)[n]
			r.size -= len(h.body)
			if part == &r.sent {
				r.sentBytes -= len(h.body)
			}
			switch {
			case h.rejected:
				rejected += h.packets
			case !h.lost():
				counted += h.packets
			}
			n++
		}
		*part = dropFirst(*part, n)
	}
	return counted, rejected
}

// reject marks the sent batch with this sequence and reports whether there is
// one.
func (r *ring) reject(sequence uint64) bool {
	for i := range r.sent {
		if h := &r.sent[i]; h.first <= sequence && sequence <= h.last && !h.rejected {
			h.rejected = true
			return true
		}
	}
	return false
}

// rewind makes everything behind counted unsent: a collector said in a Welcome
// that it counted so far and no further.
func (r *ring) rewind(counted uint64) {
	all := append(r.sent, r.queued...)
	n := 0
	for n < len(all) && all[n].last <= counted {
		n++
	}
	r.sent = append([]held(nil), all[:n]...)
	r.queued = append([]held(nil), all[n:]...)
	r.sentBytes = 0
	for i := range r.sent {
		r.sentBytes += len(r.sent[i].body)
	}
}

// oldest is the oldest sequence that can still be sent.
func (r *ring) oldest() uint64 {
	switch {
	case len(r.sent) > 0:
		return r.sent[0].first
	case len(r.queued) > 0:
		return r.queued[0].first
	}
	return r.next
}

// batches is how many batches, Lost records included, are held.
func (r *ring) batches() int { return len(r.sent) + len(r.queued) }

// record returns the Lost record of h as a batch without its sequence.
func (h *held) record() *flow.Batch {
	return &flow.Batch{Lost: &flow.Lost{
		FirstSequence: h.first, LastSequence: h.last, Packets: h.packets, Bytes: h.bytes, Reason: reasonRingFull,
	}}
}

// dropFirst removes the first n elements and lets go of what they refer to.
func dropFirst(s []held, n int) []held {
	clear(s[:n])
	return s[n:]
}
