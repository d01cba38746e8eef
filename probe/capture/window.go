package capture

import (
	"errors"
	"io"
)

const (
	minWindow = 64 << 10
	maxWindow = 1 << 20 // reads no longer grow beyond this; only a block may
)

// window is the part of a stream that is being looked at. It grows with the
// bytes that really came, never with what they announce, so a short file that
// claims a giant costs nothing.
type window struct {
	r      io.Reader
	buf    []byte
	lo, hi int   // buf[lo:hi] came and was not consumed
	base   int64 // stream offset of buf[0]
	err    error // from r, once
}

// offset is the stream offset of the next byte to consume.
func (w *window) offset() int64 { return w.base + int64(w.lo) }

// left is the number of bytes that came and were not consumed.
func (w *window) left() int { return w.hi - w.lo }

// peek returns the next n bytes. On an error it returns those that are left,
// and the error of the reader; a stream that ends says io.EOF whatever is left.
// The bytes are valid until the next peek or discard.
func (w *window) peek(n int) ([]byte, error) {
	if w.hi-w.lo >= n {
		return w.buf[w.lo : w.lo+n], nil
	}
	return w.fill(n)
}

func (w *window) fill(n int) ([]byte, error) {
	if w.lo > 0 {
		copy(w.buf, w.buf[w.lo:w.hi])
		w.base += int64(w.lo)
		w.hi -= w.lo
		w.lo = 0
	}
	for idle := 0; w.hi < n; {
		if w.err != nil {
			return w.buf[:w.hi], w.err
		}
		if w.hi == len(w.buf) {
			w.grow()
		}
		got, err := w.r.Read(w.buf[w.hi:])
		w.hi += got
		if idle++; got > 0 {
			idle = 0
		}
		if err == nil && idle == 100 {
			err = io.ErrNoProgress
		}
		w.err = err
	}
	// A reader that fills the whole window at once has more: read in larger
	// pieces from now on.
	if w.hi == len(w.buf) && len(w.buf) < maxWindow {
		w.grow()
	}
	return w.buf[:n], nil
}

func (w *window) grow() {
	buf := make([]byte, max(2*len(w.buf), minWindow))
	copy(buf, w.buf[:w.hi])
	w.buf = buf
}

// discard consumes n bytes that peek has returned, or, when there are not as
// many, reads over them in pieces. It returns how many there were.
func (w *window) discard(n int) (int, error) {
	done := 0
	for {
		step := min(n-done, w.left())
		w.lo += step
		done += step
		if done == n {
			return done, nil
		}
		if _, err := w.peek(1); err != nil {
			return done, err
		}
	}
}

// ended reports whether err says that the stream is over, be it in good order
// or cut short inside gzip.
func ended(err error) bool {
	return err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF)
}
