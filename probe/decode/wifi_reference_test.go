package decode

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/whorl-net/whorl/internal/fuzzguard"
	"github.com/whorl-net/whorl/probe/capture"
)

// rareReference walks the link headers of wifi.go with gopacket and goes on with d
// behind them. ok is false where gopacket refuses or panics, and where it is known
// to be wrong.
func rareReference(d *Decoder, in *capture.Packet, out *Packet) (v Verdict, ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	*out = Packet{Time: in.Time, WireLength: in.WireLength}
	d.out, d.budget, d.depth, d.held, d.partial = out, maxHeaders, 0, nil, false
	frame := append([]byte(nil), in.Data...) // it moves bytes within what it is given
	switch in.LinkType {
	case capture.PFLog:
		var h layers.PFLog
		if len(frame) > 0 && frame[0] < 61 || h.DecodeFromBytes(frame, gopacket.NilDecodeFeedback) != nil {
			return 0, false
		}
		return d.rawIP(h.Payload, len(h.Payload)), true
	case capture.Radiotap:
		var h layers.RadioTap
		if frame[0] != 0 || h.DecodeFromBytes(frame, gopacket.NilDecodeFeedback) != nil || h.Length < 8 {
			return 0, false
		}
		if frame = h.Payload; len(frame) < 28 {
			return 0, false
		}
		if h.Flags.Datapad() && frame[0]&0x8c == 0x88 && frame[1]&0x80 != 0 {
			return 0, false // HT control is not in its account of the padding
		}
	default:
		frame = append(frame, 0, 0, 0, 0) // it takes the last four for a check sequence
	}
	var h layers.Dot11
	if h.DecodeFromBytes(frame, gopacket.NilDecodeFeedback) != nil || h.Proto != 0 {
		return 0, false
	}
	if h.Type.MainType() != layers.Dot11TypeData || h.Flags.WEP() || h.Flags.MF() || h.FragmentNumber != 0 || h.Type&0x10 != 0 {
		return NonIP, true
	}
	if h.QOS != nil && h.Contents[24+6*int(h.Flags&(h.Flags>>1)&1)]&0x80 != 0 || len(h.Payload) == 0 {
		return NonIP, true
	}
	return d.etherType(0, h.Payload, len(h.Payload)), true
}

// checkRare compares Decode with the reference on one whole packet.
func checkRare(t *testing.T, d, other *Decoder, in *capture.Packet) (compared bool) {
	t.Helper()
	var out, want Packet
	v := d.Decode(in, &out)
	if v == Fault {
		t.Fatalf("link type %v: panic on %x", in.LinkType, in.Data)
	}
	wanted, ok := rareReference(other, in, &want)
	if !ok || wanted == Held || v == Malformed && in.LinkType == capture.Radiotap { // gopacket looks for fields behind the header's end
		return false
	}
	if v != wanted || v == Tracked && (out.Tuple != want.Tuple || string(out.Payload) != string(want.Payload) || out.TCPFlags != want.TCPFlags) {
		t.Fatalf("link type %v, %x: %v %v %q, gopacket: %v %v %q", in.LinkType, in.Data, v, out.Tuple, out.Payload, wanted, want.Tuple, want.Payload)
	}
	return v == Tracked
}

// rareSeeds are a packet of each kind, with and without what may be there.
func rareSeeds() (seeds []capture.Packet) {
	for _, v6 := range []bool{false, true} {
		packet := innermost(v6)
		seeds = append(seeds,
			packetOf(capture.PFLog, join(61, 2, make([]byte, 62), packet)),
			packetOf(capture.IEEE80211, wifi(v6, false, 1, packet)),
			packetOf(capture.IEEE80211, wifi(v6, true, 2, packet)),
			packetOf(capture.Radiotap, radiotap(false, wifi(v6, false, 1, packet))),
			packetOf(capture.Radiotap, radiotap(true, wifi(v6, true, 1, packet))),
			packetOf(capture.Radiotap, join("\x00\x00\x19\x00\x03\x00\x00\x00", make([]byte, 8), 0x20, make([]byte, 8),
				wifi(v6, true, 1, nil)[:26], "\x00\x00", wifi(v6, true, 1, packet)[26:])),
		)
	}
	return seeds
}

// Packets of rare link types, with any bits flipped, are to us what they are to
// gopacket.
func TestRareLinkTypesLikeReference(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	d, other := New(Config{}), New(Config{})
	seeds, compared := rareSeeds(), 0
	for range 40_000 {
		in := seeds[r.IntN(len(seeds))]
		in.Data = append([]byte(nil), in.Data...)
		for range r.IntN(5) {
			bit := r.IntN(8 * min(len(in.Data), 60))
			in.Data[bit/8] ^= 1 << (bit % 8)
		}
		if checkRare(t, d, other, &in) {
			compared++
		}
	}
	if compared < 10_000 {
		t.Errorf("only %d packets were tracked by both", compared)
	}
}

func FuzzRareLinkTypes(f *testing.F) {
	links := []capture.LinkType{capture.PFLog, capture.IEEE80211, capture.Radiotap}
	for _, in := range rareSeeds() {
		f.Add(uint8(slices.Index(links, in.LinkType)), in.Data)
	}
	f.Fuzz(func(t *testing.T, link uint8, data []byte) {
		fuzzguard.Watch(t)
		in := packetOf(links[int(link)%len(links)], data)
		checkRare(t, New(Config{}), New(Config{}), &in)
	})
}
