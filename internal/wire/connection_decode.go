package wire

import (
	"net/netip"
	"slices"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

// DecodeEviction reads what AppendEviction wrote, with or without a sequence in
// front, into e, whose memory it uses again. Strings in e are parts of p: p must
// not change for as long as e or a string of it is in use.
//
// What a Snapshot has and the message has not is zero: the number of the
// eviction and what each observer saw of the initiator. Detail says which
// histories are wanted: with Bare neither them nor observers and enrichment's
// lists are read, with Newest only the newest event of each, with Histories all
// but raw forms.
//
// It is for messages of this process. A message of somebody else is at worst
// refused or misunderstood, never more.
func DecodeEviction(p []byte, d tracker.Detail, e *tracker.Eviction) (sequence uint64, err error) {
	e.Connection.Reset()
	e.Number, e.Cause, e.EvictedAt = 0, 0, 0
	for len(p) > 0 {
		f, rest, ok := nextField(p)
		if !ok {
			return 0, malformed("eviction", badEncoding)
		}
		p = rest
		switch {
		case f.isVarint(evictionSequence):
			sequence = f.n
		case f.isVarint(evictionCause):
			if f.n == 0 || f.n >= tracker.NumCauses {
				return 0, malformed("cause", "%d is not a cause", f.n)
			}
			e.Cause = tracker.Cause(f.n)
		case f.isBytes(evictionEvictedAt):
			if e.EvictedAt, ok = unixTime(f.p); !ok {
				return 0, malformed("evicted_at", badEncoding)
			}
		case f.isBytes(evictionConnection):
			if err := decodeConnection(f.p, d, &e.Connection); err != nil {
				return 0, err
			}
		}
	}
	return sequence, nil
}

// DecodeConnection reads what AppendConnection wrote, as DecodeEviction does.
func DecodeConnection(p []byte, d tracker.Detail, s *tracker.Snapshot) error {
	s.Reset()
	return decodeConnection(p, d, s)
}

func decodeConnection(p []byte, d tracker.Detail, s *tracker.Snapshot) error {
	for len(p) > 0 {
		f, rest, ok := nextField(p)
		if !ok {
			return malformed("connection", badEncoding)
		}
		p = rest
		switch f.typ {
		case protowire.VarintType:
			decodeNumber(&f, s)
		case protowire.BytesType:
			if err := decodeBytes(&f, d, s); err != nil {
				return err
			}
		}
	}
	t := flow.Tuple{Src: s.Src, Dst: s.Dst, SrcPort: s.SrcPort, DstPort: s.DstPort, Protocol: s.Protocol}
	s.Key, _ = t.Key()
	return nil
}

func decodeNumber(f *field, s *tracker.Snapshot) {
	switch f.num {
	case connectionSrcPort:
		s.SrcPort = uint16(f.n)
	case connectionDstPort:
		s.DstPort = uint16(f.n)
	case connectionPacketCount:
		s.PacketCount = f.n
	case connectionByteCount:
		s.ByteCount = f.n
	case connectionSrcPacketCount:
		s.SrcPacketCount = f.n
	case connectionSrcByteCount:
		s.SrcByteCount = f.n
	case connectionIsKnownBad:
		s.KnownBad = f.n != 0
	case connectionIsNew:
		s.New = f.n != 0
	case connectionMSSValue:
		s.MSSValue = uint32(f.n)
	case connectionMTUEstimate:
		s.MTUEstimate = uint32(f.n)
	}
}

func decodeBytes(f *field, d tracker.Detail, s *tracker.Snapshot) error {
	ok := true
	switch f.num {
	case connectionUID:
		s.UID, ok = parseUID(f.p)
	case connectionSrcIP:
		s.Src, ok = parseAddr(f.p)
	case connectionDstIP:
		s.Dst, ok = parseAddr(f.p)
	case connectionProtocol:
		s.Protocol, ok = parseProtocol(f.p)
	case connectionFirstSeen:
		s.FirstSeen, ok = unixTime(f.p)
	case connectionLastSeen:
		s.LastSeen, ok = unixTime(f.p)
	case connectionFingerprints:
		if d != tracker.Bare {
			s.Fingerprints, ok = decodeHistory(f.p, s.Fingerprints, d == tracker.Newest)
		}
	case connectionRawFingerprints:
		if d == tracker.Full {
			s.RawFingerprints, ok = decodeHistory(f.p, s.RawFingerprints, false)
		}
	case connectionIdentifiedApp:
		s.IdentifiedApp = borrow(f.p)
	case connectionTunnelIndicator:
		s.TunnelIndicator = borrow(f.p)
	case connectionSSHSessionType:
		s.SSHSessionType = borrow(f.p)
	case connectionSSHSessionHint:
		s.SSHSessionHint = borrow(f.p)
	case connectionTableMatches:
		if d != tracker.Bare {
			s.TableMatches, ok = decodeTableMatch(f.p, s.TableMatches)
		}
	case connectionAnomalies:
		if d != tracker.Bare {
			s.Anomalies, ok = decodeAnomaly(f.p, s.Anomalies)
		}
	case connectionObservers:
		if d != tracker.Bare {
			s.Observers, ok = decodeObserver(f.p, s.Observers)
		}
	case connectionServerName:
		s.ServerName = borrow(f.p)
	case connectionNetwork:
		s.Network = borrow(f.p)
	case connectionTCPState:
		s.TCPState = parseTCPState(f.p)
	}
	if !ok {
		return malformed("connection."+fieldName(f.num), badEncoding)
	}
	return nil
}

func fieldName(n protowire.Number) string {
	return string(connectionFields().ByNumber(n).Name())
}

// borrow returns p as a string without a copy. It is sound because whoever calls
// the decoders promises that p does not change.
func borrow(p []byte) string {
	if len(p) == 0 {
		return ""
	}
	return unsafe.String(&p[0], len(p))
}

// unixTime reads a Timestamp that appendTime wrote.
func unixTime(p []byte) (int64, bool) {
	var t timestamp
	if !t.decode(p) {
		return 0, false
	}
	return t.sec*1_000_000_000 + int64(t.nsec), true
}

// uidDigits maps the digits of a UID's text to their values, found out by
// asking; 32 is none.
var uidDigits = func() (values [256]byte) {
	for i := range values {
		values[i] = 32
	}
	for v := range byte(32) {
		values[tracker.UID{v << 3}.String()[0]] = v
	}
	return values
}()

// parseUID is tracker.ParseUID without its allocations.
func parseUID(p []byte) (u tracker.UID, ok bool) {
	if len(p) != tracker.UIDLen {
		return u, false
	}
	var bits, n uint
	at := 0
	for _, c := range p {
		v := uidDigits[c]
		if v > 31 {
			return u, false
		}
		bits = bits<<5 | uint(v)
		if n += 5; n >= 8 {
			n -= 8
			u[at] = byte(bits >> n)
			at++
		}
	}
	// 26 digits have two bits more than 16 bytes; they are 0.
	return u, bits&3 == 0
}

func parseAddr(p []byte) (flow.Addr, bool) {
	a, err := netip.ParseAddr(borrow(p))
	if err != nil {
		return flow.Addr{}, false
	}
	return flow.AddrFrom(a), true
}

func parseProtocol(p []byte) (flow.Protocol, bool) {
	switch string(p) {
	case "tcp":
		return flow.TCP, true
	case "udp":
		return flow.UDP, true
	}
	protocol, err := flow.ParseProtocol(borrow(p))
	return protocol, err == nil
}

func parseTCPState(p []byte) tracker.TCPState {
	for s := tracker.TCPHalfOpen; s <= tracker.TCPClosed; s++ {
		if string(p) == s.String() {
			return s
		}
	}
	return tracker.TCPNone
}

// add makes hs one longer and returns the new element, whose old slices are kept
// for reuse.
func add[T any](s []T) ([]T, *T) {
	s = slices.Grow(s, 1)
	s = s[:len(s)+1]
	return s, &s[len(s)-1]
}

func parseType(p []byte) (ja4.Type, bool) {
	for t := ja4.TypeJA4; t < ja4.NumTypes; t++ {
		if string(p) == t.String() {
			return t, true
		}
	}
	return 0, false
}

// decodeHistory reads one entry of a map of histories and appends it to hs. A
// type that this version does not know is left out.
func decodeHistory(p []byte, hs []tracker.History, newest bool) ([]tracker.History, bool) {
	var key, value []byte
	for len(p) > 0 {
		f, rest, ok := nextField(p)
		if !ok {
			return hs, false
		}
		p = rest
		switch {
		case f.isBytes(1):
			key = f.p
		case f.isBytes(2):
			value = f.p
		}
	}
	t, known := parseType(key)
	if !known {
		return hs, true
	}
	hs, h := add(hs)
	h.Type, h.TotalCount, h.Events = t, 0, h.Events[:0]
	for p = value; len(p) > 0; {
		f, rest, ok := nextField(p)
		if !ok {
			return hs, false
		}
		p = rest
		switch {
		case f.isBytes(1):
			if newest {
				h.Events = h.Events[:0]
			}
			var e *tracker.FingerprintEvent
			h.Events, e = add(h.Events)
			if !decodeEvent(f.p, e) {
				return hs, false
			}
		case f.isVarint(2):
			h.TotalCount = f.n
		}
	}
	return hs, true
}

func decodeEvent(p []byte, e *tracker.FingerprintEvent) bool {
	*e = tracker.FingerprintEvent{}
	for len(p) > 0 {
		f, rest, ok := nextField(p)
		if !ok {
			return false
		}
		p = rest
		switch {
		case f.isBytes(1):
			e.Value = borrow(f.p)
		case f.isBytes(2):
			if e.SeenAt, ok = unixTime(f.p); !ok {
				return false
			}
		case f.isVarint(3):
			e.PacketNum = f.n
		case f.isBytes(4):
			e.Probe = borrow(f.p)
		}
	}
	return true
}

func decodeAnomaly(p []byte, as []tracker.Anomaly) ([]tracker.Anomaly, bool) {
	as, a := add(as)
	return as, decodeAnomalyInto(p, a)
}

func decodeAnomalyInto(p []byte, a *tracker.Anomaly) bool {
	*a = tracker.Anomaly{Evidence: a.Evidence[:0]}
	for len(p) > 0 {
		f, rest, ok := nextField(p)
		if !ok {
			return false
		}
		p = rest
		switch {
		case f.isBytes(1):
			a.Description = borrow(f.p)
		case f.isBytes(2):
			a.Rule = borrow(f.p)
		case f.isVarint(3):
			a.Severity = tracker.Severity(f.n)
		case f.isBytes(4):
			if a.RaisedAt, ok = unixTime(f.p); !ok {
				return false
			}
		case f.isVarint(5):
			a.PacketNum = f.n
		case f.isBytes(6):
			if a.Evidence, ok = decodeEvidence(f.p, a.Evidence); !ok {
				return false
			}
		}
	}
	return true
}

func decodeTableMatch(p []byte, ms []tracker.TableMatch) ([]tracker.TableMatch, bool) {
	ms, m := add(ms)
	*m = tracker.TableMatch{Evidence: m.Evidence[:0]}
	for len(p) > 0 {
		f, rest, ok := nextField(p)
		if !ok {
			return ms, false
		}
		p = rest
		switch {
		case f.isBytes(1):
			m.App = borrow(f.p)
		case f.isVarint(2):
			m.Bad = f.n != 0
		case f.isBytes(3):
			m.Note = borrow(f.p)
		case f.isVarint(4):
			m.Confidence = uint8(f.n)
		case f.isBytes(5):
			m.Entry = borrow(f.p)
		case f.isBytes(6):
			m.Source = borrow(f.p)
		case f.isBytes(7):
			if m.Evidence, ok = decodeEvidence(f.p, m.Evidence); !ok {
				return ms, false
			}
		}
	}
	return ms, true
}

func decodeEvidence(p []byte, es []tracker.Evidence) ([]tracker.Evidence, bool) {
	es, e := add(es)
	*e = tracker.Evidence{}
	for len(p) > 0 {
		f, rest, ok := nextField(p)
		if !ok {
			return es, false
		}
		p = rest
		switch {
		case f.isBytes(1):
			e.Type, _ = parseType(f.p)
		case f.isBytes(2):
			e.Value = borrow(f.p)
		case f.isVarint(3):
			e.PacketNum = f.n
		case f.isBytes(4):
			e.Probe = borrow(f.p)
		case f.isBytes(5):
			if e.SeenAt, ok = unixTime(f.p); !ok {
				return es, false
			}
		}
	}
	return es, true
}

func decodeObserver(p []byte, os []tracker.Observer) ([]tracker.Observer, bool) {
	os, o := add(os)
	*o = tracker.Observer{}
	for len(p) > 0 {
		f, rest, ok := nextField(p)
		if !ok {
			return os, false
		}
		p = rest
		switch {
		case f.isBytes(1):
			o.Probe = borrow(f.p)
		case f.isVarint(2):
			o.PacketCount = f.n
		case f.isVarint(3):
			o.ByteCount = f.n
		case f.isBytes(4):
			if o.FirstSeen, ok = unixTime(f.p); !ok {
				return os, false
			}
		case f.isBytes(5):
			if o.LastSeen, ok = unixTime(f.p); !ok {
				return os, false
			}
		}
	}
	return os, true
}
