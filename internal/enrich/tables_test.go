package enrich

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/whorl-net/whorl/internal/pattern"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

// compiled makes tables of one YAML text.
func compiled(t testing.TB, text string, bad bool) *Tables {
	t.Helper()
	table, err := ParseTable("test.yaml", []byte("version: 1\nentries:\n"+text), bad)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := Compile(table.Entries)
	if err != nil {
		t.Fatal(err)
	}
	return tables
}

// seen makes a connection of "type value" pairs, oldest first; packet numbers
// count the values.
func seen(pairs ...string) *tracker.Snapshot {
	s := new(tracker.Snapshot)
	for i, p := range pairs {
		name, value, _ := strings.Cut(p, " ")
		typ, err := ja4.ParseType(name)
		if err != nil {
			panic(err)
		}
		h := s.History(typ)
		if h == nil {
			s.Fingerprints = append(s.Fingerprints, tracker.History{Type: typ})
			h = &s.Fingerprints[len(s.Fingerprints)-1]
		}
		h.TotalCount++
		h.Events = append(h.Events, tracker.FingerprintEvent{Value: value, SeenAt: int64(1000 + i), PacketNum: uint64(i + 1), Probe: "edge1"})
	}
	return s
}

const (
	chromium = "t13d1516h2_8daaf6152771_02713d6af862"
	icedid   = "ge11cn020000_9ed1ff1f7b03_cd8dafe26982"
	agent    = "t13d190900_9dc949149365_97f8aa674fd9"
	answer   = "t130200_1301_a56c5b993250"
)

const kinds = `
- {id: exact, app: Exact, match: {ja4: ` + chromium + `}}
- {id: exact-sure, app: Sure, confidence: 90, match: {ja4: ` + chromium + `}}
- {id: prefix, app: Prefix, confidence: 99, match: {ja4: t13d1516h2_8daa*}}
- {id: parts, app: Parts, confidence: 100, match: {ja4: t13d1516h2_*_02713d6af862}}
- {id: pair, app: Pair, confidence: 40, match: {ja4: [xxx_*_y, t13d*], ja4s: ` + answer + `}}
- {id: bad-parts, app: Malware, bad: true, confidence: 40, match: {ja4: "*_8daaf6152771_*"}}
- {id: published, app: IcedID, match: {ja4h: ` + icedid + `}}
- {id: doubtful, app: Doubtful, confidence: 39, match: {ja4: t13d19*}}
- {id: three, note: all three, bad: true, match: {ja4: t13d*, ja4s: ` + answer + `, ja4t: 1024_*}}
`

// Best first: what condemns, combinations, whole values, prefixes, other
// patterns, then the surer ones; the application is that of the best that names
// one.
func TestMatch(t *testing.T) {
	tables := compiled(t, kinds, false)
	for _, tc := range []struct {
		name string
		s    *tracker.Snapshot
		want string // entries, in order
		app  string
		bad  bool
	}{
		{name: "nothing", s: seen()},
		{name: "unknown", s: seen("ja4 t13i1516h2_aaaaaaaaaaaa_02713d6af862", "ja4x "+chromium)},
		{name: "one value", s: seen("ja4 " + chromium), want: "bad-parts exact-sure exact prefix parts", app: "Malware", bad: true},
		{name: "a combination", s: seen("ja4 t13d0000h2_000000000000_000000000000", "ja4s "+answer), want: "pair", app: "Pair"},
		{name: "its other alternative, the other way around", s: seen("ja4s "+answer, "ja4 xxx_a_y"), want: "pair", app: "Pair"},
		{name: "too little to say so", s: seen("ja4 t13d190000_a_b"), want: "doubtful"},
		{name: "half a combination", s: seen("ja4s " + answer)},
		{name: "two thirds of a combination", s: seen("ja4s "+answer, "ja4t 1024_2_1460_00")},
		{name: "three parts", s: seen("ja4t 1024_2_1460_00", "ja4s "+answer, "ja4 t13d0000h2_000000000000_000000000000"),
			want: "three pair", app: "Pair", bad: true},
		{name: "an older value", s: seen("ja4 "+chromium, "ja4 t12d_b_c", "ja4s t120300_c030_5e2616a54c73"),
			want: "bad-parts exact-sure exact prefix parts", app: "Malware", bad: true},
		{name: "published without cookie parts", s: seen("ja4h " + icedid + "_000000000000"), want: "published", app: "IcedID"},
		{name: "a longer part", s: seen("ja4h " + icedid + "0_000000000000")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tables.Apply(tc.s)
			var got []string
			for _, m := range tc.s.TableMatches {
				got = append(got, m.Entry)
			}
			if strings.Join(got, " ") != tc.want || tc.s.IdentifiedApp != tc.app || tc.s.KnownBad != tc.bad {
				t.Errorf("entries %v, app %q, bad %v; want [%s], %q, %v", got, tc.s.IdentifiedApp, tc.s.KnownBad, tc.want, tc.app, tc.bad)
			}
		})
	}
}

// The evidence of a match is the oldest event of each part, in the order of
// types, with its packet and probe.
func TestEvidence(t *testing.T) {
	s := seen("ja4s "+answer, "ja4 t12d", "ja4 t13d0000h2_0_0", "ja4 t13d18", "ja4s x", "ja4s "+answer)
	got := compiled(t, kinds, false).Match(s, nil)
	want := []tracker.TableMatch{{App: "Pair", Confidence: 40, Entry: "pair", Source: "test.yaml", Evidence: []tracker.Evidence{
		{Type: ja4.TypeJA4, Value: "t13d0000h2_0_0", PacketNum: 3, Probe: "edge1", SeenAt: 1002},
		{Type: ja4.TypeJA4S, Value: answer, PacketNum: 1, Probe: "edge1", SeenAt: 1000},
	}}}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Of more entries than a connection can carry the best are kept, whatever the
// order in which its fingerprints came.
func TestBestAreKept(t *testing.T) {
	var text strings.Builder
	for i := range 60 {
		fmt.Fprintf(&text, "- {id: e%02d, app: A%d, confidence: %d, bad: %v, match: {ja4t: 1_%d_1460_00}}\n", i, i, 1+i, i == 5, i)
	}
	tables := compiled(t, text.String(), false)
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		var pairs []string
		for _, i := range r.Perm(60) {
			pairs = append(pairs, fmt.Sprintf("ja4t 1_%d_1460_00", i))
		}
		got := tables.Match(seen(pairs...), nil)
		if len(got) != MaxMatches || got[0].Entry != "e05" || got[1].Entry != "e59" || got[31].Entry != "e29" {
			t.Fatalf("%d matches: %v %v … %v", len(got), got[0].Entry, got[1].Entry, got[len(got)-1].Entry)
		}
	}
}

// An entry that matches in several ways is one match, the best of them.
func TestOneMatchPerEntry(t *testing.T) {
	tables := compiled(t, `
- {id: other, app: B, confidence: 40, match: {ja4: `+agent+`}}
- {id: many, app: A, match: {ja4: [t13d1516h2_8daa*, "`+chromium+`", `+agent+`]}}
`, false)
	got := tables.Match(seen("ja4 t13d1516h2_8daa_b", "ja4 "+chromium, "ja4 "+agent), nil)
	if len(got) != 2 || got[0].Entry != "many" || got[0].Evidence[0].Value != chromium || got[1].Entry != "other" {
		t.Errorf("got %+v", got)
	}
}

// Fingerprints one by one say the same as together, and a value alone says what
// it is known for.
func TestHitsAndValue(t *testing.T) {
	tables := compiled(t, kinds, false)
	var got []string
	for _, h := range tables.Hits(ja4.TypeJA4S, answer, nil) {
		got = append(got, fmt.Sprintf("%s/%d", h.Entry.ID, h.Part))
	}
	slices.Sort(got)
	if strings.Join(got, " ") != "pair/1 three/1" {
		t.Errorf("hits %v", got)
	}
	if hits := tables.Hits(ja4.TypeJA4X, answer, nil); hits != nil {
		t.Errorf("hits of a type without entries: %v", hits)
	}
	for _, tc := range []struct {
		typ   ja4.Type
		value string
		app   string
		bad   bool
	}{
		{ja4.TypeJA4, chromium, "Malware", true}, {ja4.TypeJA4, "t13d1516h2_8daa_c", "Prefix", false},
		{ja4.TypeJA4S, answer, "", false}, {ja4.TypeJA4H, icedid + "_a", "IcedID", false}, {ja4.TypeJA4X, "a", "", false}, {0, "", "", false}, {99, "a", "", false},
	} {
		if app, bad := tables.Value(tc.typ, tc.value); app != tc.app || bad != tc.bad {
			t.Errorf("%v %s: %q, %v; want %q, %v", tc.typ, tc.value, app, bad, tc.app, tc.bad)
		}
	}
	var none *Tables
	if app, bad := none.Value(ja4.TypeJA4, chromium); app != "" || bad || none.Match(seen("ja4 "+chromium), nil) != nil || none.Hits(ja4.TypeJA4, chromium, nil) != nil {
		t.Error("nil tables know something")
	}
}

// reference is Match without an index: every entry against every event.
func reference(entries []*Entry, s *tracker.Snapshot) (ids []string) {
	type found struct {
		e    *Entry
		kind kind
		typ  uint8
	}
	var all []found
	for _, e := range entries {
		f := found{e: e, typ: 255}
		matched := 0
		for _, p := range e.Parts {
			h := s.History(p.Type)
			hit := false
			for i := range p.Patterns {
				x := &p.Patterns[i]
				for k := 0; h != nil && k < len(h.Events); k++ {
					if x.Match(h.Events[k].Value) {
						hit = true
						f.kind = max(f.kind, kindOf(e, x))
					}
				}
			}
			if hit {
				matched++
			}
			f.typ = min(f.typ, typeRank[p.Type])
		}
		if matched == len(e.Parts) {
			all = append(all, f)
		}
	}
	slices.SortFunc(all, func(a, b found) int {
		if a.e.Bad != b.e.Bad {
			if a.e.Bad {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(b.kind, a.kind), cmp.Compare(b.e.Confidence, a.e.Confidence), cmp.Compare(a.typ, b.typ), cmp.Compare(a.e.ID, b.e.ID))
	})
	for _, f := range all[:min(len(all), MaxMatches)] {
		ids = append(ids, f.e.ID)
	}
	return ids
}

// Tables say what looking at every entry says.
func TestMatchIsTheReference(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	types := []ja4.Type{ja4.TypeJA4, ja4.TypeJA4S, ja4.TypeJA4T, ja4.TypeJA4X}
	part := func() string { return []string{"aaaa", "bbbb", "cccc", "aabb"}[r.IntN(4)] }
	text := func() string {
		parts := []string{part(), part(), part()}
		stars := r.IntN(3)
		for range stars {
			parts[r.IntN(3)] = "*"
		}
		switch {
		case r.IntN(4) == 0:
			parts[2] = part()[:1+r.IntN(3)] + "*"
		case r.IntN(6) == 0:
			parts = []string{part() + "*"}
		}
		return strings.Join(parts, "_")
	}
	matches := 0
	for range 60 {
		var entries []*Entry
		for i := range 1 + r.IntN(40) {
			e := &Entry{ID: fmt.Sprintf("e%02d", i), Source: "x", App: "A", Bad: r.IntN(4) == 0, Confidence: uint8(1 + r.IntN(3))}
			for _, k := range r.Perm(len(types))[:1+r.IntN(3)] {
				p := Part{Type: types[k]}
				for range 1 + r.IntN(3) {
					x, err := parsePatternLoosely(text())
					if err != nil {
						t.Fatal(err)
					}
					p.Patterns = append(p.Patterns, x)
				}
				e.Parts = append(e.Parts, p)
			}
			slices.SortFunc(e.Parts, func(a, b Part) int { return int(a.Type) - int(b.Type) })
			entries = append(entries, e)
		}
		tables, err := Compile(entries)
		if err != nil {
			t.Fatal(err)
		}
		var reused []tracker.TableMatch
		for range 50 {
			var pairs []string
			for range r.IntN(8) {
				pairs = append(pairs, types[r.IntN(4)].String()+" "+part()+"_"+part()+"_"+part())
			}
			s := seen(pairs...)
			reused = tables.Match(s, reused[:0])
			var got []string
			for _, m := range reused {
				got = append(got, m.Entry)
			}
			if want := reference(entries, s); !slices.Equal(got, want) {
				for _, e := range entries {
					t.Logf("%s bad %v confidence %d: %s", e.ID, e.Bad, e.Confidence, e.signature())
				}
				t.Fatalf("%v: got %v, want %v", pairs, got, want)
			}
			matches += len(got)
		}
	}
	if matches < 1000 {
		t.Errorf("%d matches: the test asks too little", matches)
	}
}

// What cannot be looked up in bounded time is refused.
func TestCompileRefuses(t *testing.T) {
	entries := func(n int, values func(i int) string) (es []*Entry) {
		for i := range n {
			x, err := parsePatternLoosely(values(i))
			if err != nil {
				t.Fatal(err)
			}
			es = append(es, &Entry{ID: fmt.Sprintf("e%05d", i), Source: "big.yaml", Line: i + 1, App: "A", Confidence: 1, Parts: []Part{{ja4.TypeJA4, []pattern.Pattern{x}}}})
		}
		return es
	}
	for _, tc := range []struct {
		name    string
		entries []*Entry
		want    string
	}{
		{"as many as fit", entries(MaxEntries, func(i int) string { return fmt.Sprint("v", i) }), ""},
		{"too many entries", entries(MaxEntries+1, func(i int) string { return fmt.Sprint("v", i) }), "big.yaml:65537: the tables have 65537 entries, at most 65536"},
		{"patterns that fit", entries(MaxPatterns, func(i int) string { return fmt.Sprintf("p%d_*_x", i) }), ""},
		{"too many patterns", entries(MaxPatterns+1, func(i int) string { return fmt.Sprintf("p%d_*_x", i) }), "big.yaml:4097: the tables have more than 4096 patterns with a *"},
		{"one value everywhere", entries(MaxShared+1, func(int) string { return "v" }), `big.yaml:65: entry e00064: "v" is in more than 64 entries`},
		{"one pattern everywhere", entries(MaxShared+1, func(int) string { return "vvvv_*" }), `big.yaml:65: entry e00064: "vvvv_*" is in more than 64 entries`},
		{"tails that fit", entries(MaxAlike, func(i int) string { return fmt.Sprintf("*_t%d*", i) }), ""},
		{"tails with different beginnings", entries(3*MaxAlike, func(i int) string { return fmt.Sprintf("%03dx%d*", i, i) }), ""},
		{"too many tails with one beginning", entries(MaxAlike+1, func(i int) string { return fmt.Sprintf("tttt%03d*", i) }), `big.yaml:65: entry e00064: "tttt064*" is one of more than 64 patterns without a whole part that begin with "tttt"`},
		{"too many tails", entries(MaxAlike+1, func(i int) string { return fmt.Sprintf("*_t%03d*", i) }), `big.yaml:65: entry e00064: "*_t064*" is one of more than 64 patterns without a whole part`},
		{"too many alike", entries(MaxAlike+1, func(i int) string { return fmt.Sprintf("same_t%03d*", i) }), `big.yaml:65: entry e00064: "same_t064*" is one of more than 64 patterns with "same" and no rarer whole part`},
	} {
		_, err := Compile(tc.entries)
		if tc.want == "" && err == nil {
			continue
		}
		if err == nil || err.Error() != tc.want {
			t.Errorf("%s: got %v, want %s", tc.name, err, tc.want)
		}
	}
}

// The hash is that of the content, not of the moment.
func TestHash(t *testing.T) {
	a, b := compiled(t, kinds, false), compiled(t, kinds, false)
	c := compiled(t, strings.Replace(kinds, "confidence: 90", "confidence: 91", 1), false)
	if a.Hash() != b.Hash() || a.Hash() == c.Hash() || len(a.Hash()) != 16 {
		t.Errorf("hashes %s, %s, %s", a.Hash(), b.Hash(), c.Hash())
	}
	if apps, bad := a.Count(); apps != 7 || bad != 2 {
		t.Errorf("%d and %d entries, want 7 and 2", apps, bad)
	}
}

// A match into memory that was used before does not allocate, combinations
// included.
func TestMatchDoesNotAllocate(t *testing.T) {
	tables := compiled(t, kinds, false)
	s := seen("ja4 "+chromium, "ja4s "+answer, "ja4t 1024_2_1460_00", "ja4h "+icedid+"_a")
	tables.Apply(s)
	if len(s.TableMatches) != 8 {
		t.Fatalf("%d matches, want 8", len(s.TableMatches))
	}
	if n := testing.AllocsPerRun(200, func() { tables.Apply(s) }); n > 0 && !raceEnabled {
		t.Errorf("%v allocations", n)
	}
}
