//go:build e2e

package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-net/whorl/client"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// reloadFloor is the load, in packets/s acknowledged, that reloads must meet.
var reloadFloor = max(floorRate, scaled(0.0, 200_000))

// files are the tables and rules of a collector, which are swapped while it runs.
type files struct {
	t                 testing.TB
	apps, bad, rules  string
	version           int
	forced, forbidden map[int]bool // versions that were in force, or never may be
}

// newFiles writes version 0.
func newFiles(t testing.TB) *files {
	dir := t.TempDir()
	f := &files{
		t: t, apps: filepath.Join(dir, "apps.yaml"), bad: filepath.Join(dir, "bad.yaml"), rules: filepath.Join(dir, "rules.yaml"),
		forced: map[int]bool{}, forbidden: map[int]bool{},
	}
	f.valid()
	return f
}

// write puts a file in place, whole.
func (f *files) write(path, text string) {
	f.t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		f.t.Fatal(err)
	}
}

// appsOf is a table in which every entry says of which version it is. A
// connection of the truth with two fingerprints matches all three, one with one
// the first.
func appsOf(version int) string {
	return fmt.Sprintf(`version: 1
entries:
- {id: of-ja4, app: version %[1]d, match: {ja4: t13d1516h2_*}}
- {id: of-ja4t, app: version %[1]d, match: {ja4t: 64240_2-4-8-1-3_1460_*}}
- {id: of-both, app: version %[1]d, match: {ja4: t13d1516h2_*, ja4t: 64240_2-4-8-1-3_1460_*}}
`, version)
}

const (
	validBad   = "version: 1\nentries:\n- {id: never, match: {ja4: t13d1516h2_000000000000_fffffffffff0}}\n"
	validRules = "allow:\n- {known-bad: [never]}\n"
)

// valid swaps in the next version, all files as they should be. The one that may
// have been refused comes last.
func (f *files) valid() {
	f.version++
	f.forced[f.version] = true
	f.write(f.apps, appsOf(f.version))
	f.write(f.rules, validRules+fmt.Sprintf("# version %d\n", f.version))
	f.write(f.bad, validBad)
}

// refusal is a way to be wrong, and what must be said of it.
type refusal struct {
	file string // apps, bad or rules
	text string
	line string
	why  string
}

var refusals = []refusal{
	{"apps", "version: 1\nentries:\n- {id: a, app: A, match: {ja4: nonsense}}\n", "3", "nonsense"},
	{"bad", "version: 1\nentries:\n- {id: a, match: {ja4: t13d1516h2_8daaf6152771_02713d6af862}, sure: yes}\n", "3", "sure"},
	{"rules", "rules:\n- id: odd\n  severity: grave\n  text: x\n  filter: proto:tcp\n", "3", "grave"},
	{"rules", "# one\n\nallow:\n- known-bad: [nevr]\n", "4", "did you mean never?"},
	{"bad", "version: 1\nentries:\n- {id: a, match: {ja4s: t130200_1301_a56c5b993250}}\n", "3", "ja4s alone"},
	{"apps", "version: 1\nentries:\n- {id: a, app: A\n", "", "yaml"},
}

// invalid swaps in a file that must be refused, and a whole new version of what
// else there is, which must then not be seen either.
func (f *files) invalid(n int) refusal {
	f.version++
	f.forbidden[f.version] = true
	r := refusals[n%len(refusals)]
	paths := map[string]string{"apps": f.apps, "bad": f.bad, "rules": f.rules}
	f.write(paths[r.file], r.text)
	if r.file != "apps" {
		f.write(f.apps, appsOf(f.version))
	}
	r.file = paths[r.file]
	return r
}

// witness reads the feed and notes by which versions of a table connections were
// judged.
type witness struct {
	mu     sync.Mutex // guards what follows
	read   uint64     // evictions
	judged int
	seen   map[int]int
	wrong  []string
	newest int
}

func startWitness(t testing.TB, addr string) *witness {
	w := &witness{seen: make(map[int]int)}
	ctx, cancel := context.WithCancel(context.Background())
	cl := dial(t, addr)
	var wg sync.WaitGroup
	wg.Go(func() {
		req := &whorlv1.WatchRequest{Subscriber: "witness", Start: &whorlv1.WatchRequest_FromOldest{FromOldest: true}}
		for e, err := range cl.Watch(ctx, req) {
			if err != nil {
				return
			}
			if e.Eviction != nil {
				w.take(e.Eviction.GetConnection())
			}
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return w
}

// take looks at the matches of one connection: each entry that it must match, all
// of one version.
func (w *witness) take(c *whorlv1.Connection) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.read++
	want := []int{0, 1, 3}[min(len(c.GetFingerprints()), 2)]
	if want == 0 {
		return
	}
	version, n := -1, 0
	for _, m := range c.GetTableMatches() {
		var v int
		if _, err := fmt.Sscanf(m.GetApp(), "version %d", &v); err != nil {
			continue
		}
		n++
		if version >= 0 && v != version {
			w.complain("%s was judged by versions %d and %d", c.GetId(), version, v)
		}
		version = v
	}
	if n != want {
		w.complain("%s matches %d entries, want %d: %v", c.GetId(), n, want, c.GetTableMatches())
	}
	w.judged++
	w.seen[version]++
	w.newest = version
}

// await waits until n evictions were read.
func (w *witness) await(n uint64, patience time.Duration) bool {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		w.mu.Lock()
		done := w.read >= n
		w.mu.Unlock()
		if done {
			return true
		}
	}
	return false
}

func (w *witness) complain(format string, args ...any) {
	if len(w.wrong) < 20 {
		w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
	}
}

// reloads are what a run of swaps came to.
type reloads struct{ taken, refused, byCall, bySignal, byChange int }

// swap puts files in place, valid ones and others in turn, and has the collector
// read them: because it is told to, by a signal, or because it looks.
func (r *reloads) swap(t testing.TB, c *collector, cl *client.Client, f *files, n int) {
	t.Helper()
	before := status(t, cl).GetEnrichment()
	var want *refusal
	if n%2 == 1 {
		refused := f.invalid(n / 2)
		want = &refused
	} else {
		f.valid()
	}
	said := ""
	switch {
	case n%20 < 2:
		r.byChange++
	case n%20 < 6:
		r.bySignal++
		c.cmd.Process.Signal(syscall.SIGHUP)
	default:
		r.byCall++
		_, err := cl.Reload(context.Background())
		if (err != nil) != (want != nil) {
			t.Errorf("swap %d: reload: %v", n, err)
			return
		}
		if err != nil {
			said = err.Error()
		}
	}
	var after *whorlv1.EnrichmentStatus
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		after = status(t, cl).GetEnrichment()
		if want == nil && after.GetRefused() == "" && after.GetConfigHash() != before.GetConfigHash() ||
			want != nil && after.GetRefused() != "" {
			break
		}
	}
	if want == nil {
		r.taken++
		if after.GetRefused() != "" || after.GetConfigHash() == before.GetConfigHash() {
			t.Errorf("swap %d: a valid set of files is not in force: %v", n, after)
		}
		return
	}
	r.refused++
	if after.GetConfigHash() != before.GetConfigHash() {
		t.Errorf("swap %d: refused files changed what is in force", n)
	}
	for _, text := range []string{said, after.GetRefused()} {
		if text == "" && said == "" && after.GetRefused() != "" {
			continue // nobody was told but the status
		}
		for _, part := range []string{want.file + ":" + want.line, want.why} {
			if !strings.Contains(text, part) {
				t.Errorf("swap %d: the refusal does not say %q: %q", n, part, text)
			}
		}
	}
}

// Tables and rules that are swapped under load, every second time for files that
// must be refused, lose no packet and no eviction. Each connection is judged by
// one version of the tables, whole, and never by one that was refused; each
// refusal names file, line and reason.
func TestReloadUnderLoad(t *testing.T) {
	f := newFiles(t)
	c := newCollector(t, "", "--apps", f.apps, "--known-bad", f.bad, "--rules", f.rules)
	c.start()
	cl := dial(t, c.addr)
	a, w := startAuditor(t, c.addr, 1, 0), startWitness(t, c.addr)
	feeder := startFeeder(t, dial(t, c.addr), client.ReporterConfig{}, 4*reloadFloor/3)
	rate, ok := feeder.load(reloadFloor, 30*time.Second)
	if !ok {
		t.Fatalf("the load is %.0f packets/s, want %.0f", rate, reloadFloor)
	}
	var r reloads
	begin, acked := time.Now(), feeder.acked()
	for n := range 100 {
		r.swap(t, c, cl, f, n)
	}
	took := time.Since(begin)
	rate = float64(feeder.acked()-acked) / took.Seconds()
	if rate < reloadFloor {
		t.Errorf("the load was %.0f packets/s while files were swapped, want %.0f", rate, reloadFloor)
	}
	f.valid()
	if _, err := cl.Reload(context.Background()); err != nil {
		t.Errorf("the last reload: %v", err)
	}
	clean(t, c, feeder.finish(time.Minute), a.verdict(feeder, time.Minute), counted(t, cl, feeder))
	if !w.await(feeder.truth.connections, 30*time.Second) {
		t.Error("the witness has not read every eviction")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, wrong := range w.wrong {
		t.Error(wrong)
	}
	for version, n := range w.seen {
		if f.forbidden[version] || !f.forced[version] {
			t.Errorf("%d connections were judged by version %d, which was never in force", n, version)
		}
	}
	if w.newest != f.version || w.judged == 0 {
		t.Errorf("the last of %d connections was judged by version %d, want %d", w.judged, w.newest, f.version)
	}
	t.Logf("%d swaps in %v at %.0f packets/s: %d in force, %d refused; %d by a call, %d by a signal, %d by themselves; %d connections judged by %d versions",
		r.taken+r.refused, took.Round(time.Millisecond), rate, r.taken, r.refused, r.byCall, r.bySignal, r.byChange, w.judged, len(w.seen))
}
