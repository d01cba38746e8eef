package handshake

import (
	"bytes"
	"compress/zlib"
	"errors"
	"io"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"github.com/whorl-net/whorl/internal/fuzzguard"
	"github.com/whorl-net/whorl/ja4"
)

// compressedCertificate returns the body of a CompressedCertificate (RFC 8879
// section 4) that announces length bytes.
func compressedCertificate(algorithm uint16, message []byte, length int) []byte {
	var b bytes.Buffer
	var w io.WriteCloser
	switch algorithm {
	case compressionZlib:
		w = zlib.NewWriter(&b)
	case compressionBrotli:
		w = brotli.NewWriter(&b)
	default:
		z, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
		check(err)
		w = z
	}
	_, err := w.Write(message)
	check(err)
	check(w.Close())
	n := b.Len()
	head := []byte{byte(algorithm >> 8), byte(algorithm), byte(length >> 16), byte(length >> 8), byte(length), byte(n >> 16), byte(n >> 8), byte(n)}
	return append(head, b.Bytes()...)
}

// A certificate message comes out of its compression as it went in, and only
// if it has the length that was announced.
func TestDecompressCertificate(t *testing.T) {
	message := bytes.Repeat([]byte("certificate "), 300)
	for _, algorithm := range []uint16{compressionZlib, compressionBrotli, compressionZstd} {
		got, err := decompressCertificate(compressedCertificate(algorithm, message, len(message)))
		if err != nil || !bytes.Equal(got, message) {
			t.Errorf("algorithm %d: %d bytes, %v; want %d", algorithm, len(got), err, len(message))
		}
		for _, length := range []int{len(message) - 1, len(message) + 1, 0, ja4.MaxHandshakeBytes + 1} {
			if got, err := decompressCertificate(compressedCertificate(algorithm, message, length)); err == nil {
				t.Errorf("algorithm %d: %d bytes where %d were announced", algorithm, len(got), length)
			}
		}
		whole := compressedCertificate(algorithm, message, len(message))
		if got, err := decompressCertificate(whole[:len(whole)-3]); err == nil {
			t.Errorf("algorithm %d: %d bytes of a body that is cut short", algorithm, len(got))
		}
	}
	if _, err := decompressCertificate([]byte{0, 9, 0, 0, 1, 0, 0, 1, 7}); !errors.Is(err, errCompression) {
		t.Errorf("unknown algorithm: %v, want %v", err, errCompression)
	}
}

// What expands without end costs no more than what was announced.
func TestCompressionBomb(t *testing.T) {
	bomb := make([]byte, 8<<20)
	for name, algorithm := range map[string]uint16{"zlib": compressionZlib, "brotli": compressionBrotli, "zstd": compressionZstd} {
		body := compressedCertificate(algorithm, bomb, 1000)
		t.Run(name, func(t *testing.T) {
			fuzzguard.Watch(t)
			if got, err := decompressCertificate(body); err == nil {
				t.Errorf("%d bytes, want none", len(got))
			}
		})
	}
}

// The certificates of a compressed message are those of the message, and what
// cannot be read is counted.
func TestCompressedCertificates(t *testing.T) {
	flights := tlsFlights(0x0303)
	var der []byte
	{
		var s ja4.TLSStream
		s.Write(flights[1].data, func(m ja4.Message) {
			if m.Type == ja4.MessageCertificate {
				n := int(m.Body[3])<<16 | int(m.Body[4])<<8 | int(m.Body[5])
				der = bytes.Clone(m.Body[3:][:3+n])
			}
		})
	}
	entry := append(bytes.Clone(der), 0, 0)
	message := append([]byte{0, 0, byte(len(entry) >> 8), byte(len(entry))}, entry...)
	g := New(Config{})
	var out Result
	p := established()
	g.Packet(&p, &out)
	g.compressedCertificates(compressedCertificate(compressionBrotli, message, len(message)))
	g.compressedCertificates([]byte{0, 9, 0, 0, 1, 0, 0, 1, 7})
	g.compressedCertificates([]byte{0, 1, 0, 0, 1, 0, 0, 1, 7})
	if got := kinds(out.Events); got != "ja4x" {
		t.Errorf("events %q, want one ja4x", got)
	}
	if s := g.Stats(); s.GivenUp[ReasonUnsupported] != 1 || s.GivenUp[ReasonMalformed] != 1 {
		t.Errorf("given up %v, want one unsupported and one malformed", s.GivenUp)
	}
}

// Whatever a compressed certificate says, its message has the announced length.
func FuzzDecompressCertificate(f *testing.F) {
	for _, algorithm := range []uint16{compressionZlib, compressionBrotli, compressionZstd} {
		f.Add(compressedCertificate(algorithm, []byte("certificate certificate"), 23))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		fuzzguard.Watch(t)
		message, err := decompressCertificate(body)
		if err == nil && len(message) != int(body[2])<<16|int(body[3])<<8|int(body[4]) {
			t.Errorf("%d bytes, announced as %x", len(message), body[2:5])
		}
	})
}
