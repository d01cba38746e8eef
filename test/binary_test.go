//go:build e2e

package test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// command is the whorl binary under test: WHORL_BIN, or built once.
var command = sync.OnceValues(func() (string, error) {
	if b := os.Getenv("WHORL_BIN"); b != "" {
		return b, nil
	}
	dir, err := os.MkdirTemp("", "whorl-e2e")
	if err != nil {
		return "", err
	}
	b := filepath.Join(dir, "whorl")
	cmd := exec.Command("go", "build", "-o", b, "../cmd/whorl")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build whorl: %w\n%s", err, out)
	}
	return b, nil
})

// whorl returns the command with args, with a clean environment and without
// any configuration of this host.
func whorl(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	b, err := command()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(b, args...)
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH"), "TZ=UTC"}
	return cmd
}

// result is what a finished command left behind.
type result struct {
	out, err string
	code     int
}

// run runs whorl to its end, at most a minute.
func run(t testing.TB, args ...string) result {
	t.Helper()
	return finish(t, whorl(t, args...))
}

func finish(t testing.TB, cmd *exec.Cmd) result {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// must runs whorl, which has to end with exit code 0.
func must(t testing.TB, args ...string) string {
	t.Helper()
	r := run(t, args...)
	if r.code != 0 {
		t.Fatalf("whorl %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.err, r.out)
	}
	return r.out
}

// collector is a running whorl collector.
type collector struct {
	addr string
	cmd  *exec.Cmd
	done chan struct{}
	log  *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var listening = regexp.MustCompile(`collector on (\S+) `)

// startCollector starts a collector on a free port of loopback and stops it at
// the end of the test.
func startCollector(t testing.TB, args ...string) *collector {
	t.Helper()
	args = append([]string{"collector", "--listen", "127.0.0.1:0", "--durability", "memory"}, args...)
	c := &collector{cmd: whorl(t, args...), done: make(chan struct{}), log: &lockedBuffer{}}
	stderr, err := c.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	addr := make(chan string, 1)
	go func() {
		defer close(c.done)
		sc := bufio.NewScanner(stderr)
		for sc.Scan() {
			fmt.Fprintln(c.log, sc.Text())
			if m := listening.FindStringSubmatch(sc.Text()); m != nil {
				select {
				case addr <- m[1]:
				default:
				}
			}
		}
		io.Copy(c.log, stderr)
		c.cmd.Wait()
	}()
	t.Cleanup(func() { c.stop(t) })
	select {
	case c.addr = <-addr:
	case <-c.done:
		t.Fatalf("the collector ended at once:\n%s", c.log)
	case <-time.After(20 * time.Second):
		t.Fatalf("the collector does not say where it listens:\n%s", c.log)
	}
	return c
}

// onDisk are the flags of a collector with a data directory.
func onDisk(t testing.TB) []string {
	return []string{"--durability", "disk", "--data-dir", filepath.Join(t.TempDir(), "data")}
}

// stop ends the collector as an operator would, and expects it to obey.
func (c *collector) stop(t testing.TB) {
	t.Helper()
	c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.done:
		if code := c.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("collector: exit code %d after SIGTERM\n%s", code, c.log)
		}
	case <-time.After(30 * time.Second):
		c.cmd.Process.Kill()
		t.Errorf("collector did not end within 30 s of SIGTERM\n%s", c.log)
	}
}

// never turns all idle timeouts off.
var never = []string{
	"--idle-timeout-tcp-half-open=0", "--idle-timeout-tcp=0", "--idle-timeout-tcp-closed=0",
	"--idle-timeout-udp-one-way=0", "--idle-timeout-udp=0", "--idle-timeout-other=0",
}

// rows reads JSON lines.
func rows(t testing.TB, s string) []map[string]any {
	t.Helper()
	var out []map[string]any
	for line := range strings.Lines(s) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		out = append(out, m)
	}
	return out
}

// oracle returns the folder of reference captures beside the checkout, or
// skips the test.
func oracle(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("WHORL_ORACLE")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "oracle")
	}
	if _, err := os.Stat(filepath.Join(dir, "captures")); err != nil {
		t.Skipf("no reference captures in %s: nothing to compare with", dir)
	}
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("python3 is not installed: compare.py cannot run")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

// sample is the project's own recording.
const sample = "../examples/sample/sample.pcap"
