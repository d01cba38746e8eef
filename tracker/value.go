package tracker

import (
	"hash/maphash"
	"math/bits"
	"strings"
)

// values interns texts (fingerprint values, raw forms, server names) in cells
// and counts who refers to them. Equal texts of different kinds are different
// values: the kind is the type of a fingerprint, with rawType of its raw form, and
// nameType of a server name. A value is known by the number of its header cell:
// x holds hash<<32 | references, y first text cell<<32 | its place in prints (0:
// none), a the length, typ the kind, next the chain of its hash bucket. The table
// of buckets grows with the values, one bucket for two of them, to one bucket per
// valueLoad cells of the slab; it does not shrink.
type values struct {
	cells  *cellSlab
	seed   maphash.Seed
	heads  []uint32
	n      int // values
	prints printIndex
}

// valueLoad is how many cells there are to a bucket: even the shortest values
// take two, so a full slab has chains of sixteen at most on average.
const valueLoad = 32

// minHeads is how many buckets the table begins with; a power of 2.
const minHeads = 16

// valueCells returns how many cells a value of n bytes takes.
func valueCells(n int) int { return 1 + (n+cellText-1)/cellText }

func (v *values) hash(kind uint8, s string) uint32 {
	const spread = 0x9e3779b1 // odd, so that no two kinds are the same
	return (uint32(maphash.String(v.seed, s)>>32) ^ uint32(kind)*spread) | 1
}

func (v *values) bucket(hash uint32) *uint32 {
	return &v.heads[v.place(hash)]
}

// place returns the number of a hash's bucket: as many of its bits as the greatest
// number of a bucket has, or one less if there is no such bucket yet. The lowest
// bit of a hash is always set and says nothing.
func (v *values) place(hash uint32) uint32 {
	n := uint32(len(v.heads))
	mask := uint32(1)<<bits.Len32(n-1) - 1
	if at := hash >> 1 & mask; at < n {
		return at
	}
	return hash >> 1 & (mask >> 1)
}

// split adds a bucket and moves there what belongs there, all from one other
// bucket: the table grows by as little at a time as the values do.
func (v *values) split() {
	n := uint32(len(v.heads))
	from := n - 1<<(bits.Len32(n)-1)
	v.heads = append(v.heads, 0)
	id := v.heads[from]
	ends := [2]*uint32{&v.heads[from], &v.heads[n]}
	for id != 0 {
		c := v.cells.at(id)
		side := 0
		if v.place(uint32(c.x>>32)) == n {
			side = 1
		}
		*ends[side] = id
		ends[side] = &c.next
		id = c.next
	}
	*ends[0], *ends[1] = 0, 0
}

// find returns the value of a kind that is equal to s, 0 if there is none.
func (v *values) find(kind uint8, s string, hash uint32) uint32 {
	if v.heads == nil {
		return 0
	}
	for id := *v.bucket(hash); id != 0; {
		c := v.cells.at(id)
		if uint32(c.x>>32) == hash && int(c.a) == len(s) && c.typ == kind && v.equal(uint32(c.y>>32), s) {
			return id
		}
		id = c.next
	}
	return 0
}

// equal compares s to a text of the same length.
func (v *values) equal(first uint32, s string) bool {
	for s != "" {
		c := v.cells.at(first)
		t := c.text()
		n := min(len(s), cellText)
		if string(t[:n]) != s[:n] {
			return false
		}
		s, first = s[n:], c.next
	}
	return true
}

// add interns s, of at most flow.MaxRawLen bytes, which find did not find, with
// no reference yet. The caller has asked for room of valueCells(len(s)).
func (v *values) add(kind uint8, s string, hash uint32) uint32 {
	if v.heads == nil {
		v.heads = make([]uint32, minHeads)
	}
	if v.n++; v.n > 2*len(v.heads) && len(v.heads) < v.cells.max/valueLoad {
		v.split()
	}
	id, h := v.cells.alloc()
	var first uint32
	var last *cell
	for rest := s; rest != ""; {
		i, c := v.cells.alloc()
		n := min(len(rest), cellText)
		c.putText([]byte(rest[:n]))
		if last == nil {
			first = i
		} else {
			last.next = i
		}
		last, rest = c, rest[n:]
	}
	h.x = uint64(hash) << 32
	h.y = uint64(first) << 32
	h.a, h.typ = uint16(len(s)), kind
	if isPrint(kind) {
		h.y |= uint64(v.prints.add(kind, id, v.cells.max/cellsPerPrint))
	}
	b := v.bucket(hash)
	h.next = *b
	*b = id
	return id
}

func (v *values) retain(id uint32) { v.cells.at(id).x++ }

// letGo takes one reference away; the last one frees the value.
func (v *values) letGo(id uint32) {
	c := v.cells.at(id)
	if c.x--; uint32(c.x) != 0 {
		return
	}
	v.drop(id)
}

// drop frees a value without references.
func (v *values) drop(id uint32) {
	c := v.cells.at(id)
	p := v.bucket(uint32(c.x >> 32))
	for *p != id {
		p = &v.cells.at(*p).next
	}
	*p = c.next
	v.n--
	if isPrint(c.typ) {
		v.prints.drop(c.typ, uint32(c.y))
	}
	for i := uint32(c.y >> 32); i != 0; {
		next := v.cells.at(i).next
		v.cells.release(i)
		i = next
	}
	v.cells.release(id)
}

// size returns the length of a value in bytes.
func (v *values) size(id uint32) int { return int(v.cells.at(id).a) }

// appendTo appends the text of a value to b.
func (v *values) appendTo(b []byte, id uint32) []byte {
	h := v.cells.at(id)
	left := int(h.a)
	for i := uint32(h.y >> 32); i != 0; {
		c := v.cells.at(i)
		t := c.text()
		n := min(left, cellText)
		b = append(b, t[:n]...)
		left -= n
		i = c.next
	}
	return b
}

// text returns a copy of a value.
func (v *values) text(id uint32) string {
	var b strings.Builder
	b.Grow(v.size(id))
	v.writeTo(&b, id)
	return b.String()
}

// writeTo writes the text of a value to b.
func (v *values) writeTo(b *strings.Builder, id uint32) {
	h := v.cells.at(id)
	left := int(h.a)
	for i := uint32(h.y >> 32); i != 0; {
		c := v.cells.at(i)
		t := c.text()
		n := min(left, cellText)
		b.Write(t[:n])
		left -= n
		i = c.next
	}
}

// bytes returns what the tables take; the texts are in cells.
func (v *values) bytes() int { return 4*cap(v.heads) + v.prints.bytes() }
