package wire

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"

	"github.com/whorl-net/whorl/flow"
)

// octets holds the text of each byte with a dot behind it, and how long that is:
// an address of four of them is written with four stores. netip takes four times
// as long, and each eviction has four addresses.
var octets = func() (all [256]struct {
	text uint32 // little endian
	n    uint8
}) {
	for i := range all {
		text := append(strconv.AppendInt(nil, int64(i), 10), '.')
		all[i].n = uint8(len(text))
		all[i].text = binary.LittleEndian.Uint32(append(text, 0, 0, 0))
	}
	return all
}()

// appendAddrText appends what netip.Addr.String says of a, unmapped.
func appendAddrText(dst []byte, a *flow.Addr) []byte {
	if !a.Is4() {
		// Appending a valid address allocates nothing.
		return netip.AddrFrom16(*a).AppendTo(dst)
	}
	dst = slices.Grow(dst, 4*4)
	p, n := dst[len(dst):cap(dst)], 0
	for _, b := range a[12:] {
		o := &octets[b]
		binary.LittleEndian.PutUint32(p[n:], o.text)
		n += int(o.n)
	}
	return dst[:len(dst)+n-1]
}

// appendKey appends what k.Append does.
func appendKey(dst []byte, k *flow.Key) []byte {
	dst = append(dst, k.Protocol.String()...)
	dst = append(dst, '/')
	dst = appendEnd(dst, &k.A, k.APort)
	dst = append(dst, '-')
	return appendEnd(dst, &k.B, k.BPort)
}

func appendEnd(dst []byte, a *flow.Addr, port uint16) []byte {
	if a.Is4() {
		dst = append(appendAddrText(dst, a), ':')
	} else {
		dst = append(appendAddrText(append(dst, '['), a), ']', ':')
	}
	return strconv.AppendUint(dst, uint64(port), 10)
}
