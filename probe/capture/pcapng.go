package capture

import (
	"fmt"
	"io"
)

// Block types of pcapng (draft-ietf-opsawg-pcapng).
const (
	blockInterface      = 1
	blockPacket         = 2 // obsolete
	blockSimplePacket   = 3
	blockEnhancedPacket = 6
	blockSecrets        = 10
	blockSection        = 0x0a0d0d0a

	byteOrderMagic = 0x1a2b3c4d

	optionEnd            = 0
	optionTimeResolution = 9
	optionTimeOffset     = 14

	ngBlock   = 12 // type and both lengths: the shortest block
	ngSection = 28 // the shortest section header
)

// ngState is what the blocks so far say about the packets to come.
type ngState struct {
	interfaces []ngInterface // of this section, in order
	last       int64         // time of the packet before, for those without one
}

type ngInterface struct {
	link   LinkType
	snap   uint32 // 0: none
	clock  ngClock
	offset int64 // seconds to add
}

// openNG reads the first section header.
func (f *File) openNG() error {
	b, err := f.w.peek(ngSection)
	if err != nil {
		return f.lacking(err, "the section header", fmt.Sprintf("at least %d bytes", ngSection), len(b))
	}
	if err := f.section(b); err != nil {
		return err
	}
	f.next, f.more = (*File).nextNG, (*File).moreNG
	return nil
}

// nextNG reads blocks until one is a packet.
func (f *File) nextNG(p *Packet) error {
	for {
		f.at = f.w.offset()
		b, err := f.w.peek(ngBlock)
		if err != nil {
			if err == io.EOF && len(b) == 0 {
				return io.EOF
			}
			return f.lacking(err, "the block before "+f.packetName(), fmt.Sprintf("at least %d bytes", ngBlock), len(b))
		}
		kind := f.u32(b)
		switch kind {
		case blockEnhancedPacket, blockPacket, blockSimplePacket:
			if b, err = f.block(kind); err != nil {
				return err
			}
			return f.packet(p, kind, b)
		case blockInterface:
			if b, err = f.block(kind); err == nil {
				err = f.addInterface(b)
			}
		case blockSection:
			if b, err = f.w.peek(ngSection); err != nil {
				return f.lacking(err, "a section header", fmt.Sprintf("at least %d bytes", ngSection), len(b))
			}
			err = f.section(b)
		case blockSecrets:
			err = f.secrets()
		default:
			err = f.skip(kind)
		}
		if err != nil {
			return err
		}
	}
}

// moreNG lends packets whose blocks lie in the window as a whole and side by side.
// Whatever is wrong with one is left to nextNG.
func (f *File) moreNG(ps []Packet) (n int) {
	w := &f.w
	for n < len(ps) && w.left() >= ngBlock {
		head := w.buf[w.lo:w.hi]
		kind, length := f.u32(head), f.u32(head[4:])
		switch kind {
		case blockEnhancedPacket, blockPacket, blockSimplePacket:
		default:
			return n
		}
		if int64(length) > int64(len(head)) {
			return n
		}
		before, stats := w.lo, f.stats
		b, err := f.block(kind)
		if err == nil {
			err = f.packet(&ps[n], kind, b)
		}
		if err != nil {
			w.lo, f.stats = before, stats
			return n
		}
		n++
	}
	return n
}

// section begins a section, whose first bytes are b: the byte order is new and
// the interfaces are forgotten.
func (f *File) section(b []byte) error {
	f.swapped = false
	if magic := f.u32(b[8:]); magic != byteOrderMagic {
		f.swapped = true
		if f.u32(b[8:]) != byteOrderMagic {
			return f.malformed("the section header", "has the byte order mark %08x, want %08x", magic, byteOrderMagic)
		}
	}
	if major := f.u16(b[12:]); major != 1 {
		return fmt.Errorf("%w: the section at byte %s is pcapng of version %d.%d; 1.0 is read",
			ErrUnsupported, commas(f.at), major, f.u16(b[14:]))
	}
	f.ng.interfaces = f.ng.interfaces[:0]
	return f.skip(blockSection)
}

// blockLength checks and returns the length of the block that is next.
func (f *File) blockLength(kind uint32) (int, error) {
	length, shortest := f.u32(f.w.buf[f.w.lo+4:]), uint32(ngBlock)
	if kind == blockSection {
		shortest = ngSection
	}
	if length < shortest || length%4 != 0 || length > maxBlock {
		return 0, f.malformed(f.blockName(kind), "announces %s bytes, want a multiple of 4 from %d to %s",
			commas(length), shortest, commas(maxBlock))
	}
	return int(length), nil
}

// block consumes a block, of which ngBlock bytes have come, and returns what is
// between its two lengths.
func (f *File) block(kind uint32) ([]byte, error) {
	length, err := f.blockLength(kind)
	if err != nil {
		return nil, err
	}
	b, err := f.w.peek(length)
	if err != nil {
		return nil, f.lacking(err, f.blockName(kind), commas(length)+" bytes", len(b))
	}
	if last := f.u32(b[length-4:]); last != uint32(length) {
		return nil, f.malformed(f.blockName(kind), "announces %s bytes, and %s at its end", commas(length), commas(last))
	}
	f.w.lo += length
	return b[8 : length-4], nil
}

// skip consumes a block, of which ngBlock bytes have come, without keeping it.
func (f *File) skip(kind uint32) error {
	length, err := f.blockLength(kind)
	if err != nil {
		return err
	}
	n, err := f.w.discard(length - 4)
	if err != nil {
		return f.lacking(err, f.blockName(kind), commas(length)+" bytes", n)
	}
	b, err := f.w.peek(4)
	if err != nil {
		return f.lacking(err, f.blockName(kind), commas(length)+" bytes", length-4+len(b))
	}
	if last := f.u32(b); last != uint32(length) {
		return f.malformed(f.blockName(kind), "announces %s bytes, and %s at its end", commas(length), commas(last))
	}
	f.w.lo += 4
	return nil
}

func (f *File) blockName(kind uint32) string {
	switch kind {
	case blockEnhancedPacket, blockPacket, blockSimplePacket:
		return f.packetName()
	case blockSection:
		return "the section header"
	case blockInterface:
		return "interface " + commas(len(f.ng.interfaces))
	}
	return fmt.Sprintf("the block of type %d before %s", kind, f.packetName())
}

// addInterface reads an interface description.
func (f *File) addInterface(b []byte) error {
	name := f.blockName(blockInterface)
	if len(b) < 8 {
		return f.malformed(name, "has %d bytes, want at least 8", len(b))
	}
	if len(f.ng.interfaces) == maxInterfaces {
		return f.malformed(name, "is one too many: a section has at most %s", commas(maxInterfaces))
	}
	in := ngInterface{link: LinkType(f.u16(b)), snap: f.u32(b[4:]), clock: newClock(6)}
	options := b[8:]
	if len(options) > maxOptions {
		return f.malformed(name, "has %s bytes of options, at most %s are possible", commas(len(options)), commas(maxOptions))
	}
	for len(options) >= 4 {
		code, length := f.u16(options), int(f.u16(options[2:]))
		padded := (length + 3) &^ 3
		if code == optionEnd {
			break
		}
		if padded > len(options)-4 {
			return f.malformed(name, "has an option %d of %s bytes, %s are left", code, commas(length), commas(len(options)-4))
		}
		value := options[4 : 4+length]
		switch {
		case code == optionTimeResolution && length == 1:
			in.clock = newClock(value[0])
		case code == optionTimeOffset && length == 8:
			in.offset = int64(f.u64(value))
		}
		options = options[4+padded:]
	}
	f.ng.interfaces = append(f.ng.interfaces, in)
	return nil
}

// packet reads what is between the lengths of a packet block.
func (f *File) packet(p *Packet, kind uint32, b []byte) error {
	const enhanced, simple = 20, 4
	var (
		index          uint32
		captured, wire uint32
		data           []byte
	)
	if kind == blockSimplePacket {
		if len(b) < simple {
			return f.malformed(f.packetName(), "has a block of %d bytes, want at least %d", len(b), simple)
		}
		data = b[simple:]
		wire = f.u32(b)
		captured = wire
	} else {
		if len(b) < enhanced {
			return f.malformed(f.packetName(), "has a block of %d bytes, want at least %d", len(b), enhanced)
		}
		data = b[enhanced:]
		captured, wire = f.u32(b[12:]), f.u32(b[16:])
		index = f.u32(b)
		if kind == blockPacket {
			index = uint32(f.u16(b))
		}
	}
	if int64(index) >= int64(len(f.ng.interfaces)) {
		return f.malformed(f.packetName(), "is of interface %s, %s are known", commas(index), commas(len(f.ng.interfaces)))
	}
	in := &f.ng.interfaces[index]
	if kind == blockSimplePacket {
		// Its captured length is not written: as much of it as the interface
		// keeps and the block has.
		if in.snap != 0 {
			captured = min(captured, in.snap)
		}
		captured = uint32(min(int(captured), len(data)))
	}
	if captured > MaxCaptured {
		return f.malformed(f.packetName(), "announces %s bytes, at most %s are possible", commas(captured), commas(MaxCaptured))
	}
	if int(captured) > len(data) {
		return f.malformed(f.packetName(), "announces %s bytes in a block with room for %s", commas(captured), commas(len(data)))
	}
	if rest := len(data) - int(captured); rest > maxOptions+3 {
		return f.malformed(f.packetName(), "has %s bytes of options, at most %s are possible", commas(rest), commas(maxOptions))
	}
	if kind != blockSimplePacket {
		ticks := uint64(f.u32(b[4:]))<<32 | uint64(f.u32(b[8:]))
		time, ok := in.clock.nanoseconds(ticks, in.offset)
		if !ok {
			f.stats.TimesClamped++
		}
		f.ng.last = time
	}
	p.Data = data[:captured:captured]
	p.Time = f.ng.last
	p.WireLength = max(wire, captured)
	p.LinkType = in.link
	p.VLAN = 0
	return nil
}

// secrets hands a Decryption Secrets Block to whoever wants it.
func (f *File) secrets() error {
	if f.OnSecrets == nil {
		return f.skip(blockSecrets)
	}
	b, err := f.block(blockSecrets)
	if err != nil {
		return err
	}
	if len(b) < 8 {
		return f.malformed(f.blockName(blockSecrets), "has %d bytes, want at least 8", len(b))
	}
	length := f.u32(b[4:])
	if int64(length) > int64(len(b)-8) {
		return f.malformed(f.blockName(blockSecrets), "announces %s bytes of secrets, %s are left", commas(length), commas(len(b)-8))
	}
	f.OnSecrets(f.u32(b), b[8:8+length])
	return nil
}

func (f *File) u64(b []byte) uint64 {
	hi, lo := uint64(f.u32(b)), uint64(f.u32(b[4:]))
	if !f.swapped {
		hi, lo = lo, hi
	}
	return hi<<32 | lo
}
