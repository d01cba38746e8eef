package capture

import (
	"bytes"
	"fmt"
	"io"
	"testing"
)

// manyPackets is a capture of n packets of the given length.
func manyPackets(tb testing.TB, format Format, n, length int) []byte {
	tb.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, format, Ethernet)
	if err != nil {
		tb.Fatal(err)
	}
	data := bytes.Repeat([]byte{0x42}, length)
	for i := range n {
		p := Packet{Data: data, Time: int64(i) * 1000, WireLength: uint32(length), LinkType: Ethernet}
		if err := w.Write(&p); err != nil {
			tb.Fatal(err)
		}
	}
	return b.Bytes()
}

// BenchmarkNext: one packet of a large file, the copy into the window
// included. Must stay at 0 allocs/op.
func BenchmarkNext(b *testing.B) {
	for _, format := range []Format{PCAP, PCAPNG} {
		for _, length := range []int{60, 300, 1500} {
			b.Run(fmt.Sprintf("format=%v/length=%d", format, length), func(b *testing.B) {
				const n = 1 << 17
				data := manyPackets(b, format, n, length)
				f := newBenchFile(b, data)
				var p Packet
				b.SetBytes(int64(length))
				b.ReportAllocs()
				for b.Loop() {
					err := f.Next(&p)
					if err == io.EOF {
						b.StopTimer()
						f = newBenchFile(b, data)
						b.StartTimer()
					} else if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func newBenchFile(b *testing.B, data []byte) *File {
	f, err := Read("bench", bytes.NewReader(data))
	if err != nil {
		b.Fatal(err)
	}
	return f
}
