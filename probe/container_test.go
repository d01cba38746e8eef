package probe

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"slices"
	"testing"

	"github.com/whorl-net/whorl/probe/capture"
)

// written returns packets as a capture file of a format.
func written(t testing.TB, format capture.Format, packets []capture.Packet) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := capture.NewWriter(&out, format, packets[0].LinkType)
	if err != nil {
		t.Fatal(err)
	}
	for i := range packets {
		if err := w.Write(&packets[i]); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

// container is a way to keep packets in a file.
type container struct {
	name   string
	format capture.Format
	remake func(t testing.TB, file []byte) []byte // nil: as the Writer made it
	slow   bool                                   // not for large captures
}

var containers = []container{
	{"pcap", capture.PCAP, nil, false},
	{"pcap big-endian", capture.PCAP, swapPcap, false},
	{"pcap nanoseconds", capture.PCAPNano, nil, false},
	{"pcap nanoseconds big-endian", capture.PCAPNano, swapPcap, false},
	{"pcap in gzip", capture.PCAP, zipped, true},
	{"pcapng", capture.PCAPNG, nil, false},
	{"pcapng big-endian", capture.PCAPNG, swapPcapng, false},
	{"pcapng of two sections", capture.PCAPNG, func(t testing.TB, file []byte) []byte {
		return slices.Concat(file[:0:0], file, emptySection(t))
	}, false},
	{"pcapng in gzip", capture.PCAPNG, zipped, true},
}

func zipped(t testing.TB, file []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(file); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// emptySection is a big-endian section without packets.
func emptySection(t testing.TB) []byte {
	var out bytes.Buffer
	if _, err := capture.NewWriter(&out, capture.PCAPNG, capture.Raw); err != nil {
		t.Fatal(err)
	}
	return swapPcapng(t, out.Bytes())
}

// swapper copies a file and turns the byte order of its numbers.
type swapper struct{ in, out []byte }

func (s *swapper) numbers(sizes ...int) {
	for _, n := range sizes {
		field := slices.Clone(s.in[:n])
		slices.Reverse(field)
		s.out, s.in = append(s.out, field...), s.in[n:]
	}
}

func (s *swapper) bytes(n int) { s.out, s.in = append(s.out, s.in[:n]...), s.in[n:] }

// swapPcap makes a little-endian classic file big-endian.
func swapPcap(_ testing.TB, file []byte) []byte {
	s := &swapper{in: file}
	s.numbers(4, 2, 2, 4, 4, 4, 4)
	for len(s.in) > 0 {
		captured := binary.LittleEndian.Uint32(s.in[8:])
		s.numbers(4, 4, 4, 4)
		s.bytes(int(captured))
	}
	return s.out
}

// swapPcapng makes a little-endian pcapng file of the Writer big-endian.
func swapPcapng(t testing.TB, file []byte) []byte {
	s := &swapper{in: file}
	for len(s.in) > 0 {
		kind, length := binary.LittleEndian.Uint32(s.in), int(binary.LittleEndian.Uint32(s.in[4:]))
		s.numbers(4, 4)
		switch kind {
		case 0x0a0d0d0a: // section
			s.numbers(4, 2, 2, 8)
		case 1: // interface: link, reserved, snap length, the option of 1 byte, the end
			s.numbers(2, 2, 4, 2, 2)
			s.bytes(4)
			s.numbers(2, 2)
		case 6: // enhanced packet
			s.numbers(4, 4, 4, 4, 4)
			s.bytes(length - 32)
		default:
			t.Fatalf("block type %d", kind)
		}
		s.numbers(4)
	}
	return s.out
}

// reread is written and read again.
func (c *container) reread(t testing.TB, packets []capture.Packet) (capture.Source, []byte) {
	t.Helper()
	file := written(t, c.format, packets)
	if c.remake != nil {
		file = c.remake(t, file)
	}
	f, err := capture.Read(c.name, bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	return f, file
}

// packetsOf are all packets of a capture file.
func packetsOf(t testing.TB, path string) []capture.Packet {
	t.Helper()
	f, err := capture.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var packets []capture.Packet
	for {
		var p capture.Packet
		if err := f.Next(&p); err == io.EOF {
			return packets
		} else if err != nil {
			t.Fatal(err)
		}
		p.Data = slices.Clone(p.Data)
		packets = append(packets, p)
	}
}
