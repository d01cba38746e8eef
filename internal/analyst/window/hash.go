package window

import (
	"encoding/binary"
	"math/bits"
)

// Seed makes hashes that nobody can foretell who does not know it. The zero
// Seed works, but is known to everybody.
type Seed uint64

// Odd constants with bits evenly set, so that the seed reaches every bit.
const (
	mixA = 0x9e3779b97f4a7c15
	mixB = 0xd1b54a32d192ed03
	mixC = 0x8cb92ba72f3d8dd7
)

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// Hash is the hash of what was mixed into it, in order.
type Hash uint64

// Start returns a hash of nothing, which differs between kinds.
func (s Seed) Start(kind uint64) Hash {
	return Hash(fold(uint64(s)^mixA, kind*mixC^mixB))
}

// Mix adds a number.
func (h Hash) Mix(v uint64) Hash { return Hash(fold(uint64(h)^mixA, v^mixB)) }

// Addr adds sixteen bytes.
func (h Hash) Addr(a *[16]byte) Hash {
	x, y := binary.LittleEndian.Uint64(a[:8]), binary.LittleEndian.Uint64(a[8:])
	return Hash(fold(fold(uint64(h)^mixA, x^mixB)^mixC, y^mixA))
}

// Text adds a text and its length.
func (h Hash) Text(s string) Hash {
	h = h.Mix(uint64(len(s)))
	for len(s) >= 8 {
		h = h.Mix(uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56)
		s = s[8:]
	}
	if s != "" {
		var last uint64
		for i := range len(s) {
			last |= uint64(s[i]) << (8 * i)
		}
		h = h.Mix(last)
	}
	return h
}

// Sum returns the hash.
func (h Hash) Sum() uint64 { return fold(uint64(h)^mixC, mixA) }
