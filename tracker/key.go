package tracker

import (
	"encoding/binary"
	"math/bits"

	"github.com/whorl-net/whorl/flow"
)

// keyBytes is the size of a key as it is stored: both addresses, both ports in
// network order, protocol.
const keyBytes = 16 + 16 + 2 + 2 + 1

// keyIn is a key in a network, in the words in which a shard compares and
// hashes it.
type keyIn struct {
	// a and b are the addresses of the key's two sides.
	a, b [2]uint64
	// ends holds, from its low bits up, the ports as they are stored (32),
	// the protocol (8) and the network (16).
	ends uint64
}

const (
	networkShift = 40
	keyEnds      = 1<<networkShift - 1 // what of keyIn.ends is stored
)

// words returns an address as two words, in the order of memory.
func words(a *flow.Addr) [2]uint64 {
	return [2]uint64{binary.LittleEndian.Uint64(a[:8]), binary.LittleEndian.Uint64(a[8:])}
}

// endsOf packs what a keyIn has beside its addresses.
func endsOf(aPort, bPort uint16, p flow.Protocol, network uint16) uint64 {
	return uint64(bits.ReverseBytes16(aPort)) | uint64(bits.ReverseBytes16(bPort))<<16 |
		uint64(p)<<32 | uint64(network)<<networkShift
}

// putTuple fills in the key of a tuple, as flow.Tuple.Key does, and returns 1 if
// the tuple's source is the key's B side, else 0. Which end is lower cannot be
// guessed, so there is no branch on it. The words are stored one by one: copying
// a key that was just made word by word in larger steps makes the processor wait.
func (k *keyIn) putTuple(t *flow.Tuple, network uint16) (turned uint64) {
	s0, s1 := binary.LittleEndian.Uint64(t.Src[:8]), binary.LittleEndian.Uint64(t.Src[8:])
	d0, d1 := binary.LittleEndian.Uint64(t.Dst[:8]), binary.LittleEndian.Uint64(t.Dst[8:])
	sp, dp := uint64(t.SrcPort), uint64(t.DstPort)
	_, turned = bits.Sub64(dp, sp, 0)
	_, turned = bits.Sub64(bits.ReverseBytes64(d1), bits.ReverseBytes64(s1), turned)
	_, turned = bits.Sub64(bits.ReverseBytes64(d0), bits.ReverseBytes64(s0), turned)
	swap := -turned
	x0, x1, xp := (s0^d0)&swap, (s1^d1)&swap, (sp^dp)&swap
	k.a[0], k.a[1] = s0^x0, s1^x1
	k.b[0], k.b[1] = d0^x0, d1^x1
	k.ends = endsOf(uint16(sp^xp), uint16(dp^xp), t.Protocol, network)
	return turned
}

// put fills in k.
func (k *keyIn) put(key *flow.Key, network uint16) {
	k.a, k.b = words(&key.A), words(&key.B)
	k.ends = endsOf(key.APort, key.BPort, key.Protocol, network)
}

func makeKeyIn(key *flow.Key, network uint16) (k keyIn) {
	k.put(key, network)
	return k
}

func (k *keyIn) network() uint16 { return uint16(k.ends >> networkShift) }

// store writes the part that is the same in all networks, as it is stored.
func (k *keyIn) store(key *[keyBytes]byte) {
	binary.LittleEndian.PutUint64(key[0:], k.a[0])
	binary.LittleEndian.PutUint64(key[8:], k.a[1])
	binary.LittleEndian.PutUint64(key[16:], k.b[0])
	binary.LittleEndian.PutUint64(key[24:], k.b[1])
	binary.LittleEndian.PutUint32(key[32:], uint32(k.ends))
	key[36] = byte(k.ends >> 32)
}

// holds reports whether the stored key is k, whatever the network.
func (h *hot) holds(k *keyIn) bool {
	le := binary.LittleEndian
	// | and ^ bind equally strong: each pair needs its parentheses.
	diff := (le.Uint64(h.key[0:]) ^ k.a[0]) | (le.Uint64(h.key[8:]) ^ k.a[1]) |
		(le.Uint64(h.key[16:]) ^ k.b[0]) | (le.Uint64(h.key[24:]) ^ k.b[1])
	ends := uint64(le.Uint32(h.key[32:])) | uint64(h.key[36])<<32
	return diff|(ends^(k.ends&keyEnds)) == 0
}

// in returns the stored key in a network.
func (h *hot) in(network uint16) keyIn {
	le := binary.LittleEndian
	return keyIn{
		a:    [2]uint64{le.Uint64(h.key[0:]), le.Uint64(h.key[8:])},
		b:    [2]uint64{le.Uint64(h.key[16:]), le.Uint64(h.key[24:])},
		ends: uint64(le.Uint32(h.key[32:])) | uint64(h.key[36])<<32 | uint64(network)<<networkShift,
	}
}

// flowKey returns the stored key as others know it.
func (h *hot) flowKey() flow.Key {
	return flow.Key{
		A: flow.Addr(h.key[0:16]), B: flow.Addr(h.key[16:32]), Protocol: h.proto(),
		APort: binary.BigEndian.Uint16(h.key[32:]), BPort: binary.BigEndian.Uint16(h.key[34:]),
	}
}

func (h *hot) proto() flow.Protocol { return flow.Protocol(h.key[keyBytes-1]) }
