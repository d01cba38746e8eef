package ja4plus

import (
	"encoding/hex"
	"fmt"

	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/ja4/internal/notation"
)

// ASN.1 tags as they stand in a certificate (X.690 section 8.1.2).
const (
	tagInteger    = 0x02
	tagOID        = 0x06
	tagSequence   = 0x30
	tagSet        = 0x31
	tagVersion    = 0xa0 // [0] of TBSCertificate
	tagExtensions = 0xa3 // [3] of TBSCertificate
)

// maxCertificates bounds the certificates of one message that are read.
const maxCertificates = 64

// Certificate returns the JA4X of one DER-encoded X.509 certificate.
//
// It walks the structure and reads object identifiers, nothing else, so it
// takes certificates that crypto/x509 refuses: odd curve parameters, wrong
// strings, negative serial numbers. What is not even a certificate in outline
// is an error that wraps ErrMalformed. The raw form is left empty when it is
// longer than ja4.MaxRawLen.
func Certificate(der []byte) (ja4.Event, error) {
	issuer, subject, extensions, ok := certificateParts(der)
	if !ok {
		return ja4.Event{}, fmt.Errorf("certificate of %d bytes: %w", len(der), ErrMalformed)
	}
	var array [512]byte
	raw := appendNameOIDs(array[:0], issuer)
	issuerEnd := len(raw)
	raw = append(raw, '_')
	raw = appendNameOIDs(raw, subject)
	subjectEnd := len(raw)
	raw = append(raw, '_')
	raw = appendExtensionOIDs(raw, extensions)

	var buffer [64]byte
	value := notation.AppendHash(buffer[:0], raw[:issuerEnd])
	value = append(value, '_')
	value = notation.AppendHash(value, raw[issuerEnd+1:subjectEnd])
	value = append(value, '_')
	value = notation.AppendHash(value, raw[subjectEnd+1:])

	e := ja4.Event{Type: ja4.TypeJA4X, Value: string(value)}
	if len(raw) <= ja4.MaxRawLen {
		e.Raw = string(raw)
	}
	return e, nil
}

// certificateParts finds the two names and the extensions (RFC 5280 section
// 4.1). extensions is nil when there are none.
func certificateParts(der []byte) (issuer, subject, extensions []byte, ok bool) {
	outer, _, ok := enter(der, tagSequence)
	if !ok {
		return nil, nil, nil, false
	}
	tbs, _, ok := enter(outer, tagSequence)
	if !ok {
		return nil, nil, nil, false
	}
	if _, rest, ok := enter(tbs, tagVersion); ok {
		tbs = rest
	}
	if _, tbs, ok = enter(tbs, tagInteger); !ok { // serial number
		return nil, nil, nil, false
	}
	if _, tbs, ok = enter(tbs, tagSequence); !ok { // signature algorithm
		return nil, nil, nil, false
	}
	if issuer, tbs, ok = enter(tbs, tagSequence); !ok {
		return nil, nil, nil, false
	}
	if _, tbs, ok = enter(tbs, tagSequence); !ok { // validity
		return nil, nil, nil, false
	}
	if subject, tbs, ok = enter(tbs, tagSequence); !ok {
		return nil, nil, nil, false
	}
	// The public key and the unique identifiers are not looked into: what
	// follows is skipped up to the extensions.
	for len(tbs) > 0 {
		tag, content, rest, ok := element(tbs)
		if !ok {
			break
		}
		if tag == tagExtensions {
			extensions, _, _ = enter(content, tagSequence)
			break
		}
		tbs = rest
	}
	return issuer, subject, extensions, true
}

// appendNameOIDs appends the type of each attribute of a name, in order, those
// of relative names with several values included.
func appendNameOIDs(dst, name []byte) []byte {
	start := len(dst)
	for len(name) > 0 {
		set, rest, ok := enter(name, tagSet)
		if !ok {
			break
		}
		name = rest
		for len(set) > 0 {
			attribute, rest, ok := enter(set, tagSequence)
			if !ok {
				break
			}
			set = rest
			dst = appendOID(dst, start, attribute)
		}
	}
	return dst
}

// appendExtensionOIDs appends the identifier of each extension, in order.
func appendExtensionOIDs(dst, extensions []byte) []byte {
	start := len(dst)
	for len(extensions) > 0 {
		extension, rest, ok := enter(extensions, tagSequence)
		if !ok {
			break
		}
		extensions = rest
		dst = appendOID(dst, start, extension)
	}
	return dst
}

// appendOID appends the object identifier that sequence begins with to the
// list that begins at start: the bytes of its content in hex.
func appendOID(dst []byte, start int, sequence []byte) []byte {
	oid, _, ok := enter(sequence, tagOID)
	if !ok {
		return dst
	}
	if len(dst) > start {
		dst = append(dst, ',')
	}
	return hex.AppendEncode(dst, oid)
}

// enter takes the first element of b, which must have the given tag.
func enter(b []byte, tag byte) (content, rest []byte, ok bool) {
	got, content, rest, ok := element(b)
	if !ok || got != tag {
		return nil, nil, false
	}
	return content, rest, true
}

// element takes the first element of b. Tags have one byte, as all in a
// certificate do. Lengths need not be the shortest. It reports false when b is cut
// short or its length is indefinite.
func element(b []byte) (tag byte, content, rest []byte, ok bool) {
	if len(b) < 2 || b[0]&0x1f == 0x1f {
		return 0, nil, nil, false
	}
	n, at := int(b[1]), 2
	if n >= 0x80 {
		digits := n - 0x80
		if digits == 0 || digits > 3 || len(b) < 2+digits {
			return 0, nil, nil, false
		}
		n = 0
		for _, c := range b[2 : 2+digits] {
			n = n<<8 | int(c)
		}
		at += digits
	}
	if n > len(b)-at {
		return 0, nil, nil, false
	}
	return b[0], b[at : at+n], b[at+n:], true
}

// Certificates calls emit with the JA4X of each certificate in the body of a
// Certificate message of SSL 3.0 to TLS 1.2 or DTLS to 1.2, leaf first.
// Certificates that cannot be read are skipped, as is what follows the first
// 64 of them.
func Certificates(body []byte, emit func(ja4.Event)) {
	eachCertificate(body, false, emit)
}

// Certificates13 is Certificates for the message as TLS 1.3 has it, with a
// request context and with extensions for each certificate (RFC 8446 section
// 4.4.2).
func Certificates13(body []byte, emit func(ja4.Event)) {
	if len(body) == 0 || int(body[0]) > len(body)-1 {
		return
	}
	eachCertificate(body[1+int(body[0]):], true, emit)
}

func eachCertificate(body []byte, extensions bool, emit func(ja4.Event)) {
	list, _, _ := vector24(body)
	for range maxCertificates {
		der, rest, ok := vector24(list)
		if !ok {
			return
		}
		list = rest
		if e, err := Certificate(der); err == nil {
			emit(e)
		}
		if extensions {
			if len(list) < 2 {
				return
			}
			n := 2 + int(list[0])<<8 + int(list[1])
			list = list[min(n, len(list)):]
		}
	}
}

// vector24 takes a vector with a length of three bytes.
func vector24(b []byte) (content, rest []byte, ok bool) {
	if len(b) < 3 {
		return nil, nil, false
	}
	n := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	if n > len(b)-3 {
		return nil, nil, false
	}
	return b[3 : 3+n], b[3+n:], true
}
