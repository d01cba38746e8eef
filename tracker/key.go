package tracker

import (
	"encoding/binary"

	"github.com/whorl-net/whorl/flow"
)

// keyBytes is the size of a key as it is stored, compared and hashed: both
// addresses, both ports in network order, protocol.
const keyBytes = 16 + 16 + 2 + 2 + 1

// keyIn is a key in a network: keyBytes of key, then the network's number. It is
// made once per flow of a batch, in the form that a shard hashes as it is.
type keyIn [keyBytes + 3]byte

// hashedBytes is how much of a keyIn tells it from others.
const hashedBytes = keyBytes + 2

// put fills in the key, with (a, aPort) for A.
func (k *keyIn) put(a, b *flow.Addr, aPort, bPort uint16, p flow.Protocol, network uint16) {
	copy(k[0:16], a[:])
	copy(k[16:32], b[:])
	binary.BigEndian.PutUint32(k[32:], uint32(aPort)<<16|uint32(bPort))
	binary.LittleEndian.PutUint32(k[36:], uint32(p)|uint32(network)<<8)
}

// putTuple fills in the key of a tuple, as flow.Tuple.Key does, and reports
// whether the tuple's source is the key's B side.
func (k *keyIn) putTuple(t *flow.Tuple, network uint16) (turned bool) {
	hiS, hiD := binary.BigEndian.Uint64(t.Src[:]), binary.BigEndian.Uint64(t.Dst[:])
	loS, loD := binary.BigEndian.Uint64(t.Src[8:]), binary.BigEndian.Uint64(t.Dst[8:])
	if hiS < hiD || hiS == hiD && (loS < loD || loS == loD && t.SrcPort <= t.DstPort) {
		k.put(&t.Src, &t.Dst, t.SrcPort, t.DstPort, t.Protocol, network)
		return false
	}
	k.put(&t.Dst, &t.Src, t.DstPort, t.SrcPort, t.Protocol, network)
	return true
}

func makeKeyIn(k *flow.Key, network uint16) (in keyIn) {
	in.put(&k.A, &k.B, k.APort, k.BPort, k.Protocol, network)
	return in
}

// key returns the part that is the same in all networks.
func (k *keyIn) key() *[keyBytes]byte { return (*[keyBytes]byte)(k[:keyBytes]) }

func (k *keyIn) network() uint16 { return binary.LittleEndian.Uint16(k[keyBytes:]) }

// in returns the stored key in a network.
func (h *hot) in(network uint16) (k keyIn) {
	copy(k[:], h.key[:])
	k[keyBytes] = byte(network)
	k[keyBytes+1] = byte(network >> 8)
	return k
}

// flowKey returns the stored key as others know it.
func (h *hot) flowKey() flow.Key { return flowKey(&h.key) }

func (k *keyIn) flowKey() flow.Key { return flowKey(k.key()) }

func flowKey(b *[keyBytes]byte) flow.Key {
	return flow.Key{
		A: flow.Addr(b[0:16]), B: flow.Addr(b[16:32]), Protocol: flow.Protocol(b[keyBytes-1]),
		APort: binary.BigEndian.Uint16(b[32:]), BPort: binary.BigEndian.Uint16(b[34:]),
	}
}

func (h *hot) proto() flow.Protocol { return flow.Protocol(h.key[keyBytes-1]) }
