package tracker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
)

// What the index of fingerprints says is what the histories say.
func checkPrints(t testing.TB, s *shard) {
	t.Helper()
	x := &s.values.prints
	single, several := map[uint32]uint32{}, map[string]bool{}
	for slot := uint32(1); slot < s.fresh; slot++ {
		if s.hot(slot).pair == freePair {
			continue
		}
		for i := s.meta(slot).cells; i != 0; i = s.cells.at(i).next {
			switch c := s.cells.at(i); {
			case !isPrint(c.typ):
			case c.tag == tagEvent:
				single[valueOf(c)]++
			case c.tag == tagHistory:
				several[fmt.Sprint(c.typ, " ", slot)] = true
			}
		}
	}
	var live, homeless [ja4.NumTypes]int
	used := 0
	for _, id := range s.values.heads {
		for ; id != 0; id = s.cells.at(id).next {
			c := s.cells.at(id)
			if !isPrint(c.typ) {
				if place := uint32(c.y); place != 0 {
					t.Fatalf("shard %d: value %d of kind %#x has entry %d", s.id, id, c.typ, place)
				}
				continue
			}
			live[c.typ]++
			place := uint32(c.y)
			if place == 0 {
				homeless[c.typ]++
				continue
			}
			used++
			if e := x.at(place); e.id != id || e.single != single[id] || x.chunks[place/chunkPrints].types[place%chunkPrints] != c.typ {
				t.Fatalf("shard %d: value %d has entry %d, %+v; want it for %d connections", s.id, id, place, e, single[id])
			}
		}
	}
	if used != x.used {
		t.Fatalf("shard %d: %d values have entries, counted %d", s.id, used, x.used)
	}
	bits := 0
	for typ := range x.types {
		if p := &x.types[typ]; p.live != live[typ] || p.homeless != homeless[typ] {
			t.Fatalf("shard %d type %d: %d values, %d homeless, counted %d, %d", s.id, typ, live[typ], homeless[typ], p.live, p.homeless)
		}
		for slot := range 64 * len(x.types[typ].several) {
			if x.types[typ].several[slot/64]>>(slot%64)&1 == 0 {
				continue
			}
			bits++
			if !several[fmt.Sprint(typ, " ", slot)] {
				t.Fatalf("shard %d type %d: slot %d has not several values", s.id, typ, slot)
			}
		}
	}
	if bits != len(several) {
		t.Fatalf("shard %d: %d histories of several values, counted %d", s.id, len(several), bits)
	}
}

// shows is what Row.Shows says, of a copy.
func shows(s *Snapshot, p *PrintSet) bool {
	for _, h := range s.Fingerprints {
		for _, e := range h.Events {
			if (p.Type == 0 || h.Type == p.Type) && p.has(e.Value) {
				return true
			}
		}
	}
	return false
}

// walkAll returns copies of all connections.
func walkAll(tr *Tracker, d Detail) (all []*Snapshot) {
	var page []Snapshot
	var at Cursor
	for more := true; more; {
		page, at, more = tr.Page(at, d, 100, page)
		for i := range page {
			all = append(all, page[i].Clone())
		}
	}
	return all
}

// randomPrints returns sets of values that are there, nearly are, or are not.
func randomPrints(r *rand.Rand, all []*Snapshot) PrintSet {
	var p PrintSet
	value := func() string {
		if len(all) == 0 || r.IntN(10) == 0 {
			return "nowhere"
		}
		for range 20 {
			if s := all[r.IntN(len(all))]; len(s.Fingerprints) > 0 {
				h := &s.Fingerprints[r.IntN(len(s.Fingerprints))]
				p.Type = h.Type
				return h.Events[r.IntN(len(h.Events))].Value
			}
		}
		return "nothing"
	}
	for range r.IntN(3) {
		p.Values = append(p.Values, value())
	}
	if start := value(); len(p.Values) == 0 || r.IntN(2) == 0 {
		start = start[:r.IntN(len(start)+1)]
		p.Match = func(v string) bool { return strings.HasPrefix(v, start) }
	}
	if r.IntN(4) == 0 {
		p.Type = 0
	}
	return p
}

// checkSearch compares all ways to ask for fingerprints with a look at copies of
// all connections.
func checkSearch(t *testing.T, r *rand.Rand, tr *Tracker) (matched int) {
	t.Helper()
	all := walkAll(tr, Histories)
	for range 6 {
		p := randomPrints(r, all)
		least := uint64(r.IntN(4))
		want := map[UID]*Snapshot{}
		prints := uint64(0)
		for _, s := range all {
			if shows(s, &p) {
				prints++
				if s.PacketCount >= least {
					want[s.UID] = s
				}
			}
		}
		matched += len(want)
		for _, slice := range []int{1, 3, sumSlice} {
			c, ok := printCount{f: foundPrints{set: &p}}, p.Type != 0
			for _, s := range tr.shards {
				ok = ok && c.shard(s, slice)
			}
			if ok && c.n != prints {
				t.Fatalf("%v %q: counts %d, want %d", p.Type, p.Values, c.n, prints)
			}
		}
		if n, ok := tr.CountPrints(p); ok && n != prints {
			t.Fatalf("%v %q: counts %d, want %d", p.Type, p.Values, n, prints)
		}
		q := Query{
			Prints: []PrintSet{{Values: []string{"x"}}, p}, Cost: r.IntN(3) * 5000,
			Match: func(r *Row) bool { return r.PacketCount() >= least && r.Shows(1) },
		}
		if r.IntN(2) == 0 {
			q.Needs = []int{1}
		}
		got := map[UID]bool{}
		search := tr.Search(q, Cursor{})
		var page []Snapshot
		for more := true; more; {
			page, more = search.Page(Full, 1+r.IntN(20), page)
			for i := range page {
				s := &page[i]
				if w := want[s.UID]; w == nil || got[s.UID] || s.ID() != w.ID() || s.PacketCount != w.PacketCount {
					t.Fatalf("%v %q: page has %+v, want %+v once", p.Type, p.Values, s, w)
				}
				got[s.UID] = true
			}
			if r.IntN(3) == 0 { // another that goes on there
				search = tr.Search(q, search.Cursor())
			}
		}
		if len(got) != len(want) {
			t.Fatalf("%v %q: pages have %d connections, want %d", p.Type, p.Values, len(got), len(want))
		}
		n, rows := 0, tr.Search(q, Cursor{})
		for more := true; more; {
			more = rows.Each(func(*Row) { n++ })
		}
		if n != len(want) {
			t.Fatalf("%v %q: %d rows, want %d", p.Type, p.Values, n, len(want))
		}
	}
	return matched
}

// However a table came to be as it is, by overflowing histories, evictions for
// want of memory, flushes, or from a checkpoint, a search by fingerprint finds what
// a look at each connection does.
func TestSearchIsALook(t *testing.T) {
	matched := 0
	for seed := range uint64(sequences(t, 100)) {
		r := newTraffic(seed)
		cfg := tight(r)
		steps := stepsOf(r, 10+r.IntN(60))
		rig := newRig(t, cfg)
		s := saved{shards: make([][]byte, cfg.Shards)}
		for i := range steps {
			submitStep(t, rig.Tracker, &steps[i])
		}
		settle(t, rig.Tracker)
		rig.checkInvariants()
		x := rand.New(rand.NewPCG(seed, 3))
		matched += checkSearch(t, x, rig.Tracker)
		s.head = rig.SaveHead(nil)
		for i := range s.shards {
			s.shards[i] = image(t, rig.Tracker, i)
		}
		again, _ := restore(t, cfg, &s)
		again.checkInvariants()
		checkSearch(t, x, again.Tracker)
		rig.stop()
		again.stop()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if matched == 0 {
		t.Error("nothing ever matched")
	}
}

// Where there are more values than the index has room for, nothing is lost: a
// count says that it cannot tell, a walk can. When they are gone there is room
// again.
func TestPrintIndexIsBounded(t *testing.T) {
	r := newRig(t, Config{Shards: 1, MaxConnections: 1000, MaxMemoryBytes: 1 << 20})
	most := r.shards[0].cells.max / cellsPerPrint
	if most*4 > r.shards[0].cells.max {
		t.Fatalf("%d values of %d cells", most, r.shards[0].cells.max)
	}
	n := 0
	for range (most + 500) / 500 {
		b := new(flow.Batch)
		f := b.AddFlow(udp(n % 900))
		b.AddPacket(f, false, at(0), 100, 0)
		for range 500 {
			b.Fingerprints = append(b.Fingerprints, flow.Fingerprint{Flow: f, Row: 1, Event: ja4.Event{Type: ja4.TypeJA4L, Value: fmt.Sprint("v", n)}})
			n++
		}
		r.submit(at(0), Origin{}, b)
	}
	r.checkInvariants()
	x := &r.shards[0].values.prints
	if x.used != most || x.types[ja4.TypeJA4L].homeless == 0 {
		t.Fatalf("%d values have an entry, %d have none; want %d", x.used, x.types[ja4.TypeJA4L].homeless, most)
	}
	newest := PrintSet{Type: ja4.TypeJA4L, Values: []string{fmt.Sprint("v", n-1)}}
	if n, ok := r.CountPrints(newest); ok {
		t.Errorf("counts %d without all values", n)
	}
	got := 0
	for s, more := r.Search(Query{Prints: []PrintSet{newest}, Needs: []int{0}, Match: func(r *Row) bool { return r.Shows(0) }}, Cursor{}), true; more; {
		more = s.Each(func(*Row) { got++ })
	}
	if got != 1 {
		t.Errorf("finds %d, want 1", got)
	}
	if _, ok := r.CountPrints(PrintSet{Type: ja4.TypeJA4, Values: []string{"v"}}); !ok {
		t.Error("another type cannot be counted")
	}
	before := x.bytes()
	r.flush(at(0), FlushRequest{})
	r.submit(at(0), Origin{}, printsOf(udp(1), 0, ja4.Event{Type: ja4.TypeJA4L, Value: "again"}))
	r.checkInvariants()
	if n, ok := r.CountPrints(PrintSet{Type: ja4.TypeJA4L, Values: []string{"again"}}); n != 1 || !ok || x.bytes() > before {
		t.Errorf("then counts %d, %v, in %d bytes after %d", n, ok, x.bytes(), before)
	}
}

// A connection that is there all the while counts exactly once, with one value or
// with several or on its way from one to the other, whatever comes and goes beside
// it; a walk has it once.
func TestCountPrintsIsExactDuringIngest(t *testing.T) {
	r := newRig(t, Config{Shards: 2, Workers: 2, MaxConnections: 20_000, OnEvict: func(int, *Eviction) {}})
	const stay = 400
	print := func(b *flow.Batch, tu flow.Tuple, value string) {
		f := b.AddFlow(tu)
		b.AddPacket(f, false, at(0), 100, 0)
		b.Fingerprints = append(b.Fingerprints, flow.Fingerprint{Flow: f, Row: uint32(b.Rows()), Event: ja4.Event{Type: ja4.TypeJA4, Value: value}})
	}
	var b flow.Batch
	for i := range stay {
		print(&b, udp(i), fmt.Sprint("yes", i%50))
	}
	r.submit(at(0), Origin{}, &b)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { // second values for those that stay, and others that come and go
		x := rand.New(rand.NewPCG(1, 1))
		for n := 0; ctx.Err() == nil; n++ {
			var b flow.Batch
			for i := range 20 {
				print(&b, udp(x.IntN(stay)), fmt.Sprint(x.IntN(40), "no"))
				print(&b, udp(1<<20+n%500*20+i), fmt.Sprint("no", n))
			}
			r.submit(at(0), Origin{}, &b)
			if n%40 == 0 {
				r.flush(at(0), FlushRequest{Match: func(s *Snapshot) bool { return s.SrcPort >= 1000 }})
			}
		}
	})
	p := PrintSet{Type: ja4.TypeJA4, Match: func(v string) bool { return strings.HasPrefix(v, "yes") }}
	for end := time.Now().Add(400 * time.Millisecond); time.Now().Before(end); {
		for _, slice := range []int{1, 7, sumSlice} {
			c := printCount{f: foundPrints{set: &p}}
			for _, s := range r.shards {
				if !c.shard(s, slice) {
					t.Fatal("cannot tell")
				}
			}
			if c.n != stay {
				t.Errorf("slices of %d: counts %d, want %d", slice, c.n, stay)
			}
		}
		n := 0
		for s, more := r.Search(Query{Prints: []PrintSet{p}, Needs: []int{0}, Match: func(r *Row) bool { return r.Shows(0) }}, Cursor{}), true; more; {
			more = s.Each(func(*Row) { n++ })
		}
		if n != stay || t.Failed() {
			t.Errorf("a walk has %d, want %d", n, stay)
			break
		}
	}
	stop()
	wg.Wait()
	r.checkInvariants()
}

// Between two slices of a sum connections may get a second value, and entries
// another value.
func TestCountPrintsBetweenSlices(t *testing.T) {
	r := newRig(t, Config{Shards: 1})
	print := func(i int, value string) {
		r.submit(at(0), Origin{}, printsOf(udp(i), 0, ja4.Event{Type: ja4.TypeJA4, Value: value}))
	}
	const n = 200
	for i := range n {
		print(i, fmt.Sprint("yes", i))
	}
	s := r.shards[0]
	c := printCount{f: foundPrints{set: &PrintSet{Type: ja4.TypeJA4, Match: func(v string) bool { return v[:3] == "yes" }}}}
	c.f.find(s, &c.texts)
	word, more := c.sum(s, 0, 1)
	if !more || c.n == 0 || c.n == n {
		t.Fatalf("the first slice has %d of %d", c.n, n)
	}
	for i := range n - 1 { // in words that are summed up, and in others
		print(i, "no")
	}
	// The last one leaves, and its entry is taken by what does not match.
	kind, value := uint8(ja4.TypeJA4), fmt.Sprint("yes", n-1)
	last := uint32(s.cells.at(s.values.find(kind, value, s.values.hash(kind, value))).y)
	gone, _ := keyOf(udp(n - 1))
	r.flush(at(0), FlushRequest{Match: func(s *Snapshot) bool { return s.Key == gone }})
	print(n, "never")
	if e := s.values.prints.at(last); e.single != 1 {
		t.Fatalf("entry %d is not taken: %+v", last, e)
	}
	for more {
		word, more = c.sum(s, word, 1)
	}
	c.countSeveral(s)
	if c.n != n-1 {
		t.Errorf("counts %d, want %d", c.n, n-1)
	}
	r.checkInvariants()
}

// A Row says what a Snapshot says.
func TestRowIsTheSnapshot(t *testing.T) {
	looked := 0
	for seed := range uint64(sequences(t, 40)) {
		r := newTraffic(seed)
		cfg := tight(r)
		rig := newRig(t, cfg)
		for _, s := range stepsOf(r, 40) {
			submitStep(t, rig.Tracker, &s)
		}
		settle(t, rig.Tracker)
		all := walkAll(rig.Tracker, Full)
		i := 0
		ids := map[PrintID]string{}
		search := rig.Search(Query{}, Cursor{})
		for more := true; more; {
			more = search.Each(func(r *Row) {
				s := all[i]
				i++
				looked++
				if *r.Src() != s.Src || *r.Dst() != s.Dst || r.SrcPort() != s.SrcPort || r.DstPort() != s.DstPort ||
					r.Protocol() != s.Protocol || r.Network() != s.Network || r.TCPState() != s.TCPState ||
					r.FirstSeen() != s.FirstSeen || r.LastSeen() != s.LastSeen ||
					r.PacketCount() != s.PacketCount || r.ByteCount() != s.ByteCount {
					t.Errorf("a row of %+v says otherwise", s)
				}
				if got := string(r.ServerName(nil)); got != s.ServerName {
					t.Errorf("server name is %q, want %q", got, s.ServerName)
				}
				for typ := ja4.TypeJA4; typ < ja4.NumTypes; typ++ {
					want := s.LatestFingerprint(typ)
					if got := string(r.Newest(typ, nil)); got != want {
						t.Errorf("newest %v is %q, want %q", typ, got, want)
					}
					id, ok := r.NewestID(typ)
					if !ok {
						continue
					}
					if was, seen := ids[id]; seen && was != want || (id == PrintID{}) != (want == "") {
						t.Errorf("%v is %q and %q", id, was, want)
					}
					ids[id] = want
				}
			})
		}
		if i != len(all) || t.Failed() {
			t.Fatalf("seed %d: %d rows, %d connections", seed, i, len(all))
		}
		rig.stop()
	}
	if looked == 0 {
		t.Error("no rows")
	}
}

// What leaves between finding the values and adding them up is passed by.
func TestCountPassesByWhatLeft(t *testing.T) {
	r := newRig(t, Config{Shards: 1})
	const n = 200
	for i := range n {
		r.submit(at(0), Origin{}, printsOf(udp(i), 0, ja4.Event{Type: ja4.TypeJA4, Value: fmt.Sprint("yes", i)}))
	}
	s := r.shards[0]
	c := printCount{f: foundPrints{set: &PrintSet{Type: ja4.TypeJA4, Match: func(v string) bool { return strings.HasPrefix(v, "yes") }}}}
	c.f.find(s, &c.texts)
	left := map[flow.Key]bool{}
	for i := range n / 2 {
		k, _ := keyOf(udp(i))
		left[k] = true
	}
	r.flush(at(0), FlushRequest{Match: func(s *Snapshot) bool { return left[s.Key] }})
	for word, more := 0, true; more; {
		word, more = c.sum(s, word, sumSlice)
	}
	c.countSeveral(s)
	if c.n != n/2 {
		t.Errorf("counts %d, want the %d that are left", c.n, n/2)
	}
}

// Values that live long are counted however many came and went after them.
func TestCountAfterManyBirths(t *testing.T) {
	r := newRig(t, Config{Shards: 1})
	for i := range 100 {
		r.submit(at(0), Origin{}, printsOf(udp(i), 0, ja4.Event{Type: ja4.TypeJA4, Value: fmt.Sprint("yes", i%3)}))
	}
	r.shards[0].values.prints.born += 1 << 33
	n, ok := r.CountPrints(PrintSet{Type: ja4.TypeJA4, Values: []string{"yes0", "yes1", "yes2"}})
	if n != 100 || !ok {
		t.Errorf("counts %d (%v), want 100", n, ok)
	}
}
