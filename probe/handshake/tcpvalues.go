package handshake

import (
	"encoding/binary"
	"math/bits"

	"github.com/whorl-net/whorl/ja4/ja4plus"
)

// tcpValues remembers JA4T values: hosts have few ways to begin a connection, so
// a SYN, of which a flood has little else, seldom needs to be put into words
// again, and equal values are one string. Who sends ever new ones pays with the
// work that they would have made anyway; the memory is that of the slots.
type tcpValues struct{ slots [tcpSlots]tcpSlot }

const (
	tcpSlots      = 256
	maxTCPOptions = 40
)

// A tcpSlot is what a SYN says that its JA4T depends on, and the JA4T.
type tcpSlot struct {
	key   tcpKey
	value string
}

// tcpKey is the window, the number of bytes of options, and these, without the
// timestamps, which are never the same.
type tcpKey [2 + 1 + maxTCPOptions + 5]byte

// of returns ja4plus.SYN of window and options.
func (v *tcpValues) of(window uint16, options []byte) string {
	if len(options) > maxTCPOptions {
		return ja4plus.SYN(window, options)
	}
	var k tcpKey
	k.set(window, options)
	slot := &v.slots[k.hash()%tcpSlots]
	if slot.key != k || slot.value == "" {
		*slot = tcpSlot{key: k, value: ja4plus.SYN(window, options)}
	}
	return slot.value
}

func (k *tcpKey) set(window uint16, options []byte) {
	const endOfList, noOperation, timestamps, timestampsLength = 0, 1, 8, 10
	binary.LittleEndian.PutUint16(k[:], window)
	k[2] = uint8(len(options))
	text := k[3 : 3+len(options)]
	copy(text, options)
	for len(text) >= 2 && text[0] != endOfList {
		n := int(text[1])
		switch {
		case text[0] == noOperation:
			n = 1
		case n < 2 || n > len(text):
			return
		case text[0] == timestamps && n == timestampsLength:
			clear(text[2:n])
		}
		text = text[n:]
	}
}

func (k *tcpKey) hash() uint64 {
	h := uint64(0)
	for i := 0; i < len(k); i += 8 {
		hi, lo := bits.Mul64(h^binary.LittleEndian.Uint64(k[i:]), 0x9e3779b97f4a7c15)
		h = hi ^ lo
	}
	return h
}
