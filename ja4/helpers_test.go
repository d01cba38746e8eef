package ja4

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"testing"
)

// extension is one extension of a hand-built hello.
type extension struct {
	kind uint16
	body []byte
}

// helloSpec describes a hand-built hello; server says which of the two.
type helloSpec struct {
	version    uint16
	random     byte // every byte of the random
	sessionID  []byte
	cookie     []byte // DTLS only
	ciphers    []uint16
	extensions []extension
	// noBlock leaves out even the length of the extensions.
	noBlock bool
}

func (h helloSpec) body(t Transport) []byte {
	b := binary.BigEndian.AppendUint16(nil, h.version)
	for range 32 {
		b = append(b, h.random)
	}
	b = append(b, byte(len(h.sessionID)))
	b = append(b, h.sessionID...)
	if t == DTLS {
		b = append(b, byte(len(h.cookie)))
		b = append(b, h.cookie...)
	}
	b = append16(b, numbers(h.ciphers...))
	b = append(b, 1, 0) // compression: null
	if h.noBlock {
		return b
	}
	return append16(b, extensionBlock(h.extensions))
}

// serverBody is the body of a server hello with the first cipher.
func (h helloSpec) serverBody() []byte {
	b := binary.BigEndian.AppendUint16(nil, h.version)
	for range 32 {
		b = append(b, h.random)
	}
	b = append(b, byte(len(h.sessionID)))
	b = append(b, h.sessionID...)
	b = binary.BigEndian.AppendUint16(b, h.ciphers[0])
	b = append(b, 0)
	return append16(b, extensionBlock(h.extensions))
}

func extensionBlock(list []extension) (b []byte) {
	for _, e := range list {
		b = binary.BigEndian.AppendUint16(b, e.kind)
		b = append16(b, e.body)
	}
	return b
}

// append16 appends v with a length of two bytes.
func append16(b, v []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(v))), v...)
}

// numbers are the two-byte numbers in wire form.
func numbers(list ...uint16) (b []byte) {
	for _, v := range list {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return b
}

func alpn(names ...string) extension {
	var list []byte
	for _, n := range names {
		list = append(append(list, byte(len(n))), n...)
	}
	return extension{extALPN, append16(nil, list)}
}

func versions(list ...uint16) extension {
	return extension{extSupportedVersions, append([]byte{byte(2 * len(list))}, numbers(list...)...)}
}

func algorithms(list ...uint16) extension {
	return extension{extSignatureAlgorithms, append16(nil, numbers(list...))}
}

func serverName(name string) extension {
	entry := append16([]byte{0}, []byte(name))
	return extension{extServerName, append16(nil, entry)}
}

func empty(kind uint16) extension { return extension{kind: kind} }

// chrome is the hello whose JA4 FoxIO gives as an example in JA4.md, with
// GREASE where Chrome puts it.
func chrome() helloSpec {
	return helloSpec{
		version: 0x0303, random: 0x11, sessionID: make([]byte, 32),
		ciphers: []uint16{
			0x3a3a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8,
			0xc013, 0xc014, 0x009c, 0x009d, 0x002f, 0x0035,
		},
		extensions: []extension{
			empty(0x8a8a), serverName("example.com"), empty(0x0017), {0xff01, []byte{0}}, empty(0x000a),
			empty(0x000b), empty(0x0023), alpn("h2", "http/1.1"), empty(0x0005),
			algorithms(0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601),
			empty(0x0012), {0x0033, make([]byte, 36)}, empty(0x002d), versions(0x6a6a, 0x0304, 0x0303),
			empty(0x001b), empty(0x4469), {0xfafa, []byte{0}}, {0x0015, make([]byte, 190)},
		},
	}
}

const (
	chromeValue = "t13d1516h2_8daaf6152771_e5627efa2ab1"
	chromeRaw   = "t13d1516h2_002f,0035,009c,009d,1301,1302,1303,c013,c014,c02b,c02c,c02f,c030,cca8,cca9" +
		"_0005,000a,000b,000d,0012,0015,0017,001b,0023,002b,002d,0033,4469,ff01" +
		"_0403,0804,0401,0503,0805,0501,0806,0601"
	chromeOriginal    = "t13d1516h2_acb858a92679_2d79a7d73c2f"
	chromeRawOriginal = "t13d1516h2_1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035" +
		"_0000,0017,ff01,000a,000b,0023,0010,0005,000d,0012,0033,002d,002b,001b,4469,0015" +
		"_0403,0804,0401,0503,0805,0501,0806,0601"
)

// message puts the header of a handshake message before body.
func message(kind MessageType, body []byte) []byte {
	return append([]byte{byte(kind), byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
}

// record puts payload into TLS records of at most size bytes.
func record(kind byte, size int, payload []byte) (b []byte) {
	for first := true; first || len(payload) > 0; first = false {
		n := min(size, len(payload))
		b = append16(append(b, kind, 3, 1), payload[:n])
		payload = payload[n:]
	}
	return b
}

const whole = 1 << 14

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// collector keeps copies of the messages it is given.
type collector struct {
	got []string
	all []Message
}

func (c *collector) take(m Message) {
	m.Body = append([]byte(nil), m.Body...)
	c.all = append(c.all, m)
	c.got = append(c.got, fmt.Sprintf("%c%d/%d", m.Transport, m.Type, len(m.Body)))
}

func (c *collector) takeSide(_ uint8, m Message) { c.take(m) }
