//go:build e2e

package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// compare runs compare.py, which has to find nothing missing and nothing
// unexpected.
func compare(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("python3", append([]string{filepath.Join(dir, "compare.py")}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("compare.py %v: %v\n%s", args, err, out)
		return
	}
	lines := string(out)
	if len(lines) > 200 {
		lines = "…" + lines[len(lines)-200:]
	}
	t.Logf("%v\n%s", args, lines)
}

// captures lists the reference captures.
func captures(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "captures", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no captures in %s: %v", dir, err)
	}
	return files
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// whorl fp gives every expected fingerprint of every reference capture, with
// its raw form, and none beyond.
func TestFingerprintsEqualTheReference(t *testing.T) {
	dir, results := oracle(t), t.TempDir()
	for _, f := range captures(t, dir) {
		write(t, filepath.Join(results, filepath.Base(f)+".jsonl"), must(t, "fp", f, "-o", "jsonl"))
	}
	compare(t, dir, "--all-captures", filepath.Join(dir, "expected"), results)
	compare(t, dir, "--all-captures", "--strict", "--raw", filepath.Join(dir, "expected"), results)
	compare(t, dir, "--all-captures", "--strict", "--raw", "--secrets", filepath.Join(dir, "expected"), results)
}

// With the original-order forms asked for, they too are all there; so is what
// the secrets in a capture open.
func TestOriginalOrderFormsEqualTheReference(t *testing.T) {
	dir, results := oracle(t), t.TempDir()
	for _, f := range captures(t, dir) {
		write(t, filepath.Join(results, filepath.Base(f)+".jsonl"),
			must(t, "fp", f, "-o", "jsonl", "--types", "ja4,ja4s,ja4h,ja4x,ja4l,ja4ls,ja4t,ja4ts,ja4ssh,ja4d,ja4d6,ja4_o"))
	}
	compare(t, dir, "--all-captures", "--strict", "--all", filepath.Join(dir, "expected"), results)
	// A capture that carries the secrets of its connections is read with them.
	compare(t, dir, "--all-captures", "--strict", "--secrets", "--all", filepath.Join(dir, "expected"), results)
}

// A capture replayed through a probe into a fresh collector gives exactly its
// connections, with exact packets and bytes.
func TestTotalsEqualTheReference(t *testing.T) {
	dir, results := oracle(t), t.TempDir()
	for _, f := range captures(t, dir) {
		c := startCollector(t, never...)
		must(t, "probe", "-r", f, "--collector", c.addr)
		write(t, filepath.Join(results, filepath.Base(f)+".jsonl"), must(t, "list", "-o", "jsonl", "--collector", c.addr))
		c.stop(t)
	}
	compare(t, dir, "--totals", "--all-captures", filepath.Join(dir, "expected"), results)
}

// The same holds of a collector on disk that was stopped and started again
// between the replay and the question.
func TestTotalsEqualTheReferenceAfterARestart(t *testing.T) {
	dir, results := oracle(t), t.TempDir()
	for _, f := range captures(t, dir) {
		args := append(onDisk(t), never...)
		c := startCollector(t, args...)
		must(t, "probe", "-r", f, "--collector", c.addr)
		c.stop(t)
		c = startCollector(t, args...)
		write(t, filepath.Join(results, filepath.Base(f)+".jsonl"), must(t, "list", "-o", "jsonl", "--collector", c.addr))
		c.stop(t)
	}
	compare(t, dir, "--totals", "--all-captures", filepath.Join(dir, "expected"), results)
}

// With JA4+ off nothing but JA4 comes out, and all of JA4 does.
func TestSwitchLeavesJA4(t *testing.T) {
	dir, results := oracle(t), t.TempDir()
	for _, f := range captures(t, dir) {
		out := must(t, "fp", f, "-o", "jsonl", "--ja4plus=false")
		for _, row := range rows(t, out) {
			if row["type"] != "ja4" {
				t.Errorf("%s: %v with --ja4plus=false", filepath.Base(f), row["type"])
			}
		}
		write(t, filepath.Join(results, filepath.Base(f)+".jsonl"), out)
	}
	compare(t, dir, "--all-captures", "--types", "ja4", filepath.Join(dir, "expected"), results)
}
