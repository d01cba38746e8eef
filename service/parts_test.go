package service

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/whorl-net/whorl/flow"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"github.com/whorl-net/whorl/tracker"
)

func hasRetryInfo(err error) bool {
	for _, d := range status.Convert(err).Details() {
		if _, ok := d.(*errdetails.RetryInfo); ok {
			return true
		}
	}
	return false
}

// Records finish in log order, whatever the order in which the tracker is done
// with them.
func TestCompletionsKeepLogOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var q completions
	var finished []int
	var open []*completion
	begun := 0
	for range 5000 {
		if rng.IntN(2) == 0 || len(open) == 0 {
			n := begun
			c := new(completion)
			c.finish = func() {
				if !c.done {
					t.Errorf("record %d finished before the tracker was done with it", n)
				}
				finished = append(finished, n)
			}
			q.begin(c)
			open = append(open, c)
			begun++
			continue
		}
		i := rng.IntN(len(open))
		c := open[i]
		open = slices.Delete(open, i, i+1)
		q.end(c)
	}
	select {
	case <-q.idle():
		t.Error("idle while records are under way")
	default:
	}
	waiting := q.idle()
	for _, c := range open {
		q.end(c)
	}
	<-waiting
	<-q.idle()
	if len(finished) != begun || !slices.IsSorted(finished) {
		t.Errorf("%d of %d finished, in order: %v", len(finished), begun, slices.IsSorted(finished))
	}
	if len(q.queue)-q.head != 0 {
		t.Errorf("%d left in the queue", len(q.queue)-q.head)
	}
}

// What a session has seen decides: once, in order, a Lost record that begins too
// early included.
func TestSessionsJudgeByNumber(t *testing.T) {
	s := newSessions()
	key := sessionKey{probe: "p"}
	for i, tt := range []struct {
		first, last uint64
		want        verdict
	}{
		{5, 5, verdictApply}, // a session that is not known starts anywhere
		{5, 5, verdictDuplicate}, {1, 1, verdictDuplicate}, {7, 7, verdictGap}, {6, 6, verdictApply},
		{7, 20, verdictApply}, {15, 20, verdictDuplicate}, {15, 25, verdictApply}, {27, 30, verdictGap}, {26, 26, verdictApply},
	} {
		if got := s.admit(key, tt.first, tt.last); got != tt.want {
			t.Errorf("step %d, %d to %d: verdict %d, want %d", i, tt.first, tt.last, got, tt.want)
		}
	}
	if last, known := s.last(key); last != 26 || !known {
		t.Errorf("last %d, known %v; want 26, true", last, known)
	}
}

// The session table is bounded: closed sessions make room first, then those
// whose last batch is oldest.
func TestSessionTableIsBounded(t *testing.T) {
	s := newSessions()
	key := func(i int) sessionKey { return sessionKey{probe: strconv.Itoa(i)} }
	for i := range maxSessions {
		s.admit(key(i), 1, 1)
	}
	s.admit(key(0), 2, 2) // now the newest
	s.close(key(77))
	known := func(i int) bool { _, ok := s.last(key(i)); return ok }
	s.admit(key(maxSessions), 1, 1)
	if known(77) || !known(1) || !known(0) {
		t.Errorf("known: closed %v, oldest %v, touched %v; want only the closed one gone", known(77), known(1), known(0))
	}
	s.admit(key(maxSessions+1), 1, 1)
	if known(1) || !known(0) || len(s.byKey) != maxSessions || s.order.Len() != maxSessions {
		t.Errorf("oldest known %v, touched known %v, %d sessions; want the oldest gone, %d", known(1), known(0), len(s.byKey), maxSessions)
	}
}

// Idempotency keys are bounded too; the zero key is none.
func TestPushKeysAreBounded(t *testing.T) {
	s := newSessions()
	id := func(i int) (k [16]byte) { k[0], k[1], k[2], k[15] = byte(i), byte(i>>8), byte(i>>16), 1; return k }
	for i := range maxPushKeys + 1 {
		if !s.push(id(i)) {
			t.Fatalf("key %d is not new", i)
		}
	}
	if s.push(id(1)) || !s.push(id(0)) || len(s.pushes.byID) != maxPushKeys {
		t.Errorf("%d keys, want %d with the oldest gone alone", len(s.pushes.byID), maxPushKeys)
	}
	for range 2 {
		if !s.push([16]byte{}) {
			t.Error("the zero key was remembered")
		}
	}
}

// More groups than are counted exactly are refused, not estimated.
func TestTooManyGroups(t *testing.T) {
	g, err := newGrouping(&whorlv1.CountRequest{GroupBy: []string{"src_ip", "dst_port"}})
	if err != nil {
		t.Fatal(err)
	}
	var s tracker.Snapshot
	for i := range maxGroups {
		s.Src = flow.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		if err := g.add(&s); err != nil {
			t.Fatalf("group %d: %v", i, err)
		}
	}
	if err := g.add(&s); err != nil {
		t.Errorf("a group that is there: %v", err)
	}
	s.Src = flow.AddrFrom4([4]byte{11, 0, 0, 0})
	checkError(t, g.add(&s), codes.ResourceExhausted, ReasonTooManyGroups)
}

// Grouping by what is there already does not allocate.
func TestGroupingDoesNotAllocate(t *testing.T) {
	g, err := newGrouping(&whorlv1.CountRequest{GroupBy: []string{"src_ip/24", "dst_port", "ja4"}})
	if err != nil {
		t.Fatal(err)
	}
	s := &tracker.Snapshot{Src: flow.AddrFrom4([4]byte{10, 1, 2, 3}), DstPort: 443}
	if err := g.add(s); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _ = g.add(s) }); n != 0 {
		t.Errorf("%v allocations per connection, want 0", n)
	}
}

// A prefix length is that of IPv4; IPv6 addresses are grouped by link.
func TestGroupingByPrefix(t *testing.T) {
	v4, v6 := flow.AddrFrom(netip.MustParseAddr("10.1.2.3")), flow.AddrFrom(netip.MustParseAddr("2001:db8:1:2:3:4:5:6"))
	for _, tt := range []struct {
		name string
		addr flow.Addr
		want string
	}{
		{"src_ip/24", v4, "10.1.2.0/24"}, {"src_ip/0", v4, "0.0.0.0/0"}, {"src_ip/32", v4, "10.1.2.3/32"},
		{"src_ip/24", v6, "2001:db8:1:2::/64"}, {"dst_ip/0", v6, "2001:db8:1:2::/64"}, {"dst_ip/32", v6, "2001:db8:1:2::/64"},
	} {
		g, err := newGrouping(&whorlv1.CountRequest{GroupBy: []string{tt.name}})
		if err != nil {
			t.Fatal(err)
		}
		if err := g.add(&tracker.Snapshot{Src: tt.addr, Dst: tt.addr}); err != nil {
			t.Fatal(err)
		}
		if top, _ := g.top(); top[0].GetKey()[0] != tt.want {
			t.Errorf("%s of %v is %v, want %s", tt.name, tt.addr.Netip(), top[0].GetKey(), tt.want)
		}
	}
	for _, name := range []string{"src_ip/33", "src_ip/64", "src_ip/-1", "src_ip/", "src_ip/24,64"} {
		_, err := newGrouping(&whorlv1.CountRequest{GroupBy: []string{name}})
		checkError(t, err, codes.InvalidArgument, ReasonBadField)
	}
}

// A probe id is of letters, digits and few signs; an error names the byte that
// is none of them.
func TestProbeIDs(t *testing.T) {
	for _, id := range []string{"a", "Zz-09", "rack1.lab_2", "aa:bb@host/eth0,eth1", strings.Repeat("p", maxProbeIDLen)} {
		if err := checkProbeID("probe_id", id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	for id, want := range map[string]string{
		"": "has 0 bytes", strings.Repeat("p", maxProbeIDLen+1): "has 129 bytes",
		"a b": `byte 2 is " "`, "a\n": `byte 2 is "\n"`, "p\u00f6": `byte 2 is "\xc3"`, "*": `byte 1 is "*"`, "a\x00": `byte 2 is "\x00"`,
	} {
		err := checkProbeID("probe_id", id)
		checkError(t, err, codes.InvalidArgument, ReasonBadField)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s in it", id, err, want)
		}
	}
}

// A name that is full admits who is in, and nobody else.
func TestNamesAreBounded(t *testing.T) {
	var c counters
	n := newNames(tracker.Config{MaxNetworks: 2, MaxProbes: 3}, &c)
	for _, tt := range []struct {
		network, probe string
		ok             bool
	}{
		{"a", "1", true}, {"b", "1", true}, {"c", "1", false}, {"a", "2", true}, {"a", "3", true}, {"a", "4", false}, {"b", "3", true}, {"a", "1", true},
	} {
		if err := n.admit(tt.network, tt.probe); (err == nil) != tt.ok {
			t.Errorf("%s of %s: %v, want admitted: %v", tt.probe, tt.network, err, tt.ok)
		}
	}
	if got := c.namesRefused.Load(); got != 2 {
		t.Errorf("%d names were refused by the counter, want 2", got)
	}
}
