package wire

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"

	"github.com/whorl-net/whorl/flow"
)

// communityIDLen is "1:" and the 20 bytes of a SHA-1 in base64.
const communityIDLen = 2 + 28

// AppendCommunityID appends the Community ID v1 of t with seed 0, such as
// "1:LQU9qZlK+B5F3KDmev6m5PMibrg=", the same for both directions.
// See https://github.com/corelight/community-id-spec.
//
// Of ICMP that has no reply t is the direction in which it went: the ID of the
// other direction differs.
func AppendCommunityID(dst []byte, t flow.Tuple) []byte {
	if !inOrder(&t) {
		t = t.Reverse()
	}
	skip := 0
	if is4(&t) {
		skip = 12
	}
	var buf [2 + 16 + 16 + 2 + 4]byte
	p := append(buf[:2], t.Src[skip:]...) // the seed is 0
	p = append(p, t.Dst[skip:]...)
	p = append(p, byte(t.Protocol), 0)
	switch t.Protocol {
	case flow.ICMP, flow.TCP, flow.UDP, flow.ICMPv6, flow.SCTP:
		p = binary.BigEndian.AppendUint16(p, t.SrcPort)
		p = binary.BigEndian.AppendUint16(p, t.DstPort)
	}
	sum := sha1.Sum(p) // not for security: the specification says SHA-1
	dst = append(dst, "1:"...)
	return base64.StdEncoding.AppendEncode(dst, sum[:])
}

// inOrder reports whether t is the direction that is hashed.
func inOrder(t *flow.Tuple) bool {
	if t.Src != t.Dst {
		return t.Src.Less(&t.Dst) || oneWay(t)
	}
	return t.SrcPort <= t.DstPort || oneWay(t)
}

// oneWay reports whether t is ICMP of a type that has no counterpart: its ports
// are type and code then, not the types of question and answer.
func oneWay(t *flow.Tuple) bool {
	low, high := min(t.SrcPort, t.DstPort), max(t.SrcPort, t.DstPort)
	switch t.Protocol {
	case flow.ICMP:
		switch low {
		case 0: // echo
			return high != 8
		case 9, 13, 15, 17: // router, timestamp, information, address mask
			return high != low+1
		}
		return true
	case flow.ICMPv6:
		switch low {
		case 128, 130, 133, 135, 139, 144: // echo, listener, router, neighbour, node information, home agent
			return high != low+1
		}
		return true
	}
	return false
}
