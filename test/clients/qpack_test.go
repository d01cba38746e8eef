//go:build e2e

package clients

import (
	"testing"

	"golang.org/x/net/http2/hpack"
)

// static is what the recordings use of QPACK's static table (RFC 9204,
// appendix A).
var static = map[int]header{
	0: {":authority", ""}, 1: {":path", "/"}, 4: {"content-length", "0"}, 5: {"cookie", ""}, 6: {"date", ""},
	13: {"referer", ""}, 17: {":method", "GET"}, 20: {":method", "POST"}, 22: {":scheme", "http"}, 23: {":scheme", "https"},
	25: {":status", "200"}, 29: {"accept", "*/*"}, 31: {"accept-encoding", "gzip, deflate, br"}, 44: {"content-type", "application/dns-message"},
	72: {"accept-language", ""}, 94: {"upgrade-insecure-requests", "1"}, 95: {"user-agent", ""},
}

// qpack reads a field section. tshark 4.0 as Debian builds it shows header
// blocks of HTTP/3 as bytes, so these are read here; the peer of the recordings
// allows no dynamic table, so there is none. Huffman's code is Go's.
func qpack(t testing.TB, b []byte) (fields []header) {
	t.Helper()
	next := func(prefix int) int { // an integer of RFC 7541, section 5.1
		mask := 1<<prefix - 1
		v := int(b[0]) & mask
		b = b[1:]
		for shift := 0; v >= mask || shift > 0; shift += 7 {
			c := int(b[0])
			b = b[1:]
			v += c & 0x7f << shift
			if c&0x80 == 0 {
				break
			}
		}
		return v
	}
	text := func(prefix int) string {
		huffman := b[0]>>prefix&1 == 1
		n := next(prefix)
		s := string(b[:n])
		if huffman {
			var err error
			if s, err = hpack.HuffmanDecodeToString(b[:n]); err != nil {
				t.Fatal(err)
			}
		}
		b = b[n:]
		return s
	}
	entry := func(i int) header {
		h, ok := static[i]
		if !ok {
			t.Fatalf("entry %d of the static table is not in this test", i)
		}
		return h
	}
	if next(8) != 0 || next(7) != 0 {
		t.Fatal("a field section that uses the dynamic table")
	}
	for len(b) > 0 {
		switch c := b[0]; {
		case c&0xc0 == 0xc0: // indexed, static
			fields = append(fields, entry(next(6)))
		case c&0xd0 == 0x50: // literal with a static name
			name := entry(next(4)).name
			fields = append(fields, header{name, text(7)})
		case c&0xe0 == 0x20: // literal with a literal name
			name := text(3)
			fields = append(fields, header{name, text(7)})
		default:
			t.Fatalf("a field line that uses the dynamic table: %#x", c)
		}
	}
	return fields
}
