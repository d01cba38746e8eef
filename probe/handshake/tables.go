package handshake

import "bytes"

// A tableStore keeps the header tables of HTTP/2 connections that are silent:
// byte strings, most of them short, by number. Short ones lie in slabs by their
// length in steps of tableStep, without references; long ones are kept as they
// are. The zero tableStore is empty.
type tableStore struct {
	short [longTable]byteSlab // by step; none of length 0
	long  slab[[]byte]
}

const (
	tableStep = 4
	// longTable is the number of steps from which on a table is long.
	longTable = 63
	// A number is that of a slab and, in the lower bits, that within the slab.
	tableRefBits = 26
	// tableChunkBytes is what is allocated at once for short ones of a length.
	tableChunkBytes = 2048
)

// put keeps a copy of b and returns its number; 0
// without keeping anything when b is empty.
func (s *tableStore) put(b []byte) (ref uint32) {
	if len(b) == 0 {
		return 0
	}
	steps := (1 + len(b) + tableStep - 1) / tableStep
	if steps >= longTable {
		ref = s.long.add()
		*s.long.at(ref) = bytes.Clone(b) // b may be the end of a large array
		return longTable<<tableRefBits | ref
	}
	slab := &s.short[steps]
	ref = slab.add(steps * tableStep)
	record := slab.at(ref, steps*tableStep)
	record[0] = byte(len(record) - 1 - len(b)) // what is left free
	copy(record[1:], b)
	return uint32(steps)<<tableRefBits | ref
}

// at returns the bytes with number ref, of which there are none with 0. They
// are valid until they are removed and not to be changed; who likes may write
// behind them, as far as their capacity goes.
func (s *tableStore) at(ref uint32) []byte {
	steps, n := int(ref>>tableRefBits), ref&(1<<tableRefBits-1)
	switch steps {
	case 0:
		return nil
	case longTable:
		return *s.long.at(n)
	}
	record := s.short[steps].at(n, steps*tableStep)
	return record[1 : len(record)-int(record[0])]
}

// remove forgets the bytes with number ref; none with 0.
func (s *tableStore) remove(ref uint32) {
	steps, n := int(ref>>tableRefBits), ref&(1<<tableRefBits-1)
	switch steps {
	case 0:
	case longTable:
		s.long.remove(n)
	default:
		s.short[steps].remove(n)
	}
}

// bytes returns the memory that the bytes with number ref take.
func (s *tableStore) bytes(ref uint32) int64 {
	switch steps := int(ref >> tableRefBits); steps {
	case 0:
		return 0
	case longTable:
		return 2*int64(cap(s.at(ref))) + sliceBytes + refBytes
	default:
		return int64(steps*tableStep) + refBytes
	}
}

const sliceBytes = 24

// live returns the number of tables.
func (s *tableStore) live() int {
	n := s.long.live
	for i := range s.short {
		n += s.short[i].live
	}
	return n
}

// A byteSlab is a slab of records whose size in bytes is known to its owner.
type byteSlab struct {
	chunks [][]byte
	free   []uint32
	live   int
}

func (s *byteSlab) add(size int) uint32 {
	s.live++
	if n := len(s.free); n > 0 {
		ref := s.free[n-1]
		s.free = s.free[:n-1]
		return ref
	}
	if each := tableChunkBytes / size; s.live > len(s.chunks)*each {
		s.chunks = append(s.chunks, make([]byte, each*size))
	}
	return uint32(s.live)
}

func (s *byteSlab) at(ref uint32, size int) []byte {
	each := uint32(tableChunkBytes / size)
	i := int((ref-1)%each) * size
	return s.chunks[(ref-1)/each][i : i+size : i+size]
}

// remove frees a record. Behind the last one, all chunks go.
func (s *byteSlab) remove(ref uint32) {
	if s.live--; s.live > 0 {
		s.free = append(s.free, ref)
		return
	}
	*s = byteSlab{}
}
