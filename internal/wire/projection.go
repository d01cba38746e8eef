package wire

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/whorl-net/whorl/internal/suggest"
	"github.com/whorl-net/whorl/ja4"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"github.com/whorl-net/whorl/tracker"
)

// Numbers of the fields of whorl.v1.Connection and Eviction.
const (
	connectionID                 = 1
	connectionUID                = 2
	connectionSrcIP              = 3
	connectionSrcPort            = 4
	connectionDstIP              = 5
	connectionDstPort            = 6
	connectionProtocol           = 7
	connectionFirstSeen          = 8
	connectionLastSeen           = 9
	connectionPacketCount        = 10
	connectionByteCount          = 11
	connectionSrcPacketCount     = 12
	connectionSrcByteCount       = 13
	connectionFingerprints       = 14
	connectionRawFingerprints    = 15
	connectionPrimaryFingerprint = 16
	connectionIdentifiedApp      = 17
	connectionIsKnownBad         = 18
	connectionIsNew              = 19
	connectionMSSValue           = 20
	connectionTunnelIndicator    = 21
	connectionSSHSessionType     = 22
	connectionAnomalies          = 23
	connectionObservers          = 24
	connectionServerName         = 25
	connectionNetwork            = 26
	connectionTCPState           = 27
	connectionCommunityID        = 28
	connectionTableMatches       = 29
	connectionSSHSessionHint     = 30
	connectionMTUEstimate        = 31

	evictionSequence   = 1
	evictionCause      = 2
	evictionEvictedAt  = 3
	evictionConnection = 4
)

// Projection says which parts of a connection are wanted. The zero Projection
// wants all of it. Comparable.
type Projection struct {
	fields uint64 // bit n: field number n is wanted; 0 is every field
	types  ja4.TypeSet
	basic  bool
}

// maxListed bounds the lists of NewProjection: more names than there are fields
// or types is a mistake, repeated ones included.
const maxListed = 64

// NewProjection reads the fields view, fields and fingerprint_types that several
// requests have in common. Empty lists want everything. An error is a
// *MalformedError with a path such as "fields[2]".
func NewProjection(view whorlv1.ConnectionView, fields, fingerprintTypes []string) (Projection, error) {
	var p Projection
	switch view {
	case whorlv1.ConnectionView_CONNECTION_VIEW_UNSPECIFIED, whorlv1.ConnectionView_CONNECTION_VIEW_FULL:
	case whorlv1.ConnectionView_CONNECTION_VIEW_BASIC:
		p.basic = true
	default:
		return p, malformed("view", "%d is not a view", view)
	}
	if len(fields) > maxListed {
		return p, malformed("fields", "has %d names, at most %d", len(fields), maxListed)
	}
	for i, name := range fields {
		n := fieldNumber(name)
		if n == 0 {
			return p, malformed(at("fields", i), "%s", unknown(name, "a field of Connection", fieldNames()))
		}
		p.fields |= 1 << n
	}
	if len(fingerprintTypes) > maxListed {
		return p, malformed("fingerprint_types", "has %d names, at most %d", len(fingerprintTypes), maxListed)
	}
	for i, name := range fingerprintTypes {
		t, err := ja4.ParseType(name)
		if err != nil {
			return p, malformed(at("fingerprint_types", i), "%s", unknown(name, "a fingerprint type", typeNames()))
		}
		p.types = p.types.With(t)
	}
	return p, nil
}

// unknown says that name is not what, and perhaps what was meant.
func unknown(name, what string, known []string) string {
	if len(name) > 64 {
		name = name[:64]
	}
	text := fmt.Sprintf("%q is not %s", name, what)
	if near := suggest.Nearest(name, known); near != "" {
		text += fmt.Sprintf("; did you mean %s?", near)
	}
	return text
}

func connectionFields() protoreflect.FieldDescriptors {
	return (*whorlv1.Connection)(nil).ProtoReflect().Descriptor().Fields()
}

// fieldNumber returns the number of the field of that name, as in the proto or
// as in JSON, 0 if there is none.
func fieldNumber(name string) protoreflect.FieldNumber {
	if f := connectionFields().ByName(protoreflect.Name(name)); f != nil {
		return f.Number()
	}
	if f := connectionFields().ByJSONName(name); f != nil {
		return f.Number()
	}
	return 0
}

func fieldNames() (names []string) {
	for i := range connectionFields().Len() {
		names = append(names, string(connectionFields().Get(i).Name()))
	}
	return names
}

func typeNames() (names []string) {
	for _, t := range typesByName {
		names = append(names, t.String())
	}
	return names
}

func (p Projection) has(number int) bool { return p.fields == 0 || p.fields>>number&1 != 0 }

// All reports whether p wants everything, so that what AppendConnection wrote
// can be passed on as it is.
func (p Projection) All() bool { return p == Projection{} }

// newestFields are those that follow from the newest fingerprints, from
// observers or from the server name, beside what Detail names.
const newestFields = 1<<connectionFingerprints | 1<<connectionPrimaryFingerprint | 1<<connectionIsNew |
	1<<connectionMSSValue | 1<<connectionTunnelIndicator | 1<<connectionSSHSessionType | 1<<connectionAnomalies |
	1<<connectionObservers | 1<<connectionServerName | 1<<connectionSSHSessionHint | 1<<connectionMTUEstimate

// Detail says how much of a connection a query has to copy for p. What the
// tables of known fingerprints say follows from whole histories, so a basic view
// needs them too, although it shows the newest values alone.
func (p Projection) Detail() tracker.Detail {
	switch {
	case p.has(connectionRawFingerprints) && !p.basic:
		return tracker.Full
	case p.has(connectionFingerprints) && !p.basic,
		p.has(connectionIdentifiedApp), p.has(connectionIsKnownBad), p.has(connectionTableMatches):
		return tracker.Histories
	case p.fields&newestFields != 0:
		return tracker.Newest
	}
	return tracker.Bare
}

// Connection sets dst to the parts of s that p wants. It is for single answers:
// what it makes is what Append writes, decoded.
func (p Projection) Connection(dst *whorlv1.Connection, s *tracker.Snapshot) error {
	if err := proto.Unmarshal(p.Append(nil, s), dst); err != nil {
		return fmt.Errorf("decode connection %s: %w", s.ID(), err)
	}
	return nil
}

// SetField1 makes m carry frames, encoded elements of its field 1, without
// decoding them: GetResponse, AllResponse and ExportResponse have connections
// there, WatchResponse evictions. m must have no such elements of its own, and
// only who gets m over the wire can read them. m keeps frames.
func SetField1(m proto.Message, frames []byte) {
	// An unknown field is written as it is; to the receiver it is none.
	m.ProtoReflect().SetUnknown(frames)
}
