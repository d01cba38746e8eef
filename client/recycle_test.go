package client

import (
	"bytes"
	"testing"
)

// The memory of a batch is used again once the collector has it, and only then:
// not what waits, not what a stream that was cut may be sending still, not what
// is on its way to the spool, and not what is too large to keep.
func TestBodiesAreUsedAgain(t *testing.T) {
	body := func(n int) []byte { return bytes.Repeat([]byte{7}, n) }
	tests := []struct {
		name  string
		size  int
		then  func(r *ring)
		again bool
	}{
		{"acknowledged", 1000, func(r *ring) { r.take() }, true},
		{"taken for durable without having been sent", 1000, func(r *ring) {}, false},
		{"sent on a stream that was cut", 1000, func(r *ring) {
			r.take()
			r.rewind(0)
			r.take()
		}, false},
		{"sent on a stream that was cut, and counted", 1000, func(r *ring) {
			r.take()
			r.rewind(1)
		}, false},
		{"on its way to the spool", 1000, func(r *ring) {
			r.take()
			r.sent[0].writing = true
		}, false},
		{"large", maxSpareBytes + 1, func(r *ring) { r.take() }, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := &ring{maxBytes: 1 << 30, next: 1}
			r.push(held{first: 1, last: 1, body: body(test.size), packets: 1, ours: true})
			test.then(r)
			if n := len(r.spare); n != 0 {
				t.Fatalf("%d spare before anything is acknowledged", n)
			}
			r.trim(1)
			if got := r.spareBody() != nil; got != test.again {
				t.Errorf("used again: %v, want %v", got, test.again)
			}
			if r.size != 0 || r.spareBody() != nil {
				t.Errorf("%d bytes held, and more to use again", r.size)
			}
		})
	}
	r := &ring{maxBytes: 1 << 30, next: 1}
	for i := range uint64(2 * maxSpare) {
		r.push(held{first: 1 + i, last: 1 + i, body: body(100), ours: true})
		r.take()
	}
	if r.trim(2 * maxSpare); len(r.spare) != maxSpare {
		t.Errorf("%d bodies to use again, want %d", len(r.spare), maxSpare)
	}
}

// A body that is used again holds what one of new memory holds, and takes new
// memory where its own is too small.
func TestIngestRequestInOldMemory(t *testing.T) {
	batch := bytes.Repeat([]byte{1, 2, 3}, 1000)
	want := ingestRequest(nil, 77, batch)
	for _, n := range []int{0, 10, len(want) - 1, len(want), len(want) + 100} {
		old := bytes.Repeat([]byte{9}, n)
		if got := ingestRequest(old, 77, batch); !bytes.Equal(got, want) {
			t.Errorf("in %d bytes: another request", n)
		}
	}
}
