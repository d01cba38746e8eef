package capture

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
)

// Magic numbers of classic pcap, as the writer's byte order has them.
const (
	magicMicro    = 0xa1b2c3d4
	magicNano     = 0xa1b23c4d
	magicModified = 0xa1b2cd34 // 24-byte records; patched kernels of the 1990s, some appliances
)

const (
	pcapHeader         = 24
	pcapRecord         = 16
	pcapRecordModified = 24
	linkTypeBits       = 0x03ffffff // above: whether frames have an FCS
)

// pcapState is what the header of a classic pcap file says about all packets.
type pcapState struct {
	link   LinkType
	record int   // bytes of a record header
	tick   int64 // nanoseconds of one unit of the fraction
}

// openPcapMagic reports whether b are the first bytes of a classic pcap file.
func (f *File) openPcapMagic(b []byte) bool {
	magic := binary.LittleEndian.Uint32(b)
	for _, swapped := range []bool{false, true} {
		if swapped {
			magic = bits.ReverseBytes32(magic)
		}
		f.swapped = swapped
		switch magic {
		case magicMicro:
			f.pcap = pcapState{record: pcapRecord, tick: 1000}
			return true
		case magicNano:
			f.pcap = pcapState{record: pcapRecord, tick: 1}
			return true
		case magicModified:
			f.pcap = pcapState{record: pcapRecordModified, tick: 1000}
			return true
		}
	}
	return false
}

func (f *File) openPcap() error {
	b, err := f.w.peek(pcapHeader)
	if err != nil {
		return f.lacking(err, "the file header", "24 bytes", len(b))
	}
	major, minor := f.u16(b[4:]), f.u16(b[6:])
	if major != 2 || minor < 3 {
		return fmt.Errorf("%w: it is a pcap file of version %d.%d; 2.4 is read", ErrUnsupported, major, minor)
	}
	f.pcap.link = LinkType(f.u32(b[20:]) & linkTypeBits)
	f.w.lo += pcapHeader
	f.next, f.more = (*File).nextPcap, (*File).morePcap
	return nil
}

func (f *File) nextPcap(p *Packet) error {
	w := &f.w
	f.at = w.offset()
	head := f.pcap.record
	b, err := w.peek(head)
	if err != nil {
		if err == io.EOF && len(b) == 0 {
			return io.EOF
		}
		return f.lacking(err, f.packetName(), fmt.Sprintf("a header of %d bytes", head), len(b))
	}
	sec, fraction := f.u32(b), f.u32(b[4:])
	captured, wire := f.u32(b[8:]), f.u32(b[12:])
	if captured > MaxCaptured {
		return f.malformed(f.packetName(), "announces %s bytes, at most %s are possible", commas(captured), commas(MaxCaptured))
	}
	n := head + int(captured)
	if b, err = w.peek(n); err != nil {
		return f.lacking(err, f.packetName(), commas(captured)+" bytes", len(b)-head)
	}
	w.lo += n
	p.Data = b[head:n:n]
	// At most 2³² s and 2³² fractions: within 63 bits of nanoseconds.
	p.Time = int64(sec)*1e9 + int64(fraction)*f.pcap.tick
	p.WireLength = max(wire, captured)
	p.LinkType = f.pcap.link
	p.VLAN = 0
	return nil
}

// morePcap lends packets that lie in the window as a whole. Whatever is wrong with
// one is left to nextPcap.
func (f *File) morePcap(ps []Packet) (n int) {
	w, head, swapped := &f.w, f.pcap.record, f.swapped
	b := w.buf[w.lo:w.hi]
	for n < len(ps) && len(b) >= head {
		sec, fraction := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
		captured, wire := binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])
		if swapped {
			sec, fraction = bits.ReverseBytes32(sec), bits.ReverseBytes32(fraction)
			captured, wire = bits.ReverseBytes32(captured), bits.ReverseBytes32(wire)
		}
		if captured > MaxCaptured || int(captured) > len(b)-head {
			break
		}
		end := head + int(captured)
		p := &ps[n]
		n++
		p.Data = b[head:end:end]
		p.Time = int64(sec)*1e9 + int64(fraction)*f.pcap.tick
		p.WireLength = max(wire, captured)
		p.LinkType = f.pcap.link
		p.VLAN = 0
		b = b[end:]
	}
	w.lo = w.hi - len(b)
	return n
}

func (f *File) u16(b []byte) uint16 {
	v := binary.LittleEndian.Uint16(b)
	if f.swapped {
		v = bits.ReverseBytes16(v)
	}
	return v
}

func (f *File) u32(b []byte) uint32 {
	v := binary.LittleEndian.Uint32(b)
	if f.swapped {
		v = bits.ReverseBytes32(v)
	}
	return v
}
