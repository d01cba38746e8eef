package cleartext

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/whorl-net/whorl/internal/fuzzguard"
	"github.com/whorl-net/whorl/ja4/internal/quicpacket"
)

// sealShort makes a packet with a short header, a connection id of four bytes
// and the current keys of t.
func sealShort(t *trafficKeys, number uint32, text string) []byte {
	return sealNumbered(t, number, 4, text)
}

// sealNumbered is sealShort with a packet number of 1 to 4 bytes.
func sealNumbered(t *trafficKeys, number uint32, numberLen int, text string) []byte {
	k := t.current
	header := append([]byte{0x40 | t.phase | byte(numberLen-1)}, "dcid"...)
	numberAt := len(header)
	header = append(header, binary.BigEndian.AppendUint32(nil, number)[4-numberLen:]...)
	nonce := k.IV
	tail := nonce[4:]
	binary.BigEndian.PutUint64(tail, binary.BigEndian.Uint64(tail)^uint64(number))
	p := k.AEAD.Seal(bytes.Clone(header), nonce[:], []byte(text), header)
	mask := k.Mask(p[numberAt+4:][:quicpacket.SampleLen])
	p[0] ^= mask[0] & 0x1f
	for i := range numberLen {
		p[numberAt+i] ^= mask[1+i]
	}
	return p
}

func openShort(t *trafficKeys, p []byte) string {
	k, ok := quicpacket.ParseShort(p, 4)
	if !ok {
		return ""
	}
	payload, _ := t.open(&k, nil)
	return string(payload)
}

// The bounds on streams hold, and what is within them goes on.
func TestStreamBounds(t *testing.T) {
	var h heard
	sink := h.sink()
	var s streams
	// Streams that wait for their beginning.
	for id := range uint64(maxStreams + 10) {
		s.take(0, id, 10, []byte("later"), false, sink)
	}
	if len(s.byID) != maxStreams || len(h.streams) != 0 {
		t.Errorf("%d streams known, want %d", len(s.byID), maxStreams)
	}
	// They end, and give way to others.
	for id := range uint64(maxStreams) {
		s.take(0, id, 0, []byte("0123456789"), false, sink)
		s.take(0, id, 15, nil, true, sink)
	}
	if h.ends != maxStreams || h.streams[streamID{0, 3}].String() != "0123456789later" {
		t.Errorf("%d streams ended, stream 3 is %q", h.ends, h.streams[streamID{0, 3}])
	}
	if s.held != 0 {
		t.Errorf("holds %d bytes of streams that are done", s.held)
	}
	s.take(1, 1, 0, []byte("x"), true, sink)
	if h.ends != maxStreams+1 {
		t.Error("no room for a stream after others are done")
	}
	// A frame that comes again changes nothing.
	s.take(1, 1, 0, []byte("x"), true, sink)
	if h.ends != maxStreams+1 || h.streams[streamID{1, 1}].String() != "x" {
		t.Error("a repeated frame was taken for new")
	}
}

// Bytes that wait are bounded over all streams.
func TestStreamBytesAreBounded(t *testing.T) {
	var s streams
	sink := Sink{Stream: func(uint8, uint64, []byte, bool) {}}
	for id := range uint64(500) {
		for at := uint64(1); at < 15000; at += 1000 {
			s.take(0, id, at, make([]byte, 1000), false, sink)
		}
	}
	if s.held > maxStreamBytes+64<<10 {
		t.Errorf("holds %d bytes, want at most about %d", s.held, maxStreamBytes)
	}
	total := 0
	for _, t := range s.byID {
		total += t.data.Held()
	}
	if total != s.held {
		t.Errorf("counts %d bytes, holds %d", s.held, total)
	}
}

func FuzzStreams(f *testing.F) {
	f.Add([]byte("some frames, of two streams"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzzguard.Watch(t)
		var s streams
		ended := map[streamID]bool{}
		sink := Sink{Stream: func(side uint8, id uint64, p []byte, end bool) {
			if ended[streamID{side, id}] {
				t.Fatal("data behind the end")
			}
			ended[streamID{side, id}] = end
		}}
		for len(b) >= 4 {
			n := min(int(b[2]&15), len(b)-4)
			s.take(b[0]&1, uint64(b[0]>>1&1), uint64(b[1]&63), b[4:4+n], b[3]&7 == 0, sink)
			b = b[4+n:]
		}
		total := 0
		for _, t := range s.byID {
			total += t.data.Held()
		}
		if total != s.held {
			t.Fatalf("counts %d bytes, holds %d", s.held, total)
		}
	})
}
