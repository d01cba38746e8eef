package enrich

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

// write makes a file of the operator's.
func write(t testing.TB, path, entries string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte("version: 1\n"+entries), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Every entry of the built-in table is found by its values, and what it says
// follows the rules: no ja4s alone, a name with everything, and without JA4+
// nothing but JA4.
func TestBuiltin(t *testing.T) {
	e, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range e.Tables().Entries() {
		if entry.App == "" || entry.Source != "builtin" {
			t.Errorf("%s: app %q, source %q", entry.ID, entry.App, entry.Source)
		}
		s := new(tracker.Snapshot)
		for _, p := range entry.Parts {
			value := strings.ReplaceAll(p.Patterns[len(p.Patterns)-1].String(), "*", "000000000000")
			s.Fingerprints = append(s.Fingerprints, tracker.History{Type: p.Type, Events: []tracker.FingerprintEvent{{Value: value}}})
		}
		e.Snapshot(s)
		found := false
		for _, m := range s.TableMatches {
			found = found || m.Entry == entry.ID
		}
		if !found || s.KnownBad != entry.Bad || (s.IdentifiedApp == "") != (entry.Confidence < MinIdentify) {
			t.Errorf("%s: app %q, bad %v, matches %+v", entry.ID, s.IdentifiedApp, s.KnownBad, s.TableMatches)
		}
	}
	free, err := New(Config{JA4Only: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range free.Tables().Entries() {
		for _, p := range entry.Parts {
			if p.Type != ja4.TypeJA4 {
				t.Errorf("%s needs %v", entry.ID, p.Type)
			}
		}
	}
	apps, bad := e.Tables().Count()
	freeApps, freeBad := free.Tables().Count()
	if apps < 35 || bad < 15 || freeApps >= apps || freeBad >= bad || freeBad == 0 {
		t.Errorf("%d + %d entries, with JA4 alone %d + %d", apps, bad, freeApps, freeBad)
	}
}

// What is published as common to good and bad programs condemns together only.
func TestBuiltinPairs(t *testing.T) {
	e, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		s   *tracker.Snapshot
		app string
		bad bool
	}{
		{seen("ja4 " + agent), "GoLang", false},
		{seen("ja4s " + answer), "", false},
		{seen("ja4 "+agent, "ja4s "+answer), "Sliver Agent", true},
		{seen("ja4 t13d1516h2_8daaf6152771_02713d6af862", "ja4t 64240_2-1-3-1-1-4_1460_8", "ja4s "+answer), "Chromium Browser", false},
		{seen("ja4t 64240_2-1-3-1-1-4_1460_8"), "Windows 10", false},
		{seen("ja4h " + icedid + "_000000000000"), "IcedID Dropper", true},
		{seen("ja4 t12d190800_d83cc789557e_7af1ed941c26"), "", false},
		{seen("ja4t 64240_2-4-8-1-3_1460_7"), "", false},
	} {
		if e.Snapshot(tc.s); tc.s.IdentifiedApp != tc.app || tc.s.KnownBad != tc.bad {
			t.Errorf("%+v: app %q, bad %v; want %q, %v", tc.s.Fingerprints, tc.s.IdentifiedApp, tc.s.KnownBad, tc.app, tc.bad)
		}
	}
}

// Operator's files come on top of the built-in table, may turn entries of it
// off, and are told apart by their names.
func TestConfig(t *testing.T) {
	dir := t.TempDir()
	apps := write(t, filepath.Join(dir, "apps.yaml"), "disable: chromium-tls\nentries:\n- {id: chromium-tls, app: Ours, match: {ja4: "+chromium+"}}\n")
	bad := write(t, filepath.Join(dir, "bad.yaml"), "entries:\n- {id: x, match: {ja4t: 64240_2-1-3-1-1-4_1460_8}}\n")
	e, err := New(Config{Apps: []string{apps}, KnownBad: []string{bad}})
	if err != nil {
		t.Fatal(err)
	}
	s := seen("ja4 "+chromium, "ja4t 64240_2-1-3-1-1-4_1460_8")
	e.Snapshot(s)
	if len(s.TableMatches) != 3 || s.TableMatches[0].Source != "bad.yaml" || s.TableMatches[1].Source != "apps.yaml" || s.IdentifiedApp != "Ours" || !s.KnownBad || s.MSSValue != 1460 {
		t.Errorf("%+v", s)
	}
	if e, err = New(Config{NoBuiltin: true, Apps: []string{apps}}); err != nil || len(e.Tables().Entries()) != 1 {
		t.Errorf("without the built-in table: %v", err)
	}

	other := filepath.Join(dir, "other")
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		cfg  Config
		want string
	}{
		{Config{Apps: []string{apps, write(t, filepath.Join(other, "apps.yaml"), "entries: []")}}, filepath.Join(other, "apps.yaml") + ": has the name of " + apps},
		{Config{KnownBad: []string{write(t, filepath.Join(dir, "builtin"), "entries: []")}}, filepath.Join(dir, "builtin") + ": has the name of the built-in table"},
		{Config{KnownBad: []string{write(t, filepath.Join(dir, "off.yaml"), "disable:\n- chromium-tls\n- chromium\n")}}, filepath.Join(dir, "off.yaml") + `:4: disable: there is no built-in entry "chromium"`},
		{Config{Apps: []string{filepath.Join(dir, "none.yaml")}}, filepath.Join(dir, "none.yaml") + ": no such file or directory"},
		{Config{Apps: []string{dir}}, dir + ": is a directory"},
		{Config{Apps: make([]string, 65)}, "65 files of tables, at most 64"},
	} {
		if _, err := New(tc.cfg); err == nil || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("got %v\nwant %s", err, tc.want)
		}
	}
}

// A reload takes everything or nothing, says what is newly condemned, and is
// counted.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	path := write(t, filepath.Join(dir, "bad.yaml"), "entries:\n- {id: a, match: {ja4t: 1_2_3_4}}\n- {id: b, bad: false, app: B, match: {ja4t: 2_2_3_4}}\n")
	e, err := New(Config{NoBuiltin: true, KnownBad: []string{path}})
	if err != nil {
		t.Fatal(err)
	}
	before := e.Stats()
	if before.Apps != 1 || before.Bad != 1 || before.Reloads != 0 || before.Hash == "" {
		t.Errorf("stats %+v", before)
	}

	write(t, path, "entries:\n- {id: a, match: {ja4t: 1_2_3}}\n")
	if _, err := e.Reload(nil, nil); err == nil {
		t.Error("half a value was taken")
	}
	s := e.Stats()
	if s.Hash != before.Hash || s.Refused != 1 || s.Reason != path+`:3: ja4t: "1_2_3" is not a ja4t fingerprint: want _ at ""` {
		t.Errorf("stats %+v", s)
	}
	if _, bad := e.Tables().Value(ja4.TypeJA4T, "1_2_3_4"); !bad {
		t.Error("the old tables are gone")
	}

	// Renamed and better explained is not new; turned bad is; a second value is.
	write(t, path, "entries:\n- {id: z, note: the same, match: {ja4t: 1_2_3_4}}\n- {id: b, match: {ja4t: 2_2_3_4}}\n- {id: c, match: {ja4t: [3_2_3_4, 1_2_3_4]}}\n- {id: d, bad: false, app: D, match: {ja4t: 4_2_3_4}}\n")
	change, err := e.Reload(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, x := range change.NewBad {
		ids = append(ids, x.ID)
	}
	if strings.Join(ids, " ") != "b c" || change.New != e.Tables() || change.Old.Hash() != before.Hash {
		t.Errorf("newly bad: %v", ids)
	}
	if s := e.Stats(); s.Hash == before.Hash || s.Reloads != 1 || s.Refused != 1 || s.Reason != "" || s.Bad != 3 || s.Apps != 1 {
		t.Errorf("stats %+v", s)
	}

	// Other files, kept for the next time.
	other := write(t, filepath.Join(dir, "other.yaml"), "entries: []")
	if _, err := e.Reload(&Files{Apps: []string{other}}, nil); err != nil || len(e.Tables().Entries()) != 0 {
		t.Errorf("other files: %d entries, %v", len(e.Tables().Entries()), err)
	}
	write(t, other, "entries:\n- {id: a, app: A, match: {ja4t: 1_2_3_4}}\n")
	if change, err = e.Reload(nil, nil); err != nil || len(e.Tables().Entries()) != 1 || len(change.NewBad) != 0 {
		t.Errorf("other files again: %d entries, %v", len(e.Tables().Entries()), err)
	}
}

// While tables are swapped under load, each look-up sees those of one version,
// whole: a connection matches all the entries that belong together, or none.
func TestReloadUnderLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "bad.yaml")
	const together = 8
	version := func(n int) string {
		var b strings.Builder
		b.WriteString("entries:\n")
		for i := range together {
			fmt.Fprintf(&b, "- {id: e%d, app: v%d, match: {ja4t: %d_2_3_4, ja4: [t13d1516h2_8daaf6152771_02713d6af862]}}\n", i, n, i)
		}
		return b.String()
	}
	write(t, path, version(0))
	e, err := New(Config{KnownBad: []string{path}})
	if err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	var lookups atomic.Uint64
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			pairs := []string{"ja4 t13d1516h2_8daaf6152771_02713d6af862"}
			for i := range together {
				pairs = append(pairs, fmt.Sprintf("ja4t %d_2_3_4", i))
			}
			s := seen(pairs...)
			for !stop.Load() {
				e.Snapshot(s)
				lookups.Add(1)
				if len(s.TableMatches) != together+1 || !s.KnownBad {
					t.Errorf("%d matches, want %d", len(s.TableMatches), together+1)
					return
				}
				for _, m := range s.TableMatches[:together] {
					if m.App != s.TableMatches[0].App {
						t.Errorf("%s and %s at the same time", m.App, s.TableMatches[0].App)
						return
					}
				}
			}
		})
	}
	taken := 0
	for n := range 100 {
		if n%2 == 0 {
			write(t, path, version(n))
		} else {
			write(t, path, version(n)+"- {id: broken}\n")
		}
		if _, err := e.Reload(nil, nil); (err == nil) != (n%2 == 0) {
			t.Fatalf("reload %d: %v", n, err)
		}
		taken++
	}
	stop.Store(true)
	readers.Wait()
	if s := e.Stats(); s.Reloads != 50 || s.Refused != 50 || lookups.Load() < 1000 {
		t.Errorf("%d look-ups, stats %+v", lookups.Load(), s)
	}
}

// A connection without fingerprints costs nothing, and one with a few no
// allocation once its memory was used.
func TestSnapshotDoesNotAllocate(t *testing.T) {
	e, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	s := seen("ja4 "+agent, "ja4s "+answer, "ja4t 64240_2-1-3-1-1-4_1460_8")
	e.Snapshot(s)
	if n := testing.AllocsPerRun(100, func() {
		s.TableMatches = s.TableMatches[:0]
		e.Snapshot(s)
	}); n > 0 && !raceEnabled {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkSnapshot: one connection, as it is enriched when it leaves or is
// asked for.
func BenchmarkSnapshot(b *testing.B) {
	e, err := New(Config{})
	if err != nil {
		b.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		s    *tracker.Snapshot
	}{
		{"no fingerprints", seen()},
		{"3 unknown", seen("ja4 t13d1516h2_000000000000_02713d6af862", "ja4s t130200_1301_a56c5b99325", "ja4t 64240_2-4-8-1-3_1461_7")},
		{"browser", seen("ja4t 64240_2-1-3-1-1-4_1460_8", "ja4 "+chromium, "ja4s "+answer)},
		{"combination", seen("ja4t 64240_2-1-3-1-1-4_1460_8", "ja4 "+agent, "ja4s "+answer)},
	} {
		b.Run(tc.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				e.Snapshot(tc.s)
			}
		})
	}
}

// BenchmarkMatch: one new value, against tables of an operator's size.
func BenchmarkMatch(b *testing.B) {
	var text strings.Builder
	for i := range 50000 {
		fmt.Fprintf(&text, "- {id: e%d, app: A, match: {ja4: t13d1516h2_%012x_02713d6af862}}\n", i, i*7919)
	}
	for i := range 3000 {
		fmt.Fprintf(&text, "- {id: p%d, app: A, match: {ja4: t13d1516h2_%012x_*}}\n", i, i*104729)
	}
	for i := range MaxAlike {
		fmt.Fprintf(&text, "- {id: t%d, app: A, match: {ja4: t12d%d*}}\n", i, i)
	}
	for i := range 3000 {
		fmt.Fprintf(&text, "- {id: c%d, bad: true, match: {ja4: t13d1516h2_%012x_02713d6af862, ja4s: t1302%02d_1301_%012x}}\n", i, i*7919, i%50, i)
	}
	tables := compiled(b, text.String(), false)
	for _, tc := range []struct{ name, value string }{
		{"unknown", "t13d1516h2_ffffffffffff_02713d6af862"},
		{"exact", fmt.Sprintf("t13d1516h2_%012x_02713d6af862", 4000*7919)},
		{"pattern", fmt.Sprintf("t13d1516h2_%012x_aaaaaaaaaaaa", 2000*104729)},
		{"part of a combination", fmt.Sprintf("t13d1516h2_%012x_02713d6af862", 1000*7919)},
	} {
		s := seen("ja4 " + tc.value)
		b.Run(tc.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.TableMatches = tables.Match(s, s.TableMatches[:0])
			}
		})
	}
}
