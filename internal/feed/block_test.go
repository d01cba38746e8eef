package feed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/whorl-net/whorl/internal/fuzzguard"
)

// someBlock makes a stored block of n events.
func someBlock(n int, size int) []byte {
	var e blockEncoder
	rnd := rand.New(rand.NewPCG(1, uint64(n)))
	c := &chunk{first: 100}
	at := int64(1_700_000_000_000_000_000)
	for i := range n {
		at += rnd.Int64N(1e9)
		c.times = append(c.times, at)
		tag := byte(evictionTag)
		if rnd.IntN(10) == 0 {
			tag = discoveryTag
		}
		c.data = appendFrame(c.data, tag, 100+uint64(i), body(1, rnd.IntN(size)))
	}
	half := len(c.times) / 2
	spans := []span{{c.data, c.times}}
	if half > 0 { // times and frames of two chunks
		end := 0
		for i := range half {
			end += frameLen(c.data[end:], 100+uint64(i))
		}
		spans = []span{{c.data[:end], c.times[:half]}, {c.data[end:], c.times[half:]}}
	}
	return bytes.Clone(e.encode(100, Through{7, 3}, spans))
}

// A block says what went into it; whatever bit of it flips, it is refused.
func TestBlockFormat(t *testing.T) {
	for _, n := range []int{1, 2, 500} {
		p := someBlock(n, 200)
		info, err := readBlockInfo(p)
		if err != nil || info.first != 100 || info.count != n || info.through != (Through{7, 3}) {
			t.Fatalf("%+v, %v", info, err)
		}
		c, err := decodeBlock(p)
		if err != nil || len(c.ends) != n || c.times[0] != info.firstTime || c.times[n-1] != info.lastTime {
			t.Fatalf("%d events: %v", n, err)
		}
	}
	good := someBlock(3, 20)
	for bit := range 8 * len(good) {
		p := bytes.Clone(good)
		p[bit/8] ^= 1 << (bit % 8)
		if _, err := decodeBlock(p); err == nil {
			t.Fatalf("bit %d: no error", bit)
		}
	}
	for n := range good {
		if _, err := decodeBlock(good[:n]); !errors.Is(err, errBlock) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
}

// fixSums makes the checksums of a block right.
func fixSums(p []byte) {
	binary.LittleEndian.PutUint32(p[56:], crc32.Checksum(p[blockHeader:], castagnoli))
	binary.LittleEndian.PutUint32(p[60:], crc32.Checksum(p[:60], castagnoli))
}

// decodeBlock takes any bytes; what it accepts is a run of frames that can be
// handed to a subscriber.
func FuzzDecodeBlock(f *testing.F) {
	for _, n := range []int{1, 3, 40} {
		f.Add(someBlock(n, 100))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		fuzzguard.Watch(t)
		if len(p) >= blockHeader {
			p = bytes.Clone(p)
			fixSums(p)
		}
		c, err := decodeBlock(p)
		if err != nil {
			return
		}
		b := c.block(0, len(c.ends), len(c.data)+1)
		if b.Len() != len(c.ends) || b.First != c.first || len(b.Frames(0, b.Len())) != len(c.data) {
			t.Fatal("the block does not hold its events")
		}
		for i := range b.Len() {
			if event := b.Event(i); event[0] != sequenceTag {
				t.Fatalf("event %d begins with %d", i, event[0])
			}
		}
	})
}
