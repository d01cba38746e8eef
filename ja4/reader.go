package ja4

import "encoding/binary"

// reader takes TLS presentation language (RFC 8446 section 3) from the front
// of rest. Once something is missing, short is set and all that follows reads
// as zero or empty. What it returns aliases the bytes it reads.
type reader struct {
	rest  []byte
	short bool
}

// take returns the next n bytes, nil when there are fewer.
func (r *reader) take(n int) []byte {
	if r.short || n > len(r.rest) {
		r.rest, r.short = nil, true
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) skip(n int) { r.take(n) }

func (r *reader) uint8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint24() int {
	if b := r.take(3); b != nil {
		return uint24(b)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// vector8 and vector16 take a vector with a length of one or two bytes.
func (r *reader) vector8() []byte  { return r.take(int(r.uint8())) }
func (r *reader) vector16() []byte { return r.take(int(r.uint16())) }

// clipped16 takes a vector with a length of two bytes, or as much of it as
// there is.
func (r *reader) clipped16() []byte {
	n := int(r.uint16())
	return r.take(min(n, len(r.rest)))
}

// varint takes a variable-length integer of QUIC (RFC 9000 section 16).
func (r *reader) varint() uint64 {
	if len(r.rest) == 0 {
		r.short = true
		return 0
	}
	b := r.take(1 << (r.rest[0] >> 6))
	if b == nil {
		return 0
	}
	v := uint64(b[0] & 0x3f)
	for _, c := range b[1:] {
		v = v<<8 | uint64(c)
	}
	return v
}

func uint24(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }
