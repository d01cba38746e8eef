package decode

import "encoding/binary"

// wifi walks an IEEE 802.11 frame. padded says that the driver has put its body
// at a multiple of four bytes. What follows the body, such as the check
// sequence, is padding to the IP header, as with Ethernet.
func (d *Decoder) wifi(b []byte, wire int, padded bool) Verdict {
	const (
		kindMask, kindData = 0x0f, 0x08 // version 0, data
		qos, empty         = 0x80, 0x40 // of the subtype
		toDS, fromDS       = 0x01, 0x02
		more, protected    = 0x04, 0x40
		order              = 0x80
		aggregated         = 0x80 // of the QoS control: the body is several packets
	)
	if len(b) < 2 {
		return short(wire, 2)
	}
	kind, flags := b[0], b[1]
	if kind&kindMask != kindData || kind&empty != 0 || flags&protected != 0 || flags&more != 0 {
		return NonIP // management, only to keep the link alive, encrypted, or a part of a frame
	}
	head := 24
	if flags&(toDS|fromDS) == toDS|fromDS {
		head += 6 // the fourth address
	}
	control := head
	if kind&qos != 0 {
		head += 2
		if flags&order != 0 {
			head += 4 // HT control
		}
	}
	if padded {
		head = (head + 3) &^ 3
	}
	if len(b) < head {
		return short(wire, head)
	}
	if b[22]&0x0f != 0 { // the number of the part
		return NonIP
	}
	if kind&qos != 0 && b[control]&aggregated != 0 {
		return NonIP
	}
	if len(b) == head && wire == head {
		return NonIP
	}
	return d.etherType(0, b[head:], wire-head)
}

// radiotap walks what a radio said of an IEEE 802.11 frame
// (https://www.radiotap.org): only its second field is of interest.
func (d *Decoder) radiotap(b []byte, wire int) Verdict {
	const (
		hasTime, hasFlags, another = 1 << 0, 1 << 1, 1 << 31 // in a word of what is present
		hasFCS, padded             = 0x10, 0x20              // of the flags
	)
	if len(b) < 8 {
		return short(wire, 8)
	}
	head := int(binary.LittleEndian.Uint16(b[2:]))
	if b[0] != 0 || head < 8 {
		return Malformed
	}
	if len(b) < head {
		return short(wire, head)
	}
	present := binary.LittleEndian.Uint32(b[4:])
	at := 8
	for word := present; word&another != 0; at += 4 {
		if at+4 > head {
			return Malformed
		}
		word = binary.LittleEndian.Uint32(b[at:])
	}
	var flags byte
	if present&hasFlags != 0 {
		if present&hasTime != 0 {
			at = (at+7)&^7 + 8
		}
		if at >= head {
			return Malformed
		}
		flags = b[at]
	}
	b, wire = b[head:], wire-head
	if flags&hasFCS != 0 {
		if wire -= 4; wire < 0 {
			return Malformed
		}
		b = b[:min(len(b), wire)]
	}
	return d.wifi(b, wire, flags&padded != 0)
}

// pflog walks the header of OpenBSD's packet filter, whose length is its first
// byte, and which ends at a multiple of four.
func (d *Decoder) pflog(b []byte, wire int) Verdict {
	const least = 45 // of the oldest form there is
	if len(b) == 0 {
		return short(wire, 1)
	}
	head := (int(b[0]) + 3) &^ 3
	if b[0] < least {
		return Malformed
	}
	if len(b) < head {
		return short(wire, head)
	}
	return d.rawIP(b[head:], wire-head)
}
