package service

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// filled returns a rig whose table has flows 0 to n-1, and the stream that
// reported them with the next sequence.
func filled(t *testing.T, cfg Config, n int) (*rig, *probeStream, uint64) {
	t.Helper()
	r := newRig(t, cfg)
	p, _ := r.report(helloOf("probe-1", "s1"))
	sequence := uint64(0)
	for i := 0; i < n; i += 500 {
		sequence++
		b := &flow.Batch{Sequence: sequence}
		for k := i; k < min(i+500, n); k++ {
			b.AddPacket(b.AddFlow(tuple(k)), false, epochStart+int64(k), 100, flow.ACK)
		}
		p.batch(b)
	}
	if sequence > 0 {
		p.acked(sequence)
	}
	return r, p, sequence + 1
}

// A connection is found by id in either direction, by uid and by 5-tuple.
func TestGetFindsAConnectionByAllItsNames(t *testing.T) {
	r, _, _ := filled(t, Config{}, 3)
	byID, err := r.tracker.Get(t.Context(), &whorlv1.GetRequest{Target: &whorlv1.GetRequest_Id{Id: id(1)}})
	if err != nil {
		t.Fatal(err)
	}
	want := byID.GetConnection()
	if want.GetId() != id(1) || want.GetUid() == "" || want.GetCommunityId() == "" {
		t.Fatalf("connection %v: want an id, a uid and a community id", want)
	}
	proto1, ends, _ := strings.Cut(id(1), "/")
	a, b, _ := strings.Cut(ends, "-")
	tup := &whorlv1.FiveTuple{SrcIp: want.GetSrcIp(), SrcPort: want.GetSrcPort(), DstIp: want.GetDstIp(), DstPort: want.GetDstPort(), Protocol: "TCP"}
	back := &whorlv1.FiveTuple{SrcIp: want.GetDstIp(), SrcPort: want.GetDstPort(), DstIp: want.GetSrcIp(), DstPort: want.GetSrcPort(), Protocol: "6", Network: "default"}
	for name, req := range map[string]*whorlv1.GetRequest{
		"reversed id":    {Target: &whorlv1.GetRequest_Id{Id: proto1 + "/" + b + "-" + a}},
		"id and network": {Target: &whorlv1.GetRequest_Id{Id: id(1) + "@default"}},
		"uid":            {Target: &whorlv1.GetRequest_Uid{Uid: want.GetUid()}},
		"tuple":          {Target: &whorlv1.GetRequest_Tuple{Tuple: tup}},
		"reversed tuple": {Target: &whorlv1.GetRequest_Tuple{Tuple: back}},
	} {
		got, err := r.tracker.Get(t.Context(), req)
		if err != nil || !proto.Equal(got.GetConnection(), want) {
			t.Errorf("%s: %v, %v; want %v", name, got.GetConnection(), err, want)
		}
	}
	got, err := r.tracker.Get(t.Context(), &whorlv1.GetRequest{
		Target: &whorlv1.GetRequest_Id{Id: id(1)}, Fields: []string{"id", "packet_count"}})
	if err != nil || !proto.Equal(got.GetConnection(), &whorlv1.Connection{Id: id(1), PacketCount: 1}) {
		t.Errorf("fields: %v, %v; want id and packet_count alone", got, err)
	}
}

// NOT_FOUND says whether the connection was evicted lately, and where in the
// feed; a watch from there begins with it.
func TestNotFoundSaysWhereItWent(t *testing.T) {
	r, p, _ := filled(t, Config{}, 3)
	get := &whorlv1.GetRequest{Target: &whorlv1.GetRequest_Id{Id: id(2)}}
	p.finish(true)
	_, err := r.tracker.Get(t.Context(), get)
	checkError(t, err, codes.NotFound, ReasonNotTracked)
	meta := errorInfo(err).GetMetadata()
	if meta["cause"] != "flush" || meta["evicted_cursor"] == "" {
		t.Fatalf("metadata %v: want cause flush and a cursor", meta)
	}
	w, err := r.feed.Watch(t.Context(), &whorlv1.WatchRequest{
		Start: &whorlv1.WatchRequest_AfterCursor{AfterCursor: meta["watch_after_cursor"]}, Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := w.Recv()
	if err != nil || resp.GetEvictions()[0].GetConnection().GetId() != id(2) {
		t.Errorf("watch from there: %v, %v; want %s", resp, err, id(2))
	}
	_, err = r.tracker.Get(t.Context(), &whorlv1.GetRequest{Target: &whorlv1.GetRequest_Id{Id: id(9999)}})
	checkError(t, err, codes.NotFound, ReasonNotTracked)
	if meta := errorInfo(err).GetMetadata(); len(meta) != 0 {
		t.Errorf("metadata %v of a connection never seen, want none", meta)
	}
}

// Count answers with and without a filter, and sums up groups.
func TestCount(t *testing.T) {
	r, p, next := filled(t, Config{}, 1000)
	p.batch(withFingerprint(packets(next, time.Second, 1, 2, 3), ja4.TypeJA4, "t13d1516h2_8daaf6152771_02713d6af862"))
	p.acked(next)
	for _, tt := range []struct {
		name   string
		req    *whorlv1.CountRequest
		count  uint64
		groups []string
		others uint64
	}{
		{"all", &whorlv1.CountRequest{}, 1000, nil, 0},
		{"by prefix", &whorlv1.CountRequest{Filter: "src:10.0.0.0/24"}, 256, nil, 0},
		{"typed", &whorlv1.CountRequest{Include: []*whorlv1.ConnectionFilter{{SrcIp: []string{"10.0.1.0/24"}}}}, 256, nil, 0},
		{"both", &whorlv1.CountRequest{Filter: "src:10.0.0.0/23", Exclude: []*whorlv1.ConnectionFilter{{SrcIp: []string{"10.0.1.0/24"}}}}, 256, nil, 0},
		{"fingerprint", &whorlv1.CountRequest{Filter: "ja4:t13d*"}, 1, nil, 0},
		{"nothing", &whorlv1.CountRequest{Filter: "port:53"}, 0, nil, 0},
		{
			"groups by prefix", &whorlv1.CountRequest{GroupBy: []string{"src_ip/24"}, Limit: 2}, 1000,
			[]string{"[10.0.0.0/24] 256 259 25900", "[10.0.1.0/24] 256 256 25600"}, 2,
		},
		{
			"two fields", &whorlv1.CountRequest{GroupBy: []string{"protocol", "dst_port"}}, 1000,
			[]string{"[tcp 443] 1000 1003 100300"}, 0,
		},
		{
			"by packets", &whorlv1.CountRequest{Filter: "src:10.0.0.0/29", GroupBy: []string{"src_ip"}, OrderBy: whorlv1.GroupOrder_GROUP_ORDER_PACKETS, Limit: 3}, 8,
			[]string{"[10.0.0.1] 1 2 200", "[10.0.0.2] 1 2 200", "[10.0.0.3] 1 2 200"}, 5,
		},
		{
			"by fingerprint", &whorlv1.CountRequest{GroupBy: []string{"ja4"}}, 1000,
			[]string{"[] 999 1001 100100", "[t13d1516h2_8daaf6152771_02713d6af862] 1 2 200"}, 0,
		},
		{"by probe", &whorlv1.CountRequest{GroupBy: []string{"probe", "network"}}, 1000, []string{"[probe-1 default] 1000 1003 100300"}, 0},
		{"no limit given", &whorlv1.CountRequest{GroupBy: []string{"src_ip"}}, 1000, nil, 980},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, err := r.tracker.Count(t.Context(), tt.req)
			if err != nil {
				t.Fatal(err)
			}
			if resp.GetCount() != tt.count || resp.GetOtherGroups() != tt.others || resp.GetAsOf() == nil {
				t.Errorf("count %d, %d other groups, as of %v; want %d and %d", resp.GetCount(), resp.GetOtherGroups(), resp.GetAsOf(), tt.count, tt.others)
			}
			if tt.groups == nil {
				return
			}
			var got []string
			for _, g := range resp.GetGroups() {
				got = append(got, fmt.Sprintf("%v %d %d %d", g.GetKey(), g.GetConnections(), g.GetPackets(), g.GetBytes()))
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.groups) {
				t.Errorf("groups\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.groups, "\n"))
			}
		})
	}
}

// pages walks the table with All and returns how often each id was seen, and the
// feed cursor of the first page.
func (r *rig) pages(t *testing.T, req *whorlv1.AllRequest, between func()) (seen map[string]int, cursor string) {
	t.Helper()
	seen = make(map[string]int)
	for {
		resp, err := r.tracker.All(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(resp.GetConnections()); n > int(req.GetPageSize()) {
			t.Errorf("page of %d, want at most %d", n, req.GetPageSize())
		}
		for _, c := range resp.GetConnections() {
			seen[c.GetId()]++
		}
		if cursor == "" {
			cursor = resp.GetFeedCursor()
		} else if resp.GetFeedCursor() != cursor {
			t.Errorf("feed cursor %s on a later page, want %s as on the first", resp.GetFeedCursor(), cursor)
		}
		if resp.GetNextPageToken() == "" {
			return seen, cursor
		}
		req.PageToken = resp.GetNextPageToken()
		if between != nil {
			between()
		}
	}
}

// A connection alive during the whole walk is on exactly one page, whatever
// comes and goes meanwhile.
func TestPagesHoldEachConnectionOnce(t *testing.T) {
	r, p, next := filled(t, Config{}, 2000)
	fresh := 100_000
	seen, _ := r.pages(t, &whorlv1.AllRequest{PageSize: 170, Fields: []string{"id"}}, func() {
		p.batch(packets(next, time.Second, fresh, fresh+1, fresh+2, 5, 6, 7))
		p.acked(next)
		next, fresh = next+1, fresh+3
	})
	for n := range 2000 {
		if seen[id(n)] != 1 {
			t.Fatalf("connection %d is on %d pages, want 1", n, seen[id(n)])
		}
	}
	if next < 10 {
		t.Errorf("%d pages, want more of them", next)
	}
}

// What is evicted while somebody lists is in the feed behind the listing's
// cursor: nothing falls between.
func TestListThenWatchMissesNothing(t *testing.T) {
	r, p, next := filled(t, Config{}, 1500)
	flushed := 0
	seen, cursor := r.pages(t, &whorlv1.AllRequest{PageSize: 100, Fields: []string{"id"}}, func() {
		// Some leave in the middle of the walk, some come.
		if flushed < 5 {
			_, err := r.status.FlushConnections(t.Context(), &whorlv1.FlushConnectionsRequest{
				Filter: fmt.Sprintf("src:10.0.%d.0/24", flushed), Confirm: true})
			if err != nil {
				t.Fatal(err)
			}
			flushed++
		}
		p.batch(packets(next, time.Second, 50_000+int(next)))
		p.acked(next)
		next++
	})
	w, err := r.feed.Watch(t.Context(), &whorlv1.WatchRequest{
		Start: &whorlv1.WatchRequest_AfterCursor{AfterCursor: cursor}, NoFollow: true})
	if err != nil {
		t.Fatal(err)
	}
	for {
		resp, err := w.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range resp.GetEvictions() {
			seen[e.GetConnection().GetId()]++
		}
	}
	for n := range 1500 {
		if seen[id(n)] == 0 {
			t.Fatalf("connection %d was neither listed nor in the feed", n)
		}
	}
}

// Export streams the whole table, each connection once, with the cursor on the
// last message alone.
func TestExport(t *testing.T) {
	r, _, _ := filled(t, Config{}, 3000)
	stream, err := r.tracker.Export(t.Context(), &whorlv1.ExportRequest{Filter: "-src:10.0.0.0/24"})
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]int)
	cursors, last := 0, ""
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range resp.GetConnections() {
			seen[c.GetId()]++
		}
		if last = resp.GetFeedCursor(); last != "" {
			cursors++
		}
	}
	if len(seen) != 3000-256 || cursors != 1 || last == "" {
		t.Errorf("%d connections, %d cursors, last %q; want %d, 1, on the last message", len(seen), cursors, last, 3000-256)
	}
}

// A page ends near 1 MiB, and no page is beyond what every client takes.
func TestPagesEndNearAMebibyte(t *testing.T) {
	r, p, next := filled(t, Config{}, 200)
	raw := strings.Repeat("r", 8000)
	for round := range 3 {
		for i := range 200 {
			b := packets(next, time.Duration(round+1)*time.Second, i)
			withFingerprint(b, ja4.TypeJA4H, fmt.Sprintf("ge11nn07enus_%d", round))
			b.Fingerprints[0].Raw = fmt.Sprint(round, raw)
			p.batch(b)
			next++
		}
		p.acked(next - 1)
	}
	req, total, pages := &whorlv1.AllRequest{PageSize: 5000}, 0, 0
	for {
		resp, err := r.tracker.All(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		pages++
		total += len(resp.GetConnections())
		if n := proto.Size(resp); n > maxPageBytes+1<<20 {
			t.Errorf("page of %d bytes", n)
		}
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	if total != 200 || pages < 4 {
		t.Errorf("%d connections on %d pages, want 200 on several", total, pages)
	}
}

// A token works for its own request alone, and says so.
func TestTokensAreBoundToTheirRequest(t *testing.T) {
	r, _, _ := filled(t, Config{}, 100)
	first := &whorlv1.AllRequest{PageSize: 10, Filter: "proto:tcp"}
	resp, err := r.tracker.All(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	token := resp.GetNextPageToken()
	if _, err := r.tracker.All(t.Context(), &whorlv1.AllRequest{PageSize: 33, Filter: "proto:tcp", PageToken: token}); err != nil {
		t.Errorf("another page size: %v, want no error", err)
	}
	for name, req := range map[string]*whorlv1.AllRequest{
		"another filter": {Filter: "proto:udp", PageToken: token},
		"another view":   {Filter: "proto:tcp", View: whorlv1.ConnectionView_CONNECTION_VIEW_BASIC, PageToken: token},
		"other fields":   {Filter: "proto:tcp", Fields: []string{"id"}, PageToken: token},
		"one bit off":    {Filter: "proto:tcp", PageToken: flipped(token)},
		"rubbish":        {Filter: "proto:tcp", PageToken: "%%%"},
		"too long":       {Filter: "proto:tcp", PageToken: strings.Repeat("A", 10_000)},
	} {
		_, err := r.tracker.All(t.Context(), req)
		checkError(t, err, codes.InvalidArgument, ReasonBadToken)
		if err != nil && !strings.Contains(status.Convert(err).Message(), "page_token") {
			t.Errorf("%s: %v does not name page_token", name, err)
		}
	}
	other, _, _ := filled(t, Config{}, 0)
	_, err = other.tracker.All(t.Context(), &whorlv1.AllRequest{Filter: "proto:tcp", PageToken: token})
	checkError(t, err, codes.Aborted, ReasonTokenEpoch)
}

// flipped changes the tenth character: the place, not the epoch.
func flipped(token string) string {
	c := byte('A')
	if token[9] == c {
		c = 'B'
	}
	return token[:9] + string(c) + token[10:]
}

// Bad queries are refused, each by the name of its field.
func TestBadQueriesNameTheField(t *testing.T) {
	r := newRig(t, Config{})
	ctx := t.Context()
	get := func(req *whorlv1.GetRequest) error { _, err := r.tracker.Get(ctx, req); return err }
	count := func(req *whorlv1.CountRequest) error { _, err := r.tracker.Count(ctx, req); return err }
	all := func(req *whorlv1.AllRequest) error { _, err := r.tracker.All(ctx, req); return err }
	flush := func(req *whorlv1.FlushConnectionsRequest) error {
		_, err := r.status.FlushConnections(ctx, req)
		return err
	}
	for _, tt := range []struct {
		field, reason string
		err           error
	}{
		{"target", ReasonBadField, get(&whorlv1.GetRequest{})},
		{"id", ReasonBadID, get(&whorlv1.GetRequest{Target: &whorlv1.GetRequest_Id{Id: "tcp/nonsense"}})},
		{"uid", ReasonBadID, get(&whorlv1.GetRequest{Target: &whorlv1.GetRequest_Uid{Uid: "x"}})},
		{"tuple.src_ip", ReasonBadAddress, get(&whorlv1.GetRequest{Target: &whorlv1.GetRequest_Tuple{Tuple: &whorlv1.FiveTuple{SrcIp: "10.0.0.300"}}})},
		{"tuple.network", ReasonBadField, get(&whorlv1.GetRequest{Target: &whorlv1.GetRequest_Tuple{Tuple: &whorlv1.FiveTuple{SrcIp: "::1", DstIp: "::2", Protocol: "tcp", Network: "a b"}}})},
		{"fields[1]", ReasonBadField, get(&whorlv1.GetRequest{Target: &whorlv1.GetRequest_Id{Id: id(1)}, Fields: []string{"id", "packets"}})},
		{"filter", ReasonBadFilter, count(&whorlv1.CountRequest{Filter: "proto:tcp dprt:80"})},
		{"include[0].src_ip[0]", ReasonBadFilter, count(&whorlv1.CountRequest{Include: []*whorlv1.ConnectionFilter{{SrcIp: []string{"x"}}}})},
		{"filter", ReasonBadFilter, count(&whorlv1.CountRequest{Filter: "cause:idle"})},
		{"group_by[1]", ReasonBadField, count(&whorlv1.CountRequest{GroupBy: []string{"app", "dst_prt"}})},
		{"group_by[0]", ReasonBadField, count(&whorlv1.CountRequest{GroupBy: []string{"src_ip/129"}})},
		{"group_by", ReasonBadField, count(&whorlv1.CountRequest{GroupBy: make([]string, 5)})},
		{"filter", ReasonBadFilter, count(&whorlv1.CountRequest{Filter: "rule:prt-scan"})},
		{"filter", ReasonBadFilter, all(&whorlv1.AllRequest{Filter: "ja4:t13d*_02713d6af862"})},
		{"filter", ReasonBadFilter, flush(&whorlv1.FlushConnectionsRequest{Filter: "app:Chrome"})},
		{"include[0].is_known_bad", ReasonBadFilter, flush(&whorlv1.FlushConnectionsRequest{
			Include: []*whorlv1.ConnectionFilter{{IsKnownBad: new(bool)}}, Confirm: true,
		})},
		{"limit", ReasonBadField, count(&whorlv1.CountRequest{Limit: 1001})},
		{"order_by", ReasonBadField, count(&whorlv1.CountRequest{OrderBy: 9})},
		{"page_size", ReasonBadField, all(&whorlv1.AllRequest{PageSize: 5001})},
		{"fingerprint_types[0]", ReasonBadField, all(&whorlv1.AllRequest{FingerprintTypes: []string{"ja5"}})},
		{"view", ReasonBadField, all(&whorlv1.AllRequest{View: 9})},
	} {
		t.Run(tt.field, func(t *testing.T) {
			checkError(t, tt.err, codes.InvalidArgument, tt.reason)
			checkField(t, tt.err, tt.field)
		})
	}
	err := count(&whorlv1.CountRequest{Filter: "proto:tcp port:443 dprt:80"})
	if m := errorInfo(err).GetMetadata(); m["column"] != "20" || m["word"] != "dprt" || m["suggestion"] != "dst.port" {
		t.Errorf("metadata %v: want column 20, word dprt, suggestion dst.port", m)
	}
	err = count(&whorlv1.CountRequest{Filter: "-anomaly:port_scan"})
	if m := errorInfo(err).GetMetadata(); m["column"] != "10" || m["suggestion"] != "port-scan" {
		t.Errorf("metadata %v: want column 10, suggestion port-scan", m)
	}
}
