// Package notation holds how JA4+ values are written: the short hash, lists
// of hexadecimal numbers, two-digit counts, and the codes for TLS versions and
// ALPN names. It knows no fingerprint.
//
// Every function appends to or reads what the caller owns and keeps nothing.
package notation

import (
	"crypto/sha256"
	"encoding/hex"
)

const digits = "0123456789abcdef"

// EmptyHash is the short hash of nothing: twelve zeros, not a hash of "".
const EmptyHash = "000000000000"

// AppendHash appends the short hash of s: the first 12 lower-case hex digits
// of its SHA-256, or EmptyHash when s is empty.
func AppendHash(dst, s []byte) []byte {
	if len(s) == 0 {
		return append(dst, EmptyHash...)
	}
	sum := sha256.Sum256(s)
	return hex.AppendEncode(dst, sum[:6])
}

// AppendHex16 appends v as four lower-case hex digits.
func AppendHex16(dst []byte, v uint16) []byte {
	return append(dst, digits[v>>12], digits[v>>8&15], digits[v>>4&15], digits[v&15])
}

// AppendList appends the values as four hex digits each, joined by commas.
func AppendList(dst []byte, values []uint16) []byte {
	for i, v := range values {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendHex16(dst, v)
	}
	return dst
}

// AppendCount appends n as two decimal digits, capped at 99.
func AppendCount(dst []byte, n int) []byte {
	n = min(n, 99)
	return append(dst, digits[n/10], digits[n%10])
}

// GREASE reports whether v is one of the sixteen values 0x?A?A with equal
// bytes that RFC 8701 reserves.
func GREASE(v uint16) bool {
	return v&0x0f0f == 0x0a0a && v>>8 == v&0xff
}

// AppendVersion appends the two characters that stand for a TLS or DTLS
// version number, "00" for one that has none.
func AppendVersion(dst []byte, version uint16) []byte {
	code := "00"
	switch version {
	case 0x0304:
		code = "13"
	case 0x0303:
		code = "12"
	case 0x0302:
		code = "11"
	case 0x0301:
		code = "10"
	case 0x0300:
		code = "s3"
	case 0x0002:
		code = "s2"
	case 0xfeff:
		code = "d1"
	case 0xfefd:
		code = "d2"
	case 0xfefc:
		code = "d3"
	}
	return append(dst, code...)
}

// AppendALPN appends the two characters that stand for a protocol name: its
// first and last byte if both are ASCII letters or digits, else the first and
// the last digit of the name in hex; "00" for an empty name.
func AppendALPN(dst, name []byte) []byte {
	if len(name) == 0 {
		return append(dst, "00"...)
	}
	first, last := name[0], name[len(name)-1]
	if alphanumeric(first) && alphanumeric(last) {
		return append(dst, first, last)
	}
	return append(dst, digits[first>>4], digits[last&15])
}

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
}

// FirstALPN returns the first protocol name in the body of an ALPN extension
// (RFC 7301 section 3.1), nil when it holds none. The name aliases ext.
func FirstALPN(ext []byte) []byte {
	if len(ext) < 2 {
		return nil
	}
	list := ext[2:]
	list = list[:min(int(ext[0])<<8|int(ext[1]), len(list))]
	if len(list) == 0 || int(list[0]) > len(list)-1 {
		return nil
	}
	return list[1 : 1+int(list[0])]
}
