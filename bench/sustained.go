package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/whorl-net/whorl/bench/measure"
	"github.com/whorl-net/whorl/bench/traffic"
	"github.com/whorl-net/whorl/client"
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/probe"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

const (
	// sustainedRate is what a feeder offers, in packets/s.
	sustainedRate = 1_000_000
	// lapPackets are prepared by a feeder and reported again and again, each time
	// a lap later and from other addresses, with 100 packets to a connection.
	lapPackets = 1_000_000
	// idleFor is how long a collector is watched before it has anything to do.
	idleFor = 3 * time.Second
	// flatOut is for how many seconds at most a feeder offers what it can.
	flatOut = 20
)

// measureSustained keeps a collector with a data directory busy: for a minute
// with -full, else for some seconds.
func (b *bench) measureSustained() error {
	p, err := b.newProgram()
	if err != nil {
		return err
	}
	seconds := max(b.packets/200_000, 1)
	if b.full {
		seconds = 60
	}
	s := &sustained{bench: b, program: p}
	s.table = b.table("sustained", fmt.Sprintf("A collector on disk under mixed traffic for %d s, per packet", seconds), []measure.Column{
		{Name: "collector CPU", Unit: "ns", Spread: true}, {Name: "packets/s", More: true}, {Name: "feeder CPU", Unit: "ns"},
		{Name: "groups/s"}, {Name: "written", Unit: "B"}, {Name: "live"}, {Name: "evicted"}, {Name: "RSS", Unit: "MiB"},
		{Name: "idle CPU", Unit: "ms/s"}, {Name: "idle RSS", Unit: "MiB"},
	}, fmt.Sprintf("A feeder reports %s prepared packets again and again through the client library, each time later and from other addresses, 100 packets to a connection.", millions(lapPackets)),
		"groups/s: writes of the log made safe, each with one fsync; written: what the collector gave the disk, feed and checkpoints included; feeder CPU: with the preparation.",
		fmt.Sprintf("As fast as it takes: for %d s at most. Idle: before it had anything to do. Default settings: enrichment, rules and all fingerprints.", flatOut))
	return measure.Rounds(b.rounds,
		func() error { return s.round("1 M packets/s offered", sustainedRate, seconds) },
		func() error { return s.round("as fast as it takes", 0, min(seconds, flatOut)) })
}

type sustained struct {
	*bench
	program *program
	table   *measure.Table
}

// round feeds a new collector for some seconds.
func (s *sustained) round(row string, rate, seconds int) (err error) {
	dir, err := os.MkdirTemp(s.dir, "data")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	col, err := s.program.startCollector("--data-dir", dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, col.end()) }()
	if err := s.idle(row, col); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	before, err := col.cpu()
	if err != nil {
		return err
	}
	watching, stop := context.WithCancel(context.Background())
	begun := make(chan time.Time, 1)
	go firstApplied(watching, col.line, begun)
	fed, err := command(nil, self, "-role", "feeder", col.line, s.samplePath, strconv.Itoa(rate), strconv.Itoa(seconds))
	ended := time.Now()
	stop()
	if err != nil {
		return err
	}
	began, ok := <-begun
	if !ok {
		return errors.New("nothing was applied")
	}
	if err := col.rest(); err != nil {
		return err
	}
	after, err := col.cpu()
	if err != nil {
		return err
	}
	st, err := status(col.line)
	if err != nil {
		return err
	}
	return s.add(row, col, st, after-before, ended.Sub(began), fed)
}

// add adds what came of a round.
func (s *sustained) add(row string, col *collector, st *whorlv1.GetStatusResponse, cpu, wall time.Duration, fed ran) error {
	packets := float64(st.GetPacketsApplied())
	resident, _, err := measure.ResidentBytes(col.cmd.Process.Pid)
	if err != nil {
		return err
	}
	written, err := writtenBytes(col.cmd.Process.Pid)
	if err != nil {
		return err
	}
	t := s.table
	t.Add(row, "collector CPU", float64(cpu)/packets)
	t.Add(row, "packets/s", packets/wall.Seconds())
	t.Add(row, "feeder CPU", float64(fed.CPU)/packets)
	t.Add(row, "groups/s", float64(st.GetLog().GetGroups())/wall.Seconds())
	t.Add(row, "written", float64(written)/packets)
	t.Add(row, "live", float64(st.GetConnections()))
	t.Add(row, "evicted", float64(evicted(st)))
	t.Add(row, "RSS", float64(resident)/(1<<20))
	return nil
}

// idle watches a collector that has nothing to do.
func (s *sustained) idle(row string, col *collector) error {
	if err := col.rest(); err != nil {
		return err
	}
	before, err := col.cpu()
	if err != nil {
		return err
	}
	time.Sleep(idleFor)
	after, err := col.cpu()
	if err != nil {
		return err
	}
	resident, _, err := measure.ResidentBytes(col.cmd.Process.Pid)
	s.table.Add(row, "idle CPU", (after-before).Seconds()*1000/idleFor.Seconds())
	s.table.Add(row, "idle RSS", float64(resident)/(1<<20))
	return err
}

// firstApplied sends the time at which the collector at addr has applied
// something, and closes begun in any case.
func firstApplied(ctx context.Context, addr string, begun chan<- time.Time) {
	defer close(begun)
	for ctx.Err() == nil {
		if st, err := status(addr); err == nil && st.GetPacketsApplied() > 0 {
			begun <- time.Now()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// writtenBytes is what a process has caused to be written to disks.
func writtenBytes(pid int) (n int64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			return strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		}
	}
	return 0, fmt.Errorf("/proc/%d/io: no write_bytes", pid)
}

// feederRole reports prepared batches to a collector: its arguments are the
// address, the sample, packets/s (0 is as fast as it goes) and for how many
// seconds.
func feederRole(args []string) error {
	if len(args) != 4 {
		return errors.New("feeder: want address, sample, packets/s and seconds")
	}
	rate, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	seconds, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	f := feeder{rate: rate, lasts: time.Duration(seconds) * time.Second, span: time.Second}
	sample, err := readSample(args[1])
	if err != nil {
		return err
	}
	g, err := traffic.New(traffic.Config{Shape: traffic.Mixed, Packets: lapPackets, Connections: lapPackets / 100, Span: f.span}, sample)
	if err != nil {
		return err
	}
	if f.batches, err = traffic.Batches(g, probe.Config{}); err != nil {
		return err
	}
	return reporting(args[0], f.run)
}

// feeder reports batches in laps.
type feeder struct {
	batches []*flow.Batch
	span    time.Duration // packet time of a lap
	rate    int
	lasts   time.Duration
}

// run reports until the time is over.
func (f *feeder) run(r *client.Reporter) error {
	start, sent := time.Now(), 0
	for {
		for _, b := range f.batches {
			if time.Since(start) > f.lasts {
				return nil
			}
			if f.rate > 0 {
				due := time.Duration(float64(sent) / float64(f.rate) * float64(time.Second))
				time.Sleep(due - time.Since(start))
			}
			if err := r.Report(context.Background(), b); err != nil {
				return err
			}
			sent += b.Rows()
			f.next(b)
		}
	}
}

// next moves b to the next lap: later, and between other ends.
func (f *feeder) next(b *flow.Batch) {
	for i := range b.Time {
		b.Time[i] += int64(f.span)
	}
	if b.Watermark > 0 {
		b.Watermark += int64(f.span)
	}
	for i := range b.Flows {
		t := &b.Flows[i]
		elsewhere(&t.Src)
		elsewhere(&t.Dst)
	}
}

// elsewhere changes an address of those that traffic has made up: the second byte
// of 10.0.0.0/8, and one of IPv6. Others stay, so the two ends of a connection
// move alike in all its batches.
func elsewhere(a *flow.Addr) {
	switch {
	case !a.Is4():
		a[6]++
	case a[12] == 10:
		a[13]++
	}
}
