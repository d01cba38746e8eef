package tracker

import (
	"slices"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
)

// Snapshot is a copy of one connection. The Tracker never changes it again;
// calls that take one to fill reuse the memory of its slices, so keep a Clone
// if it shall outlive the next such call.
type Snapshot struct {
	// Key is the canonical 5-tuple, Network the label it belongs to.
	Key     flow.Key
	Network string
	// UID tells this connection from any other with the same Key.
	UID UID

	// Src is the initiator: the sender of the first SYN, else the receiver of
	// a SYN-ACK, else the sender of a ja4 or ja4h packet, else the sender of
	// the first packet.
	Src, Dst         flow.Addr
	SrcPort, DstPort uint16
	Protocol         flow.Protocol
	// TCPState is zero when Protocol is not TCP.
	TCPState TCPState

	// FirstSeen and LastSeen are capture times in Unix nanoseconds: the
	// smallest and the greatest seen, even if packets arrive out of order.
	FirstSeen, LastSeen int64
	// PacketCount and ByteCount count both directions, as on the wire; the
	// Src counts are what the initiator sent of them. They are those of the
	// observer that saw most packets.
	PacketCount, ByteCount       uint64
	SrcPacketCount, SrcByteCount uint64

	// Fingerprints and RawFingerprints are in the order in which a type was
	// first seen. With Newest, each History has only its newest event; with
	// Bare there is none. RawFingerprints is empty with anything but Full.
	Fingerprints    []History
	RawFingerprints []History
	// ServerName is the newest SNI or Host, empty when unknown.
	ServerName string
	// Observers are the probes that saw the connection, at most MaxObservers,
	// first comer first. Empty with Bare.
	Observers []Observer

	// What follows is filled by Config.Enrich and empty without it.

	IdentifiedApp   string
	KnownBad        bool
	New             bool
	MSSValue        uint32
	MTUEstimate     uint32
	TunnelIndicator string
	SSHSessionType  string
	// SSHSessionHint is what a wider rule says where SSHSessionType, after
	// the published one, says nothing.
	SSHSessionHint string
	// TableMatches are the entries of tables of known fingerprints that match,
	// best first; IdentifiedApp and KnownBad follow from them.
	TableMatches []TableMatch
	Anomalies    []Anomaly
}

// History is what was seen of one fingerprint type, oldest first. Equal values
// in a row are one event, the first of them. Of more than MaxHistory events the
// first 100 and the newest 900 are kept.
type History struct {
	Type   ja4.Type
	Events []FingerprintEvent
	// TotalCount counts the events ever recorded; TotalCount - len(Events)
	// were dropped from the middle.
	TotalCount uint64
}

// FingerprintEvent is one fingerprint of a connection.
type FingerprintEvent struct {
	Value string
	// SeenAt is the capture time of the packet, in Unix nanoseconds.
	SeenAt int64
	// PacketNum is the number of the packet among those that Probe saw of the
	// connection, from 1.
	PacketNum uint64
	Probe     string
}

// Observer is what one probe saw of a connection.
type Observer struct {
	Probe                        string
	PacketCount, ByteCount       uint64
	SrcPacketCount, SrcByteCount uint64
	// FirstSeen and LastSeen are capture times in Unix nanoseconds.
	FirstSeen, LastSeen int64
}

// Anomaly is something odd about a connection, in words.
type Anomaly struct {
	Description string
	// Rule names what raised it, such as "mss-tunnel".
	Rule     string
	Severity Severity
	// RaisedAt is a capture time in Unix nanoseconds.
	RaisedAt  int64
	PacketNum uint64
	// Evidence is what it rests on.
	Evidence []Evidence
}

// TableMatch is one entry of a table of known fingerprints that a connection
// matches.
type TableMatch struct {
	// App is the application the entry names, "" if it names none.
	App string
	// Bad says that the entry condemns the connection.
	Bad  bool
	Note string
	// Confidence is how sure the entry is, 1 to 100.
	Confidence uint8
	// Entry is the id of the entry, Source the table it is from.
	Entry, Source string
	// Evidence are the fingerprints that matched: one, or one for each part of
	// a combination.
	Evidence []Evidence
}

// Evidence is something observed that speaks for a statement.
type Evidence struct {
	// Type is that of the fingerprint in Value; 0 when Value is something else,
	// such as an address, a port or a count.
	Type  ja4.Type
	Value string
	// PacketNum and Probe are those of a FingerprintEvent; 0 and "" when it is
	// no single packet, or no single probe.
	PacketNum uint64
	Probe     string
	// SeenAt is a capture time in Unix nanoseconds, 0 when there is none.
	SeenAt int64
}

// Severity ranks anomalies. The numbers are those of whorl.v1.Severity.
type Severity uint8

// The severities, from the zero value for "not stated" upwards.
const (
	SeverityUnspecified Severity = iota
	SeverityLow
	SeverityMedium
	SeverityHigh
	SeverityCritical
)

// TCPState is how far a TCP connection has come. The zero TCPState is that of
// a connection that is not TCP.
type TCPState uint8

// The states. A connection is half-open until packets of both directions and
// one without SYN were seen, so a flood from one side never looks established;
// it is closed after a FIN of both sides or a RST.
const (
	TCPNone TCPState = iota
	TCPHalfOpen
	TCPEstablished
	TCPClosed
)

// String returns "half-open", "established", "closed" or, for TCPNone, "".
func (s TCPState) String() string {
	switch s {
	case TCPHalfOpen:
		return "half-open"
	case TCPEstablished:
		return "established"
	case TCPClosed:
		return "closed"
	}
	return ""
}

// Detail says how much of a connection a query copies.
type Detail uint8

const (
	// Bare copies no fingerprints, server name or observers, and does not
	// call Config.Enrich.
	Bare Detail = iota
	// Newest copies the newest event of each fingerprint type, no raw forms.
	Newest
	// Histories copies every event of each fingerprint type, no raw forms.
	Histories
	// Full copies everything.
	Full
)

// primaryOrder is the order in which PrimaryFingerprint looks for a type.
var primaryOrder = [...]ja4.Type{
	ja4.TypeJA4, ja4.TypeJA4H, ja4.TypeJA4SSH, ja4.TypeJA4S, ja4.TypeJA4X, ja4.TypeJA4T,
	ja4.TypeJA4TS, ja4.TypeJA4D, ja4.TypeJA4D6, ja4.TypeJA4L, ja4.TypeJA4LS,
}

// ID returns the connection id, such as "tcp/10.0.0.5:51234-93.184.216.34:443".
func (s *Snapshot) ID() string { return s.Key.ID(s.Network) }

// History returns the history of fingerprints of type t, nil if there is none.
func (s *Snapshot) History(t ja4.Type) *History { return findHistory(s.Fingerprints, t) }

// RawHistory returns the history of raw forms of type t, nil if there is none.
func (s *Snapshot) RawHistory(t ja4.Type) *History { return findHistory(s.RawFingerprints, t) }

func findHistory(hs []History, t ja4.Type) *History {
	for i := range hs {
		if hs[i].Type == t {
			return &hs[i]
		}
	}
	return nil
}

// LatestFingerprint returns the newest fingerprint of type t, "" if none.
func (s *Snapshot) LatestFingerprint(t ja4.Type) string {
	if e := s.History(t).newest(); e != nil {
		return e.Value
	}
	return ""
}

// LatestPacketNum returns the packet number of the newest fingerprint of type
// t, 0 if none.
func (s *Snapshot) LatestPacketNum(t ja4.Type) uint64 {
	if e := s.History(t).newest(); e != nil {
		return e.PacketNum
	}
	return 0
}

func (h *History) newest() *FingerprintEvent {
	if h == nil || len(h.Events) == 0 {
		return nil
	}
	return &h.Events[len(h.Events)-1]
}

// PrimaryFingerprint returns the fingerprint to show first: the newest of the
// first type there is of ja4, ja4h, ja4ssh, ja4s, ja4x, ja4t, ja4ts, ja4d,
// ja4d6, ja4l, ja4ls. Without any it returns 0 and "".
func (s *Snapshot) PrimaryFingerprint() (ja4.Type, string) {
	for _, t := range primaryOrder {
		if v := s.LatestFingerprint(t); v != "" {
			return t, v
		}
	}
	return 0, ""
}

// Clone returns a deep copy that shares no memory with s but strings.
func (s *Snapshot) Clone() *Snapshot {
	c := *s
	c.Fingerprints = cloneHistories(s.Fingerprints)
	c.RawFingerprints = cloneHistories(s.RawFingerprints)
	c.Observers = slices.Clone(s.Observers)
	c.TableMatches = slices.Clone(s.TableMatches)
	for i := range c.TableMatches {
		c.TableMatches[i].Evidence = slices.Clone(c.TableMatches[i].Evidence)
	}
	c.Anomalies = slices.Clone(s.Anomalies)
	for i := range c.Anomalies {
		c.Anomalies[i].Evidence = slices.Clone(c.Anomalies[i].Evidence)
	}
	return &c
}

func cloneHistories(hs []History) []History {
	c := slices.Clone(hs)
	for i := range c {
		c[i].Events = slices.Clone(c[i].Events)
	}
	return c
}

// Reset empties s and keeps its memory.
func (s *Snapshot) Reset() {
	s.resetExtras()
	*s = Snapshot{
		Fingerprints: s.Fingerprints, RawFingerprints: s.RawFingerprints,
		Observers: s.Observers, TableMatches: s.TableMatches, Anomalies: s.Anomalies,
	}
}

// resetExtras empties what not every copy of a connection fills in: field by
// field, which for a walk over the table takes half the time of a Reset.
func (s *Snapshot) resetExtras() {
	if len(s.Fingerprints)+len(s.RawFingerprints)+len(s.TableMatches)+len(s.Anomalies) > 0 {
		s.Fingerprints, s.RawFingerprints = resetHistories(s.Fingerprints), resetHistories(s.RawFingerprints)
		s.TableMatches, s.Anomalies = resetMatches(s.TableMatches), resetAnomalies(s.Anomalies)
	}
	s.ServerName = ""
	s.Observers = s.Observers[:0]
	s.IdentifiedApp, s.KnownBad, s.New = "", false, false
	s.MSSValue, s.MTUEstimate, s.TunnelIndicator = 0, 0, ""
	s.SSHSessionType, s.SSHSessionHint = "", ""
}

// maxKeptEvents bounds what a reused History keeps room for: one connection
// with long histories must not make every reused Snapshot as large.
const maxKeptEvents = 64

func resetHistories(hs []History) []History {
	for i := range hs {
		if cap(hs[i].Events) > maxKeptEvents {
			hs[i].Events = nil
			continue
		}
		clear(hs[i].Events) // let go of the strings
		hs[i].Events = hs[i].Events[:0]
	}
	return hs[:0]
}

// resetMatches empties ms and keeps the room for the evidence of each, which is
// as small as the combinations of tables are. resetAnomalies does the same.
func resetMatches(ms []TableMatch) []TableMatch {
	for i := range ms {
		clear(ms[i].Evidence) // let go of the strings
		ms[i] = TableMatch{Evidence: ms[i].Evidence[:0]}
	}
	return ms[:0]
}

func resetAnomalies(as []Anomaly) []Anomaly {
	for i := range as {
		clear(as[i].Evidence)
		as[i] = Anomaly{Evidence: as[i].Evidence[:0]}
	}
	return as[:0]
}
