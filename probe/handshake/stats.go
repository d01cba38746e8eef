package handshake

// Reason says why the engine stopped to look for fingerprints in a flow, or
// forgot one. The set is closed: reasons are labels of metrics.
type Reason uint8

// The reasons.
const (
	// ReasonMemory: Config.MaxBytes was reached.
	ReasonMemory Reason = iota
	// ReasonTooLarge: a handshake or a header block beyond its bound.
	ReasonTooLarge
	// ReasonHoles: too many holes in the captured bytes of one direction.
	ReasonHoles
	// ReasonUnrecognised: the first 64 KiB of a direction are no protocol
	// that has a fingerprint; or what is inside an opened connection is not
	// HTTP.
	ReasonUnrecognised
	// ReasonMalformed: a message whose framing was fine and whose content was
	// not; the flow goes on.
	ReasonMalformed
	// ReasonOversize: a fingerprint longer than Config.MaxValueBytes, left out;
	// the flow goes on.
	ReasonOversize
	// ReasonCapacity: a flow was forgotten because Config.MaxFlows was reached.
	ReasonCapacity
	// ReasonNoSecrets: there are secrets, but not those of this TLS or QUIC
	// connection, so that nothing inside it was found.
	ReasonNoSecrets
	// ReasonUnopened: the secrets of a connection do not fit, or bytes of it
	// are missing, so that nothing (further) inside it was found.
	ReasonUnopened
	// ReasonUnsupported: the connection has secrets and a version, cipher
	// suite or feature that is not opened; or a request of HTTP/3 refers to
	// the dynamic table, and was left out.
	ReasonUnsupported

	NumReasons
)

var reasonNames = [NumReasons]string{
	"memory", "too-large", "holes", "unrecognised", "malformed", "oversize", "capacity",
	"no-secrets", "unopened", "unsupported",
}

// String returns the name of the reason, such as "too-large".
func (r Reason) String() string {
	if r >= NumReasons {
		return "unknown"
	}
	return reasonNames[r]
}

// Stats are counters of an Engine, from its beginning, and two gauges.
type Stats struct {
	// Opened counts the connections, Events the fingerprints, Expired the
	// connections that were forgotten because they were silent for too long.
	Opened, Events, Expired uint64
	// GivenUp counts by reason.
	GivenUp [NumReasons]uint64
	// HolesSkipped counts holes in captured byte streams that were stepped
	// over.
	HolesSkipped uint64

	// Flows and Bytes are the flows known and the bytes of fingerprint states
	// held now.
	Flows, Bytes int64
}

// Add adds the counters and gauges of o.
func (s *Stats) Add(o *Stats) {
	s.Opened += o.Opened
	s.Events += o.Events
	s.Expired += o.Expired
	for i, n := range o.GivenUp {
		s.GivenUp[i] += n
	}
	s.HolesSkipped += o.HolesSkipped
	s.Flows += o.Flows
	s.Bytes += o.Bytes
}
