package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// onTerminal runs a command as if both outputs were terminals.
func onTerminal(t *testing.T, ctx context.Context, env map[string]string, args ...string) (out, talk string, code int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	con := &console{out: &stdout, err: &stderr, outTerminal: true, errTerminal: true,
		now: time.Now, getenv: func(name string) string { return env[name] }}
	code = run(ctx, args, con)
	return stdout.String(), stderr.String(), code
}

func testFile(t *testing.T, name string, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// On a terminal auto is a table, with a coloured header unless NO_COLOR is set.
func TestTablesOnATerminal(t *testing.T) {
	file := testFile(t, "hello.pcap", helloCapture())
	out, _, code := onTerminal(t, t.Context(), nil, "fp", "--types", "ja4", file)
	if code != exitOK || !strings.HasPrefix(out, "\x1b[1mTIME\x1b[0m      \x1b[1mSRC\x1b[0m") {
		t.Errorf("exit %d, %q; want a bold header", code, out)
	}
	for _, args := range [][]string{{"fp", "--color", "never", file}, {"fp", file}} {
		if out, _, _ := onTerminal(t, t.Context(), map[string]string{"NO_COLOR": "1"}, args...); strings.Contains(out, "\x1b") || !strings.HasPrefix(out, "TIME") {
			t.Errorf("%v: %q, want no colour", args, out)
		}
	}
}

// The end line of a probe is text on a terminal; a run prints fingerprints as
// they come, says where it listens, and ends by its context.
func TestRunOnATerminal(t *testing.T) {
	file := testFile(t, "hello.pcap", helloCapture())
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	stdout, stderr := watch(regexp.MustCompile(`64240_2-4-8-1-3_1460_7`)), watch(regexp.MustCompile(` in <?[0-9.]+ m?s\b`))
	con := &console{out: stdout, err: stderr, outTerminal: true, errTerminal: true, now: time.Now,
		getenv: func(name string) string { return map[string]string{"NO_COLOR": "1"}[name] }}
	go func() {
		for _, b := range []*watchedBuffer{stdout, stderr} {
			select {
			case <-b.seen:
			case <-time.After(30 * time.Second):
			}
		}
		cancel(errInterrupted)
	}()
	code := run(ctx, []string{"run", "--utc", "-r", file, "--network", "lab", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"}, con)
	out, talk := stdout.String(), stderr.String()
	if code != exitOK {
		t.Fatalf("exit %d: %s", code, talk)
	}
	want := []string{"TIME", "SRC", "DST", "PROTO", "TYPE", "VALUE", "APP", "2026-11-22", "12:00:00", "192.0.2.1:40000", "198.51.100.9:443", "tcp", "ja4t", "64240_2-4-8-1-3_1460_7"}
	if got := strings.Fields(out); len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
		t.Errorf("stdout %q\nwant it to begin with %q", out, want)
	}
	for _, want := range []string{
		`(?m)^collector on 127\.0\.0\.1:\d+ \(gRPC\), http://127\.0\.0\.1:\d+ \(health, metrics\); memory only, nothing survives a restart$`,
		`(?m)^7 packets, 546 bytes, 1 connection, 5 fingerprints, 0 undecodable, 0 lost in `,
	} {
		if !regexp.MustCompile(want).MatchString(talk) {
			t.Errorf("stderr %q\nwant a line like %s", talk, want)
		}
	}
}

// A probe that is refused says so with the right exit code, and does not hang.
func TestProbeWithoutCollector(t *testing.T) {
	file := testFile(t, "hello.pcap", helloCapture())
	_, talk, code := onTerminal(t, t.Context(), nil, "probe", "-r", file, "--wait", "0", "--collector", "127.0.0.1:1")
	if code != exitUnreachable || !strings.HasPrefix(talk, "whorl: collector 127.0.0.1:1: connection refused\n") {
		t.Errorf("exit %d, %q; want 4 and a refused connection", code, talk)
	}
}

// Lines of people hold what an outsider chose, but nothing that moves a cursor.
func TestShellLine(t *testing.T) {
	got := shellLine([]string{"probe", "-i", "eth0", "tcp and port 80", "it's", ""})
	if want := `probe -i eth0 'tcp and port 80' 'it'\''s' ''`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// Sizes, speeds and moments read what their help says, and print it again.
func TestFlagValues(t *testing.T) {
	for text, want := range map[string]size{"0": 0, "65536": 64 << 10, "64KiB": 64 << 10, "64MiB": 64 << 20, "2GiB": 2 << 30, "1 kB": 1000, "3MB": 3e6, "7B": 7} {
		var s size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("size %q: %d, %v; want %d", text, s, err, want)
		}
		var again size
		if err := again.UnmarshalText([]byte(s.String())); err != nil || again != s {
			t.Errorf("size %q prints as %q, which reads as %d", text, s, again)
		}
	}
	for _, text := range []string{"", "x", "-1", "1XiB", "99999999999TiB", "1.5GiB"} {
		var s size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("size %q was read as %d", text, s)
		}
	}
	for text, want := range map[string]speed{"max": 0, "1x": 1, "10x": 10, "0.5x": 0.5} {
		var s speed
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want || s.String() != text {
			t.Errorf("speed %q: %v, %v; want %v", text, s, err, want)
		}
	}
	for _, text := range []string{"", "0x", "-1x", "fast", "NaNx", "1e9x", "10xyz", "10"} {
		var s speed
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("speed %q was read as %v", text, s)
		}
	}
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{"5m": now.Add(-5 * time.Minute), "2026-11-22T11:00:00Z": now.Add(-time.Hour)} {
		var m moment
		if err := m.UnmarshalText([]byte(text)); err != nil || !m.on(now).Equal(want) {
			t.Errorf("moment %q: %v, %v; want %v", text, m.on(now), err, want)
		}
	}
	var m moment
	if err := m.UnmarshalText([]byte("yesterday")); err == nil {
		t.Error(`moment "yesterday" was read`)
	}
}
