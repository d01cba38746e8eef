package ja4plus

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/ja4/internal/notation"
)

// ErrMalformed is wrapped by the errors of ServerHello and Certificate.
var ErrMalformed = errors.New("malformed")

const (
	extALPN              = 0x0010
	extSupportedVersions = 0x002b
)

// ServerHello returns the JA4S of the body of a server hello message: what
// follows the four bytes of its type and length. A hello retry request is a
// server hello. A block of extensions that is cut short is used as far as it
// is whole; whatever is missing before it is an error that wraps ErrMalformed.
// The raw form is left empty when it is longer than ja4.MaxRawLen.
func ServerHello(t ja4.Transport, body []byte) (ja4.Event, error) {
	if t != ja4.TLS && t != ja4.QUIC && t != ja4.DTLS {
		return ja4.Event{}, fmt.Errorf("server hello: transport %q is not TLS, QUIC or DTLS: %w", byte(t), ErrMalformed)
	}
	h, ok := parseServerHello(body)
	if !ok {
		return ja4.Event{}, fmt.Errorf("server hello: %d bytes end before the extensions: %w", len(body), ErrMalformed)
	}
	var array [256]byte
	raw := append(array[:0], byte(t))
	raw = notation.AppendVersion(raw, h.version)
	countAt := len(raw)
	raw = append(raw, "00"...)
	raw = notation.AppendALPN(raw, h.alpn)
	raw = append(raw, '_')
	raw = notation.AppendHex16(raw, h.cipher)
	raw = append(raw, '_')
	listAt := len(raw)
	count := 0
	for rest := h.extensions; len(rest) > 0; {
		kind, _, next, _ := nextExtension(rest)
		rest = next
		if notation.GREASE(kind) {
			continue
		}
		if count++; count > 1 {
			raw = append(raw, ',')
		}
		raw = notation.AppendHex16(raw, kind)
	}
	notation.AppendCount(raw[:countAt], count)

	var value [64]byte
	e := ja4.Event{
		Type:  ja4.TypeJA4S,
		Value: string(notation.AppendHash(append(value[:0], raw[:listAt]...), raw[listAt:])),
	}
	if len(raw) <= ja4.MaxRawLen {
		e.Raw = string(raw)
	}
	return e, nil
}

// serverHello is what JA4S needs of a server hello. It aliases the message.
type serverHello struct {
	version, cipher uint16
	alpn            []byte
	extensions      []byte // as far as they are whole
}

// parseServerHello reports false when the fixed part is cut short.
func parseServerHello(body []byte) (h serverHello, ok bool) {
	const versionAndRandom, cipherAndCompression = 2 + 32, 2 + 1
	if len(body) < versionAndRandom+1 {
		return h, false
	}
	h.version = binary.BigEndian.Uint16(body)
	sessionID := int(body[versionAndRandom])
	rest := body[versionAndRandom+1:]
	if len(rest) < sessionID+cipherAndCompression {
		return h, false
	}
	rest = rest[sessionID:]
	h.cipher = binary.BigEndian.Uint16(rest)
	rest = rest[cipherAndCompression:]
	if len(rest) < 2 {
		return h, true // no block of extensions, as before TLS 1.2
	}
	block := rest[2:]
	block = block[:min(int(binary.BigEndian.Uint16(rest)), len(block))]

	var sawVersion, sawALPN bool
	for rest = block; len(rest) > 0; {
		kind, ext, next, whole := nextExtension(rest)
		if !whole {
			break
		}
		rest = next
		switch {
		case kind == extSupportedVersions && len(ext) >= 2 && !sawVersion:
			sawVersion, h.version = true, binary.BigEndian.Uint16(ext)
		case kind == extALPN && !sawALPN:
			sawALPN, h.alpn = true, notation.FirstALPN(ext)
		}
	}
	h.extensions = block[:len(block)-len(rest)]
	return h, true
}

// nextExtension takes the first extension of block; whole is false when it is
// cut short.
func nextExtension(block []byte) (kind uint16, ext, rest []byte, whole bool) {
	if len(block) < 4 {
		return 0, nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(block[2:]))
	if n > len(block)-4 {
		return 0, nil, nil, false
	}
	return binary.BigEndian.Uint16(block), block[4 : 4+n], block[4+n:], true
}
