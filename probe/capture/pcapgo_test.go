package capture

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// readPcapgo reads data with gopacket's readers, which is safe for files of our
// own only.
func readPcapgo(tb testing.TB, data []byte) (packets []got) {
	tb.Helper()
	var read func() ([]byte, gopacket.CaptureInfo, error)
	var link func(gopacket.CaptureInfo) LinkType
	if bytes.HasPrefix(data, []byte("\x0a\x0d\x0d\x0a")) {
		r, err := pcapgo.NewNgReader(bytes.NewReader(data), pcapgo.NgReaderOptions{WantMixedLinkType: true})
		if err != nil {
			tb.Fatal(err)
		}
		read = r.ReadPacketData
		link = func(ci gopacket.CaptureInfo) LinkType { return LinkType(ci.AncillaryData[0].(layers.LinkType)) }
	} else {
		r, err := pcapgo.NewReader(bytes.NewReader(data))
		if err != nil {
			tb.Fatal(err)
		}
		r.SetSnaplen(MaxCaptured)
		read = r.ReadPacketData
		link = func(gopacket.CaptureInfo) LinkType { return LinkType(r.LinkType()) }
	}
	for {
		data, ci, err := read()
		if err == io.EOF {
			return packets
		}
		if err != nil {
			tb.Fatal(err)
		}
		packets = append(packets, got{string(data), ci.Timestamp.UnixNano(), uint32(ci.Length), link(ci)})
	}
}

// On well-formed files File and pcapgo read the same.
func TestEqualsPcapgo(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 0))
		for name, data := range map[string][]byte{
			"Writer":            writeRandom(t, random),
			"pcapgo.Writer":     writePcapgo(t, random),
			"pcapgo.NgWriter":   writePcapgoNg(t, random),
			"hand, both orders": writeByHand(random),
		} {
			ours, err := readAll(t, bytes.NewReader(data))
			if err != nil {
				t.Fatalf("seed %d, %s: %v", seed, name, err)
			}
			theirs := readPcapgo(t, data)
			if len(ours) != len(theirs) {
				t.Fatalf("seed %d, %s: we read %d packets, pcapgo %d", seed, name, len(ours), len(theirs))
			}
			for i := range ours {
				if o, p := ours[i], theirs[i]; o != p {
					t.Fatalf("seed %d, %s, packet %d: we read %.20q %d %d %v, pcapgo %.20q %d %d %v",
						seed, name, i, o.data, o.time, o.wire, o.link, p.data, p.time, p.wire, p.link)
				}
			}
		}
	}
}

func randomBytes(random *rand.Rand) []byte {
	b := make([]byte, random.IntN(1<<random.IntN(17)))
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

func randomTime(random *rand.Rand) time.Time {
	return time.Unix(random.Int64N(1<<32), random.Int64N(1e9)).UTC()
}

func writeRandom(tb testing.TB, random *rand.Rand) []byte {
	var b bytes.Buffer
	format := Format(random.IntN(3))
	w, err := NewWriter(&b, format, Ethernet)
	if err != nil {
		tb.Fatal(err)
	}
	for range random.IntN(60) {
		data := randomBytes(random)
		p := Packet{Data: data, Time: randomTime(random).UnixNano(), WireLength: uint32(len(data) + random.IntN(9)), LinkType: Ethernet}
		if format == PCAPNG {
			p.LinkType = LinkType(random.IntN(3))
		}
		if err := w.Write(&p); err != nil {
			tb.Fatal(err)
		}
	}
	return b.Bytes()
}

func writePcapgo(tb testing.TB, random *rand.Rand) []byte {
	var b bytes.Buffer
	w := pcapgo.NewWriter(&b)
	if random.IntN(2) == 0 {
		w = pcapgo.NewWriterNanos(&b)
	}
	if err := w.WriteFileHeader(65536, layers.LinkTypeEthernet); err != nil {
		tb.Fatal(err)
	}
	for range random.IntN(60) {
		data := randomBytes(random)
		ci := gopacket.CaptureInfo{Timestamp: randomTime(random), CaptureLength: len(data), Length: len(data) + random.IntN(9)}
		if err := w.WritePacket(ci, data); err != nil {
			tb.Fatal(err)
		}
	}
	return b.Bytes()
}

func writePcapgoNg(tb testing.TB, random *rand.Rand) []byte {
	var b bytes.Buffer
	w, err := pcapgo.NewNgWriter(&b, layers.LinkTypeEthernet)
	if err != nil {
		tb.Fatal(err)
	}
	interfaces := 1
	for range random.IntN(60) {
		if random.IntN(8) == 0 {
			in := pcapgo.NgInterface{Name: "other", Comment: "a comment", LinkType: layers.LinkTypeLinuxSLL, TimestampResolution: 9}
			if _, err := w.AddInterface(in); err != nil {
				tb.Fatal(err)
			}
			interfaces++
		}
		data := randomBytes(random)
		ci := gopacket.CaptureInfo{Timestamp: randomTime(random), CaptureLength: len(data), Length: len(data) + random.IntN(9),
			InterfaceIndex: random.IntN(interfaces)}
		if err := w.WritePacket(ci, data); err != nil {
			tb.Fatal(err)
		}
		if random.IntN(8) == 0 {
			if err := w.WriteInterfaceStats(0, pcapgo.NgInterfaceStatistics{LastUpdate: ci.Timestamp}); err != nil {
				tb.Fatal(err)
			}
		}
	}
	if err := w.Flush(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// writeByHand makes sections of either byte order, with clocks and offsets.
func writeByHand(random *rand.Rand) []byte {
	b := new(builder)
	for range 1 + random.IntN(3) {
		b.section([]binary.AppendByteOrder{little, big}[random.IntN(2)])
		interfaces := uint32(1 + random.IntN(3))
		for i := range interfaces {
			resolution := string([]byte{[]byte{3, 6, 9}[random.IntN(3)], 0, 0, 0})
			b.iface(uint16(i), uint16(9), uint16(1), resolution, uint16(14), uint16(8), uint64(random.IntN(1e6)), uint32(0))
		}
		for range random.IntN(30) {
			if random.IntN(5) == 0 {
				b.block(uint32(1000+random.IntN(9)), randomBytes(random))
			}
			data := randomBytes(random)
			b.enhanced(uint32(random.IntN(int(interfaces))), uint64(random.Int64N(1e12)), uint32(len(data)), string(data))
		}
	}
	return b.Bytes()
}

// Captures made by other programs are read as pcapgo reads them, where it can.
func TestEqualsPcapgoOnReferences(t *testing.T) {
	const dir = "../../../shared/oracle/captures"
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		t.Skip("no reference captures beside the project")
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		ours, err := readAll(t, bytes.NewReader(data))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for i := range ours {
			ours[i].link &= 0xff // all that pcapgo has room for
		}
		if theirs := readPcapgo(t, data); !slices.Equal(ours, theirs) {
			t.Errorf("%s: we and pcapgo differ", file)
		}
	}
}
