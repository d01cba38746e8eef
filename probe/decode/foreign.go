package decode

import (
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/whorl-net/whorl/probe/capture"
)

// foreignLink reports whether foreign knows link.
func foreignLink(link capture.LinkType) bool {
	return link == capture.IEEE80211 || link == capture.Radiotap || link == capture.PFLog
}

// foreign walks the link headers that are rare, intricate, and well described
// by gopacket: Wi-Fi, what a radio says of it, and OpenBSD's packet filter.
// gopacket panics on some hostile headers and moves bytes within what it is
// given, so it works on a copy, and a panic of it is a malformed packet.
func (d *Decoder) foreign(link capture.LinkType, b []byte, wire int) (v Verdict) {
	inside := false // of our own code again, whose panics are not gopacket's
	defer func() {
		if !inside && recover() != nil {
			v = Malformed
		}
	}()
	// Wi-Fi ends with a check sequence that captures without radio header lack;
	// gopacket takes the last four bytes for one in any case.
	d.copied = append(append(d.copied[:0], b...), 0, 0, 0, 0)
	frame := d.copied
	switch link {
	case capture.PFLog:
		var h layers.PFLog
		if h.DecodeFromBytes(b, gopacket.NilDecodeFeedback) != nil {
			return short(wire, 61)
		}
		inside = true
		return d.rawIP(h.Payload, wire-len(h.Contents))
	case capture.Radiotap:
		var h layers.RadioTap
		if h.DecodeFromBytes(d.copied[:len(b)], gopacket.NilDecodeFeedback) != nil {
			return Malformed
		}
		frame, wire = h.Payload, wire-int(h.Length)
		if h.Flags.FCS() {
			wire -= 4
		}
	}
	var h layers.Dot11
	if h.DecodeFromBytes(frame, gopacket.NilDecodeFeedback) != nil {
		return Malformed
	}
	if h.Type.MainType() != layers.Dot11TypeData || h.Flags.WEP() || h.Flags.MF() || h.FragmentNumber != 0 {
		return NonIP // management, encrypted, or a part of a frame
	}
	inside = true
	if len(h.Payload) == 0 {
		return NonIP // a frame that only keeps the link alive
	}
	return d.etherType(0, h.Payload, max(wire-len(h.Contents), len(h.Payload)))
}
