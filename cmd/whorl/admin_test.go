package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A collector answers the admin address, and tells systemd when it serves and
// when it was told to end.
func TestAdminAndSystemd(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	hear := func(want string) {
		t.Helper()
		buf := make([]byte, 64)
		manager.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, err := manager.Read(buf)
		if err != nil || string(buf[:n]) != want {
			t.Fatalf("systemd hears %q, %v; want %q", buf[:n], err, want)
		}
	}

	talk := watch(listening)
	con := &console{out: &bytes.Buffer{}, err: talk, now: time.Now, getenv: func(string) string { return "" }}
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"collector", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--durability", "memory"}, con)
	}()
	hear("READY=1")
	m := regexp.MustCompile(`http://(\S+) \(health, metrics\)`).FindStringSubmatch(talk.String())
	if m == nil {
		t.Fatalf("it says %q, want an admin address", talk)
	}
	for path, want := range map[string]string{
		"/healthz": "ok\n", "/readyz": "ready\n", "/metrics": "whorl_state{state=\"serving\"} 1\n",
	} {
		if code, body := fetch(t, "http://"+m[1]+path); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s answers %d, %.200q; want %q in it", path, code, body, want)
		}
	}
	if code, _ := fetch(t, "http://"+m[1]+"/debug/pprof/"); code != http.StatusNotFound {
		t.Errorf("profiles are served without --pprof: %d", code)
	}
	cancel(errInterrupted)
	hear("STOPPING=1")
	if code := <-ended; code != exitOK {
		t.Errorf("exit %d, want 0: %s", code, talk)
	}
}

// fetch gets a page over a connection of its own.
func fetch(t *testing.T, url string) (code int, body string) {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}
