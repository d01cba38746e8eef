package tracker

import "encoding/binary"

// A cell is 24 bytes of whatever varies in size: fingerprint events, heads of
// histories, server names, further observers, overflowed counters, interned
// values. One kind of memory for all means one free list, one bound and no
// fragmentation; no pointer inside means nothing for the garbage collector.
//
// What x, y, a and typ mean depends on tag and is said where the tag is. next
// chains cells; 0 is the end.
type cell struct {
	x, y uint64
	a    uint16
	tag  uint8
	typ  uint8
	next uint32
}

// cellBytes is the size of a cell, chunkCells how many are added at a time:
// 48 KiB, which takes a few microseconds to get and clear.
const (
	cellBytes  = 24
	chunkCells = 2048
)

// Tags of the cells that hang on a connection, and of free ones.
const (
	tagFree     uint8 = iota
	tagEvent          // one event that is alone in its history
	tagHistory        // head of a history, its events behind it in a circle
	tagName           // server name
	tagCarry          // high halves of the counters in the hot record
	tagFirst          // first and last seen of the first observer, once there are two
	tagObserver       // a further observer; the two cells behind it belong to it
	tagMore           // the second and third cell of an observer
)

// cellSlab hands out cells by number, from 1.
type cellSlab struct {
	// chunks have chunkCells cells each. The address of an element of a slice is
	// found without a look at the chunk, that of one of an array behind a pointer is
	// not: that is a cache miss less.
	chunks [][]cell
	free   uint32 // head of the chain of free cells
	fresh  uint32 // the first number never handed out
	inUse  int
	max    int // bound of inUse, and of what chunks hold
}

func (s *cellSlab) at(i uint32) *cell {
	return &s.chunks[i/chunkCells][i%chunkCells]
}

// room reports whether n more cells can be had.
func (s *cellSlab) room(n int) bool { return s.inUse+n <= s.max }

// alloc returns a cleared cell. The caller has asked room, unless it must not
// fail: then the slab grows beyond its bound.
func (s *cellSlab) alloc() (uint32, *cell) {
	s.inUse++
	if i := s.free; i != 0 {
		c := s.at(i)
		s.free = c.next
		*c = cell{}
		return i, c
	}
	i := s.fresh
	if i == 0 { // number 0 means none
		i = 1
	}
	if int(i/chunkCells) >= len(s.chunks) {
		s.chunks = append(s.chunks, make([]cell, chunkCells))
	}
	s.fresh = i + 1
	return i, s.at(i)
}

func (s *cellSlab) release(i uint32) {
	*s.at(i) = cell{tag: tagFree, next: s.free}
	s.free = i
	s.inUse--
}

func (s *cellSlab) bytes() int { return len(s.chunks) * chunkCells * cellBytes }

// cellText is how much text one cell holds: everything but next.
const cellText = 20

// putText fills the cell with up to cellText bytes of p, zero behind them.
func (c *cell) putText(p []byte) {
	var b [cellText]byte
	copy(b[:], p)
	c.x = binary.LittleEndian.Uint64(b[0:])
	c.y = binary.LittleEndian.Uint64(b[8:])
	c.a = binary.LittleEndian.Uint16(b[16:])
	c.tag, c.typ = b[18], b[19]
}

// text is the inverse of putText.
func (c *cell) text() (b [cellText]byte) {
	binary.LittleEndian.PutUint64(b[0:], c.x)
	binary.LittleEndian.PutUint64(b[8:], c.y)
	binary.LittleEndian.PutUint16(b[16:], c.a)
	b[18], b[19] = c.tag, c.typ
	return b
}
