//go:build e2e

package test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ip runs iproute2, or skips the test where namespaces cannot be made.
func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Skipf("ip %s: %v %s: no network namespaces here", strings.Join(args, " "), err, out)
	}
}

// Traffic between two network namespaces, captured on a veth interface by a
// probe in one of them, comes out of the feed within a second of its end.
func TestLiveTrafficReachesTheFeed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces and live capture")
	}
	for _, tool := range []string{"ip", "curl", "python3"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	a, b := fmt.Sprintf("whorl-a%d", os.Getpid()), fmt.Sprintf("whorl-b%d", os.Getpid())
	for _, ns := range []string{a, b} {
		ip(t, "netns", "add", ns)
		t.Cleanup(func() { exec.Command("ip", "netns", "del", ns).Run() })
	}
	ip(t, "link", "add", "name", "va", "netns", a, "type", "veth", "peer", "name", "vb", "netns", b)
	for ns, dev := range map[string]string{a: "va 192.0.2.1/24", b: "vb 192.0.2.2/24"} {
		name, addr, _ := strings.Cut(dev, " ")
		ip(t, "-n", ns, "addr", "add", addr, "dev", name)
		ip(t, "-n", ns, "link", "set", name, "up")
		ip(t, "-n", ns, "link", "set", "lo", "up")
	}
	in := func(ns string, cmd *exec.Cmd) *exec.Cmd {
		path, err := exec.LookPath("ip")
		if err != nil {
			t.Fatal(err)
		}
		cmd.Args = append([]string{"ip", "netns", "exec", ns}, cmd.Args...)
		cmd.Path = path
		return cmd
	}
	background := func(cmd *exec.Cmd) {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Signal(syscall.SIGTERM); cmd.Wait() })
	}

	// A collector and a probe in one process inside namespace a: it captures va
	// and listens on a's loopback, so watch runs there too.
	var log lockedBuffer
	collector := in(a, whorl(t, "run", "-i", "va", "--listen", "127.0.0.1:4750",
		"--idle-timeout-tcp-closed", "100ms", "--network", "veth"))
	collector.Stderr, collector.Stdout = &log, &log
	background(collector)
	server := in(b, exec.Command("python3", "-m", "http.server", "--directory", t.TempDir(), "--bind", "192.0.2.2", "8080"))
	background(server)
	waitFor(t, "the collector and the capture", &log, func() bool { return strings.Contains(log.String(), "capturing on va") })
	waitFor(t, "the web server", &log, func() bool {
		return in(a, exec.Command("curl", "-s", "-o", os.DevNull, "http://192.0.2.2:8080/")).Run() == nil
	})

	ask := func(args ...string) string {
		said, _ := in(a, whorl(t, append(args, "--collector", "127.0.0.1:4750")...)).Output() // nothing, as long as it fails
		return string(said)
	}
	waitFor(t, "the end of what was asked before", &log, func() bool { return ask("count", "-o", "compact", "port:8080") == "0\n" })

	watch := in(a, whorl(t, "watch", "--subscriber", "here", "-o", "jsonl", "--collector", "127.0.0.1:4750", "proto:tcp port:8080 ja4h:*"))
	out, err := watch.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	background(watch)
	waitFor(t, "the subscription", &log, func() bool { return strings.Contains(ask("status", "--fields", "subscribers"), "here") })
	lines := make(chan string, 16)
	go func() {
		defer close(lines)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			lines <- sc.Text()
		}
	}()
	// The best of three: a machine with other work may be late now and then.
	fastest := time.Hour
	for i := range 3 {
		marker := fmt.Sprintf("/marker-%d", i)
		if err := in(a, exec.Command("curl", "-s", "-o", os.DevNull, "http://192.0.2.2:8080"+marker)).Run(); err != nil {
			t.Fatal(err)
		}
		ended := time.Now()
		select {
		case line := <-lines:
			var e struct {
				Connection struct {
					SrcIP, DstIP string
					Fingerprints map[string]any
				}
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			for _, want := range []string{"ja4t", "ja4ts", "ja4h"} {
				if e.Connection.Fingerprints[want] == nil {
					t.Errorf("no %s in %s", want, line)
				}
			}
			t.Logf("request %d: in the feed %v after its end", i, time.Since(ended).Round(time.Millisecond))
			fastest = min(fastest, time.Since(ended))
		case <-time.After(10 * time.Second):
			t.Fatalf("request %d did not reach the feed in 10 s\n%s", i, log.String())
		}
	}
	if fastest > time.Second {
		t.Errorf("the fastest request reached the feed after %v, want within a second", fastest)
	}
}

func waitFor(t *testing.T, what string, log *lockedBuffer, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("%s did not come up in a minute:\n%s", what, log.String())
}
