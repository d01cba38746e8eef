//go:build e2e

package test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// evictions replays files into a fresh collector and returns what left it: for
// each connection id its evictions in order, without what is bound to one run
// (sequence, cursor, uid).
func evictions(t *testing.T, collectorArgs, probeArgs []string, files ...string) map[string][]string {
	t.Helper()
	c := startCollector(t, collectorArgs...)
	args := append([]string{"probe", "--collector", c.addr, "--flush"}, probeArgs...)
	for _, f := range files {
		args = append(args, "-r", f)
	}
	must(t, args...)
	out := map[string][]string{}
	for _, row := range rows(t, must(t, "watch", "--oldest", "--no-follow", "-o", "jsonl", "--collector", c.addr)) {
		if row["gap"] != nil {
			t.Fatalf("a gap: %v", row)
		}
		conn := row["connection"].(map[string]any)
		delete(conn, "uid")
		id := conn["id"].(string)
		content, err := json.Marshal(map[string]any{"cause": row["cause"], "evicted_at": row["evicted_at"], "connection": conn})
		if err != nil {
			t.Fatal(err)
		}
		out[id] = append(out[id], string(content))
	}
	c.stop(t)
	return out
}

// The same capture gives the same evictions, whatever the number of shards, the
// speed of the replay and the places where batches are cut.
func TestEvictionsDoNotDependOnSpeedShardsOrCuts(t *testing.T) {
	files := []string{sample}
	if dir := os.Getenv("WHORL_ORACLE"); dir != "" || exists("../../shared/oracle/captures") {
		dir = oracle(t)
		for _, f := range []string{"tls-handshake.pcapng", "gre-sample.pcap", "v6.pcap", "ssh.pcapng", "socks4-https.pcap"} {
			files = append(files, filepath.Join(dir, "captures", f))
		}
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			want := evictions(t, []string{"--shards", "64"}, nil, f)
			if len(want) == 0 {
				t.Fatal("no evictions: nothing to compare")
			}
			for name, v := range map[string]struct{ collector, probe []string }{
				"1 shard":   {collector: []string{"--shards", "1"}},
				"4 shards":  {collector: []string{"--shards", "4"}},
				"paced":     {collector: []string{"--shards", "64"}, probe: []string{"--speed", pace(f)}},
				"small cut": {probe: []string{"--batch-packets", "7"}},
			} {
				got := evictions(t, v.collector, v.probe, f)
				if !reflect.DeepEqual(got, want) {
					t.Errorf("%s: %s", name, difference(got, want))
				}
			}
		})
	}
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// pace returns a speed at which a capture of any length here takes a second or
// two: batches are then cut by time, and ticks fall between them.
func pace(file string) string {
	switch filepath.Base(file) {
	case "sample.pcap":
		return "1x"
	case "socks4-https.pcap", "tls-handshake.pcapng", "ssh.pcapng":
		return "50x"
	}
	return "400x"
}

func difference(got, want map[string][]string) string {
	var b strings.Builder
	for id, w := range want {
		if g := got[id]; !reflect.DeepEqual(g, w) {
			fmt.Fprintf(&b, "\n%s\n   got  %s\n   want %s", id, strings.Join(g, "\n        "), strings.Join(w, "\n        "))
		}
	}
	for id, g := range got {
		if want[id] == nil {
			fmt.Fprintf(&b, "\n%s\n   got  %v\n   want nothing", id, g)
		}
	}
	s := b.String()
	if len(s) > 3000 {
		s = s[:3000] + "…"
	}
	return s
}
