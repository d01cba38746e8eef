package capture

import (
	"bytes"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/whorl-net/whorl/internal/fuzzguard"
)

// fuzzSeeds are small files of every kind.
func fuzzSeeds(tb testing.TB) [][]byte {
	ng := new(builder).section(little).
		iface(1, uint16(9), uint16(1), "\x89\x00\x00\x00", uint16(14), uint16(8), uint64(1<<63), uint32(0)).
		block(0xbad, "unknown").
		block(blockSecrets, SecretsTLSKeyLog, uint32(3), "key").
		enhanced(0, 1<<60, 9, "abc").
		section(big).iface(276).
		block(blockPacket, uint16(0), uint16(0), uint64(7), uint32(3), uint32(3), "def").
		block(blockSimplePacket, uint32(3), "ghi").Bytes()
	seeds := [][]byte{
		pcap(little, magicMicro, 1).record(1, 2, 3, 4, "abc").record(1, 2, 0, 0, "").Bytes(),
		pcap(big, magicNano, 276).record(1, 2, 3, 2, "abc").Bytes(),
		pcap(little, magicModified, 0).record(1, 2, 3, 4, "iiiippq_abc").Bytes(),
		ng,
	}
	for _, s := range seeds {
		seeds = append(seeds, zip(tb, s), append(zip(tb, s[:20]), zip(tb, s[20:])...))
	}
	return seeds
}

// FuzzRead: whatever the bytes, reading ends, without a panic, in io.EOF or in a
// *FileError; it lends no packet beyond the limits; and it does the same whether
// the bytes come at once or one by one, and the packets one by one or in blocks.
func FuzzRead(f *testing.F) {
	for _, s := range fuzzSeeds(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzguard.Watch(t)
		packets, secrets, err := drain(t, bytes.NewReader(data), len(data))
		again, secretsAgain, errAgain := drain(t, iotest.OneByteReader(bytes.NewReader(data)), len(data))
		if packets != again || secrets != secretsAgain || (err == nil) != (errAgain == nil) || err != nil && err.Error() != errAgain.Error() {
			t.Errorf("at once %d packets, %d secrets, %v; byte by byte %d, %d, %v", packets, secrets, err, again, secretsAgain, errAgain)
		}
		if packets < 1<<16 {
			want, got := told(t, data, oneByOne), told(t, data, inBlocks(32))
			if !slices.Equal(got, want) {
				t.Errorf("one by one %q\nin blocks %q", want, got)
			}
		}
	})
}

func drain(t *testing.T, r io.Reader, size int) (packets, secrets int, err error) {
	f, err := Read("fuzz", r)
	if err != nil {
		checkError(t, err)
		return 0, 0, err
	}
	f.OnSecrets = func(uint32, []byte) { secrets++ }
	var p Packet
	for {
		if err := f.Next(&p); err != nil {
			if err != io.EOF {
				checkError(t, err)
			}
			return packets, secrets, err
		}
		packets++
		if len(p.Data) > MaxCaptured || int64(p.WireLength) < int64(len(p.Data)) {
			t.Fatalf("packet %d: %d bytes captured of %d", packets, len(p.Data), p.WireLength)
		}
		if len(p.Data) > size && !f.packed {
			t.Fatalf("packet %d has %d bytes, the file %d", packets, len(p.Data), size)
		}
		if packets > 1<<22 {
			t.Skip("a bomb")
		}
	}
}
