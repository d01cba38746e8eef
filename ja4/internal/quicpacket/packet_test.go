package quicpacket

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/whorl-net/whorl/internal/fuzzguard"
)

// Truncated packet numbers are read as RFC 9000 appendix A.3 has them.
func TestPacketNumber(t *testing.T) {
	for _, c := range []struct {
		expected, truncated uint64
		length              int
		want                uint64
	}{
		{0xa82f30eb, 0x9b32, 2, 0xa82f9b32}, // the example of the RFC
		{0, 0, 1, 0},
		{0, 0xff, 1, 0xff},
		{256, 0, 1, 256},
		{255, 0, 1, 256},
		{258, 0xff, 1, 255},
		{0x10000, 0xfff0, 2, 0xfff0},
	} {
		if got := packetNumber(c.expected, c.truncated, c.length); got != c.want {
			t.Errorf("packetNumber(%x, %x, %d) = %x, want %x", c.expected, c.truncated, c.length, got, c.want)
		}
	}
}

// The headers of the packets in appendix A of RFC 9001 and RFC 9369.
func TestParseLong(t *testing.T) {
	pad := func(s string, n int) string { return s + strings.Repeat("00", n) }
	for _, c := range []struct {
		name, packet string
		kind         Kind
		dst, src     string
		number       int
	}{
		{"v1 client initial", pad("c000000001088394c8f03e5157080000449e7b9aec34", 0x49e-4), Initial, "8394c8f03e515708", "", 18},
		{"v1 server initial", pad("cf000000010008f067a5502a4262b5004075c0d9", 0x75-2), Initial, "", "f067a5502a4262b5", 18},
		{"v1 retry", "ff000000010008f067a5502a4262b5746f6b656e04a265ba2eff4d829058fb3f0f2496ba", Retry, "", "f067a5502a4262b5", 0},
		{"v2 client initial", pad("d76b3343cf088394c8f03e5157080000449ea0c95e82", 0x49e-4), Initial, "8394c8f03e515708", "", 18},
		{"v2 retry", "cf6b3343cf0008f067a5502a4262b5746f6b656ec8646ce8bfe33952d955543665dcc7b6", Retry, "", "f067a5502a4262b5", 0},
		{"v1 0-RTT", pad("d000000001010102020204", 4), ZeroRTT, "01", "0202", 11},
		{"v1 handshake", pad("e0000000010101010204", 4), Handshake, "01", "02", 10},
		{"v2 handshake", pad("f06b3343cf0101010204", 4), Handshake, "01", "02", 10},
		{"v2 0-RTT", pad("e06b3343cf0101010204", 4), ZeroRTT, "01", "02", 10},
		{"version negotiation", "8000000000010101026b3343cf", VersionNegotiation, "01", "02", 0},
	} {
		b, err := hex.DecodeString(c.packet)
		if err != nil {
			t.Fatal(err)
		}
		p, ok := ParseLong(append(b, "behind"...))
		if c.kind == Retry || c.kind == VersionNegotiation {
			b = nil
		}
		if !ok || p.Kind != c.kind || hex.EncodeToString(p.Dst) != c.dst || hex.EncodeToString(p.Src) != c.src || p.Number != c.number || !bytes.Equal(p.All, b) {
			t.Errorf("%s: %+v, %t", c.name, p, ok)
		}
	}
}

// What the frames of all kinds hold between CRYPTO and STREAM is passed over.
func TestEachFrame(t *testing.T) {
	skipped := []string{
		"00", "01", "0203000001", "020300020100010001", "0303000000010203", "04010203", "050102", "0703616263", "1005", "110102", "1205", "1305",
		"1405", "150102", "1605", "1705", "18010004a1a2a3a4" + strings.Repeat("00", 16), "1905", "1a0102030405060708", "1b0102030405060708",
		"1c01020161", "1d010161", "1e", "3102aabb",
	}
	for _, frame := range skipped {
		b, err := hex.DecodeString(frame + "0601026869" + "0e08040161" + "0f0c000162")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		EachFrame(b, func(offset uint64, data []byte) {
			got = append(got, fmt.Sprintf("crypto %d %s", offset, data))
		}, func(id, offset uint64, data []byte, end bool) {
			got = append(got, fmt.Sprintf("stream %d %d %s %t", id, offset, data, end))
		})
		if list, want := strings.Join(got, "; "), "crypto 1 hi; stream 8 4 a false; stream 12 0 b true"; list != want {
			t.Errorf("behind frame %s: %s, want %s", frame, list, want)
		}
	}
	for _, c := range []struct{ frames, want string }{
		{"0821626364", "stream 33 0 bcd false"}, // to the end of the packet
		{"09216263", "stream 33 0 bc true"},
		{"0600056869", ""},         // cut short
		{"21" + "0601026869", ""},  // unknown
		{"3001020306010268", ""},   // datagram to the end
		{"02ffffffffffffffff", ""}, // cut in an acknowledgement
	} {
		b, _ := hex.DecodeString(c.frames)
		var got []string
		EachFrame(b, func(offset uint64, data []byte) { got = append(got, "crypto") }, func(id, offset uint64, data []byte, end bool) {
			got = append(got, fmt.Sprintf("stream %d %d %s %t", id, offset, data, end))
		})
		if list := strings.Join(got, "; "); list != c.want {
			t.Errorf("%s: %s, want %s", c.frames, list, c.want)
		}
		EachFrame(b, nil, nil)
	}
}

func FuzzEachFrame(f *testing.F) {
	f.Add([]byte{0x06, 0, 2, 'h', 'i', 0x0f, 12, 0, 1, 'b'})
	f.Add([]byte{0x03, 3, 0, 0, 0, 1, 2, 3, 0x18, 1, 0, 4, 1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzzguard.Watch(t)
		total := 0
		EachFrame(b, func(_ uint64, data []byte) { total += len(data) }, func(_, _ uint64, data []byte, _ bool) { total += len(data) })
		if total > len(b) {
			t.Fatalf("%d bytes of data in %d", total, len(b))
		}
	})
}

func FuzzParseLong(f *testing.F) {
	f.Add([]byte("\xc0\x00\x00\x00\x01\x01a\x01b\x00\x04abcd"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzzguard.Watch(t)
		if p, ok := ParseLong(b); ok && p.All != nil && (len(p.All) > len(b) || p.Number > len(p.All)) {
			t.Fatalf("%+v from %d bytes", p, len(b))
		}
		ParseShort(b, 8)
	})
}
