package enrich

import (
	"math/bits"
)

// sieve says of most texts that are no key of a map that they are none, for a
// tenth of what looking them up costs: a bit for each key. Nothing that can be seen
// depends on it.
type sieve struct {
	bits []uint64 // a power of two; nil holds nothing
}

// Bounds of a sieve, in bits. bitsPerKey leaves few of them set.
const (
	minSieveBits = 1 << 9
	maxSieveBits = 1 << 20
	bitsPerKey   = 16
)

// sieveOf returns one for the keys of m.
func sieveOf[T any](m map[string]T) (s sieve) {
	if len(m) == 0 {
		return s
	}
	n := min(max(minSieveBits, len(m)*bitsPerKey), maxSieveBits)
	s.bits = make([]uint64, 1<<bits.Len(uint(n-1))/64)
	for key := range m {
		i := s.bit(key)
		s.bits[i/64] |= 1 << (i % 64)
	}
	return s
}

// may reports whether text may be a key: always when it is one.
func (s *sieve) may(text string) bool {
	if s.bits == nil {
		return false
	}
	i := s.bit(text)
	return s.bits[i/64]>>(i%64)&1 != 0
}

// bit is the number of the bit of a text: by its length and the eight bytes at its
// beginning, in its middle and at its end, where fingerprints and their parts differ.
func (s *sieve) bit(text string) uint {
	const odd, other = 0x9e3779b97f4a7c15, 0xd1b54a32d192ed03
	var a, b uint64
	if n := len(text); n >= 8 {
		a, b = load(text)^load(text[n/2-4:])*odd, load(text[n-8:])
	} else {
		for i := range n {
			a = a<<8 | uint64(text[i])
		}
	}
	h := (a ^ bits.RotateLeft64(b*other, 32) ^ uint64(len(text))) * odd
	return uint(h>>32) & uint(len(s.bits)*64-1)
}

// load reads eight bytes.
func load(text string) uint64 {
	return uint64(text[0]) | uint64(text[1])<<8 | uint64(text[2])<<16 | uint64(text[3])<<24 |
		uint64(text[4])<<32 | uint64(text[5])<<40 | uint64(text[6])<<48 | uint64(text[7])<<56
}
