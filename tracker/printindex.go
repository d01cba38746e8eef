package tracker

import "github.com/whorl-net/whorl/ja4"

// printIndex is what a shard knows of its distinct fingerprint values, so that
// connections are counted by fingerprint without a look at each of them. A
// connection whose history of a type is one event is counted with its value; those
// with more, which by the rule that equal values in a row are one event have
// several values, are in a set by slot. Nothing depends on it but queries, and
// nothing of it is saved: what is restored fills it anew.
//
// An entry keeps its place for as long as its value lives, so that a walk in
// slices misses none.
type printIndex struct {
	chunks []*printChunk
	free   uint32 // chain of free entries, by single
	fresh  uint32 // the first place never used; place 0 is none
	used   int
	born   uint64
	types  [ja4.NumTypes]printType
}

// printType is what there is of one type.
type printType struct {
	live int // values
	// homeless are those of them for which there was no room.
	homeless int
	// several has a bit for each slot whose connection has several values.
	several []uint64
}

// A printChunk holds chunkPrints entries, their types apart: a walk over the
// values of one type passes by those of others at a byte each.
type printChunk struct {
	types   [chunkPrints]uint8 // 0: free
	entries [chunkPrints]printEntry
}

// printEntry is one distinct value.
type printEntry struct {
	id     uint32
	single uint32 // connections that have it as their only value of the type
	born   uint64 // number of the entry in the shard
}

const (
	printBytes  = 17
	chunkPrints = 512
	// cellsPerPrint bounds the entries: there is one for so many cells at most,
	// where a value takes two and its event a third. Values beyond are homeless:
	// they are found by a look at each connection.
	cellsPerPrint = 8
)

// cellShare is what cells take of the memory of cells and of the tables of their
// values, all full.
const cellShare = float64(valueLoad*cellBytes) / (valueLoad*cellBytes + 4 + valueLoad/cellsPerPrint*printBytes)

// isPrint reports whether values of a kind are fingerprints, not raw forms or
// server names.
func isPrint(kind uint8) bool { return kind != nameType && kind&rawType == 0 }

func (x *printIndex) at(place uint32) *printEntry {
	return &x.chunks[place/chunkPrints].entries[place%chunkPrints]
}

// lives reports whether the entry at place is one: what is free may have been one
// a moment ago.
func (x *printIndex) lives(place uint32) bool {
	return x.chunks[place/chunkPrints].types[place%chunkPrints] != 0
}

// add makes an entry for value id and returns its place, 0 if there are most
// entries already.
func (x *printIndex) add(typ uint8, id uint32, most int) uint32 {
	t := &x.types[typ]
	t.live++
	if x.used >= most {
		t.homeless++
		return 0
	}
	x.used++
	x.born++
	place := x.free
	if place != 0 {
		x.free = x.at(place).single
	} else {
		place = max(x.fresh, 1)
		x.fresh = place + 1
		if int(place/chunkPrints) >= len(x.chunks) {
			x.chunks = append(x.chunks, new(printChunk))
		}
	}
	c := x.chunks[place/chunkPrints]
	c.types[place%chunkPrints] = typ
	c.entries[place%chunkPrints] = printEntry{id: id, born: x.born}
	return place
}

// drop takes away the entry at place of a value that nothing refers to any more.
func (x *printIndex) drop(typ uint8, place uint32) {
	t := &x.types[typ]
	t.live--
	if place == 0 {
		t.homeless--
		return
	}
	x.used--
	c := x.chunks[place/chunkPrints]
	c.types[place%chunkPrints] = 0
	c.entries[place%chunkPrints] = printEntry{single: x.free}
	x.free = place
}

// single counts n more connections whose only value of a type is id.
func (v *values) single(typ uint8, id uint32, n int32) {
	if !isPrint(typ) {
		return
	}
	if place := uint32(v.cells.at(id).y); place != 0 {
		v.prints.at(place).single += uint32(n)
	}
}

// slotWords is how many words of several there are to a chunk of slots.
const slotWords = chunkSlots / 64

// several says whether the connection in slot has several values of a type.
func (x *printIndex) several(typ uint8, slot uint32, on bool) {
	if !isPrint(typ) {
		return
	}
	t := &x.types[typ]
	word, bit := slot/64, uint64(1)<<(slot%64)
	for int(word) >= len(t.several) {
		t.several = append(t.several, make([]uint64, slotWords)...)
	}
	if on {
		t.several[word] |= bit
	} else {
		t.several[word] &^= bit
	}
}

// severalBytes bounds what the sets of n connections take.
func severalBytes(n int) int { return (n/chunkSlots + 1) * slotWords * 8 * ja4.NumTypes }

// bytes returns what the index takes.
func (x *printIndex) bytes() int {
	n := len(x.chunks) * chunkPrints * printBytes
	for i := range x.types {
		n += 8 * len(x.types[i].several)
	}
	return n
}
