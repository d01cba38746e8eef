package log

// maxPlaces bounds the memory of an index: 3 MiB.
const maxPlaces = 1 << 16

// place says in which messages a run of records is.
type place struct {
	first, last Position
	from, to    uint64 // numbers of messages
	bytes       int64  // on the disk
}

// index says where the records of a log are: runs one behind the other, oldest
// first. Where it has too many it joins neighbours, and finds less precisely.
type index struct {
	places []place
	bytes  int64 // of all places
	// gone is the last message whose records are all trimmed, newest the newest
	// one of all.
	gone, newest uint64
	// trimmed is the last record trimmed.
	trimmed Position
}

// add appends a run.
func (x *index) add(p place) {
	if len(x.places) >= maxPlaces {
		half := x.places[:0]
		for i := 0; i+1 < len(x.places); i += 2 {
			a, b := x.places[i], x.places[i+1]
			half = append(half, place{first: a.first, last: b.last, from: a.from, to: b.to, bytes: a.bytes + b.bytes})
		}
		x.places = half
	}
	x.places = append(x.places, p)
	x.bytes += p.bytes
	x.newest = p.to
}

// trim forgets the runs that end at or before last, and reports whether there
// were any.
func (x *index) trim(last Position) bool {
	x.trimmed = max(x.trimmed, last)
	n := 0
	for ; n < len(x.places) && x.places[n].last <= last; n++ {
		x.bytes -= x.places[n].bytes
		x.gone = x.places[n].to
	}
	x.places = x.places[n:]
	return n > 0
}

// partly returns the oldest run when some of it is trimmed and it has more than
// one message.
func (x *index) partly() (p place, ok bool) {
	if len(x.places) == 0 {
		return place{}, false
	}
	p = x.places[0]
	return p, p.first <= x.trimmed && p.to > p.from
}

// shorten says that what is needed of the oldest run begins with record first,
// in message from, and has that many bytes.
func (x *index) shorten(first Position, from uint64, bytes int64) {
	p := &x.places[0]
	x.bytes += bytes - p.bytes
	p.first, p.from, p.bytes = first, from, bytes
	x.gone = from - 1
}

// oldest returns the first record of the oldest run, or none when there is no run.
func (x *index) oldest(none Position) Position {
	if len(x.places) == 0 {
		return none
	}
	return x.places[0].first
}

// find returns the run that holds the record at position.
func (x *index) find(position Position) (p place, ok bool) {
	lo, hi := 0, len(x.places)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if x.places[mid].last < position {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == len(x.places) || x.places[lo].first > position {
		return place{}, false
	}
	return x.places[lo], true
}
