package tracker

import (
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
)

// texts reads histories and server name.
func (r *restorer) texts(slot uint32) {
	var seen [256]bool
	for range r.count("histories") {
		typ := r.byte()
		r.want(!seen[typ], "type %#x is there twice", typ)
		seen[typ] = true
		if r.err != nil {
			return
		}
		if typ == nameType {
			id := r.value(slot, nameType, flow.MaxServerNameLen)
			i, c := r.s.cells.alloc()
			*c = cell{tag: tagName, x: uint64(id)}
			r.s.hang(slot, i)
			r.s.meta(slot).weigh(1)
			continue
		}
		r.history(slot, typ)
	}
}

// history reads the events of one type.
func (r *restorer) history(slot uint32, typ uint8) {
	s := r.s
	r.want(ja4.Type(typ&^rawType).Valid(), "type %#x", typ)
	most := flow.MaxValueLen
	if typ&rawType != 0 {
		most = flow.MaxRawLen
	}
	total := r.upTo(1<<48-1, "number of events")
	stored := r.upTo(MaxHistory, "number of events kept")
	r.want(stored > 0 && (stored == total || stored == MaxHistory && total > stored), "%d events kept of %d", stored, total)
	at := uint32(0)
	for range stored {
		ev := cell{tag: tagEvent, typ: typ}
		id := r.value(slot, typ, most)
		ev.x = uint64(r.before(s.hot(slot).lastSeen, "time of a fingerprint"))
		ev.y = uint64(id)<<packetNumBits | r.upTo(packetNumMask, "packet number")
		ev.a = r.pair()
		if r.err != nil {
			return
		}
		if at == 0 {
			i, c := s.cells.alloc()
			*c = ev
			s.hang(slot, i)
			s.meta(slot).weigh(1)
			s.values.single(typ, id, 1)
			at = i
			continue
		}
		s.appendEvent(slot, at, ev)
	}
	if stored > 1 && r.err == nil {
		c := s.cells.at(at)
		c.x = total<<16 | stored
	}
}

// value reads a value of a kind, of up to most bytes, and returns its number with
// one more reference, charged to the connection.
func (r *restorer) value(slot uint32, kind uint8, most int) uint32 {
	s := r.s
	at := r.upTo(uint64(len(r.values)), "number of a value")
	if at == uint64(len(r.values)) {
		text := r.text(1, flow.MaxRawLen, "value")
		hash := s.values.hash(kind, text)
		r.want(r.err != nil || s.values.find(kind, text, hash) == 0, "value %d is there twice", at)
		if r.err != nil {
			return 0
		}
		r.values = append(r.values, s.values.add(kind, text, hash))
	}
	if r.err != nil {
		return 0
	}
	id := r.values[at]
	if s.cells.at(id).typ != kind { // images of before had equal texts of all kinds together
		text := s.values.text(id)
		hash := s.values.hash(kind, text)
		if id = s.values.find(kind, text, hash); id == 0 {
			id = s.values.add(kind, text, hash)
		}
	}
	size := s.values.size(id)
	r.want(size <= most, "a value of %d bytes, want at most %d", size, most)
	s.values.retain(id)
	s.meta(slot).weigh(valueCells(size))
	return id
}
