package enrich_test

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/enrich"
	"github.com/whorl-net/whorl/ja4/cleartext"
	"github.com/whorl-net/whorl/probe"
	"github.com/whorl-net/whorl/probe/capture"
	"github.com/whorl-net/whorl/probe/handshake"
	"github.com/whorl-net/whorl/tracker"
)

var update = flag.Bool("update", false, "write testdata/corpus.txt")

// connections returns what the connections of a capture show, as a collector
// would see it, with the secrets of NAME.keys if there are any.
func connections(t *testing.T, path string) []*tracker.Snapshot {
	t.Helper()
	f, err := capture.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	keys := cleartext.NewKeyLog(0)
	probe.TakeSecrets(f, keys)
	if text, err := os.ReadFile(strings.TrimSuffix(path, filepath.Ext(path)) + ".keys"); err == nil {
		keys.Add(text)
	}
	byKey := make(map[flow.Key]*tracker.Snapshot)
	var all []*tracker.Snapshot
	_, err = probe.Fingerprints(context.Background(), f, probe.Config{Secrets: keys}, func(e *handshake.Event) error {
		key, _ := e.Tuple.Key()
		s := byKey[key]
		if s == nil {
			s = &tracker.Snapshot{Key: key, Src: e.Tuple.Src}
			byKey[key] = s
			all = append(all, s)
		}
		h := s.History(e.Type)
		if h == nil {
			s.Fingerprints = append(s.Fingerprints, tracker.History{Type: e.Type})
			h = &s.Fingerprints[len(s.Fingerprints)-1]
		}
		h.Events = append(h.Events, tracker.FingerprintEvent{Value: strings.Clone(e.Value), PacketNum: e.PacketNum})
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return all
}

// summary says in lines what the connections of a capture are taken for, and how
// many there are of each kind.
func summary(t *testing.T, e *enrich.Enricher, path string) (lines []string) {
	t.Helper()
	count := make(map[string]int)
	for _, s := range connections(t, path) {
		e.Snapshot(s)
		var entries []string
		for _, m := range s.TableMatches {
			entries = append(entries, m.Entry)
		}
		text := fmt.Sprintf("app %q", s.IdentifiedApp)
		if s.KnownBad {
			text += " BAD"
		}
		if s.TunnelIndicator != "" {
			text += fmt.Sprintf(" tunnel %q", s.TunnelIndicator)
		}
		if s.SSHSessionType != "" {
			text += fmt.Sprintf(" ssh %q %q", s.SSHSessionType, s.SSHSessionHint)
		}
		count[text+fmt.Sprintf(" entries %v", entries)]++
	}
	for _, text := range slices.Sorted(maps.Keys(count)) {
		lines = append(lines, fmt.Sprintf("%s: %d × %s", filepath.Base(path), count[text], text))
	}
	return lines
}

// What the built-in table makes of recordings of real programs is known, and
// none of them is bad.
func TestCorpus(t *testing.T) {
	e, err := enrich.New(enrich.Config{})
	if err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob("../../test/clients/recordings/*.pcap")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	var got []string
	for _, path := range append(paths, "../../examples/sample/sample.pcap") {
		got = append(got, summary(t, e, path)...)
	}
	const golden = "testdata/corpus.txt"
	text := strings.Join(got, "\n") + "\n"
	if *update {
		if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("got\n%swant\n%s", text, want)
	}
	if strings.Contains(text, "BAD") {
		t.Error("a program of the recordings is condemned")
	}
}

// Of the reference captures only what holds a certificate or a hello that is
// listed is condemned.
func TestReferenceCorpus(t *testing.T) {
	paths, err := filepath.Glob("../../../shared/oracle/captures/*")
	if err != nil || len(paths) == 0 {
		t.Skip("no reference captures beside the project")
	}
	e, err := enrich.New(enrich.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		for _, line := range summary(t, e, path) {
			t.Log(line)
			if strings.Contains(line, "BAD") {
				t.Error("condemned")
			}
		}
	}
}
