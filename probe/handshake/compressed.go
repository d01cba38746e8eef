package handshake

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"io"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"github.com/whorl-net/whorl/ja4"
)

// How a CompressedCertificate is compressed (RFC 8879 section 7.3).
const (
	compressionZlib   = 1
	compressionBrotli = 2
	compressionZstd   = 3
)

// maxZstdWindow is the most memory that a frame of zstd may ask for.
const maxZstdWindow = 8 << 20

var (
	errCompression  = errors.New("unknown compression of a certificate")
	errDecompressed = errors.New("certificate message of another length than announced")
)

// decompressCertificate returns the Certificate message that the body of a
// CompressedCertificate holds: of the announced length, at most
// ja4.MaxHandshakeBytes.
func decompressCertificate(body []byte) ([]byte, error) {
	const head = 2 + 3 + 3
	if len(body) < head {
		return nil, io.ErrUnexpectedEOF
	}
	length := int(body[2])<<16 | int(binary.BigEndian.Uint16(body[3:]))
	compressed := body[head:]
	if n := int(body[5])<<16 | int(binary.BigEndian.Uint16(body[6:])); n != len(compressed) || length > ja4.MaxHandshakeBytes {
		return nil, errDecompressed
	}
	var r io.Reader
	switch binary.BigEndian.Uint16(body) {
	case compressionZlib:
		z, err := zlib.NewReader(bytes.NewReader(compressed))
		if err != nil {
			return nil, err
		}
		r = z
	case compressionBrotli:
		r = brotli.NewReader(bytes.NewReader(compressed))
	case compressionZstd:
		z, err := zstd.NewReader(bytes.NewReader(compressed), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			return nil, err
		}
		defer z.Close()
		r = z
	default:
		return nil, errCompression
	}
	message, err := io.ReadAll(io.LimitReader(r, int64(length)+1))
	if err != nil {
		return nil, err
	}
	if len(message) != length {
		return nil, errDecompressed
	}
	return message, nil
}

// compressedCertificates takes the body of a CompressedCertificate of TLS 1.3.
func (g *Engine) compressedCertificates(body []byte) {
	if !g.types.Has(ja4.TypeJA4X) {
		return
	}
	message, err := decompressCertificate(body)
	switch {
	case errors.Is(err, errCompression):
		g.stats.GivenUp[ReasonUnsupported]++
	case err != nil:
		g.stats.GivenUp[ReasonMalformed]++
	default:
		g.certificates13(message)
	}
}
