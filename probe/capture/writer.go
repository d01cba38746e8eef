package capture

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

// Format is a capture file format.
type Format uint8

// The formats that a Writer writes, little-endian.
const (
	// PCAP is the classic format with microseconds: one link type, times from
	// 1970 to 2106.
	PCAP Format = iota
	// PCAPNano is PCAP with nanoseconds.
	PCAPNano
	// PCAPNG has an interface per link type, nanoseconds from 1970 on, and
	// secrets.
	PCAPNG
)

// Writer writes a capture file, one Write of the underlying writer per packet:
// give it a buffered one when there are many. Not safe for concurrent use.
type Writer struct {
	w      io.Writer
	format Format
	links  []LinkType // the interfaces so far; one unless PCAPNG
	buf    []byte
}

// NewWriter writes the file header to w. link is the link type of the file, or
// with PCAPNG of its first interface; others are added as packets need them.
func NewWriter(w io.Writer, format Format, link LinkType) (*Writer, error) {
	cw := &Writer{w: w, format: format, links: []LinkType{link}}
	le := binary.LittleEndian
	switch format {
	case PCAP, PCAPNano:
		magic := uint32(magicMicro)
		if format == PCAPNano {
			magic = magicNano
		}
		b := le.AppendUint32(nil, magic)
		b = le.AppendUint16(b, 2)
		b = le.AppendUint16(b, 4)
		b = append(b, make([]byte, 8)...) // time zone and accuracy: always 0
		b = le.AppendUint32(b, MaxCaptured)
		return cw, cw.emit(le.AppendUint32(b, uint32(link)))
	case PCAPNG:
		b := cw.block(blockSection)
		b = le.AppendUint32(b, byteOrderMagic)
		b = le.AppendUint16(b, 1)
		b = le.AppendUint16(b, 0)
		b = le.AppendUint64(b, 1<<64-1) // section length: unknown
		if err := cw.end(b); err != nil {
			return nil, err
		}
		return cw, cw.writeInterface(link)
	}
	return nil, fmt.Errorf("capture format %d: %w", format, ErrUnsupported)
}

// Write appends one packet. Data beyond MaxCaptured bytes, a time that the
// format cannot say, or a second link type in a classic file is an error and
// writes nothing.
func (cw *Writer) Write(p *Packet) error {
	if len(p.Data) > MaxCaptured {
		return fmt.Errorf("write packet of %s bytes: more than %s", commas(len(p.Data)), commas(MaxCaptured))
	}
	if p.Time < 0 || cw.format != PCAPNG && p.Time/1e9 > 1<<32-1 {
		return fmt.Errorf("write packet: time %d ns does not fit the format", p.Time)
	}
	wire := max(p.WireLength, uint32(len(p.Data)))
	if cw.format == PCAPNG {
		return cw.writeEnhanced(p, wire)
	}
	if p.LinkType != cw.links[0] {
		return fmt.Errorf("write packet of link type %v: the file has %v", p.LinkType, cw.links[0])
	}
	fraction := uint32(p.Time % 1e9)
	if cw.format == PCAP {
		fraction /= 1000
	}
	le := binary.LittleEndian
	b := le.AppendUint32(cw.buf[:0], uint32(p.Time/1e9))
	b = le.AppendUint32(b, fraction)
	b = le.AppendUint32(b, uint32(len(p.Data)))
	b = le.AppendUint32(b, wire)
	return cw.emit(append(b, p.Data...))
}

func (cw *Writer) writeEnhanced(p *Packet, wire uint32) error {
	i := slices.Index(cw.links, p.LinkType)
	if i < 0 {
		i = len(cw.links)
		if i == maxInterfaces {
			return fmt.Errorf("write packet of link type %v: the file has %s others", p.LinkType, commas(i))
		}
		if err := cw.writeInterface(p.LinkType); err != nil {
			return err
		}
		cw.links = append(cw.links, p.LinkType)
	}
	le := binary.LittleEndian
	b := cw.block(blockEnhancedPacket)
	b = le.AppendUint32(b, uint32(i))
	b = le.AppendUint32(b, uint32(p.Time>>32))
	b = le.AppendUint32(b, uint32(p.Time))
	b = le.AppendUint32(b, uint32(len(p.Data)))
	b = le.AppendUint32(b, wire)
	return cw.end(append(b, p.Data...))
}

// WriteSecrets appends a Decryption Secrets Block; only PCAPNG has one. kind
// is SecretsTLSKeyLog or another registered number.
func (cw *Writer) WriteSecrets(kind uint32, data []byte) error {
	if cw.format != PCAPNG {
		return fmt.Errorf("write secrets in a classic pcap file: %w", ErrUnsupported)
	}
	if len(data) > maxBlock-32 {
		return fmt.Errorf("write secrets of %s bytes: more than %s", commas(len(data)), commas(maxBlock-32))
	}
	le := binary.LittleEndian
	b := cw.block(blockSecrets)
	b = le.AppendUint32(b, kind)
	b = le.AppendUint32(b, uint32(len(data)))
	return cw.end(append(b, data...))
}

func (cw *Writer) writeInterface(link LinkType) error {
	if link > 1<<16-1 {
		return fmt.Errorf("write interface: link type %v has more than 16 bits", link)
	}
	le := binary.LittleEndian
	b := cw.block(blockInterface)
	b = le.AppendUint16(b, uint16(link))
	b = le.AppendUint16(b, 0)
	b = le.AppendUint32(b, MaxCaptured)
	b = append(b, optionTimeResolution, 0, 1, 0, 9, 0, 0, 0) // 10⁻⁹ s, padded
	return cw.end(append(b, 0, 0, 0, 0))                     // end of options
}

// block begins a block in the scratch buffer; end pads it, fills in its length
// and writes it.
func (cw *Writer) block(kind uint32) []byte {
	b := binary.LittleEndian.AppendUint32(cw.buf[:0], kind)
	return append(b, 0, 0, 0, 0)
}

func (cw *Writer) end(b []byte) error {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	length := uint32(len(b) + 4)
	binary.LittleEndian.PutUint32(b[4:], length)
	return cw.emit(binary.LittleEndian.AppendUint32(b, length))
}

func (cw *Writer) emit(b []byte) error {
	cw.buf = b[:0]
	_, err := cw.w.Write(b)
	return err
}
