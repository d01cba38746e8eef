package wire

import (
	"slices"
	"strings"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

// MaxConnectionBytes is about the largest a connection is encoded, so that a
// message with one always fits the 4 MiB that every client takes. Longer
// histories lose events from the middle, raw forms first; total_count says so.
const MaxConnectionBytes = 1 << 20

// AppendConnection appends s as a whorl.v1.Connection: every field, as in
// CONNECTION_VIEW_FULL. Text in s must be UTF-8, as what DecodeBatch lets
// through is. It does not allocate when dst has room.
func AppendConnection(dst []byte, s *tracker.Snapshot) []byte {
	return Projection{}.Append(dst, s)
}

// AppendEviction appends e as a whorl.v1.Eviction without field 1, the sequence,
// which goes in front once it is known (feed.Journal.Append).
func AppendEviction(dst []byte, e *tracker.Eviction) []byte {
	dst = appendUint(dst, evictionCause, uint64(e.Cause))
	dst = appendTime(dst, evictionEvictedAt, e.EvictedAt)
	dst, start := open(dst, evictionConnection, mediumRoom)
	dst = AppendConnection(dst, &e.Connection)
	return finish(dst, start, mediumRoom)
}

// AppendConnectionFrame appends s as p wants it, framed as field 1, which is
// where GetResponse, AllResponse and ExportResponse have their connections.
func (p Projection) AppendConnectionFrame(dst []byte, s *tracker.Snapshot) []byte {
	dst, start := open(dst, 1, mediumRoom)
	dst = p.Append(dst, s)
	return finish(dst, start, mediumRoom)
}

// AppendEvictionFrame appends e as p wants it, framed as field 1, which is where
// WatchResponse has its evictions.
func (p Projection) AppendEvictionFrame(dst []byte, sequence uint64, e *tracker.Eviction) []byte {
	dst, frame := open(dst, 1, mediumRoom)
	dst = appendUint(dst, evictionSequence, sequence)
	dst = appendUint(dst, evictionCause, uint64(e.Cause))
	dst = appendTime(dst, evictionEvictedAt, e.EvictedAt)
	dst, connection := open(dst, evictionConnection, mediumRoom)
	dst = p.Append(dst, &e.Connection)
	dst = finish(dst, connection, mediumRoom)
	return finish(dst, frame, mediumRoom)
}

// Append appends s as a whorl.v1.Connection with the fields that p wants.
func (p Projection) Append(dst []byte, s *tracker.Snapshot) []byte {
	if p.has(connectionID) {
		dst = appendID(dst, s)
	}
	if p.has(connectionUID) {
		dst = appendVarint(dst, connectionUID<<3|lenPfx)
		dst = append(dst, tracker.UIDLen)
		dst = s.UID.Append(dst)
	}
	if p.has(connectionSrcIP) {
		dst = appendAddr(dst, connectionSrcIP, &s.Src)
	}
	if p.has(connectionSrcPort) {
		dst = appendUint(dst, connectionSrcPort, uint64(s.SrcPort))
	}
	if p.has(connectionDstIP) {
		dst = appendAddr(dst, connectionDstIP, &s.Dst)
	}
	if p.has(connectionDstPort) {
		dst = appendUint(dst, connectionDstPort, uint64(s.DstPort))
	}
	if p.has(connectionProtocol) {
		dst = appendString(dst, connectionProtocol, s.Protocol.String())
	}
	if p.has(connectionFirstSeen) {
		dst = appendTime(dst, connectionFirstSeen, s.FirstSeen)
	}
	if p.has(connectionLastSeen) {
		dst = appendTime(dst, connectionLastSeen, s.LastSeen)
	}
	if p.has(connectionPacketCount) {
		dst = appendUint(dst, connectionPacketCount, s.PacketCount)
	}
	if p.has(connectionByteCount) {
		dst = appendUint(dst, connectionByteCount, s.ByteCount)
	}
	if p.has(connectionSrcPacketCount) {
		dst = appendUint(dst, connectionSrcPacketCount, s.SrcPacketCount)
	}
	if p.has(connectionSrcByteCount) {
		dst = appendUint(dst, connectionSrcByteCount, s.SrcByteCount)
	}
	dst = p.appendFingerprints(dst, s)
	dst = p.appendEnrichment(dst, s)
	if p.has(connectionObservers) {
		for i := range s.Observers {
			dst = appendObserver(dst, &s.Observers[i])
		}
	}
	if p.has(connectionServerName) {
		dst = appendString(dst, connectionServerName, s.ServerName)
	}
	if p.has(connectionNetwork) {
		dst = appendString(dst, connectionNetwork, s.Network)
	}
	if p.has(connectionTCPState) {
		dst = appendString(dst, connectionTCPState, s.TCPState.String())
	}
	if p.has(connectionCommunityID) {
		dst = appendVarint(dst, connectionCommunityID<<3|lenPfx)
		dst = append(dst, communityIDLen)
		dst = AppendCommunityID(dst, flow.Tuple{
			Src: s.Src, Dst: s.Dst, SrcPort: s.SrcPort, DstPort: s.DstPort, Protocol: s.Protocol,
		})
	}
	return p.appendTables(dst, s)
}

func (p Projection) appendEnrichment(dst []byte, s *tracker.Snapshot) []byte {
	if p.has(connectionIdentifiedApp) {
		dst = appendString(dst, connectionIdentifiedApp, s.IdentifiedApp)
	}
	if p.has(connectionIsKnownBad) {
		dst = appendBool(dst, connectionIsKnownBad, s.KnownBad)
	}
	if p.has(connectionIsNew) {
		dst = appendBool(dst, connectionIsNew, s.New)
	}
	if p.has(connectionMSSValue) {
		dst = appendUint(dst, connectionMSSValue, uint64(s.MSSValue))
	}
	if p.has(connectionTunnelIndicator) {
		dst = appendString(dst, connectionTunnelIndicator, s.TunnelIndicator)
	}
	if p.has(connectionSSHSessionType) {
		dst = appendString(dst, connectionSSHSessionType, s.SSHSessionType)
	}
	if p.has(connectionAnomalies) {
		for i := range s.Anomalies {
			dst = appendAnomaly(dst, connectionAnomalies, &s.Anomalies[i])
		}
	}
	return dst
}

// appendTables writes the fields of enrichment behind number 28.
func (p Projection) appendTables(dst []byte, s *tracker.Snapshot) []byte {
	if p.has(connectionTableMatches) {
		for i := range s.TableMatches {
			dst = appendTableMatch(dst, &s.TableMatches[i])
		}
	}
	if p.has(connectionSSHSessionHint) {
		dst = appendString(dst, connectionSSHSessionHint, s.SSHSessionHint)
	}
	if p.has(connectionMTUEstimate) {
		dst = appendUint(dst, connectionMTUEstimate, uint64(s.MTUEstimate))
	}
	return dst
}

// appendID writes the id without a string in between. It has fewer than 128
// bytes but for the longest IPv6 addresses with a network: finish sees to that.
func appendID(dst []byte, s *tracker.Snapshot) []byte {
	dst, start := open(dst, connectionID, shortRoom)
	dst = appendKey(dst, &s.Key)
	if s.Network != "" && s.Network != flow.DefaultNetwork {
		dst = append(dst, '@')
		dst = append(dst, s.Network...)
	}
	return finish(dst, start, shortRoom)
}

// appendAddr writes an address, at most 39 characters, as text.
func appendAddr(dst []byte, num uint64, a *flow.Addr) []byte {
	dst, start := open(dst, num, shortRoom)
	return finish(appendAddrText(dst, a), start, shortRoom)
}

// typesByName is the order in which a generated encoder that is asked to be
// deterministic writes the histories: by key.
var typesByName = func() (types []ja4.Type) {
	for t := ja4.TypeJA4; t < ja4.NumTypes; t++ {
		types = append(types, t)
	}
	slices.SortFunc(types, func(a, b ja4.Type) int { return strings.Compare(a.String(), b.String()) })
	return types
}()

func (p Projection) appendFingerprints(dst []byte, s *tracker.Snapshot) []byte {
	keep := p.fit(s)
	if p.has(connectionFingerprints) {
		dst = p.appendHistories(dst, connectionFingerprints, s.Fingerprints, keep.values)
	}
	if p.has(connectionRawFingerprints) && !p.basic {
		dst = p.appendHistories(dst, connectionRawFingerprints, s.RawFingerprints, keep.raw)
	}
	if !p.has(connectionPrimaryFingerprint) {
		return dst
	}
	if t, value := s.PrimaryFingerprint(); t != 0 {
		room := roomFor(len(value) + 16)
		dst, start := open(dst, connectionPrimaryFingerprint, room)
		dst = appendString(dst, 1, t.String())
		dst = appendString(dst, 2, value)
		return finish(dst, start, room)
	}
	return dst
}

// appendHistories writes the entries of a map from type to FingerprintHistory.
func (p Projection) appendHistories(dst []byte, num uint64, hs []tracker.History, keep int) []byte {
	if len(hs) == 0 {
		return dst
	}
	var place [ja4.NumTypes]uint8 // 1 + index into hs
	for i := range hs {
		if t := hs[i].Type; t.Valid() && i < 255 {
			place[t] = uint8(i + 1)
		}
	}
	for _, t := range typesByName {
		if place[t] == 0 || p.types != 0 && !p.types.Has(t) {
			continue
		}
		h := &hs[place[t]-1]
		size := 4
		if n := len(h.Events); n > 0 {
			size += min(n, keep) * (4 + eventSize(&h.Events[n-1]))
		}
		room, entryRoom := roomFor(size), roomFor(size+12)
		var entry, value int
		dst, entry = open(dst, num, entryRoom)
		dst = appendString(dst, 1, t.String())
		dst, value = open(dst, 2, room)
		dst = appendHistory(dst, h, keep)
		dst = finish(dst, value, room)
		dst = finish(dst, entry, entryRoom)
	}
	return dst
}

// appendHistory writes at most keep events: of more the first tenth and the
// newest, as the tracker keeps them.
func appendHistory(dst []byte, h *tracker.History, keep int) []byte {
	first, newest := window(len(h.Events), keep)
	for i := range h.Events[:first] {
		dst = appendEvent(dst, &h.Events[i])
	}
	for i := newest; i < len(h.Events); i++ {
		dst = appendEvent(dst, &h.Events[i])
	}
	return appendUint(dst, 2, h.TotalCount)
}

// window returns which of n events to keep: those before first and those from
// newest on.
func window(n, keep int) (first, newest int) {
	if n <= keep {
		return 0, 0
	}
	return keep / 10, n - (keep - keep/10)
}

// eventSize is about what an event takes.
func eventSize(e *tracker.FingerprintEvent) int { return len(e.Value) + len(e.Probe) + 20 }

func appendEvent(dst []byte, e *tracker.FingerprintEvent) []byte {
	room := roomFor(eventSize(e))
	dst, start := open(dst, 1, room)
	dst = appendString(dst, 1, e.Value)
	dst = appendTime(dst, 2, e.SeenAt)
	dst = appendUint(dst, 3, e.PacketNum)
	dst = appendString(dst, 4, e.Probe)
	return finish(dst, start, room)
}

func appendAnomaly(dst []byte, num uint64, a *tracker.Anomaly) []byte {
	dst, start := open(dst, num, mediumRoom)
	dst = appendString(dst, 1, a.Description)
	dst = appendString(dst, 2, a.Rule)
	dst = appendUint(dst, 3, uint64(a.Severity))
	if a.RaisedAt != 0 {
		dst = appendTime(dst, 4, a.RaisedAt)
	}
	dst = appendUint(dst, 5, a.PacketNum)
	dst = appendEvidence(dst, 6, a.Evidence)
	return finish(dst, start, mediumRoom)
}

func appendTableMatch(dst []byte, m *tracker.TableMatch) []byte {
	dst, start := open(dst, connectionTableMatches, mediumRoom)
	dst = appendString(dst, 1, m.App)
	dst = appendBool(dst, 2, m.Bad)
	dst = appendString(dst, 3, m.Note)
	dst = appendUint(dst, 4, uint64(m.Confidence))
	dst = appendString(dst, 5, m.Entry)
	dst = appendString(dst, 6, m.Source)
	dst = appendEvidence(dst, 7, m.Evidence)
	return finish(dst, start, mediumRoom)
}

// appendEvidence writes a list of Evidence as field num. Its type is a name, and
// none when the evidence is no fingerprint.
func appendEvidence(dst []byte, num uint64, es []tracker.Evidence) []byte {
	for i := range es {
		e := &es[i]
		var start int
		room := roomFor(len(e.Value) + len(e.Probe) + 30)
		dst, start = open(dst, num, room)
		if e.Type.Valid() {
			dst = appendString(dst, 1, e.Type.String())
		}
		dst = appendString(dst, 2, e.Value)
		dst = appendUint(dst, 3, e.PacketNum)
		dst = appendString(dst, 4, e.Probe)
		if e.SeenAt != 0 {
			dst = appendTime(dst, 5, e.SeenAt)
		}
		dst = finish(dst, start, room)
	}
	return dst
}

func appendObserver(dst []byte, o *tracker.Observer) []byte {
	dst, start := open(dst, connectionObservers, shortRoom)
	dst = appendString(dst, 1, o.Probe)
	dst = appendUint(dst, 2, o.PacketCount)
	dst = appendUint(dst, 3, o.ByteCount)
	dst = appendTime(dst, 4, o.FirstSeen)
	dst = appendTime(dst, 5, o.LastSeen)
	return finish(dst, start, shortRoom)
}

// kept is how many events of each history are encoded.
type kept struct{ values, raw int }

// fits is what is tried, in this order, until a connection is small enough.
var fits = [...]kept{
	{tracker.MaxHistory, tracker.MaxHistory}, {tracker.MaxHistory, 100}, {tracker.MaxHistory, 10},
	{tracker.MaxHistory, 1}, {100, 1}, {10, 1}, {1, 1},
}

// eventOverhead is more than what an event takes beside its value and probe.
const eventOverhead = 48

// fit chooses how many events are encoded. It adds up sizes instead of trying:
// an attacker who makes histories long must not have them encoded seven times.
func (p Projection) fit(s *tracker.Snapshot) kept {
	if p.basic {
		return kept{1, 0}
	}
	events := 0
	for i := range s.Fingerprints {
		events += len(s.Fingerprints[i].Events)
	}
	for i := range s.RawFingerprints {
		events += len(s.RawFingerprints[i].Events)
	}
	if events*(flow.MaxRawLen+flow.MaxNetworkLen+eventOverhead) <= MaxConnectionBytes {
		return fits[0]
	}
	for _, k := range fits[:len(fits)-1] {
		if sizeHistories(s.Fingerprints, k.values)+sizeHistories(s.RawFingerprints, k.raw) <= MaxConnectionBytes {
			return k
		}
	}
	return fits[len(fits)-1]
}

func sizeHistories(hs []tracker.History, keep int) (n int) {
	for i := range hs {
		events := hs[i].Events
		first, newest := window(len(events), keep)
		for k := range events[:first] {
			n += len(events[k].Value) + len(events[k].Probe) + eventOverhead
		}
		for k := newest; k < len(events); k++ {
			n += len(events[k].Value) + len(events[k].Probe) + eventOverhead
		}
	}
	return n
}
