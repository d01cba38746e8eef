package tracker

import (
	"math/bits"

	"github.com/whorl-net/whorl/ja4"
)

// PrintSet is a set of fingerprint values.
type PrintSet struct {
	// Type is the type of the values; 0 is any.
	Type ja4.Type
	// Values are in the set, and those for which Match says so; Match may be nil.
	// It is called concurrently, with no lock held but for values that have come
	// up since the search of a shard began.
	Values []string
	Match  func(value string) bool
}

// has reports whether a value is in the set.
func (p *PrintSet) has(value string) bool {
	for _, v := range p.Values {
		if v == value {
			return true
		}
	}
	return p.Match != nil && p.Match(value)
}

// foundPrints is what a shard has of a PrintSet.
type foundPrints struct {
	set *PrintSet
	// places has a bit for each entry of the index whose value is in the set, of
	// those that were born by asOf. What was born later is looked at when it is
	// met, as what is homeless is.
	places []uint64
	asOf   uint64
	hits   int
	// homeless says that there were values without an entry.
	homeless bool
}

// nowhere reports whether no connection that was there by asOf shows the set.
func (f *foundPrints) nowhere() bool { return f.hits == 0 && !f.homeless }

// findSlice is how many values are copied while a shard is held.
const findSlice = 256

// textBlock is a copy of values, to look at with no lock held.
type textBlock struct {
	bytes  []byte
	places []uint32
	ends   []int
}

// find fills in f for a shard.
func (f *foundPrints) find(s *shard, block *textBlock) {
	x := &s.values.prints
	f.hits, f.homeless = 0, false
	s.worker.gate.enter()
	f.asOf = x.born
	fresh := x.fresh
	for t := range x.types {
		if typ := f.set.Type; typ == 0 || int(typ) == t {
			f.homeless = f.homeless || x.types[t].homeless > 0
		}
	}
	f.places = resize(f.places, int(fresh+63)/64)
	clear(f.places)
	for _, v := range f.set.Values {
		f.findValue(s, v)
	}
	s.worker.gate.leave()
	if f.set.Match == nil {
		return
	}
	for from := uint32(1); from < fresh; {
		s.worker.gate.enter()
		from = block.fill(s, uint8(f.set.Type), from, fresh)
		s.worker.gate.leave()
		text, start := string(block.bytes), 0
		for i, place := range block.places {
			if f.set.Match(text[start:block.ends[i]]) {
				f.add(place)
			}
			start = block.ends[i]
		}
	}
}

// findValue adds one value.
func (f *foundPrints) findValue(s *shard, value string) {
	first, last := uint8(f.set.Type), uint8(f.set.Type)
	if first == 0 {
		first, last = uint8(ja4.TypeJA4), ja4.NumTypes-1
	}
	for t := first; t <= last; t++ {
		if id := s.values.find(t, value, s.values.hash(t, value)); id != 0 {
			if place := uint32(s.cells.at(id).y); place != 0 {
				f.add(place)
			}
		}
	}
}

func (f *foundPrints) add(place uint32) {
	if w := &f.places[place/64]; *w>>(place%64)&1 == 0 {
		*w |= 1 << (place % 64)
		f.hits++
	}
}

// fill copies the next values of a type, 0 for any, from place on. It returns the
// place to go on.
func (b *textBlock) fill(s *shard, typ uint8, place, end uint32) uint32 {
	b.bytes, b.places, b.ends = b.bytes[:0], b.places[:0], b.ends[:0]
	x := &s.values.prints
	// Entries of other types are passed by, so many in one visit.
	for stop := min(end, place+64*findSlice); place < stop && len(b.places) < findSlice; place++ {
		t := x.chunks[place/chunkPrints].types[place%chunkPrints]
		if t == 0 || typ != 0 && t != typ {
			continue
		}
		b.bytes = s.values.appendTo(b.bytes, x.at(place).id)
		b.places, b.ends = append(b.places, place), append(b.ends, len(b.bytes))
	}
	return place
}

// isFound reports whether value id is in f.
func (s *shard) isFound(f *foundPrints, id uint32) bool {
	x := &s.values.prints
	if place := uint32(s.cells.at(id).y); place != 0 && x.at(place).born <= f.asOf {
		return f.places[place/64]>>(place%64)&1 != 0
	}
	return f.set.has(s.values.text(id))
}

// CountPrints returns how many connections have a fingerprint of p among the
// events that are kept, without a look at those that have had one value only. A
// connection that is alive all the while counts exactly once if it has one all the
// while. ok is false if that cannot be told so: if p is of any type, or a shard has
// more distinct values than its index has room for. Then a Search can tell.
func (t *Tracker) CountPrints(p PrintSet) (n uint64, ok bool) {
	if p.Type == 0 {
		return 0, false
	}
	c := printCount{f: foundPrints{set: &p}}
	for _, s := range t.shards {
		if !c.shard(s, sumSlice) {
			return 0, false
		}
	}
	return c.n, true
}

// sumSlice is how many values are summed up while a shard is held.
const sumSlice = 8192

// printCount is a count by fingerprint.
type printCount struct {
	n      uint64
	f      foundPrints
	texts  textBlock
	slices []sumOf
}

// sumOf is one slice of a sum: of the entries up to place end, at one moment, and
// which connections had several values then.
type sumOf struct {
	end     uint32
	several []uint64
}

// shard counts the connections of s, up to slice values at a time. It reports
// false if that cannot be.
func (c *printCount) shard(s *shard, slice int) bool {
	c.f.find(s, &c.texts)
	if c.f.homeless {
		return false
	}
	c.slices = c.slices[:0]
	for word, more := 0, true; more; {
		s.worker.gate.enter()
		word, more = c.sum(s, word, slice)
		s.worker.gate.leave()
	}
	c.countSeveral(s)
	return true
}

// countSeveral counts those that had several values when the last slice was summed
// up; what had one value then, and before, is counted.
func (c *printCount) countSeveral(s *shard) {
	last := &c.slices[len(c.slices)-1]
	for word := 0; word < len(last.several); {
		if last.several[word] == 0 {
			word++
			continue
		}
		s.worker.gate.enter()
		for cost := 0; word < len(last.several) && cost < visitCost; word++ {
			for w := last.several[word]; w != 0; w &= w - 1 {
				cost += c.several(s, uint32(word*64+bits.TrailingZeros64(w)))
			}
		}
		s.worker.gate.leave()
	}
}

// sum adds up those that have one value, for the places from word on. It returns
// where to go on and whether there is more.
func (c *printCount) sum(s *shard, word, slice int) (int, bool) {
	x := &s.values.prints
	for ; word < len(c.f.places) && slice > 0; word++ {
		for w := c.f.places[word]; w != 0; w &= w - 1 {
			slice--
			place := uint32(word*64 + bits.TrailingZeros64(w))
			if e := x.at(place); x.lives(place) && e.born <= c.f.asOf {
				c.n += uint64(e.single)
			}
		}
	}
	if len(c.slices) < cap(c.slices) {
		c.slices = c.slices[:len(c.slices)+1]
	} else {
		c.slices = append(c.slices, sumOf{})
	}
	of := &c.slices[len(c.slices)-1]
	of.end = uint32(word * 64)
	of.several = append(of.several[:0], x.types[c.f.set.Type].several...)
	return word, word < len(c.f.places)
}

// several counts the connection in slot if it has several values, one of them in
// the set, and was not counted by an only one. It returns what that took.
func (c *printCount) several(s *shard, slot uint32) (cost int) {
	if slot >= s.fresh || s.hot(slot).pair == freePair {
		return costRow
	}
	typ := uint8(c.f.set.Type)
	at := s.findCell(slot, func(c *cell) bool { return c.tag == tagHistory && c.typ == typ })
	if at == 0 {
		return costRow
	}
	newest := uint32(s.cells.at(at).y >> 32)
	if len(c.slices) > 1 && c.counted(s, slot, valueOf(s.cells.at(s.cells.at(newest).next))) {
		return costRow
	}
	looked, is := s.anyFound(&c.f, newest)
	if is {
		c.n++
	}
	return costRow + 2*costCell*looked
}

// counted reports whether the connection in slot had one value alone, first, when
// that was summed up. The first value of a history is never dropped.
func (c *printCount) counted(s *shard, slot, first uint32) bool {
	if !s.isFound(&c.f, first) {
		return false
	}
	place := uint32(s.cells.at(first).y)
	for i := range c.slices {
		if of := &c.slices[i]; place < of.end {
			return int(slot/64) >= len(of.several) || of.several[slot/64]>>(slot%64)&1 == 0
		}
	}
	return false
}
