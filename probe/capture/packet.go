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

// linkNames are what tcpdump calls link types: those that decode knows, and those
// that captures of networks come with all the same.
var linkNames = map[LinkType]string{
	Null: "NULL", Ethernet: "EN10MB", RawOld: "RAW", RawBSD: "RAW", Raw: "RAW", Loop: "LOOP", LinuxSLL: "LINUX_SLL",
	IPv4: "IPV4", IPv6: "IPV6", SLL2: "LINUX_SLL2",
	PPP: "PPP", PPPHDLC: "PPP_SERIAL", IEEE80211: "IEEE802_11", PFLog: "PFLOG", Radiotap: "IEEE802_11_RADIO",

	6: "IEEE802", 8: "SLIP", 10: "FDDI", 51: "PPP_ETHER", 104: "C_HDLC", 107: "FRELAY",
	119: "PRISM_HEADER", 163: "IEEE802_11_RADIO_AVS", 187: "BLUETOOTH_HCI_H4", 189: "USB_LINUX", 192: "PPI",
	195: "IEEE802_15_4_WITHFCS", 201: "BLUETOOTH_HCI_H4_WITH_PHDR", 220: "USB_LINUX_MMAPPED", 227: "CAN_SOCKETCAN",
	230: "IEEE802_15_4_NOFCS", 239: "NFLOG", 249: "USBPCAP", 251: "BLUETOOTH_LE_LL", 253: "NETLINK", 258: "PKTAP",
}

// String returns the name tcpdump has for l, such as "EN10MB", or the decimal
// number of one that has none here.
func (l LinkType) String() string {
	if name := linkNames[l]; name != "" {
		return name
	}
	const user, users = 147, 16 // of whoever wants them
	if l >= user && l < user+users {
		return "USER" + strconv.FormatUint(uint64(l-user), 10)
	}
	return strconv.FormatUint(uint64(l), 10)
}

// Label returns number and name of l, such as "239 (NFLOG)", or the number alone
// where there is no name.
func (l LinkType) Label() string {
	number, name := strconv.FormatUint(uint64(l), 10), l.String()
	if name == number {
		return number
	}
	return number + " (" + name + ")"
}

// MaxWire is more bytes than any packet has on a wire; segmentation offload makes
// them of up to 512 KiB. A length beyond it, of a damaged file say, is no length.
const MaxWire = 1 << 20

// Packet is one captured packet, lent by a Source.
type Packet struct {
	// Data are the captured bytes from the link header on. They belong to the
	// source and are valid until its next call of Next.
	Data []byte
	// Time is the capture time in nanoseconds since the Unix epoch, UTC.
	Time int64
	// WireLength is the length in bytes on the wire; at least len(Data). A source
	// hands on what it was told, also beyond MaxWire.
	WireLength uint32
	LinkType   LinkType
	// VLAN is 1 + the VLAN tag control information that the kernel removed
	// from a live packet, 0 when it removed none.
	VLAN uint32
}
