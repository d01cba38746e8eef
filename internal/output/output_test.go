package output

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/whorl-net/whorl/internal/fuzzguard"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/units"
	"github.com/whorl-net/whorl/ja4"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

var moment = time.Date(2026, 11, 22, 12, 0, 1, 250_000_000, time.UTC)

// connection has every kind of field that JSON has a rule for.
func connection() *whorlv1.Connection {
	history := func(values ...string) *whorlv1.FingerprintHistory {
		h := &whorlv1.FingerprintHistory{TotalCount: uint64(len(values))}
		for i, v := range values {
			h.Events = append(h.Events, &whorlv1.FingerprintEvent{Value: v, SeenAt: timestamppb.New(moment), PacketNum: uint64(i + 4), ProbeId: "p"})
		}
		return h
	}
	return &whorlv1.Connection{
		Id: "tcp/10.0.0.5:51312-93.184.216.34:443", Uid: "u", SrcIp: "10.0.0.5", SrcPort: 51312, DstIp: "93.184.216.34", DstPort: 443,
		Protocol: "tcp", FirstSeen: timestamppb.New(moment), LastSeen: timestamppb.New(moment.Add(time.Second)),
		PacketCount: math.MaxUint64, ByteCount: 44_200, SrcPacketCount: 1, SrcByteCount: 3_200,
		Fingerprints:       map[string]*whorlv1.FingerprintHistory{"ja4t": history("64240_2-4-8-1-3_1460_7"), "ja4": history("a", "b")},
		PrimaryFingerprint: &whorlv1.PrimaryFingerprint{Type: "ja4", Value: "b"},
		IdentifiedApp:      "Chromium \"Browser\"\n", IsKnownBad: true, IsNew: true,
		Anomalies: []*whorlv1.Anomaly{{Description: "odd", Severity: whorlv1.Severity_SEVERITY_HIGH}},
		Network:   "default",
	}
}

func shown[T any](t *testing.T, kind Kind[T], opts Options, values ...T) string {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b, kind, opts)
	for _, v := range values {
		if err := w.Write(v); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The shape of a connection: names and order of the proto, numbers as numbers,
// nine-digit times, short enums, empty things left out.
func TestConnectionJSON(t *testing.T) {
	want := `{"id":"tcp/10.0.0.5:51312-93.184.216.34:443","uid":"u","src_ip":"10.0.0.5","src_port":51312,"dst_ip":"93.184.216.34","dst_port":443,` +
		`"protocol":"tcp","first_seen":"2026-11-22T12:00:01.250000000Z","last_seen":"2026-11-22T12:00:02.250000000Z",` +
		`"packet_count":18446744073709551615,"byte_count":44200,"src_packet_count":1,"src_byte_count":3200,` +
		`"fingerprints":{"ja4":{"events":[{"value":"a","seen_at":"2026-11-22T12:00:01.250000000Z","packet_num":4,"probe_id":"p"},` +
		`{"value":"b","seen_at":"2026-11-22T12:00:01.250000000Z","packet_num":5,"probe_id":"p"}],"total_count":2},` +
		`"ja4t":{"events":[{"value":"64240_2-4-8-1-3_1460_7","seen_at":"2026-11-22T12:00:01.250000000Z","packet_num":4,"probe_id":"p"}],"total_count":1}},` +
		`"primary_fingerprint":{"type":"ja4","value":"b"},"identified_app":"Chromium \"Browser\"\n","is_known_bad":true,"is_new":true,"mss_value":0,` +
		`"anomalies":[{"description":"odd","severity":"high","packet_num":0}],"mtu_estimate":0}` + "\n"
	if got := shown(t, Connections(Clock{}), Options{Format: JSONL}, connection()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// The three objects of a watch are told apart by their keys.
func TestEventJSON(t *testing.T) {
	gap := &whorlv1.Gap{Cause: whorlv1.GapCause_GAP_CAUSE_SLOW_READER, LostCount: 1204, FirstLostSequence: 9113, LastLostSequence: 10316}
	got := shown(t, Events(Clock{}), Options{Format: JSONL},
		Event{Eviction: &whorlv1.Eviction{Sequence: 8812, Cause: whorlv1.EvictionCause_EVICTION_CAUSE_IDLE, EvictedAt: timestamppb.New(moment),
			Connection: &whorlv1.Connection{Id: "x", Network: "berlin"}}, Cursor: "7f3a9c.8812"},
		Event{Gap: gap, Cursor: "7f3a9c.10316"},
		Event{Cursor: "7f3a9c.10320", ServerTime: moment, Backlog: 3})
	want := `{"sequence":8812,"cause":"idle","evicted_at":"2026-11-22T12:00:01.250000000Z","connection":{"id":"x","src_port":0,"dst_port":0,` +
		`"packet_count":0,"byte_count":0,"src_packet_count":0,"src_byte_count":0,"is_known_bad":false,"is_new":false,"mss_value":0,"network":"berlin","mtu_estimate":0},"cursor":"7f3a9c.8812"}` + "\n" +
		`{"gap":{"cause":"slow_reader","lost_count":1204,"first_lost_sequence":9113,"last_lost_sequence":10316},"cursor":"7f3a9c.10316"}` + "\n" +
		`{"cursor":"7f3a9c.10320","server_time":"2026-11-22T12:00:01.250000000Z","backlog":3}` + "\n"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, want := (Event{Gap: gap}).Remark(), "# LOST 1,204 evictions (slow_reader), 9,113 to 10,316"; got != want {
		t.Errorf("remark %q, want %q", got, want)
	}
	if got, want := (Event{Gap: &whorlv1.Gap{Cause: whorlv1.GapCause_GAP_CAUSE_NEW_EPOCH}}).Remark(), "# LOST an unknown number of evictions (new_epoch)"; got != want {
		t.Errorf("remark %q, want %q", got, want)
	}
}

// fp has exactly these keys in this order.
func TestFingerprintJSON(t *testing.T) {
	f := Fingerprint{
		Time: moment.UnixNano(), Network: "lab",
		Tuple: flow.Tuple{Src: flow.AddrFrom4([4]byte{10, 0, 0, 5}), Dst: flow.AddrFrom4([4]byte{93, 184, 216, 34}), SrcPort: 51312, DstPort: 443, Protocol: flow.TCP},
		Event: ja4.Event{Type: ja4.TypeJA4, Value: "v", Raw: "r", ServerName: "not shown"}, PacketNum: 4, App: "Chrome",
	}
	kind := Fingerprints(FromFirst, Clock{}, false)
	want := `{"time":"2026-11-22T12:00:01.250000000Z","network":"lab","src_ip":"10.0.0.5","src_port":51312,"dst_ip":"93.184.216.34","dst_port":443,` +
		`"protocol":"tcp","type":"ja4","value":"v","raw":"r","packet_num":4,"app":"Chrome"}` + "\n"
	if got := shown(t, kind, Options{Format: JSONL}, f); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	f.Network, f.Raw, f.App = flow.DefaultNetwork, "", ""
	if got := shown(t, kind, Options{Format: JSONL}, f); strings.Contains(got, "network") || strings.Contains(got, "raw") || strings.Contains(got, "app") {
		t.Errorf("%s: want no network, raw and app", got)
	}
}

// What is counted, and what lies beyond the limit.
func TestCountShapes(t *testing.T) {
	count := &whorlv1.CountResponse{Count: 4239, AsOf: timestamppb.New(moment)}
	if got, want := shown(t, Count(), Options{Format: JSON, Document: true}, count), `{"count":4239,"as_of":"2026-11-22T12:00:01.250000000Z"}`+"\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	groups := []Group{
		{Group: &whorlv1.Group{Key: []string{"Chromium Browser"}, Connections: 4120, Packets: 1_204_331, Bytes: 1_100_000_000}},
		{Group: &whorlv1.Group{Key: []string{""}, Connections: 88, Packets: 2210, Bytes: 1_900_000}},
		{Group: &whorlv1.Group{Connections: 31}, Others: 1},
	}
	want := "" +
		"APP               CONNECTIONS  PACKETS    BYTES\n" +
		"Chromium Browser        4,120  1,204,331  1.1 GB\n" +
		"(unknown)                  88      2,210  1.9 MB\n" +
		"(1 more group)             31          –       –\n"
	if got := shown(t, Groups([]string{"app"}), Options{Format: Table, Hold: 10}, groups...); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	want = `{"key":["Chromium Browser"],"connections":4120,"packets":1204331,"bytes":1100000000}` + "\n" +
		`{"key":[""],"connections":88,"packets":2210,"bytes":1900000}` + "\n"
	if got := shown(t, Groups([]string{"app"}), Options{Format: JSONL}, groups[:2]...); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// A probe's last words, for people and for programs.
func TestTotals(t *testing.T) {
	totals := Totals{Packets: 12, Bytes: 3132, Connections: 1, Fingerprints: 10, Elapsed: 30 * time.Millisecond}
	if got, want := totals.Line(true), "12 packets, 3,132 bytes, 1 connection, 10 fingerprints, 0 undecodable, 0 lost in 0.03 s"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := string(totals.AppendJSON(nil)), `{"packets":12,"bytes":3132,"connections":1,"fingerprints":10,"undecodable":0,"lost":0,"seconds":0.030}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// Durations and optional fields.
func TestSmallJSONRules(t *testing.T) {
	for d, want := range map[time.Duration]string{
		2500 * time.Millisecond: `"2.5s"`, 0: `"0s"`, -1: `"-0.000000001s"`, time.Hour: `"3600s"`, -1500 * time.Millisecond: `"-1.5s"`,
	} {
		got := string(AppendJSON(nil, &whorlv1.Probe{Lag: durationpb.New(d)}, mustSelect(t, Probes(moment).Schema, "lag")))
		if got != `{"lag":`+want+`}` {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
	truth := false
	got := string(AppendJSON(nil, &whorlv1.ConnectionFilter{IsNew: &truth, EvictionCause: []whorlv1.EvictionCause{1, 77}}, nil))
	if want := `{"is_new":false,"eviction_cause":["idle","77"]}`; got != want {
		t.Errorf("%s, want %s: an optional field that is set is there, one that is not is not", got, want)
	}
}

func mustSelect(t *testing.T, s *Schema, names ...string) *Selection {
	t.Helper()
	sel, err := s.Select(names)
	if err != nil {
		t.Fatal(err)
	}
	return sel
}

// A selection keeps the order of the proto and leads into lists and maps; in a
// table its columns come as asked for.
func TestSelection(t *testing.T) {
	kind := Connections(Clock{})
	sel := mustSelect(t, kind.Schema, "dst_port", "fingerprints.ja4.events.value", "id")
	want := `{"id":"tcp/10.0.0.5:51312-93.184.216.34:443","dst_port":443,"fingerprints":{"ja4":{"events":[{"value":"a"},{"value":"b"}]}}}` + "\n"
	if got := shown(t, kind, Options{Format: JSONL, Select: sel}, connection()); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	want = "dst_port,fingerprints.ja4.events.value,id\n443,\"a,b\",tcp/10.0.0.5:51312-93.184.216.34:443\n"
	if got := shown(t, kind, Options{Format: CSV, Select: sel}, connection()); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := fmt.Sprint(sel.Top()); got != "[dst_port fingerprints id]" {
		t.Errorf("top level %s", got)
	}
	for name, suggestion := range map[string]string{"dst_prt": "dst_port", "nothing": "", "primary_fingerprint.tpye": "type", "id.x": ""} {
		_, err := kind.Schema.Select([]string{name})
		var wrong *FieldError
		if !errors.As(err, &wrong) || wrong.Suggestion != suggestion {
			t.Errorf("Select(%s): %v, want a suggestion of %q", name, err, suggestion)
		}
	}
}

// A table holds rows back to know its widths, and widens behind them.
func TestTable(t *testing.T) {
	type row = [2]string
	kind := Kind[row]{Columns: []Column[row]{
		{Name: "A", Cell: func(r row) string { return r[0] }},
		{Name: "NUMBER", Right: true, Cell: func(r row) string { return r[1] }},
		{Name: "C", Cell: func(r row) string { return "" }},
	}}
	rows := []row{{"short", "1"}, {"", "22"}, {"much longer", ""}}
	want := "A            NUMBER  C\nshort             1\n                 22\nmuch longer\n"
	if got := shown(t, kind, Options{Format: Table, Hold: 3}, rows...); got != want {
		t.Errorf("held back:\n%q, want\n%q", got, want)
	}
	want = "A      NUMBER  C\nshort       1\n           22\nmuch longer\n"
	if got := shown(t, kind, Options{Format: Table}, rows...); got != want {
		t.Errorf("at once:\n%q, want\n%q", got, want)
	}
	if got := shown(t, kind, Options{Format: Table}); got != "" {
		t.Errorf("a table without rows: %q, want nothing", got)
	}
	if got, want := shown(t, kind, Options{Format: Compact}, rows[0]), "short  1  -\n"; got != want {
		t.Errorf("compact: %q, want %q", got, want)
	}
	if got, want := shown(t, kind, Options{Format: Table, Color: true}, rows[0]), "\x1b[1mA\x1b[0m      \x1b[1mNUMBER\x1b[0m  \x1b[1mC\x1b[0m\nshort       1\n"; got != want {
		t.Errorf("in colour: %q, want %q", got, want)
	}
}

// What an outsider chose cannot move the cursor of a terminal or forge a line.
func TestTextIsHarmless(t *testing.T) {
	c := connection()
	c.IdentifiedApp = "a\x1b[2Jb\r\nc\u202ed\u009be"
	for _, f := range []Format{Table, Compact} {
		got := shown(t, Connections(Clock{}), Options{Format: f}, c)
		if strings.ContainsAny(got, "\x1b\r\u202e\u009b") || !strings.Contains(got, "a.[2Jb..c.d.e") {
			t.Errorf("%v: %q", f, got)
		}
	}
}

// JSON is an array of objects, also an empty one; a document is the object.
func TestJSONDocuments(t *testing.T) {
	kind := Groups([]string{"app"})
	g := Group{Group: &whorlv1.Group{}}
	object := `{"connections":0,"packets":0,"bytes":0}`
	for _, tc := range []struct {
		opts   Options
		groups []Group
		want   string
	}{
		{Options{Format: JSON}, nil, "[]\n"},
		{Options{Format: JSON}, []Group{g, g}, "[\n" + object + ",\n" + object + "\n]\n"},
		{Options{Format: JSON, Document: true}, []Group{g}, object + "\n"},
		{Options{Format: CSV}, nil, "app,connections,packets,bytes\n"},
	} {
		if got := shown(t, kind, tc.opts, tc.groups...); got != tc.want {
			t.Errorf("%v of %d: %q, want %q", tc.opts.Format, len(tc.groups), got, tc.want)
		}
	}
}

// Numbers for people.
func TestUnits(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 812: "812 B", 999: "999 B", 1000: "1.0 kB", 3200: "3.2 kB", 9949: "9.9 kB", 9950: "10 kB",
		41_000: "41 kB", 999_499: "999 kB", 999_500: "1.0 MB", 1_100_000_000: "1.1 GB", math.MaxUint64: "18 EB"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 1_204_331: "1,204,331", math.MaxUint64: "18,446,744,073,709,551,615"} {
		if got := Number(n); got != want {
			t.Errorf("Number(%d) = %q, want %q", n, got, want)
		}
	}
	if Plural(1, "packet") != "1 packet" || Plural(0, "packet") != "0 packets" || Plural(1200, "packet") != "1,200 packets" {
		t.Error("Plural is wrong")
	}
	for d, want := range map[time.Duration]string{14 * time.Second: "14 s", 3 * time.Minute: "3 min", 2 * time.Hour: "2 h", 50 * time.Hour: "2 d", -1: "0 s"} {
		if got := Ago(d); got != want {
			t.Errorf("Ago(%v) = %q, want %q", d, got, want)
		}
	}
	for d, want := range map[time.Duration]string{2 * time.Millisecond: "2 ms", 30 * time.Millisecond: "0.03 s", 3400 * time.Millisecond: "3.4 s", 125 * time.Second: "2m5s"} {
		if got := Elapsed(d); got != want {
			t.Errorf("Elapsed(%v) = %q, want %q", d, got, want)
		}
	}
	if got := sinceText(-1_500_000_999); got != "-1.500000" {
		t.Errorf("sinceText: %q", got)
	}
}

// Whatever a string holds, its JSON is one line of valid JSON that means the
// same, with U+FFFD for what is not UTF-8.
func FuzzString(f *testing.F) {
	for _, s := range []string{"", "plain", "\"\\\n\r\t\x00\x1f\x7f", "ünï\u2028", "\xff\xfe", "a\xc3", "\U0001f600", "\xed\xa0\x80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		fuzzguard.Watch(t)
		got := appendString(nil, s)
		if !utf8.Valid(got) || bytes.ContainsAny(got, "\n\r\x00") {
			t.Fatalf("%q became %q", s, got)
		}
		var back string
		if err := json.Unmarshal(got, &back); err != nil {
			t.Fatalf("%q became %s: %v", s, got, err)
		}
		if want := strings.ToValidUTF8(s, "\ufffd"); utf8.ValidString(s) && back != want {
			t.Fatalf("%q came back as %q", s, back)
		}
	})
}

// A row of a listing is written without garbage beyond what its text needs.
func BenchmarkConnectionJSONL(b *testing.B) {
	w := NewWriter(&bytes.Buffer{}, Connections(Clock{}), Options{Format: JSONL})
	c := connection()
	b.ReportAllocs()
	for b.Loop() {
		w.out.Reset(discard{})
		if err := w.Write(c); err != nil {
			b.Fatal(err)
		}
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// A gap whose size nobody knows has no number that a program could take for 0.
func TestUnknownGapHasNoNumber(t *testing.T) {
	gap := Event{Gap: &whorlv1.Gap{Cause: whorlv1.GapCause_GAP_CAUSE_NEW_EPOCH}, Cursor: "e.0"}
	kind := Events(Clock{})
	for _, tc := range []struct {
		fields []string
		want   string
	}{
		{nil, `{"gap":{"cause":"new_epoch","unknown":true},"cursor":"e.0"}`},
		{[]string{"gap.lost_count"}, `{"gap":{}}`},
		{[]string{"gap.unknown"}, `{"gap":{"unknown":true}}`},
	} {
		if got := shown(t, kind, Options{Format: JSONL, Select: mustSelect(t, kind.Schema, tc.fields...)}, gap); got != tc.want+"\n" {
			t.Errorf("fields %v: %s, want %s", tc.fields, got, tc.want)
		}
	}
}

// Rows of a watch that come one by one stand under one another, whatever the
// first of them was like.
func TestWatchTableIsAligned(t *testing.T) {
	row := func(src, value string) Event {
		return Event{Eviction: &whorlv1.Eviction{Cause: 1, EvictedAt: timestamppb.New(moment), Connection: &whorlv1.Connection{
			SrcIp: src, SrcPort: 1, DstIp: "10.0.0.1", DstPort: 443, Protocol: "tcp",
			PrimaryFingerprint: &whorlv1.PrimaryFingerprint{Type: "ja4", Value: value}}}}
	}
	lines := strings.Split(shown(t, Events(Clock{Zone: time.UTC}), Options{Format: Table},
		row("1.1.1.1", "short"), row("192.168.100.200", "t13d0405h2_e00fd9ffaebd_beb9f91c6f80")), "\n")
	for _, name := range []string{"DST", "FINGERPRINT", "CAUSE"} {
		at := strings.Index(lines[0], name)
		for _, line := range lines[1:3] {
			if line[at-1] != ' ' || line[at] == ' ' {
				t.Errorf("%s does not stand under its name:\n%s", name, strings.Join(lines, "\n"))
			}
		}
	}
}

// Durations have no zeros behind them.
func TestDurationIsShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		5 * time.Minute: "5m", 24 * time.Hour: "24h", 90 * time.Minute: "1h30m", 10 * time.Second: "10s", 0: "0s",
		time.Hour + 5*time.Second: "1h0m5s", 100 * time.Minute: "1h40m", 1500 * time.Millisecond: "1.5s",
	} {
		if got := units.Duration(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

// A group without a value is unknown where there must be one, and none where
// there may be.
func TestGroupsWithoutAValue(t *testing.T) {
	for field, want := range map[string]string{"app": "(unknown)", "rule": "(none)", "ja4": "(none)", "sni": "(none)"} {
		row := Group{Group: &whorlv1.Group{Key: []string{""}, Connections: 1}}
		if got := shown(t, Groups([]string{field}), Options{Format: Compact}, row); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %q first", field, got, want)
		}
	}
}
