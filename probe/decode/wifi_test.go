package decode

import (
	"math/rand/v2"
	"testing"

	"github.com/whorl-net/whorl/probe/capture"
)

// wifi makes an 802.11 data frame around an IP packet: LLC and SNAP, no FCS.
func wifi(v6, qos bool, flags int, packet []byte) []byte {
	kind, control := 0x08, ""
	if qos {
		kind, control = 0x88, "\x00\x00"
	}
	return join(kind, flags, "\x00\x00", "\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x03", "\x10\x00", control,
		"\xaa\xaa\x03\x00\x00\x00", etherOf(v6), packet)
}

// radiotap puts a radio header before a frame: flags and rate only.
func radiotap(fcs bool, frame []byte) []byte {
	flags := 0
	if fcs {
		flags = 0x10
		frame = join(frame, "\xde\xad\xbe\xef")
	}
	return join("\x00\x00\x0a\x00\x06\x00\x00\x00", flags, 0x0c, frame)
}

// The connection inside rare link headers is the one that is on Ethernet.
func TestRareLinkTypes(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		packet := innermost(v6)
		pppProtocol := uint16(0x0021)
		if v6 {
			pppProtocol = 0x0057
		}
		pflog := append([]byte{61, 2, 0, 0}, make([]byte, 60)...)
		for name, in := range map[string]capture.Packet{
			"PPP":                packetOf(capture.PPP, join(0xff, 3, pppProtocol, packet)),
			"PPP, short":         packetOf(capture.PPP, join(pppProtocol, packet)),
			"PPP in HDLC":        packetOf(capture.PPPHDLC, join(0xff, 3, pppProtocol, packet)),
			"PFLog":              packetOf(capture.PFLog, join(pflog, packet)),
			"Wi-Fi":              packetOf(capture.IEEE80211, wifi(v6, false, 1, packet)),
			"Wi-Fi with QoS":     packetOf(capture.IEEE80211, wifi(v6, true, 2, packet)),
			"radiotap":           packetOf(capture.Radiotap, radiotap(false, wifi(v6, true, 1, packet))),
			"radiotap, with FCS": packetOf(capture.Radiotap, radiotap(true, wifi(v6, true, 1, packet))),
			"Wi-Fi, four addresses": packetOf(capture.IEEE80211, join(0x08, 3, "\x00\x00", make([]byte, 18), "\x10\x00", make([]byte, 6),
				"\xaa\xaa\x03\x00\x00\x00", etherOf(v6), packet)),
		} {
			out, v := decodeOne(t, Config{}, in)
			if v != Tracked || out.Tuple != innerTuple(v6) || string(out.Payload) != string(innerPayload) || out.TTL != innerTTL {
				t.Errorf("%s, IPv6 %v: %v, %v, payload %q", name, v6, v, out.Tuple, out.Payload)
			}
		}
	}
}

// What carries no readable packet is counted as such.
func TestRareLinkTypesWithoutPacket(t *testing.T) {
	for name, in := range map[string]capture.Packet{
		"beacon":          packetOf(capture.IEEE80211, join(0x80, make([]byte, 40))),
		"encrypted":       packetOf(capture.IEEE80211, wifi(false, true, 0x41, innermost(false))),
		"null data":       packetOf(capture.IEEE80211, join(0x48, 1, make([]byte, 22))),
		"part of a frame": packetOf(capture.IEEE80211, wifi(false, false, 0x05, innermost(false))),
		"last part":       packetOf(capture.IEEE80211, partOf(3, wifi(false, false, 0x01, innermost(false)))),
		"null with bytes": packetOf(capture.IEEE80211, join(0xc8, wifi(false, true, 1, innermost(false))[1:])),
		"acknowledgement": packetOf(capture.IEEE80211, join(0xd4, 0, make([]byte, 8))),
		"version 1":       packetOf(capture.IEEE80211, join(0x09, wifi(false, false, 1, innermost(false))[1:])),
		"aggregated":      packetOf(capture.IEEE80211, aggregated(wifi(false, true, 1, innermost(false)))),
	} {
		if _, v := decodeOne(t, Config{}, in); v != NonIP {
			t.Errorf("%s: %v, want %v", name, v, NonIP)
		}
	}
}

// partOf makes a frame the part of that number of one that was cut in parts.
func partOf(n byte, frame []byte) []byte {
	frame[22] |= n
	return frame
}

// aggregated makes a frame with QoS control one of several packets.
func aggregated(frame []byte) []byte {
	frame[24] |= 0x80
	return frame
}

// Headers that lie where other lengths put them are found all the same.
func TestRareLinkTypesOfOtherLengths(t *testing.T) {
	packet := innermost(false)
	frame := wifi(false, true, 1, packet)
	moved := join(frame[:26], "\x00\x00", frame[26:]) // the body of a frame of 26 bytes at 28
	ordered := join(frame[0:1], int(frame[1]|0x80), frame[2:26], "\x01\x02\x03\x04", frame[26:])
	for name, in := range map[string]capture.Packet{
		"radiotap with a time":           packetOf(capture.Radiotap, join("\x00\x00\x19\x00\x03\x00\x00\x00", make([]byte, 8), 0x20, make([]byte, 8), moved)),
		"radiotap with two more bitmaps": packetOf(capture.Radiotap, join("\x00\x00\x12\x00\x02\x00\x00\x80", "\x00\x00\x00\xa0\x00\x00\x00\x00", 0x20, 0, moved)),
		"radiotap with a bitmap, a time": packetOf(capture.Radiotap, join("\x00\x00\x19\x00\x03\x00\x00\x80", make([]byte, 16), 0x20, moved)),
		"radiotap without flags":         packetOf(capture.Radiotap, join("\x00\x00\x08\x00\x00\x00\x00\x00", frame)),
		"HT control":                     packetOf(capture.IEEE80211, ordered),
		"PFLog of FreeBSD 14":            packetOf(capture.PFLog, join(69, 2, make([]byte, 70), packet)),
		"PFLog of OpenBSD":               packetOf(capture.PFLog, join(100, 2, make([]byte, 98), packet)),
	} {
		out, v := decodeOne(t, Config{}, in)
		if v != Tracked || out.Tuple != innerTuple(false) || string(out.Payload) != string(innerPayload) {
			t.Errorf("%s: %v, %v, payload %q", name, v, out.Tuple, out.Payload)
		}
	}
}

// What a capture cut off is truncated, what was never there malformed.
func TestRareLinkTypesCutShort(t *testing.T) {
	for name, test := range map[string]struct {
		link capture.LinkType
		head int
		b    []byte
	}{
		"Wi-Fi":    {capture.IEEE80211, 24, wifi(false, false, 1, innermost(false))},
		"QoS":      {capture.IEEE80211, 26, wifi(false, true, 1, innermost(false))},
		"radiotap": {capture.Radiotap, 10, radiotap(false, wifi(false, true, 1, innermost(false)))},
		"PFLog":    {capture.PFLog, 64, join(61, 2, make([]byte, 62), innermost(false))},
	} {
		for n := range test.head {
			for want, wire := range map[Verdict]int{Truncated: len(test.b), Malformed: n} {
				in := packetOf(test.link, test.b[:n])
				in.WireLength = uint32(wire)
				if _, v := decodeOne(t, Config{}, in); v != want {
					t.Errorf("%s, %d bytes of %d: %v, want %v", name, n, wire, v, want)
				}
			}
		}
	}
}

// Hostile headers of rare link types are malformed packets and never faults.
func TestRareLinkTypesAreFenced(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	d := New(Config{})
	var out Packet
	verdicts := map[Verdict]int{}
	for range 60_000 {
		b := make([]byte, r.IntN(80))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		link := []capture.LinkType{capture.IEEE80211, capture.Radiotap, capture.PFLog}[r.IntN(3)]
		if link == capture.Radiotap && len(b) > 4 {
			b[0], b[1], b[3] = 0, 0, 0
		}
		if link == capture.PFLog && len(b) > 0 {
			b[0] = 61
		}
		in := packetOf(link, b)
		verdicts[d.Decode(&in, &out)]++
	}
	if n := verdicts[Fault]; n > 0 {
		t.Errorf("%d faults", n)
	}
	if verdicts[Malformed] == 0 || verdicts[NonIP] == 0 {
		t.Errorf("%v: the packets reach too little", verdicts)
	}
}
