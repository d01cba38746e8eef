package tracker

import (
	"encoding/binary"
	"strings"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
)

// copyTo copies a connection into to, whose memory it reuses. It allocates one
// string for all texts together, and slices that have become too short.
//
// Each field goes from the record to its place, in words: what is put together
// first, or read back in other pieces than it was written in, makes the processor
// wait, which was a third of a walk over the table.
func (s *shard) copyTo(to *Snapshot, slot uint32, d Detail, names *names) {
	h, m := s.hot(slot), s.meta(slot)
	to.resetExtras()
	le, be := binary.LittleEndian, binary.BigEndian
	key := &h.key
	src := int(h.state & initiatorB)
	a0, a1, b0, b1 := le.Uint64(key[0:]), le.Uint64(key[8:]), le.Uint64(key[16:]), le.Uint64(key[24:])
	aPort, bPort := be.Uint16(key[32:]), be.Uint16(key[34:])
	protocol := h.proto()
	putWords(&to.Key.A, a0, a1)
	putWords(&to.Key.B, b0, b1)
	to.Key.APort, to.Key.BPort, to.Key.Protocol = aPort, bPort, protocol
	to.Protocol, to.TCPState = protocol, h.tcpState()
	if src == 1 {
		a0, a1, aPort, b0, b1, bPort = b0, b1, bPort, a0, a1, aPort
	}
	putWords(&to.Src, a0, a1)
	putWords(&to.Dst, b0, b1)
	to.SrcPort, to.DstPort = aPort, bPort
	p := names.pairs[h.pair]
	to.Network = names.networks[p.network]
	to.UID.put(s.epoch, s.id, slot, m.number)
	to.FirstSeen, to.LastSeen = m.firstSeen, h.lastSeen
	if !m.is(multi | carried) {
		packets, bytes := uint64(h.packets[src]), uint64(h.bytes[src])
		allPackets, allBytes := packets+uint64(h.packets[src^1]), bytes+uint64(h.bytes[src^1])
		to.PacketCount, to.ByteCount = allPackets, allBytes
		to.SrcPacketCount, to.SrcByteCount = packets, bytes
		if d == Bare {
			return
		}
		if cap(to.Observers) == 0 {
			to.Observers = make([]Observer, 1)
		}
		to.Observers = to.Observers[:1]
		o := &to.Observers[0]
		o.Probe = names.probes[p.probe]
		o.PacketCount, o.ByteCount = allPackets, allBytes
		o.SrcPacketCount, o.SrcByteCount = packets, bytes
		o.FirstSeen, o.LastSeen = m.firstSeen, h.lastSeen
	} else if s.copyObservers(to, slot, src, names); d == Bare {
		to.Observers = to.Observers[:0]
		return
	}
	if m.cells != 0 {
		s.copyCells(to, m.cells, d, names)
	}
}

// putWords fills in an address from its words in the order of memory.
func putWords(a *flow.Addr, x, y uint64) {
	binary.LittleEndian.PutUint64(a[0:], x)
	binary.LittleEndian.PutUint64(a[8:], y)
}

// copyObservers copies what each observer counted, and the totals.
func (s *shard) copyObservers(to *Snapshot, slot uint32, src int, names *names) {
	var all [MaxObservers]counted
	n, most := s.observed(slot, &all)
	c := &all[most]
	to.PacketCount, to.ByteCount = c.packets[0]+c.packets[1], c.bytes[0]+c.bytes[1]
	to.SrcPacketCount, to.SrcByteCount = c.packets[src], c.bytes[src]
	for i := range n {
		c := &all[i]
		to.Observers = append(to.Observers, Observer{
			Probe:       names.probes[names.pairs[c.pair].probe],
			PacketCount: c.packets[0] + c.packets[1], ByteCount: c.bytes[0] + c.bytes[1],
			SrcPacketCount: c.packets[src], SrcByteCount: c.bytes[src],
			FirstSeen: c.first, LastSeen: c.last,
		})
	}
}

// copyCells copies histories and server name.
func (s *shard) copyCells(to *Snapshot, first uint32, d Detail, names *names) {
	size := 0
	s.eachText(first, d, func(id uint32) { size += s.values.size(id) })
	if size == 0 {
		return
	}
	t := texts{values: &s.values}
	t.b.Grow(size)
	for i := first; i != 0; {
		c := s.cells.at(i)
		i = c.next
		switch c.tag {
		case tagName:
			to.ServerName = t.text(uint32(c.x))
		case tagEvent:
			if hs := to.histories(c.typ, d); hs != nil {
				h := addHistory(hs, c.typ, 1)
				h.Events = append(h.Events, t.event(c, names))
			}
		case tagHistory:
			hs := to.histories(c.typ, d)
			if hs == nil {
				continue
			}
			h := addHistory(hs, c.typ, c.x>>16)
			newest := uint32(c.y >> 32)
			if d == Newest {
				h.Events = append(h.Events, t.event(s.cells.at(newest), names))
				continue
			}
			for e := s.cells.at(newest).next; ; e = s.cells.at(e).next {
				h.Events = append(h.Events, t.event(s.cells.at(e), names))
				if e == newest {
					break
				}
			}
		}
	}
}

// eachText calls f with each value that copyCells copies.
func (s *shard) eachText(first uint32, d Detail, f func(id uint32)) {
	for i := first; i != 0; {
		c := s.cells.at(i)
		i = c.next
		switch {
		case c.tag == tagName:
			f(uint32(c.x))
		case c.typ&rawType != 0 && d != Full:
		case c.tag == tagEvent:
			f(valueOf(c))
		case c.tag == tagHistory:
			newest := uint32(c.y >> 32)
			e := newest
			if d >= Histories {
				e = s.cells.at(newest).next
			}
			for ; e != newest; e = s.cells.at(e).next {
				f(valueOf(s.cells.at(e)))
			}
			f(valueOf(s.cells.at(newest)))
		}
	}
}

// histories returns the histories that a type belongs to, nil if they are not
// wanted.
func (to *Snapshot) histories(typ uint8, d Detail) *[]History {
	if typ&rawType == 0 {
		return &to.Fingerprints
	}
	if d == Full {
		return &to.RawFingerprints
	}
	return nil
}

// addHistory appends a History without events, with the memory of an old one
// if there is one.
func addHistory(hs *[]History, typ uint8, total uint64) *History {
	n := len(*hs)
	if n < cap(*hs) {
		*hs = (*hs)[:n+1]
	} else {
		*hs = append(*hs, History{})
	}
	h := &(*hs)[n]
	h.Type, h.TotalCount, h.Events = ja4.Type(typ&^rawType), total, h.Events[:0]
	return h
}

// texts copies values into one string. The builder has room for all of them
// from the start, so the parts already cut from it never move.
type texts struct {
	values *values
	b      strings.Builder
}

func (t *texts) text(id uint32) string {
	from := t.b.Len()
	t.values.writeTo(&t.b, id)
	return t.b.String()[from:]
}

func (t *texts) event(c *cell, names *names) FingerprintEvent {
	return FingerprintEvent{
		Value: t.text(valueOf(c)), SeenAt: int64(c.x), PacketNum: c.y & packetNumMask,
		Probe: names.probes[names.pairs[c.a].probe],
	}
}
