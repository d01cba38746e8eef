package wire

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/whorl-net/whorl/internal/fuzzguard"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"github.com/whorl-net/whorl/tracker"
)

const testTime = int64(1_700_000_000_123_456_789)

func testTuple(t testing.TB, id string) flow.Tuple {
	t.Helper()
	k, _, err := flow.ParseID(id)
	if err != nil {
		t.Fatal(err)
	}
	return flow.Tuple{Src: k.A, Dst: k.B, SrcPort: k.APort, DstPort: k.BPort, Protocol: k.Protocol}
}

// randomSnapshot fills every field, or leaves it empty now and then.
func randomSnapshot(r *rand.Rand) *tracker.Snapshot {
	coin := func() bool { return r.IntN(2) == 0 }
	text := func(s string) string {
		if coin() {
			return ""
		}
		return s
	}
	t := flow.Tuple{Src: flow.AddrFrom4([4]byte{10, 0, 0, 5}), Dst: flow.AddrFrom4([4]byte{93, 184, 216, 34}), SrcPort: 51234, DstPort: 443, Protocol: flow.TCP}
	if coin() {
		t = flow.Tuple{Src: flow.Addr{0x20, 1, 0xd, 0xb8, 15: 1}, Dst: flow.Addr{0xfe, 0x80, 15: 9}, DstPort: 53, Protocol: flow.UDP}
	}
	if r.IntN(8) == 0 {
		t.Protocol = flow.Protocol(r.Uint32())
	}
	s := &tracker.Snapshot{
		Network: "default", Src: t.Src, Dst: t.Dst, SrcPort: t.SrcPort, DstPort: t.DstPort, Protocol: t.Protocol,
		FirstSeen: testTime, LastSeen: testTime + r.Int64N(1e12),
		PacketCount: r.Uint64N(1000), ByteCount: r.Uint64(), SrcPacketCount: r.Uint64N(3), SrcByteCount: r.Uint64N(1e6),
		ServerName: text("www.example.com"), IdentifiedApp: text("Chromium Browser"),
		KnownBad: coin(), New: coin(), MSSValue: r.Uint32N(1461), TunnelIndicator: text("wireguard"), SSHSessionType: text("shell"),
		SSHSessionHint: text("shell of another cipher"), MTUEstimate: r.Uint32N(1501) * r.Uint32N(2),
	}
	evidence := func() (es []tracker.Evidence) {
		for range r.IntN(4) {
			es = append(es, tracker.Evidence{Type: ja4.Type(r.IntN(ja4.NumTypes)), Value: text("t13d1516h2_8daaf6152771_02713d6af862"),
				PacketNum: r.Uint64N(3), Probe: text("edge1"), SeenAt: testTime * int64(r.IntN(2))})
		}
		return es
	}
	for i := range r.IntN(4) {
		s.TableMatches = append(s.TableMatches, tracker.TableMatch{App: text("IcedID"), Bad: coin(), Note: text("dropper"),
			Confidence: uint8(r.IntN(101)), Entry: fmt.Sprint("entry-", i), Source: text("builtin"), Evidence: evidence()})
	}
	if t.Protocol == flow.TCP {
		s.TCPState = tracker.TCPState(1 + r.IntN(3))
	}
	s.Key, _ = t.Key()
	for i := range s.UID {
		s.UID[i] = byte(r.Uint32())
	}
	if coin() {
		s.Network = "lab-7"
	}
	for range r.IntN(4) {
		s.Observers = append(s.Observers, tracker.Observer{Probe: fmt.Sprint("edge", r.IntN(9)), PacketCount: r.Uint64N(9), ByteCount: r.Uint64(), FirstSeen: testTime, LastSeen: testTime + 5})
		s.Anomalies = append(s.Anomalies, tracker.Anomaly{Description: "odd", Rule: "mss-tunnel", Severity: tracker.Severity(r.IntN(5)), RaisedAt: testTime * int64(r.IntN(2)), PacketNum: r.Uint64N(3), Evidence: evidence()})
	}
	for _, i := range r.Perm(ja4.NumTypes - 1)[:r.IntN(ja4.NumTypes)] {
		h := tracker.History{Type: ja4.Type(1 + i), TotalCount: r.Uint64N(2000)}
		for k := range 1 + r.IntN(12) {
			h.Events = append(h.Events, tracker.FingerprintEvent{Value: fmt.Sprintf("t13d_%d_%d", i, r.IntN(99)), SeenAt: testTime + int64(k), PacketNum: uint64(k), Probe: text("edge1")})
		}
		s.Fingerprints = append(s.Fingerprints, h)
		if coin() {
			s.RawFingerprints = append(s.RawFingerprints, h)
		}
	}
	return s
}

// connectionOf is what Append is to write.
func connectionOf(s *tracker.Snapshot) *whorlv1.Connection {
	histories := func(hs []tracker.History) map[string]*whorlv1.FingerprintHistory {
		m := make(map[string]*whorlv1.FingerprintHistory)
		for _, h := range hs {
			x := &whorlv1.FingerprintHistory{TotalCount: h.TotalCount}
			for _, e := range h.Events {
				x.Events = append(x.Events, &whorlv1.FingerprintEvent{Value: e.Value, SeenAt: timestampOf(e.SeenAt), PacketNum: e.PacketNum, ProbeId: e.Probe})
			}
			m[h.Type.String()] = x
		}
		return m
	}
	c := &whorlv1.Connection{
		Id: s.ID(), Uid: s.UID.String(), SrcIp: s.Src.String(), SrcPort: uint32(s.SrcPort), DstIp: s.Dst.String(), DstPort: uint32(s.DstPort),
		Protocol: s.Protocol.String(), FirstSeen: timestampOf(s.FirstSeen), LastSeen: timestampOf(s.LastSeen),
		PacketCount: s.PacketCount, ByteCount: s.ByteCount, SrcPacketCount: s.SrcPacketCount, SrcByteCount: s.SrcByteCount,
		Fingerprints: histories(s.Fingerprints), RawFingerprints: histories(s.RawFingerprints),
		IdentifiedApp: s.IdentifiedApp, IsKnownBad: s.KnownBad, IsNew: s.New, MssValue: s.MSSValue,
		TunnelIndicator: s.TunnelIndicator, SshSessionType: s.SSHSessionType, ServerName: s.ServerName, Network: s.Network,
		TcpState:    s.TCPState.String(),
		CommunityId: string(AppendCommunityID(nil, flow.Tuple{Src: s.Src, Dst: s.Dst, SrcPort: s.SrcPort, DstPort: s.DstPort, Protocol: s.Protocol})),
	}
	if t, v := s.PrimaryFingerprint(); t != 0 {
		c.PrimaryFingerprint = &whorlv1.PrimaryFingerprint{Type: t.String(), Value: v}
	}
	evidence := func(es []tracker.Evidence) (out []*whorlv1.Evidence) {
		for _, e := range es {
			x := &whorlv1.Evidence{Value: e.Value, PacketNum: e.PacketNum, ProbeId: e.Probe}
			if e.Type != 0 {
				x.Type = e.Type.String()
			}
			if e.SeenAt != 0 {
				x.SeenAt = timestampOf(e.SeenAt)
			}
			out = append(out, x)
		}
		return out
	}
	c.SshSessionHint, c.MtuEstimate = s.SSHSessionHint, s.MTUEstimate
	for _, m := range s.TableMatches {
		c.TableMatches = append(c.TableMatches, &whorlv1.TableMatch{App: m.App, IsBad: m.Bad, Note: m.Note,
			Confidence: uint32(m.Confidence), Entry: m.Entry, Source: m.Source, Evidence: evidence(m.Evidence)})
	}
	for _, a := range s.Anomalies {
		x := &whorlv1.Anomaly{Description: a.Description, Rule: a.Rule, Severity: whorlv1.Severity(a.Severity), PacketNum: a.PacketNum, Evidence: evidence(a.Evidence)}
		if a.RaisedAt != 0 {
			x.RaisedAt = timestampOf(a.RaisedAt)
		}
		c.Anomalies = append(c.Anomalies, x)
	}
	for _, o := range s.Observers {
		c.Observers = append(c.Observers, &whorlv1.Observer{ProbeId: o.Probe, PacketCount: o.PacketCount, ByteCount: o.ByteCount, FirstSeen: timestampOf(o.FirstSeen), LastSeen: timestampOf(o.LastSeen)})
	}
	return c
}

// A connection has the bytes of the generated encoder, and comes back as the
// Snapshot it was, whatever the reused one held before.
func TestConnectionIsTheGeneratedCode(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var got tracker.Eviction
	sortTypes := cmpopts.SortSlices(func(a, b tracker.History) bool { return a.Type < b.Type })
	for i := range 150 {
		s := randomSnapshot(r)
		want := mustMarshal(connectionOf(s))
		p := AppendConnection(nil, s)
		if !bytes.Equal(p, want) {
			m := new(whorlv1.Connection)
			t.Fatalf("snapshot %d: %v\n%s", i, proto.Unmarshal(p, m), cmp.Diff(connectionOf(s), m, protocmp.Transform()))
		}
		if err := DecodeConnection(p, tracker.Full, &got.Connection); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, &got.Connection, cmpopts.EquateEmpty(), sortTypes); diff != "" {
			t.Fatalf("snapshot %d (-want +got):\n%s", i, diff)
		}

		e := &tracker.Eviction{Cause: tracker.Cause(1 + r.IntN(4)), EvictedAt: testTime, Connection: *s}
		body := AppendEviction(nil, e)
		wantEviction := &whorlv1.Eviction{Sequence: 8812, Cause: whorlv1.EvictionCause(e.Cause), EvictedAt: timestampOf(e.EvictedAt), Connection: connectionOf(s)}
		full := append(appendUint(nil, 1, 8812), body...)
		if !bytes.Equal(full, mustMarshal(wantEviction)) {
			t.Fatalf("eviction %d differs from the generated one", i)
		}
		framed := appendString(nil, 1, full)
		if got := (Projection{}).AppendEvictionFrame(nil, 8812, e); !bytes.Equal(got, framed) {
			t.Fatalf("framed eviction %d differs from the generated one", i)
		}
		sequence, err := DecodeEviction(full, tracker.Full, &got)
		if err != nil || sequence != 8812 {
			t.Fatalf("sequence %d, error %v", sequence, err)
		}
		if diff := cmp.Diff(e, &got, cmpopts.EquateEmpty(), sortTypes); diff != "" {
			t.Fatalf("eviction %d (-want +got):\n%s", i, diff)
		}
	}
}

// A projection leaves out what was not asked for and changes nothing else.
func TestProjection(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	names := fieldNames()
	for i := range 300 {
		s := randomSnapshot(r)
		var fields, types []string
		if i < 4*len(names) { // each field alone, a few times
			fields = []string{names[i%len(names)]}
		} else {
			for range r.IntN(5) {
				fields = append(fields, names[r.IntN(len(names))])
			}
		}
		for range r.IntN(3) {
			types = append(types, typeNames()[r.IntN(ja4.NumTypes-1)])
		}
		view := whorlv1.ConnectionView(r.IntN(3))
		p, err := NewProjection(view, fields, types)
		if err != nil {
			t.Fatal(err)
		}
		want := connectionOf(s)
		project(want, view, fields, types)
		got := new(whorlv1.Connection)
		if err := p.Connection(got, s); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Fatalf("view %v, fields %q, types %q (-want +got):\n%s", view, fields, types, diff)
		}
		if p.All() != (len(fields) == 0 && len(types) == 0 && view != whorlv1.ConnectionView_CONNECTION_VIEW_BASIC) {
			t.Errorf("view %v, fields %q, types %q: All is %v", view, fields, types, p.All())
		}

		// What Detail asks a query to copy is enough, also when it is decoded.
		var lean tracker.Snapshot
		if err := DecodeConnection(AppendConnection(nil, s), p.Detail(), &lean); err != nil {
			t.Fatal(err)
		}
		if full, got := p.Append(nil, s), p.Append(nil, &lean); !bytes.Equal(full, got) {
			t.Fatalf("view %v, fields %q: detail %v is not enough", view, fields, p.Detail())
		}

		var all whorlv1.AllResponse
		SetField1(&all, p.AppendConnectionFrame(p.AppendConnectionFrame(nil, s), s))
		var page whorlv1.AllResponse
		if err := proto.Unmarshal(mustMarshal(&all), &page); err != nil {
			t.Fatal(err)
		}
		if len(page.GetConnections()) != 2 || !proto.Equal(page.GetConnections()[1], want) {
			t.Fatalf("field 1 has %d connections: %v", len(page.GetConnections()), page.GetConnections())
		}
	}
}

// A query copies no more than a projection needs, and as much as the tables of
// known fingerprints need.
func TestProjectionDetail(t *testing.T) {
	for _, tc := range []struct {
		view   whorlv1.ConnectionView
		fields string
		want   tracker.Detail
	}{
		{0, "", tracker.Full}, {whorlv1.ConnectionView_CONNECTION_VIEW_BASIC, "", tracker.Histories},
		{0, "id uid src_ip dst_port protocol first_seen byte_count network tcp_state community_id", tracker.Bare},
		{0, "id raw_fingerprints", tracker.Full}, {0, "fingerprints", tracker.Histories},
		{whorlv1.ConnectionView_CONNECTION_VIEW_BASIC, "fingerprints raw_fingerprints", tracker.Newest},
		{0, "id identified_app", tracker.Histories}, {0, "is_known_bad", tracker.Histories}, {0, "table_matches", tracker.Histories},
		{0, "primary_fingerprint", tracker.Newest}, {0, "is_new", tracker.Newest}, {0, "mss_value", tracker.Newest},
		{0, "tunnel_indicator", tracker.Newest}, {0, "ssh_session_type", tracker.Newest}, {0, "anomalies", tracker.Newest},
		{0, "observers", tracker.Newest}, {0, "server_name", tracker.Newest}, {0, "ssh_session_hint", tracker.Newest}, {0, "mtu_estimate", tracker.Newest},
	} {
		p, err := NewProjection(tc.view, strings.Fields(tc.fields), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Detail(); got != tc.want {
			t.Errorf("view %v, fields %q: detail %d, want %d", tc.view, tc.fields, got, tc.want)
		}
	}
}

// project is the projection of a message by reflection.
func project(c *whorlv1.Connection, view whorlv1.ConnectionView, fields, types []string) {
	if len(types) > 0 {
		wanted := strings.Join(types, " ") + " "
		for _, m := range []map[string]*whorlv1.FingerprintHistory{c.Fingerprints, c.RawFingerprints} {
			for name := range m {
				if !strings.Contains(wanted, name+" ") {
					delete(m, name)
				}
			}
		}
	}
	if view == whorlv1.ConnectionView_CONNECTION_VIEW_BASIC {
		c.RawFingerprints = nil
		for _, h := range c.Fingerprints {
			h.Events = h.Events[len(h.Events)-1:]
		}
	}
	if len(fields) == 0 {
		return
	}
	c.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		for _, name := range fields {
			if string(f.Name()) == name {
				return true
			}
		}
		c.ProtoReflect().Clear(f)
		return true
	})
}

func TestNewProjectionRefuses(t *testing.T) {
	for _, tc := range []struct {
		fields, types []string
		view          whorlv1.ConnectionView
		want          string
	}{
		{fields: []string{"id", "src_prt"}, want: `fields[1]: "src_prt" is not a field of Connection; did you mean src_port?`},
		{fields: []string{""}, want: `fields[0]: "" is not a field of Connection`},
		{fields: []string{"primary_fingerprint.value"}, want: `fields[0]: "primary_fingerprint.value" is not a field of Connection; did you mean primary_fingerprint?`},
		{types: []string{"ja5"}, want: `fingerprint_types[0]: "ja5" is not a fingerprint type; did you mean ja4?`},
		{view: 9, want: "view: 9 is not a view"},
		{fields: make([]string, 65), want: "fields: has 65 names, at most 64"},
	} {
		if _, err := NewProjection(tc.view, tc.fields, tc.types); err == nil || err.Error() != tc.want {
			t.Errorf("got %v, want %s", err, tc.want)
		}
	}
	if p, err := NewProjection(0, []string{"srcPort"}, nil); err != nil || !p.has(connectionSrcPort) {
		t.Errorf("the JSON name srcPort: %v", err)
	}
}

// However long the histories, a connection fits a message; what was left out
// shows in total_count, and the first and newest events stay.
func TestConnectionIsBounded(t *testing.T) {
	s := &tracker.Snapshot{Network: "default"}
	for typ := ja4.TypeJA4; typ < ja4.NumTypes; typ++ {
		h := tracker.History{Type: typ, TotalCount: 5000}
		raw := tracker.History{Type: typ, TotalCount: 5000}
		for i := range tracker.MaxHistory {
			e := tracker.FingerprintEvent{Value: fmt.Sprintf("%0255d", i), SeenAt: testTime, PacketNum: uint64(i), Probe: strings.Repeat("p", 63)}
			h.Events = append(h.Events, e)
			e.Value = strings.Repeat("r", flow.MaxRawLen)
			raw.Events = append(raw.Events, e)
		}
		s.Fingerprints = append(s.Fingerprints, h)
		s.RawFingerprints = append(s.RawFingerprints, raw)

		p := AppendConnection(nil, s)
		if len(p) > MaxConnectionBytes+1024 {
			t.Fatalf("%d types make %d bytes", typ, len(p))
		}
		var got tracker.Snapshot
		if err := DecodeConnection(p, tracker.Full, &got); err != nil {
			t.Fatal(err)
		}
		events := got.LatestFingerprint(typ)
		if events != fmt.Sprintf("%0255d", tracker.MaxHistory-1) || got.History(typ).TotalCount != 5000 {
			t.Fatalf("%d types: newest event is %s of %d", typ, events, got.History(typ).TotalCount)
		}
		if h := got.History(typ); len(h.Events) > 1 && h.Events[0].PacketNum != 0 {
			t.Fatalf("%d types: the first event is number %d", typ, h.Events[0].PacketNum)
		}
	}
}

// Of n events never more than asked for are written, the first tenth and the
// newest; all when there are no more.
func TestWindow(t *testing.T) {
	for _, tc := range []struct{ n, keep, first, newest int }{
		{0, 1, 0, 0}, {5, 5, 0, 0}, {6, 5, 0, 1}, {7, 1, 0, 6}, {100, 10, 1, 91}, {1000, 100, 10, 910}, {1000, 1000, 0, 0},
	} {
		first, newest := window(tc.n, tc.keep)
		if first != tc.first || newest != tc.newest {
			t.Errorf("%d of %d: before %d and from %d, want before %d and from %d", tc.keep, tc.n, first, newest, tc.first, tc.newest)
		}
	}
}

// Each Detail reads what its documentation says.
func TestDecodeDetail(t *testing.T) {
	events := []tracker.FingerprintEvent{{Value: "old"}, {Value: "new"}}
	p := AppendConnection(nil, &tracker.Snapshot{
		Fingerprints: []tracker.History{{Type: ja4.TypeJA4, Events: events, TotalCount: 7}}, RawFingerprints: []tracker.History{{Type: ja4.TypeJA4, Events: events}},
		Observers: []tracker.Observer{{Probe: "edge1"}}, Anomalies: []tracker.Anomaly{{Rule: "mss-tunnel"}}, ServerName: "example.com",
	})
	var s tracker.Snapshot
	for _, tc := range []struct {
		d                           tracker.Detail
		histories, events, raw, obs int
	}{{tracker.Bare, 0, 0, 0, 0}, {tracker.Newest, 1, 1, 0, 1}, {tracker.Histories, 1, 2, 0, 1}, {tracker.Full, 1, 2, 1, 1}} {
		if err := DecodeConnection(p, tc.d, &s); err != nil {
			t.Fatal(err)
		}
		if len(s.Fingerprints) != tc.histories || len(s.RawFingerprints) != tc.raw || len(s.Observers) != tc.obs || len(s.Anomalies) != tc.obs {
			t.Errorf("detail %d: %+v", tc.d, s)
		}
		if tc.histories > 0 && (len(s.Fingerprints[0].Events) != tc.events || s.LatestFingerprint(ja4.TypeJA4) != "new" || s.Fingerprints[0].TotalCount != 7) {
			t.Errorf("detail %d: history %+v", tc.d, s.Fingerprints[0])
		}
	}
}

// parseUID takes what tracker.ParseUID takes, and reads the same.
func TestParseUID(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for range 2000 {
		var u tracker.UID
		for i := range u {
			u[i] = byte(r.Uint32())
		}
		text := []byte(u.String())
		if r.IntN(2) == 0 {
			text[r.IntN(len(text))] = "0123456789abcdefghijklmnopqrstuvwxyzA-"[r.IntN(38)]
		}
		if r.IntN(20) == 0 {
			text = text[:r.IntN(len(text))]
		}
		want, err := tracker.ParseUID(string(text))
		got, ok := parseUID(text)
		if ok != (err == nil) || ok && got != want {
			t.Fatalf("%s: got %v, %v, want %v, %v", text, got, ok, want, err)
		}
	}
}

func TestConnectionDoesNotAllocate(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	s := randomSnapshot(r)
	s.Protocol, s.Key.Protocol = flow.TCP, flow.TCP
	e := &tracker.Eviction{Cause: tracker.CauseIdle, EvictedAt: testTime, Connection: *s}
	var buf []byte
	if n := testing.AllocsPerRun(100, func() { buf = AppendEviction(buf[:0], e) }); n > 0 {
		t.Errorf("AppendEviction: %v allocations", n)
	}
	var got tracker.Eviction
	if n := testing.AllocsPerRun(100, func() {
		if _, err := DecodeEviction(buf, tracker.Full, &got); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("DecodeEviction: %v allocations", n)
	}
}

// Nothing that is decoded as a connection does harm.
func FuzzDecodeEviction(f *testing.F) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 4 {
		f.Add(AppendEviction(nil, &tracker.Eviction{Cause: tracker.CauseIdle, EvictedAt: testTime, Connection: *randomSnapshot(r)}))
	}
	var e, again tracker.Eviction
	f.Fuzz(func(t *testing.T, p []byte) {
		fuzzguard.Watch(t)
		if _, err := DecodeEviction(p, tracker.Full, &e); err != nil {
			return
		}
		q := AppendEviction(nil, &e)
		if _, err := DecodeEviction(q, tracker.Full, &again); err != nil {
			t.Fatalf("encoded again: %v", err)
		}
	})
}

// The vectors of the specification's reference (seed 0).
func TestCommunityID(t *testing.T) {
	for _, tc := range []struct {
		id   string
		want string
	}{
		{"tcp/128.232.110.120:34855-66.35.250.204:80", "1:LQU9qZlK+B5F3KDmev6m5PMibrg="},
		{"udp/192.168.1.52:54585-8.8.8.8:53", "1:d/FP5EW3wiY1vCndhwleRRKHowQ="},
		{"icmp/192.168.0.89:8-192.168.0.1:0", "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="},
		{"icmpv6/[fe80::200:86ff:fe05:80da]:135-[fe80::260:97ff:fe07:69ea]:136", "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="},
		{"sctp/192.168.170.8:7-192.168.170.56:7", "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs="},
		{"46/10.1.24.4:0-10.1.12.1:0", "1:/nQI4Rh/TtY3mf0R2gJFBkVlgS4="},
	} {
		tuple := testTuple(t, tc.id)
		for _, tuple := range []flow.Tuple{tuple, tuple.Reverse()} {
			if got := string(AppendCommunityID(nil, tuple)); got != tc.want {
				t.Errorf("%s: got %s, want %s", tc.id, got, tc.want)
			}
		}
	}
	// ICMP without an answer keeps its direction.
	for _, tc := range []struct {
		src, dst  string
		typ, code uint16
		protocol  flow.Protocol
		want      string
	}{
		{"192.168.0.89", "192.168.0.1", 20, 0, flow.ICMP, "1:3o2RFccXzUgjl7zDpqmY7yJi8rI="},
		{"3ffe:507:0:1:260:97ff:fe07:69ea", "3ffe:507:0:1:200:86ff:fe05:80da", 3, 0, flow.ICMPv6, "1:NdobDX8PQNJbAyfkWxhtL2Pqp5w="},
	} {
		src, _ := parseAddr([]byte(tc.src))
		dst, _ := parseAddr([]byte(tc.dst))
		got := string(AppendCommunityID(nil, flow.Tuple{Src: src, Dst: dst, SrcPort: tc.typ, DstPort: tc.code, Protocol: tc.protocol}))
		if got != tc.want {
			t.Errorf("%s type %d: got %s, want %s", tc.src, tc.typ, got, tc.want)
		}
	}
}

func BenchmarkConnection(b *testing.B) {
	s := &tracker.Snapshot{Network: "default", Protocol: flow.TCP, TCPState: tracker.TCPEstablished,
		Src: flow.AddrFrom4([4]byte{10, 0, 0, 5}), Dst: flow.AddrFrom4([4]byte{93, 184, 216, 34}), SrcPort: 51234, DstPort: 443,
		FirstSeen: testTime, LastSeen: testTime + 1e9, PacketCount: 57, ByteCount: 41000, ServerName: "www.example.com",
		IdentifiedApp: "Chromium Browser", Observers: []tracker.Observer{{Probe: "edge1", PacketCount: 57, ByteCount: 41000, FirstSeen: testTime, LastSeen: testTime}}}
	for _, typ := range []ja4.Type{ja4.TypeJA4T, ja4.TypeJA4, ja4.TypeJA4S} {
		h := tracker.History{Type: typ, TotalCount: 1, Events: []tracker.FingerprintEvent{{Value: "t13d1516h2_8daaf6152771_02713d6af862", SeenAt: testTime, PacketNum: 4, Probe: "edge1"}}}
		s.Fingerprints = append(s.Fingerprints, h)
		h.Events = []tracker.FingerprintEvent{{Value: strings.Repeat("0005,", 30), SeenAt: testTime, PacketNum: 4, Probe: "edge1"}}
		s.RawFingerprints = append(s.RawFingerprints, h)
	}
	e := &tracker.Eviction{Cause: tracker.CauseIdle, EvictedAt: testTime, Connection: *s}
	p := AppendEviction(nil, e)
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p = AppendEviction(p[:0], e)
		}
		b.ReportMetric(float64(len(p)), "B/event")
	})
	var got tracker.Eviction
	for _, d := range []tracker.Detail{tracker.Bare, tracker.Full} {
		b.Run(fmt.Sprintf("decode/detail=%d", d), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := DecodeEviction(p, d, &got); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("generated/append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := proto.Marshal(connectionOf(s)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
