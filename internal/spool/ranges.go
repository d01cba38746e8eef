package spool

// Range is a run of sequences found in, or put into, a spool.
type Range struct {
	// First and Last are its sequences.
	First, Last uint64
	// Batches, Packets and Bytes (as captured) are in it; Size is what its
	// batches take.
	Batches, Packets, Bytes uint64
	Size                    int64
	// Reason is why it was given up; empty when its batches can be read.
	Reason string

	segment uint64
	offset  int64 // where its first record lies, or before
}

// Lost reports whether r was given up.
func (r *Range) Lost() bool { return r.Reason != "" }

func (p *place) within(id uint64) Range {
	r := Range{First: p.First, Last: p.Last, Packets: p.Packets, Bytes: p.Bytes, Reason: p.Reason, segment: id, offset: p.offset}
	if !r.Lost() {
		r.Batches, r.Size = 1, int64(len(p.Body))
	}
	return r
}

// join adds r behind ranges, to the last of them if it is of one kind with it.
// What was said to be lost stays as it was said: a collector may know a part.
func join(ranges []Range, r Range) []Range {
	if n := len(ranges); n > 0 {
		l := &ranges[n-1]
		if l.Reason == r.Reason && l.Last+1 == r.First && (r.Lost() && l.Packets+r.Packets == 0 || !r.Lost() && l.segment == r.segment) {
			l.Last, l.Batches, l.Packets, l.Bytes, l.Size = r.Last, l.Batches+r.Batches, l.Packets+r.Packets, l.Bytes+r.Bytes, l.Size+r.Size
			return ranges
		}
	}
	return append(ranges, r)
}

// Join makes one range of two that lie one behind the other in one segment; ok
// is false when they do not.
func Join(a, b Range) (joined Range, ok bool) {
	both := join([]Range{a}, b)
	return both[0], len(both) == 1
}
