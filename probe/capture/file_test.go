package capture

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// Both byte orders, both resolutions, the longer records of the modified
// format, and link types of more than 8 bits read as they were written.
func TestClassicVariants(t *testing.T) {
	tests := []struct {
		name string
		file *builder
		want got
	}{
		{"little-endian", pcap(little, magicMicro, 1).record(5, 7, 3, 9, "abc"), got{"abc", 5_000_007_000, 9, Ethernet}},
		{"big-endian", pcap(big, magicMicro, 1).record(5, 7, 3, 9, "abc"), got{"abc", 5_000_007_000, 9, Ethernet}},
		{"nanoseconds", pcap(little, magicNano, 1).record(5, 7, 3, 9, "abc"), got{"abc", 5_000_000_007, 9, Ethernet}},
		{"big-endian nanoseconds", pcap(big, magicNano, 1).record(5, 7, 3, 9, "abc"), got{"abc", 5_000_000_007, 9, Ethernet}},
		{"modified", pcap(big, magicModified, 1).record(5, 7, 3, 9, "iiiippq_abc"), got{"abc", 5_000_007_000, 9, Ethernet}},
		{"link type 276", pcap(big, magicMicro, 276).record(0, 0, 0, 0, ""), got{"", 0, 0, SLL2}},
		{"link type with FCS length", pcap(little, magicMicro, 0x24000001).record(0, 0, 0, 0, ""), got{"", 0, 0, Ethernet}},
		{"last second", pcap(little, magicNano, 1).record(1<<32-1, 1<<32-1, 0, 0, ""), got{"", (1<<32-1)*1e9 + 1<<32 - 1, 0, Ethernet}},
		{"captured beyond original", pcap(little, magicMicro, 1).record(1, 0, 3, 2, "abc"), got{"abc", 1e9, 3, Ethernet}},
		{"beyond the snap length", pcap(little, magicMicro, 1).record(1, 0, 70000, 70000, strings.Repeat("x", 70000)),
			got{strings.Repeat("x", 70000), 1e9, 70000, Ethernet}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			packets, err := readAll(t, &test.file.Buffer)
			if err != nil {
				t.Fatal(err)
			}
			if want := []got{test.want}; !slices.Equal(packets, want) {
				t.Errorf("read %.200v, want %.200v", packets, want)
			}
		})
	}
}

// A section sets the byte order and forgets the interfaces; each interface has
// its own link type and clock; blocks of unknown type are no matter.
func TestSectionsAndInterfaces(t *testing.T) {
	b := new(builder).section(little).
		iface(1, uint16(2), uint16(4), "eth0", uint16(9), uint16(1), "\x09\x00\x00\x00", uint32(0)).
		block(0xbad, "never heard of").
		enhanced(0, 1_000_000_001, 60, "first").
		iface(113).
		enhanced(1, 2_000_001, 70, "second").
		section(big).
		iface(276, uint16(14), uint16(8), uint64(100)).
		block(4, "names").
		enhanced(0, 3_000_001, 80, "third").
		block(blockPacket, uint16(0), uint16(0), uint32(0), uint32(4_000_001), uint32(6), uint32(90), "fourth").
		block(blockSimplePacket, uint32(5), "fifth").
		block(blockSimplePacket, uint32(1000), "cut short___")
	packets, err := readAll(t, &b.Buffer)
	if err != nil {
		t.Fatal(err)
	}
	want := []got{
		{"first", 1_000_000_001, 60, Ethernet},
		{"second", 2_000_001_000, 70, LinuxSLL},
		{"third", 103_000_001_000, 80, SLL2},
		{"fourth", 104_000_001_000, 90, SLL2},
		{"fifth", 104_000_001_000, 5, SLL2},
		{"cut short___", 104_000_001_000, 1000, SLL2},
	}
	if !slices.Equal(packets, want) {
		t.Errorf("read\n%v, want\n%v", packets, want)
	}

	b = new(builder).section(little).block(blockInterface, uint16(1), uint16(0), uint32(4)).block(blockSimplePacket, uint32(9), "cut by snap.")
	if packets, err := readAll(t, &b.Buffer); err != nil || len(packets) != 1 || packets[0] != (got{"cut ", 0, 9, Ethernet}) {
		t.Errorf("simple packet longer than the snap length: %v, %v", packets, err)
	}

	b = new(builder).section(little).iface(1).section(little).enhanced(0, 0, 0, "")
	if _, err := readAll(t, &b.Buffer); !errors.Is(err, ErrMalformed) {
		t.Errorf("packet of an interface of the section before: %v, want malformed", err)
	}
}

// Secrets are handed out where they stand, and only if somebody wants them.
func TestSecrets(t *testing.T) {
	b := new(builder).section(big).
		block(blockSecrets, SecretsTLSKeyLog, uint32(9), "CLIENT_A\n").
		iface(1).
		enhanced(0, 0, 3, "abc").
		block(blockSecrets, uint32(7), uint32(0))
	data := b.Bytes()
	if packets, err := readAll(t, bytes.NewReader(data)); err != nil || len(packets) != 1 {
		t.Fatalf("without OnSecrets: %v, %v", packets, err)
	}
	f, err := Read("test", bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	f.OnSecrets = func(kind uint32, data []byte) { all = append(all, fmt.Sprintf("%x %q", kind, data)) }
	var p Packet
	for err == nil {
		err = f.Next(&p)
	}
	want := []string{`544c534b "CLIENT_A\n"`, `7 ""`}
	if err != io.EOF || !slices.Equal(all, want) {
		t.Errorf("secrets %v, %v; want %v", all, err, want)
	}
}

// What a Writer writes, a File reads: also from a reader that gives a byte at a
// time, and from gzip, in one member or in several.
func TestWriterRoundTrip(t *testing.T) {
	for _, format := range []Format{PCAP, PCAPNano, PCAPNG} {
		t.Run(fmt.Sprint(format), func(t *testing.T) {
			var b bytes.Buffer
			w, err := NewWriter(&b, format, Ethernet)
			if err != nil {
				t.Fatal(err)
			}
			var want []got
			for i := range 50 {
				g := got{strings.Repeat("p", i*i*i), 1_579_293_816_559_976_123 + int64(i), uint32(i * i * i), Ethernet}
				if i%3 == 0 {
					g.wire += 5
				}
				if format == PCAPNG && i%4 == 0 {
					g.link = SLL2
				}
				p := Packet{Data: []byte(g.data), Time: g.time, WireLength: g.wire, LinkType: g.link}
				if err := w.Write(&p); err != nil {
					t.Fatal(err)
				}
				if format == PCAP {
					g.time -= g.time % 1000
				}
				want = append(want, g)
			}
			half := b.Len() / 2
			readers := map[string]io.Reader{
				"whole":         bytes.NewReader(b.Bytes()),
				"byte by byte":  iotest.OneByteReader(bytes.NewReader(b.Bytes())),
				"data with EOF": iotest.DataErrReader(bytes.NewReader(b.Bytes())),
				"gzip":          bytes.NewReader(zip(t, b.Bytes())),
				"two members":   bytes.NewReader(append(zip(t, b.Bytes()[:half]), zip(t, b.Bytes()[half:])...)),
				"empty member":  bytes.NewReader(append(zip(t, nil), zip(t, b.Bytes())...)),
			}
			for name, r := range readers {
				packets, err := readAll(t, r)
				if err != nil || !slices.Equal(packets, want) {
					t.Errorf("%s: read %d packets, %v; want the %d that were written", name, len(packets), err, len(want))
				}
			}
		})
	}
}

// A Writer refuses what the format cannot say, and writes nothing.
func TestWriterRefuses(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b, PCAP, Ethernet)
	if err != nil {
		t.Fatal(err)
	}
	before := b.Len()
	for name, p := range map[string]Packet{
		"too long":     {Data: make([]byte, MaxCaptured+1), LinkType: Ethernet},
		"before 1970":  {Time: -1, LinkType: Ethernet},
		"after 2106":   {Time: 1 << 32 * 1e9, LinkType: Ethernet},
		"another link": {LinkType: SLL2},
	} {
		if err := w.Write(&p); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := w.WriteSecrets(SecretsTLSKeyLog, nil); !errors.Is(err, ErrUnsupported) {
		t.Errorf("secrets in pcap: %v", err)
	}
	if b.Len() != before {
		t.Errorf("%d bytes were written all the same", b.Len()-before)
	}
	if _, err := NewWriter(&b, Format(9), Ethernet); !errors.Is(err, ErrUnsupported) {
		t.Errorf("format 9: %v", err)
	}
}

// A Writer describes an interface per link type, not per packet.
func TestWriterInterfaces(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b, PCAPNG, Ethernet)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		if err := w.Write(&Packet{LinkType: []LinkType{Ethernet, SLL2, Raw}[i%3]}); err != nil {
			t.Fatal(err)
		}
	}
	if n := bytes.Count(b.Bytes(), []byte{optionTimeResolution, 0, 1, 0, 9}); n != 3 {
		t.Errorf("%d interfaces, want 3", n)
	}
}

// Secrets that were written can be read.
func TestWriterSecrets(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b, PCAPNG, Ethernet)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.WriteSecrets(SecretsTLSKeyLog, []byte("odd")); err != nil {
		t.Fatal(err)
	}
	f, err := Read("test", &b)
	if err != nil {
		t.Fatal(err)
	}
	var secrets string
	f.OnSecrets = func(_ uint32, data []byte) { secrets = string(data) }
	if err := f.Next(new(Packet)); err != io.EOF || secrets != "odd" {
		t.Errorf("secrets %q, %v", secrets, err)
	}
}

// Open tells formats by content, knows the size, and Close ends reading.
func TestOpen(t *testing.T) {
	data := manyPackets(t, PCAPNG, 10, 100)
	path := filepath.Join(t.TempDir(), "wrong-name.pcap")
	if err := os.WriteFile(path, zip(t, data), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	var p Packet
	for err == nil {
		err = f.Next(&p)
	}
	want := Stats{Packets: 10, WireBytes: 1000, CapturedBytes: 1000}
	if s := f.Stats(); err != io.EOF || s != want {
		t.Errorf("%v, %+v; want EOF, %+v", err, s, want)
	}
	if f.Size() != int64(len(zip(t, data))) || f.Offset() != f.Size() {
		t.Errorf("at %d of %d, want both %d", f.Offset(), f.Size(), len(zip(t, data)))
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}

	f, err = Open(path)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := f.Next(&p); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Next after Close: %v", err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none.pcap")); !errors.Is(err, fs.ErrNotExist) || !strings.HasSuffix(err.Error(), "none.pcap: no such file or directory") {
		t.Errorf("absent file: %v", err)
	}
	if _, err := Open(t.TempDir()); err == nil || !strings.HasSuffix(err.Error(), ": it is a directory") {
		t.Errorf("directory: %v", err)
	}
}

// "-" is standard input, of unknown size, and a packet is there as soon as
// its bytes are: the reader does not wait for more.
func TestStandardInputIsFollowed(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	stdin := os.Stdin
	os.Stdin = r
	defer func() { os.Stdin = stdin }()

	data := manyPackets(t, PCAP, 2, 50)
	if _, err := w.Write(data[:pcapHeader+pcapRecord+50]); err != nil {
		t.Fatal(err)
	}
	f, err := Open("-")
	if err != nil {
		t.Fatal(err)
	}
	var p Packet
	if err := f.Next(&p); err != nil || len(p.Data) != 50 || f.Size() != 0 {
		t.Fatalf("%v, %d bytes, size %d", err, len(p.Data), f.Size())
	}
	w.Close()
	if err := f.Next(&p); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.Stat(); err != nil {
		t.Errorf("Close closed standard input: %v", err)
	}
}

// Next does not allocate.
func TestNextDoesNotAllocate(t *testing.T) {
	for _, format := range []Format{PCAP, PCAPNG} {
		f, err := Read("test", bytes.NewReader(manyPackets(t, format, 20000, 100)))
		if err != nil {
			t.Fatal(err)
		}
		var p Packet
		for range 9000 { // the window grows to its size
			if err := f.Next(&p); err != nil {
				t.Fatal(err)
			}
		}
		if n := testing.AllocsPerRun(10000, func() { err = f.Next(&p) }); n != 0 || err != nil {
			t.Errorf("format %d: %v allocations per packet, %v", format, n, err)
		}
	}
}
