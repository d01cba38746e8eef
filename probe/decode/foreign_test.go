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
	} {
		if _, v := decodeOne(t, Config{}, in); v != NonIP {
			t.Errorf("%s: %v, want %v", name, v, NonIP)
		}
	}
}

// Hostile headers of rare link types, where gopacket is known to panic, are
// malformed packets and never faults.
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
