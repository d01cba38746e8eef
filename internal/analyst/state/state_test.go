package state

import (
	"errors"
	"math"
	"testing"

	"github.com/whorl-net/whorl/internal/fuzzguard"
)

// What was written is read again, block by block.
func TestRoundTrip(t *testing.T) {
	var w Writer
	w.Uint(math.MaxUint64)
	w.Int(math.MinInt64)
	w.Fixed(1 << 63)
	w.Bool(true)
	w.Text("text")
	w.Block(func(w *Writer) {
		w.Text("inner")
		w.Bool(false)
	})
	w.Bytes([]byte{1, 2})
	r := NewReader(w.B)
	if r.Uint() != math.MaxUint64 || r.Int() != math.MinInt64 || r.Fixed() != 1<<63 || !r.Bool() || r.Text(4) != "text" {
		t.Fatal(r.Err())
	}
	b := r.Block()
	if b.Text(10) != "inner" || b.Bool() || b.End() != nil {
		t.Fatal(b.Err())
	}
	if string(r.Bytes(2)) != "\x01\x02" || r.End() != nil {
		t.Fatal(r.Err())
	}
}

// Everything that cannot be is ErrDamaged, the first error stays, and nothing is
// longer than the input.
func TestDamage(t *testing.T) {
	for name, read := range map[string]func(r *Reader){
		"an empty number":    func(r *Reader) { r.Uint(); r.Uint(); r.Uint(); r.Uint() },
		"a count too large":  func(r *Reader) { r.Count(1) },
		"a number too large": func(r *Reader) { r.UintUpTo(199) },
		"a text too long":    func(r *Reader) { r.Text(1000) },
		"eight bytes":        func(r *Reader) { r.Fixed() },
		"a truth value":      func(r *Reader) { r.Bool() },
		"a block":            func(r *Reader) { r.Block() },
		"negative bytes":     func(r *Reader) { r.Bytes(-1) },
		"bytes too many":     func(r *Reader) { r.End() },
	} {
		r := NewReader([]byte{200, 1, 5})
		read(r)
		err := r.Err()
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		if r.Uint() != 0 || r.Text(5) != "" || r.Bytes(1) != nil || r.Fixed() != 0 || r.Bool() || r.Int() != 0 || r.Block().Uint() != 0 || r.Err() != err {
			t.Errorf("%s: something is read behind the error", name)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte{200, 1, 5, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzguard.Watch(t)
		r := NewReader(data)
		if s := r.Text(100); len(s) > 100 || len(s) > len(data) {
			t.Errorf("a text of %d bytes", len(s))
		}
		if n := r.Count(3); 3*n > len(data) {
			t.Errorf("a count of %d", n)
		}
		b := r.Block()
		b.Int()
		b.Bool()
		r.End()
	})
}
