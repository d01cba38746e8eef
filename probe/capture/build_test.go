package capture

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"testing"
)

// builder writes capture files by hand, in either byte order, right or wrong.
type builder struct {
	bytes.Buffer
	order binary.AppendByteOrder
}

func (b *builder) put(values ...any) *builder {
	for _, v := range values {
		switch v := v.(type) {
		case uint8:
			b.WriteByte(v)
		case uint16:
			b.Write(b.order.AppendUint16(nil, v))
		case uint32:
			b.Write(b.order.AppendUint32(nil, v))
		case uint64:
			b.Write(b.order.AppendUint64(nil, v))
		case string:
			b.WriteString(v)
		case []byte:
			b.Write(v)
		}
	}
	return b
}

// pcap begins a classic file.
func pcap(order binary.AppendByteOrder, magic, link uint32) *builder {
	b := &builder{order: order}
	return b.put(magic, uint16(2), uint16(4), uint32(0), uint32(0), uint32(65535), link)
}

// record adds a packet to a classic file.
func (b *builder) record(sec, fraction, captured, wire uint32, data string) *builder {
	return b.put(sec, fraction, captured, wire, data)
}

// section begins a pcapng file, or another section of it.
func (b *builder) section(order binary.AppendByteOrder) *builder {
	b.order = order
	return b.block(blockSection, uint32(byteOrderMagic), uint16(1), uint16(0), uint64(1<<64-1))
}

// block adds a block with the right lengths and padding.
func (b *builder) block(kind uint32, values ...any) *builder {
	body := (&builder{order: b.order}).put(values...)
	for body.Len()%4 != 0 {
		body.WriteByte(0)
	}
	length := uint32(body.Len() + 12)
	return b.put(kind, length, body.Bytes(), length)
}

func (b *builder) iface(link uint16, options ...any) *builder {
	return b.block(blockInterface, append([]any{link, uint16(0), uint32(65535)}, options...)...)
}

func (b *builder) enhanced(iface uint32, ticks uint64, wire uint32, data string) *builder {
	return b.block(blockEnhancedPacket, iface, uint32(ticks>>32), uint32(ticks), uint32(len(data)), wire, data)
}

var (
	little = binary.LittleEndian
	big    = binary.BigEndian
)

// got is a Packet that may be kept.
type got struct {
	data string
	time int64
	wire uint32
	link LinkType
}

// readAll reads data to the end and returns its packets and the error that
// ended it, nil for io.EOF.
func readAll(tb testing.TB, r io.Reader) (packets []got, err error) {
	tb.Helper()
	f, err := Read("test.pcap", r)
	if err != nil {
		return nil, err
	}
	var p Packet
	for {
		if err := f.Next(&p); err != nil {
			if again := f.Next(&p); again != err {
				tb.Errorf("Next returned %v, then %v", err, again)
			}
			if err == io.EOF {
				err = nil
			}
			checkError(tb, err)
			return packets, err
		}
		packets = append(packets, got{string(p.Data), p.Time, p.WireLength, p.LinkType})
	}
}

// checkError fails unless err is nil or a *FileError of a known sort.
func checkError(tb testing.TB, err error) {
	tb.Helper()
	if err == nil {
		return
	}
	var fe *FileError
	if !errors.As(err, &fe) {
		tb.Errorf("%v is a %T, want a *FileError", err, err)
	}
}

func zip(tb testing.TB, data []byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}
