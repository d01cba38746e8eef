package enrich

import "strconv"

// MSS returns the maximum segment size in a JA4T or JA4TS value, its third
// part, and whether there is one: "00" stands for none.
func MSS(ja4t string) (uint16, bool) {
	part := 0
	start := 0
	for i := 0; i <= len(ja4t); i++ {
		if i < len(ja4t) && ja4t[i] != '_' {
			continue
		}
		if part == 2 {
			n, err := strconv.ParseUint(ja4t[start:i], 10, 16)
			if err != nil {
				return 0, false // ParseUint gives the greatest number for one too large
			}
			return uint16(n), n > 0
		}
		part++
		start = i + 1
	}
	return 0, false
}

// Header bytes between an MSS and the path MTU it stands for.
const (
	overhead4 = 40 // IPv4 and TCP
	overhead6 = 60 // IPv6 and TCP
)

// ethernetMTU is the MTU of plain Ethernet. A path that carries it, or more
// (jumbo frames, loopback), shows no sign of a tunnel.
const ethernetMTU = 1500

// links are classes of links by path MTU: what a packet of that greatest size
// has probably been through. They name classes, with what is known to use the
// number by default, and they are hints: anybody may set any MTU. Sources: the
// MTU table of p0f, the JA4T documents, and the manuals of those that gave the
// numbers.
var links = map[int]string{
	1496: "possible VLAN or other 4-byte loss",
	1492: "possible PPPoE or DSL",
	1490: "possible PPTP tunnel",
	1480: "possible IPIP or 6in4 tunnel",
	1476: "possible GRE or IPsec tunnel",
	1470: "possible large content provider",
	1460: "possible cloud network or generic tunnel",
	1454: "possible PPPoE or DSL",
	1452: "possible PPPoE or DSL",
	1450: "possible VXLAN overlay, tunnel or VPN",
	1440: "possible VXLAN overlay, tunnel or VPN",
	1430: "possible cellular network",
	1428: "possible cellular network",
	1420: "possible WireGuard or IPsec VPN",
	1412: "possible WireGuard VPN over PPPoE",
	1400: "possible generic tunnel, VPN or mobile network",
	1360: "possible IPsec VPN",
	1280: "possible conservative tunnel or VPN (IPv6 minimum MTU)",
	1240: "possible GIF tunnel",
	576:  "possible modem or scanner (minimum MTU)",
}

// Tunnel returns the class of link that an MSS hints at, in words that say that
// it is a hint, "" for plain Ethernet, jumbo frames and loopback. The IP version decides: 1440
// is plain Ethernet over IPv6 and hints at a tunnel over IPv4. An mss of 0 is
// none and hints at nothing.
func Tunnel(mss uint16, ipv6 bool) string {
	if mss == 0 {
		return ""
	}
	mtu := MTU(mss, ipv6)
	if mtu >= ethernetMTU {
		return ""
	}
	if class, ok := links[mtu]; ok {
		return class
	}
	switch {
	case mtu >= 1440:
		return "possible tunnel or DSL"
	case mtu >= 1240:
		return "likely VPN, tunnel or mobile network"
	default:
		return "unusually small"
	}
}

// MTU returns the path MTU an MSS stands for.
func MTU(mss uint16, ipv6 bool) int {
	if ipv6 {
		return int(mss) + overhead6
	}
	return int(mss) + overhead4
}
