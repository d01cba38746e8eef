package wire

import "encoding/binary"

// Reader takes TLS presentation language (RFC 8446 section 3) from the front
// of Rest. Once something is missing, Short is set and all that follows reads
// as zero or empty. What it returns aliases the bytes it reads.
type Reader struct {
	Rest  []byte
	Short bool
}

// Take returns the next n bytes, nil when there are fewer.
func (r *Reader) Take(n int) []byte {
	if r.Short || n > len(r.Rest) {
		r.Rest, r.Short = nil, true
		return nil
	}
	b := r.Rest[:n]
	r.Rest = r.Rest[n:]
	return b
}

// Skip passes over n bytes.
func (r *Reader) Skip(n int) { r.Take(n) }

// Uint8 takes one byte.
func (r *Reader) Uint8() uint8 {
	if b := r.Take(1); b != nil {
		return b[0]
	}
	return 0
}

// Uint16 takes two bytes.
func (r *Reader) Uint16() uint16 {
	if b := r.Take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// Uint24 takes three bytes.
func (r *Reader) Uint24() int {
	if b := r.Take(3); b != nil {
		return Uint24(b)
	}
	return 0
}

// Uint32 takes four bytes.
func (r *Reader) Uint32() uint32 {
	if b := r.Take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// Vector8 takes a vector with a length of one byte.
func (r *Reader) Vector8() []byte { return r.Take(int(r.Uint8())) }

// Vector16 takes a vector with a length of two bytes.
func (r *Reader) Vector16() []byte { return r.Take(int(r.Uint16())) }

// Clipped16 takes a vector with a length of two bytes, or as much of it as
// there is.
func (r *Reader) Clipped16() []byte {
	n := int(r.Uint16())
	return r.Take(min(n, len(r.Rest)))
}

// Varint takes a variable-length integer of QUIC (RFC 9000 section 16).
func (r *Reader) Varint() uint64 {
	if len(r.Rest) == 0 {
		r.Short = true
		return 0
	}
	b := r.Take(1 << (r.Rest[0] >> 6))
	if b == nil {
		return 0
	}
	v := uint64(b[0] & 0x3f)
	for _, c := range b[1:] {
		v = v<<8 | uint64(c)
	}
	return v
}

// Uint24 reads the three bytes that b begins with; b must have them.
func Uint24(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }
