package capture

import "strconv"

// LinkType is the link-layer header type of a packet, as in a capture file
// (https://www.tcpdump.org/linktypes.html). 32 bits wide on purpose: gopacket's
// has 8 and reads LinuxSLL2 as 20.
type LinkType uint32

// The link types that decode knows.
const (
	Null     LinkType = 0
	Ethernet LinkType = 1
	RawOld   LinkType = 12 // raw IP as some BSDs write it; 14 too
	RawBSD   LinkType = 14
	Raw      LinkType = 101
	Loop     LinkType = 108
	LinuxSLL LinkType = 113
	IPv4     LinkType = 228
	IPv6     LinkType = 229
	SLL2     LinkType = 276

	PPP       LinkType = 9
	PPPHDLC   LinkType = 50
	IEEE80211 LinkType = 105 // Wi-Fi frames
	PFLog     LinkType = 117 // OpenBSD's packet filter
	Radiotap  LinkType = 127 // Wi-Fi frames behind what the radio said of them
)

// String returns the name tcpdump has for l, such as "EN10MB", or the decimal
// number of one that decode does not know.
func (l LinkType) String() string {
	switch l {
	case Null:
		return "NULL"
	case Ethernet:
		return "EN10MB"
	case RawOld, RawBSD, Raw:
		return "RAW"
	case Loop:
		return "LOOP"
	case LinuxSLL:
		return "LINUX_SLL"
	case IPv4:
		return "IPV4"
	case IPv6:
		return "IPV6"
	case SLL2:
		return "LINUX_SLL2"
	}
	return strconv.FormatUint(uint64(l), 10)
}

// Packet is one captured packet, lent by a Source.
type Packet struct {
	// Data are the captured bytes from the link header on. They belong to the
	// source and are valid until its next call of Next.
	Data []byte
	// Time is the capture time in nanoseconds since the Unix epoch, UTC.
	Time int64
	// WireLength is the length in bytes on the wire; at least len(Data).
	WireLength uint32
	LinkType   LinkType
	// VLAN is 1 + the VLAN tag control information that the kernel removed
	// from a live packet, 0 when it removed none.
	VLAN uint32
}
