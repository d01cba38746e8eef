package flow

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Protocol is an IP protocol number (IANA "Assigned Internet Protocol Numbers").
type Protocol uint8

// The protocols that have a name in connection ids.
const (
	ICMP   Protocol = 1
	TCP    Protocol = 6
	UDP    Protocol = 17
	ICMPv6 Protocol = 58
	SCTP   Protocol = 132
)

// String returns the lower-case name, or the decimal number of a protocol
// without one.
func (p Protocol) String() string {
	switch p {
	case ICMP:
		return "icmp"
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case ICMPv6:
		return "icmpv6"
	case SCTP:
		return "sctp"
	}
	return strconv.Itoa(int(p))
}

// ParseProtocol is the inverse of String. It accepts decimal numbers for named
// protocols too, and upper case.
func ParseProtocol(s string) (Protocol, error) {
	switch strings.ToLower(s) {
	case "icmp":
		return ICMP, nil
	case "tcp":
		return TCP, nil
	case "udp":
		return UDP, nil
	case "icmpv6", "icmp6":
		return ICMPv6, nil
	case "sctp":
		return SCTP, nil
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("%q is not a protocol such as tcp, udp, icmp, icmpv6, sctp or 0 to 255", s)
	}
	return Protocol(n), nil
}

// Addr is an IP address in 16 bytes; IPv4 addresses are IPv4-mapped
// (RFC 4291 section 2.5.5.2). Comparable, no pointer inside. The zero Addr is
// the IPv6 address ::.
type Addr [16]byte

// AddrFrom converts a; an invalid a gives the zero Addr. Zones are dropped.
func AddrFrom(a netip.Addr) Addr {
	if !a.IsValid() {
		return Addr{}
	}
	return Addr(a.As16())
}

// AddrFrom4 returns the mapped form of the four bytes of an IPv4 address.
func AddrFrom4(b [4]byte) Addr {
	return Addr{10: 0xff, 11: 0xff, 12: b[0], 13: b[1], 14: b[2], 15: b[3]}
}

// Is4 reports whether a is an IPv4 address.
func (a *Addr) Is4() bool {
	return *(*[12]byte)(a[:12]) == [12]byte{10: 0xff, 11: 0xff}
}

// Netip returns a as a netip.Addr, unmapped when it is IPv4.
func (a Addr) Netip() netip.Addr { return netip.AddrFrom16(a).Unmap() }

// String returns the usual text form.
func (a Addr) String() string { return a.Netip().String() }

// Less orders addresses by their 16 bytes: IPv4-mapped ones sort among IPv6.
func (a *Addr) Less(b *Addr) bool { return string(a[:]) < string(b[:]) }

// Tuple is a 5-tuple as one packet carries it: from Src to Dst. For ICMP and
// ICMPv6 the ports are type and code, arranged as in Community ID v1, so that
// a request and its reply belong together. Comparable.
type Tuple struct {
	Src, Dst         Addr
	SrcPort, DstPort uint16
	Protocol         Protocol
}

// Reverse returns the tuple of a packet in the other direction.
func (t Tuple) Reverse() Tuple {
	return Tuple{Src: t.Dst, Dst: t.Src, SrcPort: t.DstPort, DstPort: t.SrcPort, Protocol: t.Protocol}
}

// Key returns the canonical key of t and whether t had to be turned round for
// it, that is whether t's source is the key's B side.
func (t *Tuple) Key() (k Key, reversed bool) {
	if t.Src.Less(&t.Dst) || t.Src == t.Dst && t.SrcPort <= t.DstPort {
		return Key{A: t.Src, B: t.Dst, APort: t.SrcPort, BPort: t.DstPort, Protocol: t.Protocol}, false
	}
	return Key{A: t.Dst, B: t.Src, APort: t.DstPort, BPort: t.SrcPort, Protocol: t.Protocol}, true
}

// Key is a canonical 5-tuple: the lower (address, port) pair is A, so both
// directions of a connection give the same Key. Comparable. The label of the
// network is kept beside a Key, not in it.
type Key struct {
	A, B         Addr
	APort, BPort uint16
	Protocol     Protocol
}

// String returns the connection id without a network, such as
// "tcp/10.0.0.5:51234-93.184.216.34:443"; IPv6 addresses are in brackets.
func (k Key) String() string { return string(k.Append(nil)) }

// Append appends what String returns to b.
func (k Key) Append(b []byte) []byte {
	b = append(b, k.Protocol.String()...)
	b = append(b, '/')
	b = netip.AddrPortFrom(k.A.Netip(), k.APort).AppendTo(b)
	b = append(b, '-')
	return netip.AddrPortFrom(k.B.Netip(), k.BPort).AppendTo(b)
}

// DefaultNetwork is the network of a probe that declares none; it is left out
// of connection ids.
const DefaultNetwork = "default"

// ID returns the connection id of k in network: the text of k, with
// "@network" behind it unless the network is the default one.
func (k Key) ID(network string) string {
	b := k.Append(make([]byte, 0, 64))
	if network != "" && network != DefaultNetwork {
		b = append(b, '@')
		b = append(b, network...)
	}
	return string(b)
}

// ErrID is wrapped by every error of ParseID.
var ErrID = errors.New("not a connection id such as tcp/10.0.0.5:51234-93.184.216.34:443")

// ParseID reads a connection id in either direction. network is
// DefaultNetwork when the id names none.
func ParseID(s string) (k Key, network string, err error) {
	bad := func(what string) (Key, string, error) {
		return Key{}, "", fmt.Errorf("%q: %s: %w", s, what, ErrID)
	}
	body, network, named := strings.Cut(s, "@")
	if named {
		if err := CheckNetwork(network); err != nil {
			return bad(err.Error())
		}
	} else {
		network = DefaultNetwork
	}
	proto, ends, ok := strings.Cut(body, "/")
	if !ok {
		return bad("no / after the protocol")
	}
	var t Tuple
	if t.Protocol, err = ParseProtocol(proto); err != nil {
		return bad(err.Error())
	}
	src, dst, ok := strings.Cut(ends, "-")
	if !ok {
		return bad("no - between the two ends")
	}
	if t.Src, t.SrcPort, err = parseEnd(src); err != nil {
		return bad(err.Error())
	}
	if t.Dst, t.DstPort, err = parseEnd(dst); err != nil {
		return bad(err.Error())
	}
	k, _ = t.Key()
	return k, network, nil
}

func parseEnd(s string) (Addr, uint16, error) {
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return Addr{}, 0, fmt.Errorf("%q is not address:port", s)
	}
	return AddrFrom(ap.Addr()), ap.Port(), nil
}

// MaxNetworkLen is the greatest length of a network label in bytes.
const MaxNetworkLen = 63

// CheckNetwork says what is wrong with a network label: it is 1 to 63 letters,
// digits, dots, dashes or underscores.
func CheckNetwork(s string) error {
	if s == "" || len(s) > MaxNetworkLen {
		return fmt.Errorf("network %q has %d bytes, want 1 to %d", s, len(s), MaxNetworkLen)
	}
	for i := range len(s) {
		c := s[i]
		if c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' {
			continue
		}
		return fmt.Errorf("network %q: byte %d (%q) is not a letter, digit, dot, dash or underscore", s, i+1, c)
	}
	return nil
}
