package service

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// scan makes a batch of SYNs from one source to ports 1 to n of one host.
func scan(sequence uint64, n int) *flow.Batch {
	b := &flow.Batch{Sequence: sequence}
	for port := range n {
		t := tuple(7)
		t.DstPort = uint16(port + 1)
		b.AddPacket(b.AddFlow(t), false, epochStart+int64(port), 60, flow.SYN)
	}
	b.Watermark = epochStart + int64(time.Second)
	return b
}

// all returns the live connections that match.
func (r *rig) matching(filter string) []*whorlv1.Connection {
	r.t.Helper()
	resp, err := r.tracker.All(r.t.Context(), &whorlv1.AllRequest{Filter: filter, PageSize: 5000})
	if err != nil {
		r.t.Fatalf("%s: %v", filter, err)
	}
	return resp.GetConnections()
}

// events reads the whole feed.
func (r *rig) events(filter string) (evictions []*whorlv1.Eviction, discoveries []*whorlv1.Discovery) {
	r.t.Helper()
	stream, err := r.feed.Watch(r.t.Context(), &whorlv1.WatchRequest{
		Start: &whorlv1.WatchRequest_FromOldest{FromOldest: true}, NoFollow: true, Filter: filter,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	for {
		resp, err := stream.Recv()
		if err == io.EOF {
			return evictions, discoveries
		}
		if err != nil {
			r.t.Fatal(err)
		}
		evictions = append(evictions, resp.GetEvictions()...)
		discoveries = append(discoveries, resp.GetDiscoveries()...)
	}
}

func rulesOf(c *whorlv1.Connection) (rules []string) {
	for _, a := range c.GetAnomalies() {
		rules = append(rules, a.GetRule())
	}
	return rules
}

// What connections have to do with one another is said of the one that crossed
// the threshold: in queries, in groups, in the status, and in the feed when it
// leaves.
func TestPortScanIsFoundAcrossConnections(t *testing.T) {
	r := newRig(t, Config{})
	p, _ := r.report(helloOf("edge", "s"))
	p.batch(scan(1, 20))
	p.acked(1)
	if got := r.matching("anomaly:port-scan"); len(got) != 0 {
		t.Fatalf("20 ports are a scan: %v", got)
	}
	p.batch(scan(2, 21))
	p.acked(2)
	got := r.matching("anomaly:port-scan severity:>=medium")
	if len(got) != 1 || got[0].GetDstPort() != 21 {
		t.Fatalf("%d connections are a scan, want the one to port 21: %v", len(got), got)
	}
	if a := got[0].GetAnomalies()[0]; a.GetDescription() == "" || len(a.GetEvidence()) == 0 {
		t.Errorf("anomaly without words or evidence: %v", a)
	}
	count, err := r.tracker.Count(t.Context(), &whorlv1.CountRequest{GroupBy: []string{"rule"}, Filter: "rule:port-scan"})
	if err != nil || len(count.GetGroups()) == 0 || !slices.ContainsFunc(count.GetGroups(), func(g *whorlv1.Group) bool {
		return g.GetKey()[0] == "port-scan" && g.GetConnections() == 1
	}) {
		t.Errorf("groups by rule: %v, %v", count, err)
	}
	var raised uint64
	for _, rule := range r.totals().GetRules() {
		if rule.GetRule() == "port-scan" {
			raised = rule.GetRaised()
		}
	}
	if raised != 1 {
		t.Errorf("status says port-scan was raised %d times, want 1", raised)
	}
	p.finish(true)
	evictions, _ := r.events("anomaly:port-scan")
	if len(evictions) != 1 || !slices.Contains(rulesOf(evictions[0].GetConnection()), "port-scan") {
		t.Errorf("evictions with the scan: %v", evictions)
	}
}

// A fingerprint is new once in its network, until it is forgotten.
func TestFingerprintIsNewOnce(t *testing.T) {
	r := newRig(t, Config{})
	p, _ := r.report(helloOf("edge", "s"))
	const value = "t13d1516h2_8daaf6152771_02713d6af862"
	show := func(sequence uint64, n int) {
		p.batch(withFingerprint(packets(sequence, time.Duration(sequence)*time.Second, n), ja4.TypeJA4, value))
		p.acked(sequence)
	}
	show(1, 1)
	show(2, 2)
	if got := r.matching("new:true"); len(got) != 1 || got[0].GetId() != id(1) {
		t.Fatalf("new are %v, want the first connection", got)
	}
	list := func() []*whorlv1.KnownFingerprint {
		t.Helper()
		resp, err := r.status.ListFingerprints(t.Context(), &whorlv1.ListFingerprintsRequest{Type: "ja4", Pattern: []string{"t13d1516h2_*_02713d6af862"}})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetFingerprints()
	}
	if got := list(); len(got) != 1 || got[0].GetConnections() != 2 || got[0].GetFirstConnectionId() != id(1) ||
		got[0].GetFirstProbeId() != "edge" || got[0].GetIdentifiedApp() != "Chromium Browser" || got[0].GetLearned() {
		t.Fatalf("inventory: %v", got)
	}
	forget := &whorlv1.ForgetFingerprintsRequest{Pattern: []string{value}}
	for i, want := range []int{1, 0} {
		forget.Confirm = i == 1
		resp, err := r.status.ForgetFingerprints(t.Context(), forget)
		if err != nil || resp.GetMatched() != 1 || len(list()) != want {
			t.Fatalf("confirm %v: %v, %v; %d are left, want %d", forget.Confirm, resp, err, len(list()), want)
		}
	}
	show(3, 3)
	if got := r.matching("new:true"); len(got) != 2 {
		t.Errorf("%d connections are new after forgetting, want 2", len(got))
	}
}

// While a network is learned nothing it shows is new.
func TestLearningMakesNothingNew(t *testing.T) {
	r := newRig(t, Config{Knowledge: Knowledge{Learn: time.Hour}})
	p, _ := r.report(helloOf("edge", "s"))
	p.batch(withFingerprint(packets(1, time.Second, 1), ja4.TypeJA4, "t13d1516h2_8daaf6152771_02713d6af862"))
	p.acked(1)
	if got := r.matching("new:true"); len(got) != 0 {
		t.Errorf("new are %v", got)
	}
	resp, err := r.status.ListFingerprints(t.Context(), &whorlv1.ListFingerprintsRequest{})
	if err != nil || len(resp.GetFingerprints()) != 1 || !resp.GetFingerprints()[0].GetLearned() {
		t.Errorf("%v, %v; want one that was learned", resp, err)
	}
}

// The inventory has pages, and a token of another question is refused.
func TestInventoryHasPages(t *testing.T) {
	r := newRig(t, Config{})
	p, _ := r.report(helloOf("edge", "s"))
	const total = 25
	b := packets(1, time.Second, 1)
	for i := range total {
		withFingerprint(b, ja4.TypeJA4, fmt.Sprintf("t13d1516h2_%012d_02713d6af862", i))
	}
	p.batch(b)
	p.acked(1)
	req := &whorlv1.ListFingerprintsRequest{PageSize: 10}
	seen := map[string]bool{}
	for pages := 1; ; pages++ {
		resp, err := r.status.ListFingerprints(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range resp.GetFingerprints() {
			seen[f.GetValue()] = true
		}
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			if len(seen) != total || pages < 3 {
				t.Errorf("%d fingerprints on %d pages, want %d on 3", len(seen), pages, total)
			}
			break
		}
		_, err = r.status.ListFingerprints(t.Context(), &whorlv1.ListFingerprintsRequest{PageSize: 10, PageToken: req.PageToken, Type: "ja4"})
		checkError(t, err, codes.InvalidArgument, ReasonBadToken)
	}
	_, err := r.status.ListFingerprints(t.Context(), &whorlv1.ListFingerprintsRequest{Pattern: []string{"t13d**"}})
	checkError(t, err, codes.InvalidArgument, ReasonBadField)
	_, err = r.status.ForgetFingerprints(t.Context(), &whorlv1.ForgetFingerprintsRequest{Network: "lab"})
	checkError(t, err, codes.InvalidArgument, ReasonBadField)
}

const badTable = `version: 1
entries:
  - id: trickster
    note: from the incident of May
    confidence: 90
    match: {ja4: t13d0000h2_000000000000_000000000001}
`

// A reload is all or nothing. What it condemns is found among what is live and
// what has left, and announced with the connection it concerns.
func TestReloadSearchesThePast(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bad.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("version: 1\nentries: []\n")
	r := newRig(t, Config{Knowledge: Knowledge{KnownBad: []string{path}}})
	p, _ := r.report(helloOf("edge", "s"))
	const value = "t13d0000h2_000000000000_000000000001"
	p.batch(withFingerprint(packets(1, time.Second, 1), ja4.TypeJA4, value))
	p.batch(packets(2, time.Second, 2))
	p.finish(true)
	p, _ = r.report(helloOf("edge", "t"))
	p.batch(withFingerprint(packets(1, 2*time.Second, 3), ja4.TypeJA4, value))
	p.acked(1)
	if got := r.matching("bad:true"); len(got) != 0 {
		t.Fatalf("bad before anybody says so: %v", got)
	}

	write(strings.Replace(badTable, "confidence: 90", "confidence: many", 1))
	_, err := r.status.ReloadConfig(t.Context(), &whorlv1.ReloadConfigRequest{})
	checkError(t, err, codes.FailedPrecondition, ReasonBadConfig)
	if err == nil || !strings.Contains(err.Error(), "bad.yaml:5") {
		t.Errorf("%v names neither file nor line", err)
	}
	if why := r.totals().GetEnrichment().GetRefused(); !strings.Contains(why, "bad.yaml:5") {
		t.Errorf("the status says %q of the refusal", why)
	}

	write(badTable)
	resp, err := r.status.ReloadConfig(t.Context(), &whorlv1.ReloadConfigRequest{})
	if err != nil || !slices.Contains(resp.GetChanged(), "tables") {
		t.Fatalf("%v, %v", resp, err)
	}
	if got := r.matching("bad:true"); len(got) != 1 || got[0].GetId() != id(3) || len(got[0].GetTableMatches()) != 1 {
		t.Fatalf("bad are %v, want connection 3 with its match", got)
	}
	var found []*whorlv1.Discovery
	for deadline := time.Now().Add(10 * time.Second); len(found) < 2 && time.Now().Before(deadline); {
		_, found = r.events("bad:true")
	}
	if len(found) != 2 {
		t.Fatalf("%d discoveries, want one live and one evicted: %v", len(found), found)
	}
	ids := map[string]uint64{}
	for _, d := range found {
		ids[d.GetConnection().GetId()] = d.GetEvictionSequence()
		if d.GetAnomaly().GetRule() != "known-bad" || len(d.GetAnomaly().GetEvidence()) == 0 || d.GetSequence() == 0 {
			t.Errorf("discovery %v", d)
		}
	}
	if sequence, ok := ids[id(1)]; !ok || sequence == 0 {
		t.Errorf("the evicted one is not among %v", ids)
	}
	if sequence, ok := ids[id(3)]; !ok || sequence != 0 {
		t.Errorf("the live one is not among %v", ids)
	}
	if n := r.totals().GetEnrichment().GetDiscoveries(); n != 2 {
		t.Errorf("status counts %d discoveries", n)
	}
}

// Who is told to know nothing says so.
func TestKnowledgeOff(t *testing.T) {
	r := newRig(t, Config{Knowledge: Knowledge{Off: true}})
	p, _ := r.report(helloOf("edge", "s"))
	p.batch(withFingerprint(scan(1, 50), ja4.TypeJA4, "t13d1516h2_8daaf6152771_02713d6af862"))
	p.acked(1)
	if got := r.matching("anomaly:true"); len(got) != 0 {
		t.Errorf("odd are %v", got)
	}
	_, err := r.status.ListFingerprints(t.Context(), &whorlv1.ListFingerprintsRequest{})
	checkError(t, err, codes.FailedPrecondition, ReasonUnavailable)
	_, err = r.status.ReloadConfig(t.Context(), &whorlv1.ReloadConfigRequest{})
	checkError(t, err, codes.FailedPrecondition, ReasonUnavailable)
}

// What was seen first is remembered over a restart.
func TestNoveltySurvivesARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	const value = "t13d1516h2_8daaf6152771_02713d6af862"
	for life, want := range []int{1, 0} {
		r := newDiskRig(t, Config{DataDir: dir})
		p, _ := r.report(helloOf(fmt.Sprint("edge", life), fmt.Sprint("s", life)))
		p.batch(withFingerprint(packets(1, time.Second, 10+life), ja4.TypeJA4, value))
		p.acked(1)
		got := r.matching(fmt.Sprintf("new:true probe:edge%d", life))
		if len(got) != want {
			t.Errorf("life %d: %d connections are new, want %d", life+1, len(got), want)
		}
		r.end()
	}
}

// A rule that a reload brings counts fingerprints of types that nobody had asked
// about before.
func TestReloadAsksForOtherFingerprints(t *testing.T) {
	rules := filepath.Join(t.TempDir(), "rules.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(rules, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	r := newRig(t, Config{Knowledge: Knowledge{Rules: []string{rules}}})
	p, _ := r.report(helloOf("edge", "s"))
	show := func(sequence uint64) {
		p.batch(withFingerprint(packets(sequence, time.Second, 1), ja4.TypeJA4L, fmt.Sprint(sequence, "_64")))
		p.acked(sequence)
	}
	show(1)
	write("rules:\n- {id: far, severity: low, on: [ja4l], key: src, distinct: fp, threshold: 1, window: 1m, text: \"{n}\"}\n")
	if _, err := r.status.ReloadConfig(t.Context(), &whorlv1.ReloadConfigRequest{}); err != nil {
		t.Fatal(err)
	}
	show(2)
	if got := r.matching("anomaly:far"); len(got) != 0 {
		t.Errorf("one latency since the rule is there, and it is odd: %v", got)
	}
	show(3)
	if got := r.matching("anomaly:far"); len(got) != 1 {
		t.Errorf("odd are %v, want the connection of two latencies", got)
	}
}
