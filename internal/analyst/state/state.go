// Package state writes and reads the saved state of the analyst: little-endian
// numbers, varints and texts behind their length, without names or types.
//
// A Writer never fails. A Reader is told nothing but the bytes: it remembers
// its first error, gives zero values from then on, and never returns a count or
// a text longer than what is left, so that damaged input cannot make anybody
// allocate. The bytes are the same for the same state, on every machine.
package state

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrDamaged is wrapped by every error of a Reader.
var ErrDamaged = errors.New("saved state is damaged")

// Writer appends to a buffer. The zero Writer is empty.
type Writer struct{ B []byte }

// Uint appends v as a varint.
func (w *Writer) Uint(v uint64) { w.B = binary.AppendUvarint(w.B, v) }

// Int appends v as a zigzag varint.
func (w *Writer) Int(v int64) { w.B = binary.AppendVarint(w.B, v) }

// Fixed appends v in eight bytes: for hashes, which no varint makes shorter.
func (w *Writer) Fixed(v uint64) { w.B = binary.LittleEndian.AppendUint64(w.B, v) }

// Bool appends one byte.
func (w *Writer) Bool(v bool) {
	b := byte(0)
	if v {
		b = 1
	}
	w.B = append(w.B, b)
}

// Text appends s behind its length.
func (w *Writer) Text(s string) {
	w.Uint(uint64(len(s)))
	w.B = append(w.B, s...)
}

// Bytes appends b, whose length the reader knows.
func (w *Writer) Bytes(b []byte) { w.B = append(w.B, b...) }

// Block appends what f writes behind its length, so that a reader can skip it.
func (w *Writer) Block(f func(w *Writer)) {
	at := len(w.B)
	w.B = append(w.B, 0, 0, 0, 0)
	f(w)
	binary.LittleEndian.PutUint32(w.B[at:], uint32(len(w.B)-at-4))
}

// Reader reads what a Writer wrote.
type Reader struct {
	b   []byte
	at  int
	err error
}

// NewReader returns a Reader of b, which it only reads.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// Err returns the first error, nil if there was none.
func (r *Reader) Err() error { return r.err }

// Left returns how many bytes are unread.
func (r *Reader) Left() int { return len(r.b) - r.at }

// Fail makes format the error of r, unless there is one already.
func (r *Reader) Fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w at byte %d: %s", ErrDamaged, r.at, fmt.Sprintf(format, args...))
		r.at = len(r.b)
	}
}

// Uint reads a varint.
func (r *Reader) Uint() uint64 {
	v, n := binary.Uvarint(r.b[r.at:])
	if n <= 0 {
		r.Fail("no number")
		return 0
	}
	r.at += n
	return v
}

// Int reads a zigzag varint.
func (r *Reader) Int() int64 {
	v, n := binary.Varint(r.b[r.at:])
	if n <= 0 {
		r.Fail("no number")
		return 0
	}
	r.at += n
	return v
}

// UintUpTo reads a varint that is at most most.
func (r *Reader) UintUpTo(most uint64) uint64 {
	v := r.Uint()
	if v > most {
		r.Fail("number %d, at most %d", v, most)
		return 0
	}
	return v
}

// Count reads the length of a list whose elements take at least size bytes
// each (size > 0): it is never more than what is left can hold.
func (r *Reader) Count(size int) int {
	return int(r.UintUpTo(uint64(r.Left() / size)))
}

// Fixed reads eight bytes.
func (r *Reader) Fixed() uint64 {
	b := r.Bytes(8)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint64(b)
}

// Bool reads one byte, 0 or 1.
func (r *Reader) Bool() bool {
	b := r.Bytes(1)
	if b == nil {
		return false
	}
	if b[0] > 1 {
		r.Fail("byte %d is no truth value", b[0])
	}
	return b[0] == 1
}

// Text reads a text of at most most bytes.
func (r *Reader) Text(most int) string {
	return string(r.Bytes(int(r.UintUpTo(uint64(most)))))
}

// Bytes reads n bytes. They are part of the input; nil if there are not as many.
func (r *Reader) Bytes(n int) []byte {
	if n < 0 || n > r.Left() {
		r.Fail("%d bytes are wanted, %d are left", n, r.Left())
		return nil
	}
	b := r.b[r.at : r.at+n]
	r.at += n
	return b
}

// Block reads a block into a Reader of its own.
func (r *Reader) Block() *Reader {
	b := r.Bytes(4)
	if b == nil {
		return &Reader{err: r.err}
	}
	n := binary.LittleEndian.Uint32(b)
	inner := r.Bytes(int(n))
	return &Reader{b: inner, err: r.err}
}

// End reports an error if anything is left, and returns the error of r.
func (r *Reader) End() error {
	if r.err == nil && r.Left() > 0 {
		r.Fail("%d bytes too many", r.Left())
	}
	return r.err
}
