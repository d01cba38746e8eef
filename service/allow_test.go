package service

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/whorl-net/whorl/ja4"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// An allow entry that names no entry of the tables is refused, at the start and at
// a reload, with file, line and the nearest name; the tables that came with it are
// not in force either.
func TestAllowEntriesNameWhatThereIs(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	bad, rules := write("bad.yaml", "version: 1\nentries: []\n"), write("rules.yaml", "allow:\n- {known-bad: [trickster]}\n")
	_, err := New(Config{Listen: []string{"127.0.0.1:0"}, Knowledge: Knowledge{KnownBad: []string{bad}, Rules: []string{rules}}})
	if err == nil || !strings.Contains(err.Error(), rules+":2: ") || !strings.Contains(err.Error(), `no table has an entry "trickster"`) {
		t.Fatalf("New: %v", err)
	}
	write("bad.yaml", badTable)
	r := newRig(t, Config{Knowledge: Knowledge{KnownBad: []string{bad}, Rules: []string{rules}}})
	before := r.totals().GetEnrichment()
	write("bad.yaml", strings.Replace(badTable, "id: trickster", "id: trickstar", 1))
	_, err = r.status.ReloadConfig(t.Context(), &whorlv1.ReloadConfigRequest{})
	checkError(t, err, codes.FailedPrecondition, ReasonBadConfig)
	if err == nil || !strings.Contains(err.Error(), "rules.yaml:2") || !strings.Contains(err.Error(), "did you mean trickstar?") {
		t.Errorf("ReloadConfig: %v", err)
	}
	if after := r.totals().GetEnrichment(); after.GetConfigHash() != before.GetConfigHash() || !strings.Contains(after.GetRefused(), "trickstar") {
		t.Errorf("in force is %v, before it was %v", after, before)
	}
}

// A search of the past keeps to the allowlist that came with the new entries.
func TestReloadKeepsToTheAllowlist(t *testing.T) {
	dir := t.TempDir()
	bad, rules := filepath.Join(dir, "bad.yaml"), filepath.Join(dir, "rules.yaml")
	for path, text := range map[string]string{bad: "version: 1\nentries: []\n", rules: ""} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := newRig(t, Config{Knowledge: Knowledge{KnownBad: []string{bad}, Rules: []string{rules}}})
	p, _ := r.report(helloOf("edge", "s"))
	p.batch(withFingerprint(packets(1, time.Second, 1), ja4.TypeJA4, "t13d0000h2_000000000000_000000000001"))
	p.batch(withFingerprint(packets(2, time.Second, 2), ja4.TypeJA4, "t13d0000h2_000000000000_000000000002"))
	p.acked(2)
	other := "  - {id: other, match: {ja4: t13d0000h2_000000000000_000000000002}}\n"
	for path, text := range map[string]string{bad: badTable + other, rules: "allow:\n- {known-bad: [trickster]}\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.status.ReloadConfig(t.Context(), &whorlv1.ReloadConfigRequest{}); err != nil {
		t.Fatal(err)
	}
	var found []*whorlv1.Discovery
	for deadline := time.Now().Add(10 * time.Second); len(found) == 0 && time.Now().Before(deadline); {
		_, found = r.events("bad:true")
	}
	if len(found) != 1 || found[0].GetConnection().GetId() != id(2) {
		t.Errorf("found %v, want connection 2 alone", found)
	}
	// Both are bad as far as the tables go; only one is an anomaly.
	if got := r.matching("bad:true"); len(got) != 2 {
		t.Errorf("bad are %v", got)
	}
	if got := r.matching("anomaly:known-bad"); len(got) != 1 || got[0].GetId() != id(2) {
		t.Errorf("odd are %v", got)
	}
}
