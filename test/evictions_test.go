//go:build e2e

package test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/whorl-net/whorl/client"
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/probe"
	"github.com/whorl-net/whorl/probe/capture"
)

// evictions replays a file into a fresh collector and returns what left it: for
// each connection id its evictions in order, without what is bound to one run
// (sequence, cursor, uid).
func evictions(t *testing.T, collectorArgs, probeArgs []string, file string) map[string][]string {
	t.Helper()
	c := startCollector(t, collectorArgs...)
	must(t, append([]string{"probe", "--collector", c.addr, "--flush", "--probe-id", "here", "-r", file}, probeArgs...)...)
	return drained(t, c)
}

// drained reads the whole feed of c and stops it.
func drained(t *testing.T, c *collector) map[string][]string {
	t.Helper()
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
// speed of the replay, the places where batches are cut and where they are kept.
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
				"1 shard":  {collector: []string{"--shards", "1"}},
				"4 shards": {collector: []string{"--shards", "4"}},
				"paced":    {collector: []string{"--shards", "64"}, probe: []string{"--speed", pace(f)}},
				"on disk":  {collector: onDisk(t)},
			} {
				got := evictions(t, v.collector, v.probe, f)
				if !reflect.DeepEqual(got, want) {
					t.Errorf("%s: %s", name, difference(got, want))
				}
			}
			if got := recut(t, f); !reflect.DeepEqual(got, want) {
				t.Errorf("batches cut elsewhere: %s", difference(got, want))
			}
		})
	}
}

// cutting hands each batch on in pieces of a few rows.
type cutting struct {
	to     probe.Reporter
	random *rand.Rand
}

func (c *cutting) Report(ctx context.Context, b *flow.Batch) error {
	last := func(to int) bool { return to == b.Rows() }
	for from := 0; ; {
		to := min(b.Rows(), from+1+c.random.IntN(9))
		piece := flow.Batch{
			Flows: b.Flows, Flow: b.Flow[from:to], Time: b.Time[from:to], WireLength: b.WireLength[from:to], TCPFlags: b.TCPFlags[from:to],
		}
		for _, f := range b.Fingerprints {
			if row := int(f.Row); row > from && row <= to || row == 0 && last(to) {
				f.Row = uint32(max(0, row-from))
				piece.Fingerprints = append(piece.Fingerprints, f)
			}
		}
		if last(to) {
			piece.Watermark = b.Watermark
		}
		if err := c.to.Report(ctx, &piece); err != nil || last(to) {
			return err
		}
		from = to
	}
}

// recut is evictions with a probe in this process, whose batches are cut at
// other places.
func recut(t *testing.T, file string) map[string][]string {
	t.Helper()
	c := startCollector(t)
	cl, err := client.Dial(t.Context(), c.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	r, err := cl.Reporter(client.ReporterConfig{ProbeID: "here"})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- r.Run(t.Context()) }()
	source, err := capture.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	p, err := probe.New(probe.Config{}, &cutting{r, rand.New(rand.NewPCG(5, 5))}, source)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Finish(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	return drained(t, c)
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
