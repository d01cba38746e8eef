package wire

import (
	"slices"
	"sync"

	"github.com/zeebo/xxh3"

	"github.com/whorl-net/whorl/flow"
)

// shapes finds the pairs of length and flags that rows of a batch have in
// common, so that a row takes one byte for both.
type shapes struct {
	// recent holds where a pair was given its number, by a hash: a pair that
	// another one has pushed out gets a second number, which costs bytes only.
	recent [shapeSlots]shapeSlot
	// batch marks what of recent belongs to this batch.
	batch uint64
	// column is the encoded column shape.
	column  []byte
	lengths []uint32
	flags   []byte
}

type shapeSlot struct {
	key   uint64 // batch<<shapeKeyBits | length<<8 | flags
	index uint32
}

const (
	shapeSlots   = 512
	shapeKeyBits = 40
	// With fewer rows, or more shapes than a quarter of the rows, the plain
	// columns are shorter or not much longer.
	minShapedRows = 16
)

var shapePool = sync.Pool{New: func() any { return new(shapes) }}

// find numbers the shapes of b's rows. It returns false when they are too
// different for that, or too few to be worth it.
func (s *shapes) find(b *flow.Batch) bool {
	rows := len(b.WireLength)
	if rows < minShapedRows || len(b.TCPFlags) != rows {
		return false
	}
	s.batch = (s.batch + 1) % (1 << (64 - shapeKeyBits))
	if s.batch == 0 { // what zero slots have
		clear(s.recent[:])
		s.batch = 1
	}
	s.lengths, s.flags = s.lengths[:0], s.flags[:0]
	most := rows / 4
	s.column = slices.Grow(s.column[:0], rows*3) // below 65,536: three bytes at most
	p, n := s.column[:rows*3], 0
	flags := b.TCPFlags[:rows]
	for i, length := range b.WireLength {
		pair := uint64(length)<<8 | uint64(flags[i])
		key := s.batch<<shapeKeyBits | pair
		slot := &s.recent[pair*0x9e3779b97f4a7c15>>55]
		if slot.key != key {
			if len(s.lengths) == most {
				return false
			}
			*slot = shapeSlot{key: key, index: uint32(len(s.lengths))}
			s.lengths = append(s.lengths, length)
			s.flags = append(s.flags, flags[i])
		}
		if slot.index < 0x80 {
			p[n] = byte(slot.index)
			n++
			continue
		}
		n += putVarint(p[n:], uint64(slot.index))
	}
	s.column = p[:n]
	return true
}

// append appends the columns shape, shape_length and shape_flags.
func (s *shapes) append(dst []byte) []byte {
	dst = appendString(dst, 7, s.column)
	dst = appendPacked(dst, 8, s.lengths)
	return appendString(dst, 9, s.flags)
}

// resolve fills in the lengths and flags of rows that came as shapes.
func (d *batchDecoder) resolve(b *flow.Batch) error {
	if len(b.WireLength) > 0 || len(d.tcpFlags) > 0 {
		return malformed("packets.shape", "stands beside wire_length or tcp_flags")
	}
	lengths, flags := d.shapeLengths, d.shapeFlags
	if len(flags) != len(lengths) && len(flags) != 0 {
		return malformed("packets.shape_flags", "has %d shapes where packets.shape_length has %d", len(flags), len(lengths))
	}
	rows := len(d.shape)
	b.WireLength = slices.Grow(b.WireLength, rows)[:rows]
	b.TCPFlags = slices.Grow(b.TCPFlags, rows)[:rows]
	if len(flags) == 0 {
		clear(b.TCPFlags)
	}
	for i, shape := range d.shape {
		if int(shape) >= len(lengths) {
			return malformed(at("packets.shape", i), "refers to shape %d of %d", shape, len(lengths))
		}
		b.WireLength[i] = lengths[shape]
		if len(flags) > 0 {
			b.TCPFlags[i] = flags[shape]
		}
	}
	return nil
}

// likes finds fingerprints of a batch that are equal but for their flow.
type likes struct {
	recent [likeSlots]likeSlot
	batch  uint32
}

type likeSlot struct{ batch, hash, index uint32 }

const likeSlots = 256

var likePool = sync.Pool{New: func() any { return new(likes) }}

// begin forgets the batch before.
func (l *likes) begin() {
	l.batch++
	if l.batch == 0 {
		clear(l.recent[:])
		l.batch = 1
	}
}

// of returns 1 + the index of an earlier fingerprint with the same type, value
// and raw form as number i; 0 when it knows of none, and then remembers i.
func (l *likes) of(all []flow.Fingerprint, i int) uint64 {
	f := &all[i]
	hash := uint32(xxh3.HashString(f.Value)) // who makes values collide only makes batches longer
	slot := &l.recent[hash%likeSlots]
	if slot.batch == l.batch && slot.hash == hash {
		if same := &all[slot.index]; same.Type == f.Type && same.Value == f.Value && same.Raw == f.Raw {
			return 1 + uint64(slot.index)
		}
	}
	*slot = likeSlot{batch: l.batch, hash: hash, index: uint32(i)}
	return 0
}
