package filter

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"github.com/whorl-net/whorl/tracker"
)

// table returns a tracker full of connections that random filters are about.
func table(t *testing.T, r *rand.Rand) *tracker.Tracker {
	t.Helper()
	tr, err := tracker.New(tracker.Config{Shards: 4, MaxConnections: 4096, Enrich: func(s *tracker.Snapshot) {
		s.IdentifiedApp = someTexts[len(s.Fingerprints)%len(someTexts)]
		s.KnownBad = s.PacketCount%2 == 0
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- tr.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	for range 40 {
		o, err := tr.Origin(pick(r, someNetworks...), pick(r, "edge1", "edge2", "Ärger"), false)
		if err != nil {
			t.Fatal(err)
		}
		b := new(flow.Batch)
		for range 1 + r.IntN(20) {
			at := r.IntN(3) * 3
			tu := flow.Tuple{
				Src: addr(pick(r, someAddrs[:3]...)), Dst: addr(pick(r, someAddrs[:3]...)),
				SrcPort: uint16(r.IntN(7)), DstPort: uint16(r.IntN(7)), Protocol: pick(r, flow.TCP, flow.UDP, flow.Protocol(47)),
			}
			if at == 3 {
				tu.Src, tu.Dst = addr("["+someAddrs[3]+"]"), addr("["+pick(r, someAddrs[3:]...)+"]")
			}
			if tu.Protocol == 47 {
				tu.SrcPort, tu.DstPort = 0, 0
			}
			f := b.AddFlow(tu)
			for range 1 + r.IntN(3) {
				b.AddPacket(f, r.IntN(3) == 0, now-int64(r.IntN(10))*1e9, uint32(r.IntN(4)), flow.ACK)
			}
			for range r.IntN(4) {
				e := ja4.Event{Type: ja4.Type(1 + r.IntN(ja4.NumTypes-1)), Value: pick(r, someValues...), ServerName: pick(r, someTexts...)}
				b.Fingerprints = append(b.Fingerprints, flow.Fingerprint{Flow: f, Row: uint32(b.Rows()), Event: e})
			}
		}
		done := make(chan struct{})
		if err := tr.Submit(ctx, tracker.Entry{LogTime: now}, o, b, func() { close(done) }); err != nil {
			t.Fatal(err)
		}
		<-done
	}
	return tr
}

// A filter that is split, and asked of connections in their places first, finds
// what it finds among copies of all of them.
func TestSplitIsTheFilter(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	found, rows := 0, 0
	for range 3 {
		tr := table(t, r)
		var all []tracker.Snapshot
		page, at, more := tr.Page(tracker.Cursor{}, tracker.Full, 10_000, nil)
		for all = append(all, page...); more; all = append(all, page...) {
			page, at, more = tr.Page(at, tracker.Full, 10_000, nil)
		}
		for range 80 {
			src := Source{Now: now}
			var texts []string
			for range 1 + r.IntN(3) {
				text, _ := randomClause(r)
				if !strings.Contains(text, "cause:") {
					texts = append(texts, text)
				}
			}
			src.Text = strings.Join(texts, " ")
			entry := func() *whorlv1.ConnectionFilter {
				e := &whorlv1.ConnectionFilter{Port: []string{pick(r, "1", "2-5")}}
				if r.IntN(2) == 0 {
					e.FingerprintMatch = []*whorlv1.FingerprintMatch{{Type: pick(r, "ja4", "ja4s"), Pattern: []string{pick(r, "t13d*", someValues[2])}}}
				}
				if r.IntN(3) == 0 {
					e.IdentifiedApp = []string{"chrom*"}
				}
				return e
			}
			if r.IntN(3) == 0 {
				src.Include = append(src.Include, entry())
				if r.IntN(2) == 0 {
					src.Include = append(src.Include, entry())
				}
			}
			if r.IntN(4) == 0 {
				src.Exclude = append(src.Exclude, entry())
			}
			f, err := Compile(src)
			if err != nil {
				t.Fatalf("%s: %v", src.Text, err)
			}
			want := map[tracker.UID]bool{}
			for i := range all {
				if f.Match(&all[i]) {
					want[all[i].UID] = true
				}
			}
			found += len(want)
			q, rest := f.Split()
			if rest == nil {
				rows++
				n := 0
				for s, more := tr.Search(q, tracker.Cursor{}), true; more; {
					more = s.Each(func(*tracker.Row) { n++ })
				}
				if n != len(want) {
					t.Fatalf("%s: %d rows, want %d", f, n, len(want))
				}
			}
			if p, ok := f.Prints(); ok {
				if n, ok := tr.CountPrints(p); ok && n != uint64(len(want)) {
					t.Fatalf("%s: counts %d, want %d", f, n, len(want))
				}
			}
			got := 0
			var page []tracker.Snapshot
			for s, more := tr.Search(q, tracker.Cursor{}), true; more; {
				page, more = s.Page(rest.Detail(), 50, page)
				for i := range page {
					if rest.Match(&page[i]) {
						got++
						if !want[page[i].UID] {
							t.Fatalf("%s: finds %+v", f, page[i])
						}
					}
				}
			}
			if got != len(want) {
				t.Fatalf("%s: finds %d, want %d", f, got, len(want))
			}
		}
	}
	if found == 0 || rows == 0 {
		t.Errorf("%d found, %d filters of rows alone", found, rows)
	}
}

// Only what one fingerprint word says, and nothing else, is counted by fingerprint.
func TestPrintsAreAlone(t *testing.T) {
	type cf = whorlv1.ConnectionFilter
	match := func(m ...*whorlv1.FingerprintMatch) []*cf { return []*cf{{FingerprintMatch: m}} }
	ja4s := &whorlv1.FingerprintMatch{Type: "ja4s", Pattern: []string{"a", "b*"}}
	for _, tc := range []struct {
		src  Source
		want bool
	}{
		{Source{Text: "ja4:t13d*"}, true},
		{Source{Text: "ja4:a,b,c*"}, true},
		{Source{Include: match(ja4s)}, true},
		{Source{Text: "-ja4:t13d*"}, false},
		{Source{Text: "ja4:t13d* ja4s:a"}, false},
		{Source{Text: "ja4:t13d* port:443"}, false},
		{Source{Text: "port:443"}, false},
		{Source{Exclude: match(ja4s)}, false},
		{Source{Include: match(ja4s, ja4s)}, false},
		{Source{Include: append(match(ja4s), match(ja4s)...)}, false},
		{Source{Text: "ja4:a", Include: match(ja4s)}, false},
		{Source{}, false},
	} {
		f, err := Compile(tc.src)
		if err != nil {
			t.Fatal(err)
		}
		if _, got := f.Prints(); got != tc.want {
			t.Errorf("%s: %v, want %v", f, got, tc.want)
		}
	}
}
