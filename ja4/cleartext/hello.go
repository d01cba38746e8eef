package cleartext

import (
	"encoding/binary"

	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/ja4/internal/wire"
)

const (
	extEarlyData         = 0x002a
	extSupportedVersions = 0x002b
)

// retryRandom is the random of a server hello that is a retry request
// (RFC 8446 section 4.1.3).
const retryRandom = "\xcf\x21\xad\x74\xe5\x9a\x61\x11\xbe\x1d\x8c\x02\x1e\x65\xb8\x91" +
	"\xc2\xa2\x11\x16\x7a\xbb\x8c\x5e\x07\x9e\x09\xe2\xc8\xa8\x33\x9c"

// helloState is what the hellos of a connection say about its keys.
type helloState struct {
	client                     uint8 // side
	known                      bool  // client is
	clientRandom, serverRandom Random
	// early: the client offered early data. retried: the server asked for
	// another hello. answered: the server's hello was seen.
	early, retried, answered bool
	version                  uint16
	suite                    suite
	// supported: suite is one that can be opened in this version.
	supported bool
}

// take reads a message that may be a hello; others are passed over.
func (h *helloState) take(side uint8, m ja4.Message) {
	r := wire.Reader{Rest: m.Body}
	version := r.Uint16()
	random := r.Take(32)
	r.Vector8() // session id
	switch m.Type {
	case ja4.MessageClientHello:
		r.Vector16() // cipher suites
		r.Vector8()  // compression methods
		if r.Short || h.answered {
			return
		}
		h.client, h.known = side, true
		h.clientRandom = Random(random)
		_, h.early = extension(r.Rest, extEarlyData)
	case ja4.MessageServerHello:
		id := r.Uint16()
		r.Uint8() // compression method
		if r.Short || h.answered {
			return
		}
		if string(random) == retryRandom {
			h.retried = true
			return
		}
		if !h.known {
			h.client, h.known = 1-side, true
		}
		h.serverRandom = Random(random)
		if ext, ok := extension(r.Rest, extSupportedVersions); ok && len(ext) == 2 {
			version = binary.BigEndian.Uint16(ext)
		}
		h.answered, h.version = true, version
		h.suite, h.supported = suiteOf(id)
		h.supported = h.supported && (version == versionTLS13 && h.suite.tls13 || version == versionTLS12 && !h.suite.tls13)
	}
}

// extension finds an extension in a block with its length.
func extension(block []byte, want uint16) (ext []byte, ok bool) {
	r := wire.Reader{Rest: block}
	r = wire.Reader{Rest: r.Clipped16()}
	for len(r.Rest) > 0 {
		kind, body := r.Uint16(), r.Vector16()
		if r.Short {
			break
		}
		if kind == want {
			return body, true
		}
	}
	return nil, false
}
