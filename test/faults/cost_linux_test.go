//go:build e2e

package faults

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/whorl-net/whorl/client"
	"github.com/whorl-net/whorl/flow"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// A collector that is killed with a million live connections, in the middle of
// traffic, serves again within five seconds, with all of them and every packet.
// On a machine that is busy with other things that may take longer: the time is
// checked in the long form only.
func TestRestartWithAMillionConnections(t *testing.T) {
	const (
		perBatch = 4000
		batches  = 1_000_000 / perBatch
		rounds   = 6 // packets of each connection
	)
	c := newCollector(t, t.TempDir(), "--max-connections", "2000000", "--checkpoint-every", "10s",
		"--idle-timeout-tcp-half-open=0", "--idle-timeout-tcp=0", "--idle-timeout-tcp-closed=0",
		"--idle-timeout-udp-one-way=0", "--idle-timeout-udp=0", "--idle-timeout-other=0")
	c.start()
	cl := dial(t, c.addr)
	r, err := cl.Reporter(client.ReporterConfig{ProbeID: "feeder"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	ran := make(chan error, 1)
	go func() { ran <- r.Run(ctx) }()
	b := &flow.Batch{}
	for n := range rounds * batches {
		b.Reset()
		at := packetTime + int64(n)*int64(4*time.Millisecond)
		for k := range perBatch {
			cn := conn(n%batches*perBatch + k)
			b.AddPacket(b.AddFlow(cn.tuple()), false, at+int64(k), cn.length(n/batches), flow.ACK*b2i(cn%4 == 0))
		}
		b.Watermark = at
		if err := r.Report(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	for r.Stats().HeldPackets > 0 {
		if ctx.Err() != nil {
			t.Fatalf("not acknowledged: %+v", r.Stats())
		}
		time.Sleep(10 * time.Millisecond)
	}
	position, checkpoint := status(t, cl).GetLog().GetLastPosition(), status(t, cl).GetCheckpoint()
	c.kill()
	took := c.start()
	st := status(t, cl)
	if st.GetConnections() != 1_000_000 || st.GetPacketsApplied() != rounds*1_000_000 {
		t.Errorf("%d connections and %d packets, want 1000000 and %d", st.GetConnections(), st.GetPacketsApplied(), rounds*1_000_000)
	}
	if long && took > 5*time.Second {
		t.Errorf("serving after %v, want 5 s at most", took)
	}
	t.Logf("serving %v after kill -9 with %d connections; checkpoint of %d MB at record %d of %d",
		took.Round(time.Millisecond), st.GetConnections(), checkpoint.GetBytes()>>20, checkpoint.GetPosition(), position)
	cancel()
	<-ran
}

// A collector with nothing to do costs next to nothing: half a percent of a
// processor, 80 MB.
func TestIdleCosts(t *testing.T) {
	for _, c := range []struct {
		name string
		dir  string
	}{{"disk", t.TempDir()}, {"memory", ""}} {
		t.Run(c.name, func(t *testing.T) {
			col := newCollector(t, c.dir)
			col.start()
			cl := dial(t, col.addr)
			if _, err := cl.Count(t.Context(), &whorlv1.CountRequest{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second) // what belongs to the start
			pid := col.cmd.Process.Pid
			before, begin := cpuOf(t, pid), time.Now()
			time.Sleep(scaled(5*time.Second, 30*time.Second))
			share := (cpuOf(t, pid) - before).Seconds() / time.Since(begin).Seconds()
			rss := rssOf(t, pid)
			t.Logf("idle: %.2f %% of a processor, %d MB", 100*share, rss>>20)
			if share > 0.005 || rss > 80<<20 {
				t.Errorf("idle costs %.2f %% of a processor and %d MB, want 0.5 %% and 80 MB at most", 100*share, rss>>20)
			}
			col.stop()
		})
	}
}

// cpuOf is the time a process has used.
func cpuOf(t testing.TB, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	if err1 != nil || err2 != nil {
		t.Fatalf("/proc/%d/stat: %s", pid, text)
	}
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 everywhere
}

// rssOf is the memory of a process, in bytes.
func rssOf(t testing.TB, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Fatalf("/proc/%d/status: %s", pid, text)
	}
	return kb << 10
}
