package ja4

import "fmt"

// Type names a kind of JA4+ fingerprint. The zero Type is invalid.
//
// Only TypeJA4 (with its original-order form) is computed by this package; the
// others belong to package ja4plus and are named here because a name is shared
// by everything that carries fingerprints.
type Type uint8

// The types, in the order in which events of one packet are reported. The
// numbers are those of whorl.v1.FingerprintType and never change.
const (
	TypeJA4    Type = 1  // TLS, QUIC and DTLS client hello
	TypeJA4S   Type = 2  // server hello
	TypeJA4H   Type = 3  // HTTP request
	TypeJA4X   Type = 4  // X.509 certificate
	TypeJA4L   Type = 5  // light distance of the client
	TypeJA4LS  Type = 6  // light distance of the server
	TypeJA4T   Type = 7  // TCP SYN
	TypeJA4TS  Type = 8  // TCP SYN-ACK
	TypeJA4SSH Type = 9  // SSH traffic window
	TypeJA4D   Type = 10 // DHCPv4 message
	TypeJA4D6  Type = 11 // DHCPv6 message
	TypeJA4O   Type = 12 // JA4 in original order, on request only
	TypeJA4HRO Type = 13 // JA4H raw with cookies in wire order, on request only

	// NumTypes is one more than the largest Type: the length of a table
	// indexed by Type.
	NumTypes = 14
)

var typeNames = [NumTypes]string{
	"", "ja4", "ja4s", "ja4h", "ja4x", "ja4l", "ja4ls", "ja4t", "ja4ts",
	"ja4ssh", "ja4d", "ja4d6", "ja4_o", "ja4h_ro",
}

// String returns the lower-case key of the type, such as "ja4ssh", or
// "type(200)" for a number that is none.
func (t Type) String() string {
	if !t.Valid() {
		return fmt.Sprintf("type(%d)", uint8(t))
	}
	return typeNames[t]
}

// Valid reports whether t is one of the constants above.
func (t Type) Valid() bool { return t > 0 && t < NumTypes }

// Plus reports whether t is a JA4+ method under the FoxIO License 1.1, that is
// every type but JA4 and its original-order form.
func (t Type) Plus() bool { return t.Valid() && t != TypeJA4 && t != TypeJA4O }

// Optional reports whether t is computed only when asked for by name.
func (t Type) Optional() bool { return t == TypeJA4O || t == TypeJA4HRO }

// ParseType returns the Type with the given lower-case key.
func ParseType(s string) (Type, error) {
	for t := TypeJA4; t < NumTypes; t++ {
		if typeNames[t] == s {
			return t, nil
		}
	}
	return 0, fmt.Errorf("%q is not a fingerprint type such as ja4 or ja4ssh", s)
}

// TypeSet is a set of types. The zero TypeSet is empty.
type TypeSet uint16

// AllTypes holds every type that is not Optional; JA4Only the ones that are
// not under the FoxIO License; NoTypes none, where the zero TypeSet stands for
// a default.
const (
	NoTypes  TypeSet = 1 // the bit of no type
	AllTypes TypeSet = 1<<(TypeJA4D6+1) - 2
	JA4Only  TypeSet = 1<<TypeJA4 | 1<<TypeJA4O
)

// Has reports whether t is in s.
func (s TypeSet) Has(t Type) bool { return s>>t&1 != 0 }

// With returns s and t together.
func (s TypeSet) With(t Type) TypeSet { return s | 1<<t }

// Without returns s less t.
func (s TypeSet) Without(t Type) TypeSet { return s &^ (1 << t) }

// Event is one fingerprint as it was computed from bytes.
type Event struct {
	Type Type
	// Value is the fingerprint, such as t13d1516h2_8daaf6152771_02713d6af862.
	Value string
	// Raw is the unhashed form, empty when the type has none.
	Raw string
	// ServerName is the SNI or Host that came with it, empty when unknown.
	ServerName string
}
