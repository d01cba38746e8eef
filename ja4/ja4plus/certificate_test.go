package ja4plus

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/whorl-net/whorl/internal/fuzzguard"
	"github.com/whorl-net/whorl/ja4"
)

// oidHex is the content of an object identifier in hex, by encoding/asn1.
func oidHex(t testing.TB, oid asn1.ObjectIdentifier) string {
	t.Helper()
	der, err := asn1.Marshal(oid)
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(der[2:])
}

// rawFromX509 is the unhashed JA4X as crypto/x509 sees the certificate.
func rawFromX509(t testing.TB, der []byte) string {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	names := func(raw []byte) string {
		var rdns pkix.RDNSequence
		if _, err := asn1.Unmarshal(raw, &rdns); err != nil {
			t.Fatal(err)
		}
		var list []string
		for _, rdn := range rdns {
			for _, attribute := range rdn {
				list = append(list, oidHex(t, attribute.Type))
			}
		}
		return strings.Join(list, ",")
	}
	var extensions []string
	for _, e := range c.Extensions {
		extensions = append(extensions, oidHex(t, e.Id))
	}
	return names(c.RawIssuer) + "_" + names(c.RawSubject) + "_" + strings.Join(extensions, ",")
}

func shortHash(s string) string {
	if s == "" {
		return "000000000000"
	}
	return fmt.Sprintf("%x", sha256.Sum256([]byte(s)))[:12]
}

// hashSections hashes the three lists of an unhashed JA4X.
func hashSections(raw string) string {
	sections := strings.Split(raw, "_")
	for i := range sections {
		sections[i] = shortHash(sections[i])
	}
	return strings.Join(sections, "_")
}

func makeCertificate(t testing.TB, template *x509.Certificate) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(7), time.Unix(0, 0), time.Unix(1<<32, 0)
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func richCertificate(t testing.TB) []byte {
	return makeCertificate(t, &x509.Certificate{
		Subject: pkix.Name{
			Country: []string{"DK"}, Organization: []string{"Whorl", "Whorl Again"}, OrganizationalUnit: []string{"a", "b"},
			CommonName: "whorl.test", SerialNumber: "1",
			ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}, Value: "test"}},
		},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true, DNSNames: []string{"whorl.test"}, OCSPServer: []string{"http://ocsp.test"},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}, Value: []byte{4, 0}}},
	})
}

// A certificate gives what crypto/x509 reads from it; names with several
// values in one set, and empty names, included.
func TestCertificateAgreesWithX509(t *testing.T) {
	for name, der := range map[string][]byte{
		"rich":  richCertificate(t),
		"plain": makeCertificate(t, &x509.Certificate{Subject: pkix.Name{CommonName: "x"}}),
		"empty": makeCertificate(t, &x509.Certificate{}),
	} {
		want := rawFromX509(t, der)
		e, err := Certificate(der)
		if err != nil || e.Type != ja4.TypeJA4X || e.Raw != want || e.Value != hashSections(want) {
			t.Errorf("%s: %v, %v\nwant %s, raw %s", name, e, err, hashSections(want), want)
		}
	}
	if e, _ := Certificate(makeCertificate(t, &x509.Certificate{})); e.Value != strings.Repeat("000000000000_", 2)+"000000000000" {
		t.Errorf("no names, no extensions: %s", e.Value)
	}
}

// tlv is one DER element.
func tlv(tag byte, parts ...[]byte) []byte {
	content := slices.Concat(parts...)
	switch n := len(content); {
	case n < 0x80:
		return append([]byte{tag, byte(n)}, content...)
	case n < 0x100:
		return append([]byte{tag, 0x81, byte(n)}, content...)
	default:
		return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, content...)
	}
}

// Certificates that crypto/x509 refuses are read as far as it matters.
func TestOddCertificates(t *testing.T) {
	cn := tlv(tagSequence, tlv(tagOID, []byte{0x55, 4, 3}), tlv(0x0c, []byte("x")))
	org := tlv(tagSequence, tlv(tagOID, []byte{0x55, 4, 10}), tlv(0x0c, []byte("y")))
	name := tlv(tagSequence, tlv(tagSet, cn, org)) // two values in one set
	serial, algorithm := tlv(tagInteger, []byte{0xff, 0, 0, 0}), tlv(tagSequence)
	key := tlv(tagSequence, []byte{0x99, 0x01, 0x00})
	extension := tlv(tagSequence, tlv(tagOID, []byte{0x55, 0x1d, 0x0e}), tlv(1, []byte{0xff}), tlv(4, nil))
	certificate := func(tbs ...[]byte) []byte {
		return tlv(tagSequence, tlv(tagSequence, tbs...), tlv(tagSequence), tlv(3, []byte{0}))
	}
	version := tlv(tagVersion, tlv(tagInteger, []byte{9}))
	for _, c := range []struct {
		name string
		der  []byte
		raw  string
	}{
		{"odd version, serial, validity and key",
			certificate(version, serial, algorithm, name, tlv(tagSequence, []byte("soon")), name, key, tlv(tagExtensions, tlv(tagSequence, extension, extension))),
			"550403,55040a_550403,55040a_551d0e,551d0e"},
		{"version 1", certificate(serial, algorithm, name, algorithm, name, key), "550403,55040a_550403,55040a_"},
		{"unique identifiers before the extensions",
			certificate(version, serial, algorithm, name, algorithm, tlv(tagSequence), key, tlv(0x81, []byte{0}), tlv(0x82, []byte{0}), tlv(tagExtensions, tlv(tagSequence, extension))),
			"550403,55040a__551d0e"},
		{"no signature", tlv(tagSequence, tlv(tagSequence, serial, algorithm, name, algorithm, name)), "550403,55040a_550403,55040a_"},
		{"bytes behind it", append(certificate(serial, algorithm, name, algorithm, name), 1, 2, 3), "550403,55040a_550403,55040a_"},
		{"a key of indefinite length hides the extensions",
			certificate(serial, algorithm, name, algorithm, name, []byte{0x30, 0x80, 0, 0}, tlv(tagExtensions, tlv(tagSequence, extension))),
			"550403,55040a_550403,55040a_"},
		{"a name with a broken attribute", certificate(serial, algorithm, tlv(tagSequence, tlv(tagSet, tlv(tagSequence, tlv(tagInteger))), tlv(tagSet, cn)), algorithm, name),
			"550403_550403,55040a_"},
	} {
		e, err := Certificate(c.der)
		if err != nil || e.Raw != c.raw || e.Value != hashSections(c.raw) {
			t.Errorf("%s: %v, %v\nwant raw %s", c.name, e, err, c.raw)
		}
	}
	for name, der := range map[string][]byte{
		"empty":             nil,
		"text":              []byte("-----BEGIN CERTIFICATE-----"),
		"no subject":        certificate(serial, algorithm, name, algorithm),
		"cut short":         certificate(serial, algorithm, name, algorithm, name)[:20],
		"long tag":          {0x3f, 0x81, 0x00},
		"length of 8 bytes": {0x30, 0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	} {
		if e, err := Certificate(der); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, %v; want ErrMalformed", name, e, err)
		}
	}
}

// certificateList is the list of a Certificate message; behind puts bytes
// after each certificate.
func certificateList(behind []byte, ders ...[]byte) []byte {
	put24 := func(n int) []byte { return []byte{byte(n >> 16), byte(n >> 8), byte(n)} }
	var list []byte
	for _, der := range ders {
		list = slices.Concat(list, put24(len(der)), der, behind)
	}
	return append(put24(len(list)), list...)
}

// Each certificate of a message is an event, in order; one that cannot be read
// does not hide the others.
func TestCertificates(t *testing.T) {
	a, b := richCertificate(t), makeCertificate(t, &x509.Certificate{Subject: pkix.Name{CommonName: "x"}})
	va, _ := Certificate(a)
	vb, _ := Certificate(b)
	extension := []byte{0, 5, 0, 5, 0, 1, 9}
	for _, c := range []struct {
		name string
		each func([]byte, func(ja4.Event))
		body []byte
		want []ja4.Event
	}{
		{"TLS 1.2", Certificates, certificateList(nil, a, b), []ja4.Event{va, vb}},
		{"TLS 1.2, one is broken", Certificates, certificateList(nil, []byte("broken"), b), []ja4.Event{vb}},
		{"TLS 1.2, none", Certificates, certificateList(nil), nil},
		{"TLS 1.2, list cut short", Certificates, certificateList(nil, a, b)[:len(a)+20], nil},
		{"TLS 1.3", Certificates13, append([]byte{0}, certificateList(extension, a, b)...), []ja4.Event{va, vb}},
		{"TLS 1.3 with a request context", Certificates13, append([]byte{2, 7, 7}, certificateList([]byte{0, 0}, b)...), []ja4.Event{vb}},
		{"TLS 1.3, empty", Certificates13, nil, nil},
		{"TLS 1.3, context cut short", Certificates13, []byte{9, 1}, nil},
		{"TLS 1.3, extensions missing", Certificates13, append([]byte{0}, certificateList(nil, b)...), []ja4.Event{vb}},
	} {
		var got []ja4.Event
		c.each(c.body, func(e ja4.Event) { got = append(got, e) })
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v\nwant %v", c.name, got, c.want)
		}
	}
	many := make([][]byte, 100)
	for i := range many {
		many[i] = b
	}
	n := 0
	Certificates(certificateList(nil, many...), func(ja4.Event) { n++ })
	if n != maxCertificates {
		t.Errorf("%d events of 100 certificates, want %d", n, maxCertificates)
	}
}

// Every value that the reference captures give for server hellos and
// certificates is the hash of its raw form. The data may be absent.
func TestReferenceTLSValues(t *testing.T) {
	files, _ := filepath.Glob("../../../shared/oracle/expected/*.json")
	if len(files) == 0 {
		t.Skip("no reference data in ../../../shared/oracle/expected")
	}
	checked := 0
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var doc struct {
			Expect []struct {
				Type        string
				Values, Raw []string
			}
		}
		if err := json.Unmarshal(b, &doc); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, e := range doc.Expect {
			for i := range min(len(e.Values), len(e.Raw)) {
				var got string
				switch e.Type {
				case "ja4s":
					at := strings.LastIndexByte(e.Raw[i], '_') + 1
					got = e.Raw[i][:at] + shortHash(e.Raw[i][at:])
				case "ja4x":
					got = hashSections(e.Raw[i])
				default:
					continue
				}
				checked++
				if got != e.Values[i] {
					t.Errorf("%s: %s hashes to %s, want %s", filepath.Base(name), e.Raw[i], got, e.Values[i])
				}
			}
		}
	}
	if checked < 100 {
		t.Errorf("checked %d values, want a hundred at least", checked)
	}
}

func BenchmarkCertificate(b *testing.B) {
	der := richCertificate(b)
	b.ReportAllocs()
	for b.Loop() {
		Certificate(der)
	}
}

func FuzzCertificate(f *testing.F) {
	f.Add(richCertificate(f))
	f.Add(certificateList(nil, richCertificate(f)))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzzguard.Watch(t)
		e, err := Certificate(b)
		if err == nil {
			if _, err := ja4.Parse(ja4.TypeJA4X, e.Value); err != nil {
				t.Fatal(err)
			}
			if e.Raw != "" && hashSections(e.Raw) != e.Value {
				t.Fatalf("%s does not hash to %s", e.Raw, e.Value)
			}
		}
		Certificates(b, func(ja4.Event) {})
		Certificates13(b, func(ja4.Event) {})
	})
}
