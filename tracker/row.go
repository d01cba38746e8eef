package tracker

import (
	"encoding/binary"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
)

// Row is a connection in its place, before anything is copied: what a Query looks
// at. It and all that its methods return by reference is valid during the call that
// got it only, while the shard is held: no method blocks, and none allocates but
// where it says so.
type Row struct {
	s     *shard
	names *names
	found []foundPrints
	h     *hot
	slot  uint32
	// summed says that sum holds the totals of this connection.
	summed bool
	sum    counted
	cost   int // of what was looked at since the visit began, in ns or so
}

// at makes r the connection in slot.
func (r *Row) at(slot uint32, h *hot) { r.slot, r.h, r.summed = slot, h, false }

// src is the side of the initiator: 0 is the key's A side.
func (r *Row) src() int { return int(r.h.state & initiatorB) }

// Src returns the address of the initiator, Dst that of the other side.
func (r *Row) Src() *flow.Addr { return r.addr(r.src()) }

// Dst returns the address of the side that is not the initiator.
func (r *Row) Dst() *flow.Addr { return r.addr(r.src() ^ 1) }

func (r *Row) addr(side int) *flow.Addr { return (*flow.Addr)(r.h.key[16*side : 16*side+16]) }

// SrcPort returns the port of the initiator.
func (r *Row) SrcPort() uint16 { return r.port(r.src()) }

// DstPort returns the port of the side that is not the initiator.
func (r *Row) DstPort() uint16 { return r.port(r.src() ^ 1) }

func (r *Row) port(side int) uint16 { return binary.BigEndian.Uint16(r.h.key[32+2*side:]) }

// Protocol returns the protocol.
func (r *Row) Protocol() flow.Protocol { return r.h.proto() }

// Network returns the label of the network.
func (r *Row) Network() string { return r.names.networks[r.names.pairs[r.h.pair].network] }

// TCPState returns what Snapshot.TCPState is.
func (r *Row) TCPState() TCPState { return r.h.tcpState() }

// FirstSeen and LastSeen return capture times in Unix nanoseconds.
func (r *Row) FirstSeen() int64 { return r.s.meta(r.slot).firstSeen }

// LastSeen returns the greatest capture time seen.
func (r *Row) LastSeen() int64 { return r.h.lastSeen }

// PacketCount returns what Snapshot.PacketCount is.
func (r *Row) PacketCount() uint64 {
	c := r.counted()
	return c.packets[0] + c.packets[1]
}

// ByteCount returns what Snapshot.ByteCount is.
func (r *Row) ByteCount() uint64 {
	c := r.counted()
	return c.bytes[0] + c.bytes[1]
}

// counted returns what the observer counted that saw most.
func (r *Row) counted() *counted {
	if !r.summed {
		var all [MaxObservers]counted
		_, most := r.s.observed(r.slot, &all)
		r.sum, r.summed = all[most], true
		r.cost += costSum
	}
	return &r.sum
}

// Shard returns the shard.
func (r *Row) Shard() uint32 { return uint32(r.s.id) }

// Probe returns the label of the probe that saw most packets.
func (r *Row) Probe() string { return r.names.probes[r.names.pairs[r.counted().pair].probe] }

// AnyProbe reports whether is says so of one of the probes that saw the
// connection.
func (r *Row) AnyProbe(is func(label string) bool) bool {
	var all [MaxObservers]counted
	n, _ := r.s.observed(r.slot, &all)
	r.cost += costSum
	for i := range n {
		if is(r.names.probes[r.names.pairs[all[i].pair].probe]) {
			return true
		}
	}
	return false
}

// Shows reports whether the connection has, among the events that are kept, a
// fingerprint of Prints[i] of its Query. A value that the shard learned after the
// visit of it began costs an allocation.
func (r *Row) Shows(i int) bool {
	f := &r.found[i]
	typ := uint8(f.set.Type)
	for at := r.s.meta(r.slot).cells; at != 0; {
		c := r.s.cells.at(at)
		at = c.next
		r.cost += costCell
		switch {
		case c.tag != tagEvent && c.tag != tagHistory, c.typ&rawType != 0, typ != 0 && c.typ != typ:
		case c.tag == tagEvent:
			if r.s.isFound(f, valueOf(c)) {
				return true
			}
			r.cost += costCell
		default:
			n, is := r.s.anyFound(f, uint32(c.y>>32))
			r.cost += 2 * costCell * n
			if is {
				return true
			}
		}
		if typ != 0 && c.typ == typ && (c.tag == tagEvent || c.tag == tagHistory) {
			return false // there is one history of a type
		}
	}
	return false
}

// anyFound reports whether one of the events of a history is in f, and how many
// it has looked at.
func (s *shard) anyFound(f *foundPrints, newest uint32) (n int, is bool) {
	for e := s.cells.at(newest).next; ; {
		c := s.cells.at(e)
		n++
		if s.isFound(f, valueOf(c)) {
			return n, true
		}
		if e == newest {
			return n, false
		}
		e = c.next
	}
}

// Newest appends the newest fingerprint of a type to b; nothing if there is none.
func (r *Row) Newest(t ja4.Type, b []byte) []byte {
	if c := r.newest(t); c != nil {
		return r.s.values.appendTo(b, valueOf(c))
	}
	return b
}

// ServerName appends the newest server name to b; nothing if there is none.
func (r *Row) ServerName(b []byte) []byte {
	for at := r.s.meta(r.slot).cells; at != 0; {
		c := r.s.cells.at(at)
		r.cost += costCell
		if c.tag == tagName {
			return r.s.values.appendTo(b, uint32(c.x))
		}
		at = c.next
	}
	return b
}

// A PrintID stands for a fingerprint value of one shard for as long as some
// connection there has it; the zero PrintID is none.
type PrintID struct {
	shard, id uint32
	born      uint64
}

// NewestID returns what stands for the newest fingerprint of a type: equal IDs are
// equal values. ok is false if only Newest can tell, because the shard's table of
// values is full.
func (r *Row) NewestID(t ja4.Type) (_ PrintID, ok bool) {
	c := r.newest(t)
	if c == nil {
		return PrintID{}, true
	}
	id := valueOf(c)
	place := uint32(r.s.values.cells.at(id).y)
	if place == 0 {
		return PrintID{}, false
	}
	return PrintID{1 + uint32(r.s.id), id, r.s.values.prints.at(place).born}, true
}

// newest returns the newest event of a type, nil if there is none.
func (r *Row) newest(t ja4.Type) *cell {
	for at := r.s.meta(r.slot).cells; at != 0; {
		c := r.s.cells.at(at)
		r.cost += costCell
		if c.typ == uint8(t) {
			switch c.tag {
			case tagEvent:
				return c
			case tagHistory:
				return r.s.cells.at(uint32(c.y >> 32))
			}
		}
		at = c.next
	}
	return nil
}
