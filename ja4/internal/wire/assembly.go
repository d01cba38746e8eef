package wire

import "slices"

// Bounds of an Assembly.
const (
	// MaxBytes is how much of the stream an Assembly holds at most.
	MaxBytes = 64 << 10
	// maxGapBytes is how far behind the bytes in order a piece may begin, so
	// that one small packet cannot make the assembly large.
	maxGapBytes = 16 << 10
	// maxSpans bounds the pieces that are apart from each other. Chrome cuts
	// a hello into some thirty, shuffled.
	maxSpans = 128
)

// span is a range of offsets [start, end).
type span struct{ start, end int }

// Assembly puts pieces of a stream in order: what was received first wins
// where pieces overlap. The zero Assembly expects offset 0.
type Assembly struct {
	// buf holds the stream from offset base on, with holes; spans are the
	// ranges of buf that were received, sorted, apart from each other.
	base  uint64
	buf   []byte
	spans []span
}

// Insert adds data at a stream offset. It reports false when a bound of the
// assembly does not allow it; the piece is then lost, what is held stays.
func (a *Assembly) Insert(offset uint64, data []byte) bool {
	if offset < a.base {
		skip := min(a.base-offset, uint64(len(data)))
		offset, data = offset+skip, data[skip:]
	}
	if len(data) == 0 {
		return true
	}
	ahead := offset - a.base
	if ahead > uint64(len(a.Prefix())+maxGapBytes) || ahead+uint64(len(data)) > MaxBytes {
		return false
	}
	start := int(ahead)
	end := start + len(data)
	// spans[i:j] touch or overlap the new piece and become one with it.
	i := 0
	for i < len(a.spans) && a.spans[i].end < start {
		i++
	}
	j := i
	for j < len(a.spans) && a.spans[j].start <= end {
		j++
	}
	if i == j && len(a.spans) == maxSpans {
		return false
	}
	if end > len(a.buf) {
		a.buf = slices.Grow(a.buf, end-len(a.buf))[:end]
	}
	whole := span{start, end}
	at := start
	for _, s := range a.spans[i:j] {
		if at < s.start {
			copy(a.buf[at:s.start], data[at-start:])
		}
		at = s.end
		whole = span{min(whole.start, s.start), max(whole.end, s.end)}
	}
	if at < end {
		copy(a.buf[at:], data[at-start:])
	}
	a.spans = slices.Replace(a.spans, i, j, whole)
	return true
}

// Prefix returns the bytes that are in order from Offset on. It is valid until
// the next Insert or Advance.
func (a *Assembly) Prefix() []byte {
	if len(a.spans) == 0 || a.spans[0].start > 0 {
		return nil
	}
	return a.buf[:a.spans[0].end]
}

// Offset returns the stream offset that Prefix begins at.
func (a *Assembly) Offset() uint64 { return a.base }

// Advance drops the first n bytes of Prefix. It lets go of a buffer that is
// empty and large.
func (a *Assembly) Advance(n int) {
	if n == 0 {
		return
	}
	a.base += uint64(n)
	a.buf = a.buf[:copy(a.buf, a.buf[n:])]
	if len(a.buf) == 0 && cap(a.buf) > 4<<10 {
		a.buf = nil
	}
	if a.spans[0].end == n {
		a.spans = slices.Delete(a.spans, 0, 1)
	}
	for i := range a.spans {
		s := &a.spans[i]
		s.start, s.end = max(0, s.start-n), s.end-n
	}
}

// Held returns the bytes of memory that a holds, spans aside.
func (a *Assembly) Held() int { return cap(a.buf) }
