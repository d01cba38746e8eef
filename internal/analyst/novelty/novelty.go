// Package novelty remembers which fingerprints a network has shown: the first
// connection that showed each, when, and how many did since.
//
// A Memory is asked about every fingerprint in the order of the log and answers
// whether it is the first of its kind. It holds a bounded number of entries and
// bytes. When there is no room the least recently seen leaves, and what only
// one connection showed leaves before what others showed too, so that somebody
// who invents fingerprints pushes out inventions. What has left is new again.
//
// A Memory is a function of the calls, reads no clock, and is not safe for
// concurrent use.
package novelty

import (
	"slices"
	"strings"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

// Types are the types that are remembered: those whose values come again. JA4L,
// JA4LS and JA4SSH are measurements and hardly ever do.
const Types = ja4.TypeSet(1<<ja4.TypeJA4 | 1<<ja4.TypeJA4S | 1<<ja4.TypeJA4H | 1<<ja4.TypeJA4X |
	1<<ja4.TypeJA4T | 1<<ja4.TypeJA4TS | 1<<ja4.TypeJA4D | 1<<ja4.TypeJA4D6)

// DefaultTypes are those of Types whose first sight says that a client, a device
// or a certificate of a new kind has come. A server's answers (ja4s, ja4ts) vary
// with who asks, and ja4t varies with the path.
const DefaultTypes = ja4.TypeSet(1<<ja4.TypeJA4 | 1<<ja4.TypeJA4H | 1<<ja4.TypeJA4X | 1<<ja4.TypeJA4D | 1<<ja4.TypeJA4D6)

// Config bounds a Memory. All fields are required.
type Config struct {
	// NewTypes are the types whose first sight counts as new.
	NewTypes ja4.TypeSet
	// MaxEntries bounds the entries, at least 1, and MaxBytes their size, values
	// included, at least 4 KiB.
	MaxEntries int
	MaxBytes   int64
}

// entryBytes is what an entry takes beside its value: itself, its place in the
// index and in the order.
const entryBytes = 320

// Sight is one fingerprint of one connection.
type Sight struct {
	// Event is what the tracker says of it. It need not outlive the call.
	Event *tracker.Event
	// Network and Probe are those of Event, as labels that live as long as the
	// Memory.
	Network, Probe string
	// Learning says that a first sight now makes nothing new.
	Learning bool
	// Kept is set by Saw when it returns true: a copy of the value that may be kept.
	Kept string

	value string // what is remembered of the value; set by Prepare, as is
	hash  uint32 // of it in the index
}

// Fingerprint is what is remembered of one.
type Fingerprint struct {
	Network string
	// Value is as Remembered returns it.
	Value string
	Type  ja4.Type
	// FirstSeen and LastSeen are packet times in Unix nanoseconds: the smallest
	// and the greatest.
	FirstSeen, LastSeen int64
	// Connections counts those that showed it; one that shows it, another
	// connection having shown it in between, counts again.
	Connections uint64
	// FirstUID, FirstKey and FirstProbe are of the connection that brought it.
	FirstUID   tracker.UID
	FirstKey   flow.Key
	FirstProbe string
	// Learned says that it came while its network was being learned.
	Learned bool
}

// FirstID returns the Connection.id of the connection that brought it.
func (f *Fingerprint) FirstID() string { return f.FirstKey.ID(f.Network) }

// Remembered returns the part of a value that is remembered, and whether its
// type is remembered at all: of a ja4h the first two parts, since the others are
// hashes of cookies, of a ja4ts the first four, without the delays; of the
// others everything.
func Remembered(t ja4.Type, value string) (string, bool) {
	switch {
	case t == ja4.TypeJA4H:
		return parts(value, 2), true
	case t == ja4.TypeJA4TS:
		return parts(value, 4), true
	}
	return value, Types.Has(t)
}

// parts returns the first n parts of a value.
func parts(value string, n int) string {
	for i := range len(value) {
		if value[i] == '_' {
			if n--; n == 0 {
				return value[:i]
			}
		}
	}
	return value
}

// entry is a Fingerprint and its place in a list. It takes three lines of a cache;
// what is used of one that is known is in the first two.
type entry struct {
	id         uint64 // rises with each entry made; 0: free
	lastUID    tracker.UID
	hash       uint32 // in the index
	prev, next int32
	shared     bool // in the list of those that several connections showed
	Fingerprint
	_ [8]byte
}

// list is a doubly linked list of entries, by number; 0 is none.
type list struct{ oldest, newest int32 }

// place is an entry in the order in which entries were made. It is stale when
// the slot has another id by now.
type place struct {
	id   uint64
	slot int32
}

// Memory remembers fingerprints.
type Memory struct {
	cfg     Config
	index   index
	slab    []*[slabEntries]entry // [0] of the first is none
	ids     []uint64              // of the slab, close together: what makes a place stale
	free    []int32
	order   []place
	once    list // shown by one connection
	shared  list // shown by several; at most half of the bytes
	shares  int64
	bytes   int64
	lastID  uint64
	dropped uint64
}

// New returns an empty Memory.
func New(cfg Config) *Memory {
	return &Memory{cfg: cfg, index: newIndex(), ids: make([]uint64, 1), slab: []*[slabEntries]entry{new([slabEntries]entry)}}
}

// Configure changes the limits and the types that count as new, from now on.
// What is beyond the limits leaves.
func (m *Memory) Configure(cfg Config) {
	m.cfg = cfg
	m.fit(0)
}

// Prepare makes s ready for Saw and reports whether its type is remembered at
// all: Saw is for those that are. It changes nothing else.
func (m *Memory) Prepare(s *Sight) bool {
	ev := s.Event
	value, ok := Remembered(ev.Type, ev.Value)
	if ok {
		s.value, s.hash = value, m.index.hash(s.Network, ev.Type, value)
	}
	return ok
}

// Fetch reads from memory what Saw will use for sights that are prepared, so that
// their cache misses overlap. It changes nothing. The result means nothing, but
// must be used, so that it is computed.
func (m *Memory) Fetch(sights []Sight) (sum uint32) {
	// Loops of a few instructions, so that many of them are under way at once.
	mask := uint32(len(m.index.slots) - 1)
	for i := range sights {
		sum += m.index.slots[sights[i].hash&mask].tag
	}
	for i := range sights {
		if slot := m.index.first(sights[i].hash); slot != 0 {
			e := m.at(slot)
			sum += e.hash + uint32(e.Connections)
		}
	}
	return sum
}

// Saw takes note of s, which is prepared, and reports whether it makes its
// connection new: its value is one that the network had not shown, its type
// counts, and the network is not being learned.
func (m *Memory) Saw(s *Sight) bool {
	ev, value, hash := s.Event, s.value, s.hash
	if at := m.find(hash, s.Network, ev.Type, value); at >= 0 {
		m.again(m.index.slots[at].slot, ev)
		return false
	}
	size := entryBytes + int64(len(value))
	m.fit(size)
	isNew := !s.Learning && m.cfg.NewTypes.Has(ev.Type)
	if isNew {
		s.Kept = strings.Clone(ev.Value)
		value = s.Kept[:len(value)]
	} else {
		value = strings.Clone(value)
	}
	m.lastID++
	i := m.slot(m.lastID)
	// Field by field: a copy of a struct of five lines costs more than all else.
	e := m.at(i)
	e.id, e.hash, e.lastUID, e.shared = m.lastID, hash, ev.UID, false
	e.Network, e.Type, e.Value, e.FirstSeen, e.LastSeen, e.Connections = s.Network, ev.Type, value, ev.Time, ev.Time, 1
	e.FirstUID, e.FirstKey, e.FirstProbe, e.Learned = ev.UID, ev.Key, s.Probe, s.Learning
	m.index.insert(hash, i)
	m.append(&m.once, i)
	m.bytes += size
	m.place(m.lastID, i)
	return isNew
}

// find returns where in the index an entry lies, -1 if it is not there.
func (m *Memory) find(hash uint32, network string, t ja4.Type, value string) int {
	return m.index.find(hash, func(slot int32) bool {
		e := m.at(slot)
		return e.Value == value && e.Type == t && e.Network == network
	})
}

// again counts another sight, ev, of entry i.
func (m *Memory) again(i int32, ev *tracker.Event) {
	e := m.at(i)
	e.FirstSeen, e.LastSeen = min(e.FirstSeen, ev.Time), max(e.LastSeen, ev.Time)
	if e.lastUID != ev.UID {
		e.lastUID = ev.UID
		e.Connections++
	}
	if e.next == 0 && (e.shared || e.Connections == 1) {
		return // the newest of its list already
	}
	m.unlink(i)
	if e.Connections > 1 && !e.shared {
		e.shared = true
		m.shares += e.size()
	}
	m.append(m.listOf(e), i)
	for m.shares > m.cfg.MaxBytes/2 {
		old := m.shared.oldest
		m.unlink(old)
		m.at(old).shared = false
		m.shares -= m.at(old).size()
		m.append(&m.once, old)
	}
}

func (e *entry) size() int64 { return entryBytes + int64(len(e.Value)) }

func (m *Memory) listOf(e *entry) *list {
	if e.shared {
		return &m.shared
	}
	return &m.once
}

func (m *Memory) append(l *list, i int32) {
	e := m.at(i)
	e.prev, e.next = l.newest, 0
	if l.newest == 0 {
		l.oldest = i
	} else {
		m.at(l.newest).next = i
	}
	l.newest = i
}

func (m *Memory) unlink(i int32) {
	e := m.at(i)
	l := m.listOf(e)
	if e.prev == 0 {
		l.oldest = e.next
	} else {
		m.at(e.prev).next = e.next
	}
	if e.next == 0 {
		l.newest = e.prev
	} else {
		m.at(e.next).prev = e.prev
	}
}

// fit makes room for one more entry of that size; 0 only keeps the limits.
func (m *Memory) fit(size int64) {
	more := 0
	if size > 0 {
		more = 1
	}
	for m.index.used > 0 && (m.index.used+more > m.cfg.MaxEntries || m.bytes+size > m.cfg.MaxBytes) {
		i := m.once.oldest
		if i == 0 {
			i = m.shared.oldest
		}
		m.remove(i)
		m.dropped++
	}
}

func (m *Memory) remove(i int32) {
	m.unlink(i)
	e := m.at(i)
	m.index.remove(m.index.find(e.hash, func(slot int32) bool { return slot == i }))
	m.bytes -= e.size()
	if e.shared {
		m.shares -= e.size()
	}
	// The texts are let go of; the rest is overwritten when the place is used.
	e.id, m.ids[i] = 0, 0
	e.Network, e.Value, e.FirstProbe = "", "", ""
	m.free = append(m.free, i)
}

// slot returns a place for the entry with an id.
func (m *Memory) slot(id uint64) int32 {
	if n := len(m.free); n > 0 {
		i := m.free[n-1]
		m.free = m.free[:n-1]
		m.ids[i] = id
		return i
	}
	if len(m.ids)%slabEntries == 0 {
		m.slab = append(m.slab, new([slabEntries]entry))
	}
	m.ids = append(m.ids, id)
	return int32(len(m.ids) - 1)
}

// slabEntries is how many entries are allocated together: a slice of all of them
// would be copied as it grows, and nothing is taken meanwhile.
const slabEntries = 512

// at returns entry i.
func (m *Memory) at(i int32) *entry {
	return &m.slab[i/slabEntries][i%slabEntries]
}

// place appends to the order, and takes stale places out of it when they are
// the most.
func (m *Memory) place(id uint64, slot int32) {
	m.order = append(m.order, place{id, slot})
	if len(m.order) < 1024 || len(m.order) < 2*m.index.used {
		return
	}
	m.order = slices.DeleteFunc(m.order, func(p place) bool { return m.ids[p.slot] != p.id })
}

// Page returns up to most fingerprints for which match is true (nil: all), in
// the order in which they were first seen, beginning behind the page that
// returned after; 0 begins. next is 0 on the last page. Values are copies and
// may be kept; f is lent to match.
func (m *Memory) Page(after uint64, most int, match func(f *Fingerprint) bool) (page []Fingerprint, next uint64) {
	i, found := slices.BinarySearchFunc(m.order, after, func(p place, id uint64) int {
		switch {
		case p.id < id:
			return -1
		case p.id > id:
			return 1
		}
		return 0
	})
	if found {
		i++
	}
	var last uint64
	for _, p := range m.order[i:] {
		e := m.at(p.slot)
		if e.id != p.id || match != nil && !match(&e.Fingerprint) {
			continue
		}
		if len(page) == most {
			return page, last
		}
		page = append(page, e.Fingerprint)
		last = p.id
	}
	return page, 0
}

// Forget removes those for which match is true (nil: all) and returns how many;
// with dry it only counts them. What was forgotten is new when it is seen again.
func (m *Memory) Forget(match func(f *Fingerprint) bool, dry bool) (n int) {
	for _, p := range m.order {
		e := m.at(p.slot)
		if e.id != p.id || match != nil && !match(&e.Fingerprint) {
			continue
		}
		n++
		if !dry {
			m.remove(p.slot)
		}
	}
	return n
}

// Len returns how many fingerprints are remembered, and Dropped how many have
// left because there was no room.
func (m *Memory) Len() int { return m.index.used }

// Dropped returns how many fingerprints have left because there was no room.
func (m *Memory) Dropped() uint64 { return m.dropped }

// Bytes returns what the entries take.
func (m *Memory) Bytes() int64 { return m.bytes }
