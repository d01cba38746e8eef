package ja4

import "slices"

// Bounds of an assembly.
const (
	// maxGapBytes is how far beyond the bytes in order a piece may end, so
	// that one small packet cannot make the assembly large.
	maxGapBytes = 16 << 10
	// maxSpans bounds the pieces that are apart from each other. Chrome cuts
	// a hello into some thirty, shuffled.
	maxSpans = 128
)

// span is a range of offsets [start, end).
type span struct{ start, end int }

// assembly puts pieces of a stream in order: what was received first wins
// where pieces overlap. The zero assembly expects offset 0.
type assembly struct {
	// buf holds the stream from offset base on, with holes; spans are the
	// ranges received, sorted, apart from each other.
	base  int
	buf   []byte
	spans []span
}

// insert adds data at a stream offset. It reports false when a bound of the
// assembly does not allow it; the piece is then lost, what is held stays.
func (a *assembly) insert(offset int, data []byte) bool {
	if skip := a.base - offset; skip > 0 {
		offset, data = a.base, data[min(skip, len(data)):]
	}
	if len(data) == 0 {
		return true
	}
	end := offset + len(data)
	if offset > a.base+len(a.prefix())+maxGapBytes || end > a.base+MaxHandshakeBytes {
		return false
	}
	// spans[i:j] touch or overlap the new piece and become one with it.
	i := 0
	for i < len(a.spans) && a.spans[i].end < offset {
		i++
	}
	j := i
	for j < len(a.spans) && a.spans[j].start <= end {
		j++
	}
	if i == j && len(a.spans) == maxSpans {
		return false
	}
	if n := end - a.base; n > len(a.buf) {
		a.buf = slices.Grow(a.buf, n-len(a.buf))[:n]
	}
	whole := span{offset, end}
	at := offset
	for _, s := range a.spans[i:j] {
		if at < s.start {
			copy(a.buf[at-a.base:s.start-a.base], data[at-offset:])
		}
		at = s.end
		whole = span{min(whole.start, s.start), max(whole.end, s.end)}
	}
	if at < end {
		copy(a.buf[at-a.base:], data[at-offset:])
	}
	a.spans = slices.Replace(a.spans, i, j, whole)
	return true
}

// prefix returns the bytes that are in order from base on. It is valid until
// the next insert or advance.
func (a *assembly) prefix() []byte {
	if len(a.spans) == 0 || a.spans[0].start != a.base {
		return nil
	}
	return a.buf[:a.spans[0].end-a.base]
}

// advance drops the first n bytes, which must be in order.
func (a *assembly) advance(n int) {
	a.base += n
	a.buf = a.buf[:copy(a.buf, a.buf[n:])]
	if s := &a.spans[0]; s.end > a.base {
		s.start = a.base
	} else {
		a.spans = slices.Delete(a.spans, 0, 1)
	}
}

// held returns the bytes of memory that a holds, spans aside.
func (a *assembly) held() int { return cap(a.buf) }
