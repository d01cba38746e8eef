package decode

import "strconv"

// Verdict is what became of one packet: it is Tracked, or it says why not. The
// set is closed: a Verdict is also the label of a counter. The zero Verdict is
// Tracked.
type Verdict uint8

const (
	// Tracked: the packet has a Tuple and belongs to a connection.
	Tracked Verdict = iota

	// Held: an IP fragment whose ports are not known yet. It is counted on its
	// connection later, by Packet.Held of another packet, or given up and
	// counted in Stats.FragmentsIncomplete. Until then it is neither untracked
	// nor undecodable.
	Held

	// ARP: ARP or RARP.
	ARP
	// NonIP: neither IP nor ARP, such as LLDP or spanning tree.
	NonIP
	// IPOther: IP with a protocol that has no connections here, such as ESP or
	// OSPF, or an IPv6 packet without a next header.
	IPOther

	// Truncated: the capture kept too little to know the connection.
	Truncated
	// Malformed: a header contradicts itself or the packet around it.
	Malformed
	// UnknownLink: a link type that this package does not know.
	UnknownLink
	// Fault: decoding panicked, which is a bug of ours; see Decoder.Offenders.
	Fault

	// NumVerdicts is the length of a table indexed by Verdict.
	NumVerdicts = iota
)

var verdictNames = [NumVerdicts]string{
	"tracked", "fragment-held", "arp", "non-ip", "ip-other", "truncated", "malformed", "unknown-link", "fault",
}

// String returns the label of v, such as "ip-other".
func (v Verdict) String() string {
	if int(v) >= len(verdictNames) {
		return "verdict(" + strconv.Itoa(int(v)) + ")"
	}
	return verdictNames[v]
}

// Untracked reports whether the packet was understood and belongs to no
// connection.
func (v Verdict) Untracked() bool { return v >= ARP && v <= IPOther }

// Undecodable reports whether the packet was not understood.
func (v Verdict) Undecodable() bool { return v >= Truncated }
