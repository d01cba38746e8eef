package client

import (
	"slices"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/spool"
)

// held is a batch that is kept until it is durable, a run of batches that lie in
// the spool, or the Lost record that stands for batches which could not be kept.
type held struct {
	// first and last are the sequences it stands for: equal for a batch.
	first, last uint64
	// body is the encoded IngestRequest; nil when it is not in memory. A Lost
	// record is encoded when it is sent because it grows until then.
	body []byte
	// packets and bytes are what was captured in it.
	packets, bytes uint64
	// reason is why it was given up; empty for batches.
	reason string
	// stored is where its batches lie when they are not in memory.
	stored *spool.Range
	// at is when it was reported.
	at time.Time
	// writing says that it is on its way to the spool and must stay as it is.
	writing bool
	// rejected says that the collector refused it for good.
	rejected bool
	// ours says that nobody but one stream refers to body, so that it can be
	// used again once the collector has acknowledged the batch.
	ours bool
}

func (h *held) lost() bool { return h.reason != "" }

// ring holds the batches of a session in order: first those that were sent and
// may or may not be counted by the collector, then those it cannot know yet.
// Only the latter may be given up: whether one of the former is lost is not for
// the probe to say until the collector has answered a Hello.
//
// With a spool everything up to spooled lies on disk; what was sent is in memory
// besides, what is queued there need not be.
//
// Not safe for concurrent use: the Reporter's mutex guards it.
type ring struct {
	maxBytes  int
	size      int // bytes of all bodies in memory
	sentBytes int // bytes of the bodies in sent
	sent      []held
	queued    []held
	next      uint64 // sequence of the next batch, from 1
	counted   uint64 // what the collector knew at the last Welcome
	resumed   uint64 // up to here an earlier life may have sent; 0 once a Welcome said so

	spooled       uint64 // everything up to here is in the spool, if there is one
	storedBatches uint64 // batches and bytes that are in the spool alone
	storedBytes   uint64

	spare [][]byte // bodies to be used again
}

// What spare holds at most: as many batches as a collector acknowledges at once,
// and none that is larger than a probe cuts them.
const (
	maxSpare      = 32
	maxSpareBytes = 96 << 10
)

// spareBody returns memory for a body, nil when there is none.
func (r *ring) spareBody() []byte {
	n := len(r.spare)
	if n == 0 {
		return nil
	}
	body := r.spare[n-1]
	r.spare[n-1], r.spare = nil, r.spare[:n-1]
	return body
}

// recycle takes the body of h, which the collector has acknowledged. One that is
// on its way to the spool, or that a second stream may be sending, is left to the
// garbage collector.
func (r *ring) recycle(h *held) {
	if h.ours && !h.writing && h.body != nil && cap(h.body) <= maxSpareBytes && len(r.spare) < maxSpare {
		r.spare = append(r.spare, h.body)
	}
	h.body = nil
}

// Reasons of the Lost records a ring makes.
const (
	reasonRingFull  = "ring-full"
	reasonSpoolFull = "spool-full"
	reasonShutdown  = "shutdown"
)

// fits reports whether n more bytes fit. An empty ring takes any batch.
func (r *ring) fits(n int) bool { return r.size == 0 || r.size+n <= r.maxBytes }

// push adds a batch, whose sequence is r.next, at the end.
func (r *ring) push(h held) {
	r.next = h.last + 1
	r.size += len(h.body)
	r.queued = append(r.queued, h)
}

// resume adds what a spool held when it was opened.
func (r *ring) resume(found spool.Range) {
	h := held{first: found.First, last: found.Last, packets: found.Packets, bytes: found.Bytes, reason: found.Reason}
	if !found.Lost() {
		h.stored = &found
		r.storedBatches += found.Batches
		r.storedBytes += uint64(found.Size)
	}
	r.queued = append(r.queued, h)
	r.next, r.spooled, r.resumed = h.last+1, h.last, h.last
}

// giveUp replaces the oldest batch in memory that was never sent by a Lost
// record, or adds it to the one before it, and returns what was given up. What
// is in the spool stays: giving it up would make no room here. It returns false
// when nothing is left to give up.
func (r *ring) giveUp() (gone held, ok bool) {
	i := 0
	for i < len(r.queued) && (r.queued[i].body == nil || r.queued[i].writing) {
		// A rewind may have brought records back in front of others.
		if i > 0 && r.mergeable(i-1) {
			r.mergeInto(i - 1)
			continue
		}
		i++
	}
	if i >= len(r.queued) {
		return held{}, false
	}
	h := &r.queued[i]
	gone = *h
	r.size -= len(h.body)
	h.body, h.reason = nil, reasonRingFull
	if i > 0 && r.mergeable(i-1) {
		r.mergeInto(i - 1)
	}
	return gone, true
}

// mergeable reports whether the records at i and behind it may become one: both
// for one reason and neither in the spool, where each lies for itself.
func (r *ring) mergeable(i int) bool {
	a, b := &r.queued[i], &r.queued[i+1]
	return a.lost() && a.reason == b.reason && !a.writing && !b.writing && a.first > r.resumed &&
		(a.first > r.spooled || a.reason == reasonSpoolFull)
}

// mergeInto makes one Lost record of those at i and behind it.
func (r *ring) mergeInto(i int) {
	a, b := &r.queued[i], &r.queued[i+1]
	*b = held{first: a.first, last: b.last, packets: a.packets + b.packets, bytes: a.bytes + b.bytes, reason: a.reason, at: a.at}
	r.removeFront(i, i+1)
}

// removeFront removes queued[i:j]. It moves what is before, which is little:
// runs of the spool and records.
func (r *ring) removeFront(i, j int) {
	copy(r.queued[j-i:j], r.queued[:i])
	r.queued = dropFirst(r.queued, j-i)
}

// pushLost adds a batch that is given up before it was ever kept.
func (r *ring) pushLost(h held, reason string) {
	h.body, h.reason = nil, reason
	r.next = h.last + 1
	r.queued = append(r.queued, h)
	if n := len(r.queued); n > 1 && r.mergeable(n-2) {
		l := &r.queued[n-2]
		l.last, l.packets, l.bytes = h.last, l.packets+h.packets, l.bytes+h.bytes
		r.queued = r.queued[:n-1]
	}
}

// take moves the oldest unsent batch, which must not be in the spool alone, to
// the sent ones and returns it.
func (r *ring) take() held {
	h := r.queued[0]
	r.queued = dropFirst(r.queued, 1)
	r.sent = append(r.sent, h)
	r.sentBytes += len(h.body)
	return h
}

// trim forgets what is durable up to a sequence and returns how many packets of
// it are counted by the collector and how many it rejected. A run in the spool
// that is durable in part stays until it is loaded.
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
			r.unstore(h)
			switch {
			case h.rejected:
				rejected += h.packets
			case !h.lost():
				counted += h.packets
			}
			if part == &r.sent {
				r.recycle(h)
			}
			n++
		}
		*part = dropFirst(*part, n)
	}
	return counted, rejected
}

// unstore takes h out of the sums of what is in the spool alone.
func (r *ring) unstore(h *held) {
	if h.stored != nil {
		r.storedBatches -= h.stored.Batches
		r.storedBytes -= uint64(h.stored.Size)
		h.stored = nil
	}
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
	r.counted, r.resumed = counted, 0
	for i := range r.sent {
		r.sent[i].ours = false // the stream before may be sending it still
	}
	all := append(r.sent, r.queued...)
	n := 0
	for n < len(all) && all[n].last <= counted && all[n].stored == nil {
		n++
	}
	r.sent = append([]held(nil), all[:n]...)
	r.queued = append([]held(nil), all[n:]...)
	if len(r.queued) > 0 && r.queued[0].lost() {
		r.queued[0].first = max(r.queued[0].first, min(counted+1, r.queued[0].last))
	}
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

// newestSent is the newest sequence that is held and may have been sent, 0 for
// none: only what is behind it may be given up.
func (r *ring) newestSent() uint64 {
	if n := len(r.sent); n > 0 {
		return max(r.sent[n-1].last, r.resumed)
	}
	return r.resumed
}

// batches is how many batches, Lost records included, are held.
func (r *ring) batches() uint64 {
	runs := uint64(0)
	for i := range r.queued { // runs come before anything that was not stored
		if r.queued[i].stored != nil {
			runs++
		} else if r.queued[i].first > r.spooled {
			break
		}
	}
	return uint64(len(r.sent)+len(r.queued)) + r.storedBatches - runs
}

// onDisk is how many packets of batches are in the spool.
func (r *ring) onDisk() (packets uint64) {
	for _, part := range [][]held{r.sent, r.queued} {
		for i := range part {
			if part[i].last > r.spooled {
				return packets
			}
			if !part[i].lost() {
				packets += part[i].packets
			}
		}
	}
	return packets
}

// unspooled calls yield with what is not in the spool yet, oldest first, until
// it returns false.
func (r *ring) unspooled(yield func(*held) bool) {
	for _, part := range [][]held{r.sent, r.queued} {
		from, _ := slices.BinarySearchFunc(part, r.spooled+1, func(h held, s uint64) int {
			if h.first < s {
				return -1
			}
			return 1
		})
		for i := from; i < len(part); i++ {
			if !yield(&part[i]) {
				return
			}
		}
	}
}

// store notes where a group that unspooled gave lies in the spool, in order.
// Batches that were not sent leave the memory; what was acknowledged meanwhile
// is not here any more.
func (r *ring) store(group []spool.Range) {
	if len(group) == 0 {
		return
	}
	first, last := group[0].First, group[len(group)-1].Last
	for i := range r.sent {
		if r.sent[i].first >= first && r.sent[i].last <= last {
			r.sent[i].writing = false
		}
	}
	from, _ := slices.BinarySearchFunc(r.queued, first, func(h held, s uint64) int {
		if h.first < s {
			return -1
		}
		return 1
	})
	write := from // where the next one goes: they become fewer
	read := from
	for ; read < len(r.queued) && r.queued[read].last <= last; read++ {
		h := r.queued[read]
		h.writing = false
		for len(group) > 0 && group[0].First < h.first {
			group = group[1:]
		}
		if h.body != nil && len(group) > 0 && group[0].First == h.first {
			at := group[0]
			r.size -= len(h.body)
			r.storedBatches++
			r.storedBytes += uint64(at.Size)
			h.body, h.stored = nil, &at
			if write > 0 && r.queued[write-1].stored != nil {
				if joined, ok := spool.Join(*r.queued[write-1].stored, at); ok {
					p := &r.queued[write-1]
					p.stored = &joined // not in place: the old one may be being read
					p.last, p.packets, p.bytes = h.last, p.packets+h.packets, p.bytes+h.bytes
					continue
				}
			}
		}
		r.queued[write] = h
		write++
	}
	r.removeFront(write, read)
	r.spooled = max(r.spooled, last)
}

// unwrite takes the mark of a group back that could not be written.
func (r *ring) unwrite(first, last uint64) {
	for _, part := range [][]held{r.sent, r.queued} {
		for i := range part {
			if part[i].first >= first && part[i].last <= last {
				part[i].writing = false
			}
		}
	}
}

// load puts records that were read from the spool in the place of the run at the
// head of the queue, with the rest of it behind them. It returns what could not
// be read. It does nothing when that run is not there any more: it was given up,
// or more was written behind it.
func (r *ring) load(run *spool.Range, records []spool.Record, rest spool.Range) (lost []held) {
	if len(r.queued) == 0 || r.queued[0].stored != run {
		return nil
	}
	old := r.queued[0]
	r.unstore(&old)
	r.queued = dropFirst(r.queued, 1)
	var loaded []held
	for i := range records {
		x := &records[i]
		h := held{first: x.First, last: x.Last, body: x.Body, packets: x.Packets, bytes: x.Bytes, reason: x.Reason, at: old.at}
		r.size += len(h.body)
		if h.lost() {
			lost = append(lost, h)
		}
		if h.last <= r.counted { // it was sent in an earlier life
			r.sent = append(r.sent, h)
			r.sentBytes += len(h.body)
			continue
		}
		loaded = append(loaded, h)
	}
	if rest.First <= rest.Last {
		r.storedBatches += rest.Batches
		r.storedBytes += uint64(rest.Size)
		loaded = append(loaded, held{first: rest.First, last: rest.Last, packets: rest.Packets, bytes: rest.Bytes, stored: &rest, at: old.at})
	}
	r.queued = append(loaded, r.queued...)
	return lost
}

// drop gives up everything that is queued from first to last, which is a whole
// segment of the spool. It returns what was given up now, and all Lost records
// that lay there.
func (r *ring) drop(first, last uint64) (gone []held, records []spool.Lost) {
	from, to := -1, 0
	for i := range r.queued {
		h := &r.queued[i]
		if h.last < first || h.first > last {
			continue
		}
		if from < 0 {
			from = i
		}
		to = i + 1
		if !h.lost() {
			gone = append(gone, *h)
			r.size -= len(h.body)
			r.unstore(h)
			h.body, h.reason = nil, reasonSpoolFull
		}
		records = append(records, spool.Lost{First: h.first, Last: h.last, Packets: h.packets, Bytes: h.bytes, Reason: h.reason})
	}
	if from < 0 {
		return nil, nil
	}
	for i := to - 2; i >= max(from-1, 0); i-- {
		if r.mergeable(i) {
			r.mergeInto(i)
		}
	}
	return gone, records
}

// record returns the Lost record of h as a batch without its sequence.
func (h *held) record() *flow.Batch {
	return &flow.Batch{Lost: &flow.Lost{
		FirstSequence: h.first, LastSequence: h.last, Packets: h.packets, Bytes: h.bytes, Reason: h.reason,
	}}
}

// dropFirst removes the first n elements and lets go of what they refer to.
func dropFirst(s []held, n int) []held {
	clear(s[:n])
	return s[n:]
}
