package capture

import (
	"math"
	"math/bits"
)

// ngClock turns the time stamps of a pcapng interface into nanoseconds: a unit
// is mul/div nanoseconds, or with shift, 2^-shift seconds.
type ngClock struct {
	mul, div uint64
	shift    uint
	binary   bool
}

// newClock reads the if_tsresol option: a power of ten, or with the high bit
// set a power of two, in negative exponents of a second.
func newClock(resolution byte) ngClock {
	exponent := uint(resolution & 0x7f)
	if resolution&0x80 != 0 {
		return ngClock{shift: exponent, binary: true}
	}
	c := ngClock{mul: 1, div: 1}
	for ; exponent < 9; exponent++ {
		c.mul *= 10
	}
	for ; exponent > 9; exponent-- {
		if c.div > math.MaxUint64/10 {
			c.div = 0 // units so short that no 64-bit count reaches a nanosecond
			break
		}
		c.div *= 10
	}
	return c
}

// nanoseconds converts ticks and adds offset seconds. If the result does not
// fit it returns the nearest that does, and false.
func (c *ngClock) nanoseconds(ticks uint64, offset int64) (int64, bool) {
	var hi, lo uint64 // the result without the offset, in 128 bits
	switch {
	case c.binary:
		hi, lo = bits.Mul64(ticks, 1e9)
		if c.shift >= 64 {
			hi, lo = 0, hi>>(c.shift-64)
		} else if c.shift > 0 {
			hi, lo = hi>>c.shift, lo>>c.shift|hi<<(64-c.shift)
		}
	case c.div == 0:
	case c.div > 1:
		lo = ticks / c.div
	default:
		hi, lo = bits.Mul64(ticks, c.mul)
	}
	if offset == 0 && hi == 0 && lo <= math.MaxInt64 {
		return int64(lo), true
	}
	return addSeconds(hi, lo, offset)
}

// addSeconds returns hi:lo nanoseconds plus offset seconds, clamped to 64 bits.
func addSeconds(hi, lo uint64, offset int64) (int64, bool) {
	if offset >= 0 {
		ohi, olo := bits.Mul64(uint64(offset), 1e9)
		sum, carry := bits.Add64(lo, olo, 0)
		top, over := bits.Add64(hi, ohi, carry)
		if over != 0 || top != 0 || sum > math.MaxInt64 {
			return math.MaxInt64, false
		}
		return int64(sum), true
	}
	ohi, olo := bits.Mul64(uint64(-(offset+1))+1, 1e9)
	diff, borrow := bits.Sub64(lo, olo, 0)
	top, under := bits.Sub64(hi, ohi, borrow)
	switch {
	case under == 0 && (top != 0 || diff > math.MaxInt64):
		return math.MaxInt64, false
	case under != 0 && (top != math.MaxUint64 || diff <= math.MaxInt64):
		return math.MinInt64, false
	}
	return int64(diff), true
}
