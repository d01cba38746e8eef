package ja4plus

import "golang.org/x/net/http2/hpack"

// fieldReader takes a field section of QPACK apart. After the first thing that
// is wrong it does nothing and status says what.
type fieldReader struct {
	rest   []byte
	status HTTP3Status
}

// parseFieldSection adds the fields of a header block to r. It returns
// HTTP3Done when they are those of a request.
func parseFieldSection(b []byte, r *Request) HTTP3Status {
	f := fieldReader{rest: b, status: HTTP3Done}
	if f.integer(8) != 0 { // required insert count
		f.fail(HTTP3Dynamic)
	}
	f.integer(7) // base, which matters to the dynamic table alone
	total, isRequest := 0, false
	for len(f.rest) > 0 && f.status == HTTP3Done {
		name, value := f.field()
		if total += len(name) + len(value) + fieldOverhead; total > MaxHTTPHeaderBytes {
			f.fail(HTTP3TooLarge)
		}
		if f.status == HTTP3Done {
			isRequest = isRequest || name == ":method"
			r.Add(name, value)
		}
	}
	if !isRequest {
		f.fail(HTTP3Invalid)
	}
	return f.status
}

func (f *fieldReader) fail(status HTTP3Status) {
	if f.status == HTTP3Done {
		f.status = status
	}
	f.rest = nil
}

// field reads one field line (RFC 9204 section 4.5).
func (f *fieldReader) field() (name, value string) {
	switch c := f.rest[0]; {
	case c&0xc0 == 0xc0: // indexed, static table
		return f.static(f.integer(6))
	case c&0xd0 == 0x50: // literal with a name of the static table
		name, _ = f.static(f.integer(4))
		return name, f.text(7)
	case c&0xe0 == 0x20: // literal with a literal name
		name = f.text(3)
		return name, f.text(7)
	default:
		f.fail(HTTP3Dynamic)
		return "", ""
	}
}

// integer reads an integer with a prefix of n bits (RFC 7541 section 5.1).
// None that means something is longer than four bytes.
func (f *fieldReader) integer(n uint) int {
	if len(f.rest) == 0 {
		f.fail(HTTP3Invalid)
		return 0
	}
	limit := 1<<n - 1
	v := int(f.rest[0]) & limit
	f.rest = f.rest[1:]
	if v < limit {
		return v
	}
	for shift := 0; shift < 28 && len(f.rest) > 0; shift += 7 {
		c := f.rest[0]
		f.rest = f.rest[1:]
		if v += int(c&0x7f) << shift; c&0x80 == 0 {
			return v
		}
	}
	f.fail(HTTP3Invalid)
	return 0
}

// text reads a string whose length has a prefix of n bits, below the bit that
// says whether it is in Huffman's code.
func (f *fieldReader) text(n uint) string {
	if len(f.rest) == 0 {
		f.fail(HTTP3Invalid)
		return ""
	}
	huffman := f.rest[0]>>n&1 == 1
	length := f.integer(n)
	if length > len(f.rest) {
		f.fail(HTTP3Invalid)
		return ""
	}
	b := f.rest[:length]
	f.rest = f.rest[length:]
	if !huffman {
		return string(b)
	}
	s, err := hpack.HuffmanDecodeToString(b)
	if err != nil {
		f.fail(HTTP3Invalid)
	}
	return s
}

// static returns an entry of the static table. Of the values it has those of
// ":method": a request looks at no other that the table holds.
func (f *fieldReader) static(i int) (name, value string) {
	if i >= len(staticNames) {
		f.fail(HTTP3Invalid)
		return "", ""
	}
	if i >= firstStaticMethod && i < firstStaticMethod+len(staticMethods) {
		value = staticMethods[i-firstStaticMethod]
	}
	return staticNames[i], value
}

// The static table of QPACK (RFC 9204 appendix A).
const firstStaticMethod = 15

var staticMethods = [...]string{"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT"}

var staticNames = [99]string{
	0: ":authority", 1: ":path", 2: "age", 3: "content-disposition", 4: "content-length",
	5: "cookie", 6: "date", 7: "etag", 8: "if-modified-since", 9: "if-none-match",
	10: "last-modified", 11: "link", 12: "location", 13: "referer", 14: "set-cookie",
	15: ":method", 16: ":method", 17: ":method", 18: ":method", 19: ":method", 20: ":method", 21: ":method",
	22: ":scheme", 23: ":scheme",
	24: ":status", 25: ":status", 26: ":status", 27: ":status", 28: ":status",
	29: "accept", 30: "accept", 31: "accept-encoding", 32: "accept-ranges",
	33: "access-control-allow-headers", 34: "access-control-allow-headers", 35: "access-control-allow-origin",
	36: "cache-control", 37: "cache-control", 38: "cache-control", 39: "cache-control", 40: "cache-control", 41: "cache-control",
	42: "content-encoding", 43: "content-encoding",
	44: "content-type", 45: "content-type", 46: "content-type", 47: "content-type", 48: "content-type", 49: "content-type",
	50: "content-type", 51: "content-type", 52: "content-type", 53: "content-type", 54: "content-type",
	55: "range",
	56: "strict-transport-security", 57: "strict-transport-security", 58: "strict-transport-security",
	59: "vary", 60: "vary", 61: "x-content-type-options", 62: "x-xss-protection",
	63: ":status", 64: ":status", 65: ":status", 66: ":status", 67: ":status", 68: ":status", 69: ":status", 70: ":status", 71: ":status",
	72: "accept-language", 73: "access-control-allow-credentials", 74: "access-control-allow-credentials",
	75: "access-control-allow-headers",
	76: "access-control-allow-methods", 77: "access-control-allow-methods", 78: "access-control-allow-methods",
	79: "access-control-expose-headers", 80: "access-control-request-headers",
	81: "access-control-request-method", 82: "access-control-request-method",
	83: "alt-svc", 84: "authorization", 85: "content-security-policy", 86: "early-data", 87: "expect-ct",
	88: "forwarded", 89: "if-range", 90: "origin", 91: "purpose", 92: "server", 93: "timing-allow-origin",
	94: "upgrade-insecure-requests", 95: "user-agent", 96: "x-forwarded-for", 97: "x-frame-options", 98: "x-frame-options",
}
