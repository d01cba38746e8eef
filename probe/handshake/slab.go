package handshake

import "slices"

// A slab holds records of one size in chunks that do not move. A record is
// known by its number, from 1, so that 0 is none. Numbers of freed records are
// used again, last first.
type slab[T any] struct {
	chunks []*[slabChunk]T
	free   []uint32
	live   int
}

// slabChunk is the number of records of a chunk: with it, those of the sizes in
// use come to just below what the allocator hands out.
const slabChunk = 72

// add returns the number of a new record that is zero.
func (s *slab[T]) add() uint32 {
	s.live++
	if n := len(s.free); n > 0 {
		ref := s.free[n-1]
		s.free = s.free[:n-1]
		return ref
	}
	if s.live > len(s.chunks)*slabChunk {
		s.chunks = append(s.chunks, new([slabChunk]T))
	}
	return uint32(s.live)
}

// at returns the record of a number that is in use.
func (s *slab[T]) at(ref uint32) *T { return &s.chunks[(ref-1)/slabChunk][(ref-1)%slabChunk] }

// remove frees a record. Behind the last one, all chunks but one go.
func (s *slab[T]) remove(ref uint32) {
	var zero T
	*s.at(ref) = zero
	if s.live--; s.live > 0 {
		s.free = append(s.free, ref)
		return
	}
	if len(s.chunks) > 1 {
		s.chunks, s.free = slices.Clone(s.chunks[:1]), nil
	}
	s.free = s.free[:0]
}

// A shelf keeps a few objects that are not in use, so that connections that
// come and go do not allocate.
type shelf[T any] struct{ objects []*T }

const maxShelf = 16

// take returns an object that is zero.
func (s *shelf[T]) take() *T {
	n := len(s.objects)
	if n == 0 {
		return new(T)
	}
	o := s.objects[n-1]
	s.objects = s.objects[:n-1]
	return o
}

// put takes an object that nobody uses any more.
func (s *shelf[T]) put(o *T) {
	if len(s.objects) < maxShelf {
		var zero T
		*o = zero
		s.objects = append(s.objects, o)
	}
}
