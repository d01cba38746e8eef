package capture

import (
	"bytes"
	"errors"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"
)

// Every way in which a file can be wrong is told from the others, with the
// packet, the place and the numbers; what came before it was read.
func TestErrors(t *testing.T) {
	ng := func() *builder { return new(builder).section(little).iface(1) }
	two := pcap(little, magicMicro, 1).record(1, 0, 3, 3, "abc").record(2, 0, 4, 4, "defg").Bytes()
	corrupt := zip(t, two)
	corrupt[len(corrupt)-8] ^= 1 // the checksum
	tests := []struct {
		name    string
		file    []byte
		packets int
		is      error
		want    string
	}{
		{"empty", nil, 0, ErrNotCapture, "not a capture file: it is empty"},
		{"too short to tell", two[:3], 0, ErrNotCapture, "not a capture file: it has only 3 bytes"},
		{"text", []byte("hello"), 0, ErrNotCapture, `not a capture file: it begins with 68 65 6c 6c ("hell"), want pcap, pcapng or either in gzip`},
		{"text in gzip", zip(t, []byte("hello")), 0, ErrNotCapture, `not a capture file: what is in the gzip begins with 68 65 6c 6c ("hell"), want pcap, pcapng or either in gzip`},
		{"gzip in gzip", zip(t, zip(t, two)), 0, ErrUnsupported, "not supported: it is gzip inside gzip; unpack it once more"},
		{"zstd", []byte("\x28\xb5\x2f\xfd...."), 0, ErrUnsupported, "not supported: it is a zstd archive; unpack it, for example: zstd -dc FILE |"},
		{"snoop", []byte("snoop\x00\x00\x00"), 0, ErrUnsupported, "not supported: it is a snoop capture; convert it: editcap -F pcap FILE out.pcap"},
		{"header cut", two[:20], 0, ErrTruncated, "truncated: the file header at byte 0 announces 24 bytes, 20 are left"},
		{"old version", (&builder{order: little}).put(uint32(magicMicro), uint16(1), uint16(0), make([]byte, 16)).Bytes(), 0, ErrUnsupported,
			"not supported: it is a pcap file of version 1.0; 2.4 is read"},
		{"record cut", two[:24+19+16+3], 1, ErrTruncated, "truncated: packet 2 at byte 43 announces 4 bytes, 3 are left"},
		{"one byte left", two[:24+19+16+1], 1, ErrTruncated, "truncated: packet 2 at byte 43 announces 4 bytes, 1 is left"},
		{"record header cut", two[:24+19+5], 1, ErrTruncated, "truncated: packet 2 at byte 43 announces a header of 16 bytes, 5 are left"},
		{"too long", pcap(little, magicMicro, 1).record(0, 0, 262145, 0, "").Bytes(), 0, ErrMalformed,
			"malformed: packet 1 at byte 24 announces 262,145 bytes, at most 262,144 are possible"},

		{"gzip header cut", zip(t, two)[:5], 0, ErrTruncated, "truncated: the gzip stream ends inside a member"},
		{"gzip cut", zip(t, two)[:30], -1, ErrTruncated, ""},
		{"gzip trailer cut", zip(t, two)[:len(corrupt)-3], 2, ErrTruncated, "truncated: packet 3 at byte 63 announces a header of 16 bytes, 0 are left"},
		{"gzip checksum", corrupt, 2, ErrMalformed, "malformed: after 63 unpacked bytes: gzip: invalid checksum"},
		{"gzip garbage behind", append(zip(t, two), "garbage, garbage"...), 2, ErrMalformed, "malformed: after 63 unpacked bytes: gzip: invalid header"},

		{"section cut", ng().Bytes()[:27], 0, ErrTruncated, "truncated: the section header at byte 0 announces at least 28 bytes, 27 are left"},
		{"byte order", (&builder{order: little}).block(blockSection, uint32(0x01020304), uint16(1), uint16(0), uint64(0)).Bytes(), 0, ErrMalformed,
			"malformed: the section header at byte 0 has the byte order mark 01020304, want 1a2b3c4d"},
		{"pcapng 2", (&builder{order: little}).block(blockSection, uint32(byteOrderMagic), uint16(2), uint16(0), uint64(0)).Bytes(), 0, ErrUnsupported,
			"not supported: the section at byte 0 is pcapng of version 2.0; 1.0 is read"},
		{"section too short", (&builder{order: little}).put(uint32(blockSection), uint32(24), uint32(byteOrderMagic), uint16(1), uint16(0), uint64(0), uint32(24)).Bytes(), 0, ErrMalformed,
			"malformed: the section header at byte 0 announces 24 bytes, want a multiple of 4 from 28 to 16,777,216"},
		{"block too long", ng().put(uint32(99), uint32(1<<24+4), uint32(0)).Bytes(), 0, ErrMalformed,
			"malformed: the block of type 99 before packet 1 at byte 48 announces 16,777,220 bytes, want a multiple of 4 from 12 to 16,777,216"},
		{"block of no length", ng().put(uint32(blockEnhancedPacket), uint32(0), uint32(0)).Bytes(), 0, ErrMalformed,
			"malformed: packet 1 at byte 48 announces 0 bytes, want a multiple of 4 from 12 to 16,777,216"},
		{"block of odd length", ng().put(uint32(99), uint32(13), uint32(0), "a").Bytes(), 0, ErrMalformed,
			"malformed: the block of type 99 before packet 1 at byte 48 announces 13 bytes, want a multiple of 4 from 12 to 16,777,216"},
		{"lengths differ", ng().put(uint32(99), uint32(16), uint32(0), uint32(20)).Bytes(), 0, ErrMalformed,
			"malformed: the block of type 99 before packet 1 at byte 48 announces 16 bytes, and 20 at its end"},
		{"packet lengths differ", ng().put(uint32(blockEnhancedPacket), uint32(16), uint32(0), uint32(20)).Bytes(), 0, ErrMalformed,
			"malformed: packet 1 at byte 48 announces 16 bytes, and 20 at its end"},
		{"block cut", ng().put(uint32(99), uint32(1000), uint32(0), "abc").Bytes(), 0, ErrTruncated,
			"truncated: the block of type 99 before packet 1 at byte 48 announces 1,000 bytes, 15 are left"},
		{"packet cut", ng().enhanced(0, 0, 3, "abc").put(uint32(blockEnhancedPacket), uint32(1000), uint32(0)).Bytes(), 1, ErrTruncated,
			"truncated: packet 2 at byte 84 announces 1,000 bytes, 12 are left"},
		{"block header cut", ng().put(uint32(99), uint32(1000)).Bytes(), 0, ErrTruncated,
			"truncated: the block before packet 1 at byte 48 announces at least 12 bytes, 8 are left"},
		{"no such interface", ng().enhanced(3, 0, 0, "").Bytes(), 0, ErrMalformed, "malformed: packet 1 at byte 48 is of interface 3, 1 are known"},
		{"no interface", new(builder).section(big).block(blockSimplePacket, uint32(0)).Bytes(), 0, ErrMalformed, "malformed: packet 1 at byte 28 is of interface 0, 0 are known"},
		{"packet block too short", ng().block(blockEnhancedPacket, uint32(0), uint32(0)).Bytes(), 0, ErrMalformed, "malformed: packet 1 at byte 48 has a block of 8 bytes, want at least 20"},
		{"simple block too short", ng().block(blockSimplePacket).Bytes(), 0, ErrMalformed, "malformed: packet 1 at byte 48 has a block of 0 bytes, want at least 4"},
		{"beyond the block", ng().block(blockEnhancedPacket, uint32(0), uint64(0), uint32(9), uint32(9), "abcd").Bytes(), 0, ErrMalformed,
			"malformed: packet 1 at byte 48 announces 9 bytes in a block with room for 4"},
		{"packet too long", ng().block(blockEnhancedPacket, uint32(0), uint64(0), uint32(300000), uint32(0), make([]byte, 300000)).Bytes(), 0, ErrMalformed,
			"malformed: packet 1 at byte 48 announces 300,000 bytes, at most 262,144 are possible"},
		{"packet options too long", ng().block(blockEnhancedPacket, uint32(0), uint64(0), uint32(0), uint32(0), make([]byte, 65540)).Bytes(), 0, ErrMalformed,
			"malformed: packet 1 at byte 48 has 65,540 bytes of options, at most 65,536 are possible"},
		{"interface too short", new(builder).section(little).block(blockInterface, uint32(1)).Bytes(), 0, ErrMalformed, "malformed: interface 0 at byte 28 has 4 bytes, want at least 8"},
		{"interface options too long", new(builder).section(little).iface(1, make([]byte, 65540)).Bytes(), 0, ErrMalformed,
			"malformed: interface 0 at byte 28 has 65,540 bytes of options, at most 65,536 are possible"},
		{"interface option cut", new(builder).section(little).iface(1, uint16(2), uint16(9), "eth0").Bytes(), 0, ErrMalformed,
			"malformed: interface 0 at byte 28 has an option 2 of 9 bytes, 4 are left"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			packets, err := readAll(t, bytes.NewReader(test.file))
			if err == nil || !errors.Is(err, test.is) || test.want != "" && err.Error() != "test.pcap: "+test.want {
				t.Errorf("got  %v\nwant test.pcap: %s", err, test.want)
			}
			if test.packets >= 0 && len(packets) != test.packets {
				t.Errorf("%d packets before it, want %d", len(packets), test.packets)
			}
		})
	}
}

// Secrets must fit their block, if anybody looks at them.
func TestMalformedSecrets(t *testing.T) {
	for _, values := range [][]any{{uint32(1)}, {uint32(1), uint32(5), "abcd"}} {
		f, err := Read("test", &new(builder).section(little).block(blockSecrets, values...).Buffer)
		if err != nil {
			t.Fatal(err)
		}
		f.OnSecrets = func(uint32, []byte) { t.Error("called") }
		if err := f.Next(new(Packet)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%v: %v, want malformed", values, err)
		}
	}
}

// An error of the reader below is passed on, with the name of the file.
func TestReadError(t *testing.T) {
	broken := errors.New("disk on fire")
	r := io.MultiReader(bytes.NewReader(pcap(little, magicMicro, 1).Bytes()), errReader{broken})
	_, err := readAll(t, r)
	if !errors.Is(err, broken) || errors.Is(err, ErrTruncated) || err.Error() != "test.pcap: read packet 1: disk on fire" {
		t.Errorf("got %v", err)
	}
	if _, err := readAll(t, errReader{broken}); !errors.Is(err, broken) {
		t.Errorf("at once: %v", err)
	}
	if _, err := readAll(t, errReader{nil}); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a reader that gives nothing: %v", err)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// Interfaces are bounded per section.
func TestTooManyInterfaces(t *testing.T) {
	b := new(builder).section(little)
	for range maxInterfaces {
		b.iface(1)
	}
	whole := bytes.Clone(b.Bytes())
	if _, err := readAll(t, bytes.NewReader(whole)); err != nil {
		t.Fatal(err)
	}
	b.iface(1)
	_, err := readAll(t, &b.Buffer)
	if want := "test.pcap: malformed: interface 65,536 at byte 1,310,748 is one too many: a section has at most 65,536"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// Memory follows the bytes that came, not those that were announced; also when
// few bytes of gzip become many.
func TestMemoryIsBounded(t *testing.T) {
	zeros := zip(t, bytes.Repeat(make([]byte, 1<<20), 64))
	bomb := zip(t, new(builder).section(little).put(uint32(99), uint32(1<<24), uint32(0)).Bytes())
	tests := []struct {
		name  string
		file  []byte
		limit uint64
	}{
		{"pcap with giant snap length and packet", pcap(little, magicMicro, 1).record(0, 0, MaxCaptured, 1<<32-1, "").Bytes(), 1 << 20},
		{"pcapng with giant packet", new(builder).section(little).iface(1).put(uint32(blockEnhancedPacket), uint32(1<<24), uint32(0)).Bytes(), 1 << 20},
		{"pcapng with giant unknown block", new(builder).section(little).put(uint32(99), uint32(1<<24), uint32(0)).Bytes(), 1 << 20},
		{"64 MiB of zeros in gzip", append(zip(t, pcap(little, magicMicro, 1).Bytes()), zeros...), 4 << 20},
		{"64 MiB of an unknown block in gzip", append(bomb, zeros...), 4 << 20},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			f, err := Read("test", bytes.NewReader(test.file))
			if err != nil {
				t.Fatal(err)
			}
			f.OnSecrets = func(uint32, []byte) {}
			var p Packet
			for err == nil {
				err = f.Next(&p)
			}
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > test.limit {
				t.Errorf("%d bytes were allocated for a file of %d bytes, want at most %d", n, len(test.file), test.limit)
			}
		})
	}
}

// A clock counts in any power of ten or two, from any origin; what does not fit
// is clamped and said so.
func TestClock(t *testing.T) {
	tests := []struct {
		resolution byte
		ticks      uint64
		offset     int64
		want       int64
		ok         bool
	}{
		{0, 5, 0, 5e9, true},
		{3, 5, 0, 5e6, true},
		{6, 1_579_293_816_559_976, 0, 1_579_293_816_559_976_000, true},
		{9, 1_579_293_816_559_976_123, 0, 1_579_293_816_559_976_123, true},
		{12, 1_579_293_816_559_976_123, 0, 1_579_293_816_559_976, true},
		{27, math.MaxUint64, 0, 18, true},
		{28, math.MaxUint64, 0, 1, true},
		{29, math.MaxUint64, 0, 0, true},
		{127, math.MaxUint64, 7, 7e9, true},
		{0x80, 5, 0, 5e9, true},
		{0x81, 5, 0, 25e8, true},
		{0xa0, 1<<32 + 1<<31, 0, 15e8, true},
		{0xa0, 1 << 62, 0, 1 << 30 * 1e9, true},
		{0xc0, 1 << 63, 0, 5e8, true},
		{0xc1, 1 << 63, 0, 25e7, true},
		{0xff, math.MaxUint64, 0, 0, true},
		{6, 0, -5, -5e9, true},
		{6, 7_000_000, -5, 2e9, true},
		{6, 7_000_000, 5, 12e9, true},
		{9, math.MaxInt64, 0, math.MaxInt64, true},
		{9, math.MaxInt64 + 1, 0, math.MaxInt64, false},
		{9, math.MaxInt64, 1, math.MaxInt64, false},
		{0, math.MaxUint64, 0, math.MaxInt64, false},
		{0, math.MaxUint64, math.MaxInt64, math.MaxInt64, false},
		{0, math.MaxUint64, math.MinInt64, math.MaxInt64, false},
		{6, 0, math.MinInt64, math.MinInt64, false},
		{9, 0, -9223372036, -9223372036e9, true},
		{9, 0, -9223372037, math.MinInt64, false},
	}
	for _, test := range tests {
		c := newClock(test.resolution)
		got, ok := c.nanoseconds(test.ticks, test.offset)
		if got != test.want || ok != test.ok {
			t.Errorf("resolution %#x, %d ticks, offset %d: %d, %v; want %d, %v",
				test.resolution, test.ticks, test.offset, got, ok, test.want, test.ok)
		}
	}
}

// A time that does not fit is counted.
func TestTimesClamped(t *testing.T) {
	b := new(builder).section(little).iface(1, uint16(9), uint16(1), "\x00\x00\x00\x00").enhanced(0, 1<<63, 0, "")
	f, err := Read("test", &b.Buffer)
	if err != nil {
		t.Fatal(err)
	}
	var p Packet
	if err := f.Next(&p); err != nil || p.Time != math.MaxInt64 || f.Stats().TimesClamped != 1 {
		t.Errorf("%v, time %d, %+v", err, p.Time, f.Stats())
	}
}

func TestCommas(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1: "-1", -1000: "-1,000", -999: "-999", 123456: "123,456", 16777216: "16,777,216"} {
		if got := commas(n); got != want {
			t.Errorf("commas(%d) = %s, want %s", n, got, want)
		}
	}
	if got := strings.Count(commas(uint64(math.MaxUint64>>1)), ","); got != 6 {
		t.Errorf("%d commas, want 6", got)
	}
}
