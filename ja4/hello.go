package ja4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/whorl-net/whorl/ja4/internal/notation"
	"github.com/whorl-net/whorl/ja4/internal/wire"
)

// MaxRawLen and MaxServerNameLen bound Event.Raw and Event.ServerName in
// bytes; what is longer is left empty.
const (
	MaxRawLen        = 8192
	MaxServerNameLen = 255
)

// The extensions that JA4 looks into (IANA "TLS ExtensionType Values").
const (
	extServerName          = 0x0000
	extSignatureAlgorithms = 0x000d
	extALPN                = 0x0010
	extEarlyData           = 0x002a
	extSupportedVersions   = 0x002b
)

// ErrMalformed is wrapped by the errors of ClientHello.
var ErrMalformed = errors.New("malformed client hello")

// Hello is a parsed client hello. It refers to the bytes it was parsed from
// and is valid as long as they are.
//
// Of the methods, Event is the one to call for more than one result: each
// method formats, and the ones for hashed values hash, on its own.
type Hello struct {
	transport Transport
	// version is the effective one: the best offered, else the legacy field.
	version uint16
	// hasServerName: the extension is there, whatever it holds.
	hasServerName, hasEarlyData bool

	// Numbers of two bytes each, GREASE included, as on the wire.
	ciphers, signatureAlgorithms []byte
	// extensions is the block, as far as it parses completely.
	extensions []byte
	// cipherCount and extensionCount are without GREASE.
	cipherCount, extensionCount int

	alpn       []byte // first protocol name
	serverName []byte
}

// ClientHello parses the body of a client hello message: what follows the
// four bytes of its type and length. A block of extensions that is cut short
// is used as far as it is whole; whatever is missing before it is an error
// that wraps ErrMalformed.
func ClientHello(t Transport, body []byte) (Hello, error) {
	if t != TLS && t != QUIC && t != DTLS {
		return Hello{}, fmt.Errorf("transport %q is not TLS, QUIC or DTLS: %w", byte(t), ErrMalformed)
	}
	h := Hello{transport: t}
	r := wire.Reader{Rest: body}
	h.version = r.Uint16()
	r.Skip(32) // random
	r.Vector8()
	if t == DTLS {
		r.Vector8() // cookie, RFC 6347 section 4.2.1
	}
	h.ciphers = r.Vector16()
	r.Vector8() // compression methods
	if r.Short {
		return Hello{}, fmt.Errorf("%d bytes end before the extensions: %w", len(body), ErrMalformed)
	}
	h.cipherCount = countNumbers(h.ciphers)
	if len(r.Rest) >= 2 {
		// The declared length may promise more than there is.
		length := int(r.Uint16())
		h.readExtensions(r.Rest[:min(length, len(r.Rest))])
	}
	return h, nil
}

// readExtensions takes the extensions of the block, up to the first one that
// is cut short. Of an extension that is repeated, the content of the first counts.
func (h *Hello) readExtensions(block []byte) {
	h.extensions = block
	r := wire.Reader{Rest: block}
	var versions, sawALPN, sawAlgorithms bool
	for len(r.Rest) > 0 {
		at := len(block) - len(r.Rest)
		kind, body := r.Uint16(), r.Vector16()
		if r.Short {
			h.extensions = block[:at]
			return
		}
		if !notation.GREASE(kind) {
			h.extensionCount++
		}
		switch kind {
		case extServerName:
			if !h.hasServerName {
				h.hasServerName, h.serverName = true, hostName(body)
			}
		case extALPN:
			if !sawALPN {
				sawALPN, h.alpn = true, notation.FirstALPN(body)
			}
		case extSupportedVersions:
			if !versions {
				versions = true
				h.version = bestVersion(h.transport, body, h.version)
			}
		case extSignatureAlgorithms:
			if !sawAlgorithms {
				list := wire.Reader{Rest: body}
				sawAlgorithms, h.signatureAlgorithms = true, list.Clipped16()
			}
		case extEarlyData:
			h.hasEarlyData = true
		}
	}
}

// hostName returns the first host name of a server_name extension (RFC 6066
// section 3), nil when there is none.
func hostName(ext []byte) []byte {
	r := wire.Reader{Rest: ext}
	r = wire.Reader{Rest: r.Clipped16()}
	for len(r.Rest) > 0 {
		kind, name := r.Uint8(), r.Vector16()
		if r.Short {
			return nil
		}
		if kind == 0 {
			return name
		}
	}
	return nil
}

// bestVersion returns the newest version in a supported_versions extension,
// legacy when it holds none that counts.
func bestVersion(t Transport, ext []byte, legacy uint16) uint16 {
	if len(ext) == 0 {
		return legacy
	}
	list := ext[1:]
	list = list[:min(int(ext[0]), len(list))]
	var best uint16
	for ; len(list) >= 2; list = list[2:] {
		v := binary.BigEndian.Uint16(list)
		if t == DTLS {
			// DTLS numbers run backwards, and only these three are known;
			// a numeric comparison with anything else says nothing.
			if v != 0xfefc && v != 0xfefd && v != 0xfeff {
				continue
			}
			if best == 0 || v < best {
				best = v
			}
			continue
		}
		if !notation.GREASE(v) && v > best {
			best = v
		}
	}
	if best == 0 {
		return legacy
	}
	return best
}

// countNumbers counts the two-byte numbers in list that are not GREASE.
func countNumbers(list []byte) int {
	n := 0
	for ; len(list) >= 2; list = list[2:] {
		if !notation.GREASE(binary.BigEndian.Uint16(list)) {
			n++
		}
	}
	return n
}

// appendNumbers appends the two-byte numbers in list that are not GREASE.
func appendNumbers(dst []uint16, list []byte) []uint16 {
	for ; len(list) >= 2; list = list[2:] {
		if v := binary.BigEndian.Uint16(list); !notation.GREASE(v) {
			dst = append(dst, v)
		}
	}
	return dst
}

// rawHello is the unhashed form of a hello: the three parts and the
// underscores between them.
type rawHello struct {
	text []byte
	// Part b is text[b:bEnd], part c is text[c:].
	b, bEnd, c int
}

// prefixLen is the length of part a.
const prefixLen = 10

// appendRaw appends the unhashed form to dst, sorted or in wire order.
func (h *Hello) appendRaw(dst []byte, sorted bool) rawHello {
	sni := byte('i')
	if h.hasServerName {
		sni = 'd'
	}
	dst = append(dst, byte(h.transport))
	dst = notation.AppendVersion(dst, h.version)
	dst = append(dst, sni)
	dst = notation.AppendCount(dst, h.cipherCount)
	dst = notation.AppendCount(dst, h.extensionCount)
	dst = notation.AppendALPN(dst, h.alpn)
	dst = append(dst, '_')
	raw := rawHello{b: len(dst)}

	// Real hellos have fewer than 64 of each, so this stays on the stack.
	var array [64]uint16
	numbers := appendNumbers(array[:0], h.ciphers)
	if sorted {
		slices.Sort(numbers)
	}
	dst = notation.AppendList(dst, numbers)
	raw.bEnd = len(dst)
	dst = append(dst, '_')
	raw.c = len(dst)

	numbers = h.appendExtensions(numbers[:0], sorted)
	if sorted {
		slices.Sort(numbers)
	}
	dst = notation.AppendList(dst, numbers)
	if numbers = appendNumbers(numbers[:0], h.signatureAlgorithms); len(numbers) > 0 {
		dst = append(dst, '_')
		dst = notation.AppendList(dst, numbers)
	}
	raw.text = dst
	return raw
}

// appendExtensions appends the extension numbers without GREASE and, for the
// sorted form, without the two that depend on whom the client talks to.
func (h *Hello) appendExtensions(dst []uint16, sorted bool) []uint16 {
	r := wire.Reader{Rest: h.extensions}
	for len(r.Rest) > 0 {
		kind := r.Uint16()
		r.Vector16()
		if notation.GREASE(kind) || sorted && (kind == extServerName || kind == extALPN) {
			continue
		}
		dst = append(dst, kind)
	}
	return dst
}

// appendValue appends the hashed form of raw to dst.
func (raw *rawHello) appendValue(dst []byte) []byte {
	dst = append(dst, raw.text[raw.b-prefixLen-1:raw.b]...)
	dst = notation.AppendHash(dst, raw.text[raw.b:raw.bEnd])
	dst = append(dst, '_')
	return notation.AppendHash(dst, raw.text[raw.c:])
}

// rawBuffer and valueBuffer hold what a real hello needs, on the stack.
type (
	rawBuffer   [1024]byte
	valueBuffer [64]byte
)

func (h *Hello) event(t Type, sorted bool) Event {
	var rb rawBuffer
	var vb valueBuffer
	raw := h.appendRaw(rb[:0], sorted)
	e := Event{Type: t, Value: string(raw.appendValue(vb[:0])), ServerName: h.ServerName()}
	if len(raw.text) <= MaxRawLen {
		e.Raw = string(raw.text)
	}
	return e
}

// Event returns the JA4 with its raw form (ja4, ja4_r) and the server name.
// The raw form is left empty when it is longer than MaxRawLen.
func (h *Hello) Event() Event { return h.event(TypeJA4, true) }

// EventOriginal returns the JA4 in original order (ja4_o, ja4_ro) and the
// server name. The raw form is left empty when it is longer than MaxRawLen.
func (h *Hello) EventOriginal() Event { return h.event(TypeJA4O, false) }

// Value returns the fingerprint, such as t13d1516h2_8daaf6152771_02713d6af862.
func (h *Hello) Value() string {
	var rb rawBuffer
	var vb valueBuffer
	raw := h.appendRaw(rb[:0], true)
	return string(raw.appendValue(vb[:0]))
}

// Raw returns the unhashed form (ja4_r), of any length.
func (h *Hello) Raw() string {
	var rb rawBuffer
	return string(h.appendRaw(rb[:0], true).text)
}

// ValueOriginal returns the fingerprint in original order (ja4_o).
func (h *Hello) ValueOriginal() string {
	var rb rawBuffer
	var vb valueBuffer
	raw := h.appendRaw(rb[:0], false)
	return string(raw.appendValue(vb[:0]))
}

// RawOriginal returns the unhashed form in original order (ja4_ro), of any length.
func (h *Hello) RawOriginal() string {
	var rb rawBuffer
	return string(h.appendRaw(rb[:0], false).text)
}

// ServerName returns the name of the server name indication, as sent. It is
// empty when there is none and when it is not printable ASCII of at most
// MaxServerNameLen bytes, as a name on the wire is (RFC 6066 section 3).
func (h *Hello) ServerName() string {
	if len(h.serverName) > MaxServerNameLen {
		return ""
	}
	for _, c := range h.serverName {
		if c <= ' ' || c > '~' {
			return ""
		}
	}
	return string(h.serverName)
}
