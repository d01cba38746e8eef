package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/whorl-net/whorl/bench/measure"
	"github.com/whorl-net/whorl/bench/traffic"
	"github.com/whorl-net/whorl/client"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// steadyTraffic is a capture of a steady state and what is made of it.
type steadyTraffic struct {
	live, packets, train int
	onlyFull             bool
	cases                []steadyCase
}

// steadyCase is one way to run it.
type steadyCase struct {
	what        string // behind the name of the traffic
	probe       []string
	subscribers int
}

// name is that of a case: what is live and how it comes, then what is done.
func (t *steadyTraffic) name(c steadyCase) string {
	name := millions(t.live) + " live"
	if t.train == 1 {
		name += ", each packet of another"
	}
	return name + c.what
}

// steadyTraffics are measured one after another, each with all its cases in
// turn, so that only one capture has to lie in memory.
func steadyTraffics(n int) []steadyTraffic {
	all := steadyCase{what: ", all fingerprints"}
	none := steadyCase{what: ", --types none", probe: withoutTypes}
	watched := steadyCase{what: ", all fingerprints, 4 subscribers", subscribers: 4}
	return []steadyTraffic{
		{live: n / 100, packets: 4 * n, cases: []steadyCase{all, none}},
		{live: n / 10, packets: 4 * n, cases: []steadyCase{all, none}},
		{live: n, packets: 20 * n, cases: []steadyCase{all, none, watched}},
		{live: n, packets: 20 * n, train: 1, cases: []steadyCase{all, none}, onlyFull: true},
		{live: 4 * n, packets: 40 * n, cases: []steadyCase{all, none}, onlyFull: true},
	}
}

// steadyRun measures the whole program under traffic that does not change: so
// many live connections, 100 packets to each.
type steadyRun struct {
	*bench
	*program
	table *measure.Table
	wired map[string]bool
}

// measureSteady runs the binary under a steady load, by live connections.
func (b *bench) measureSteady() error {
	p, err := b.newProgram()
	if err != nil {
		return err
	}
	s := &steadyRun{bench: b, program: p, wired: make(map[string]bool)}
	s.table = b.table("steady", "whorl probe -r FILE into whorl collector by live connections, 100 packets to each, per packet", []measure.Column{
		{Name: "probe", Unit: "ns", Spread: true}, {Name: "collector", Unit: "ns", Spread: true}, {Name: "packets/s", More: true},
		{Name: "probe in all", Unit: "ns"}, {Name: "collector in all", Unit: "ns"}, {Name: "wire", Unit: "B"}, {Name: "wire in all", Unit: "B"},
		{Name: "probe RSS", Unit: "MiB"}, {Name: "collector RSS", Unit: "MiB"}, {Name: "live"}, {Name: "evicted"},
	}, "CPU of whole processes, packets/s and bytes on the wire (both ways) from when each live connection has spoken once: what comes after one packet of each. In all: from the start of the probe.",
		fmt.Sprintf("Connections of the mixed traffic, live from the first packet on, in trains of 1 to %d packets of any of them; one that ends is followed by a new one with its handshake. Each packet of another: no trains.", traffic.DefaultTrain),
		"Read from a file in the page cache. Durability memory; enrichment and rules on.")
	for _, t := range steadyTraffics(b.packets) {
		if err := s.traffic(&t); err != nil {
			return err
		}
	}
	return nil
}

// traffic makes one capture, runs its cases and removes it.
func (s *steadyRun) traffic(t *steadyTraffic) (err error) {
	var run []func(*recording) error
	for _, c := range t.cases {
		name := t.name(c)
		if s.chosen(name, t.onlyFull) {
			run = append(run, func(rec *recording) error { return s.round(name, t, c, rec) })
		}
		if c.subscribers == 0 && s.chosen(name+", bytes", t.onlyFull) {
			run = append(run, func(rec *recording) error { return s.wire(name, t, c, rec) })
		}
	}
	if len(run) == 0 {
		return nil
	}
	rec, err := s.capture("steady", t.config())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.forget(rec)) }()
	s.table.Notes = append(s.table.Notes, rec.String())
	return measure.Rounds(s.rounds, func() error {
		for _, f := range run {
			if err := f(rec); err != nil {
				return err
			}
		}
		return nil
	})
}

func (t *steadyTraffic) config() traffic.Config {
	return traffic.Config{Shape: traffic.Steady, Connections: t.live, Packets: t.packets, Train: t.train}
}

// room is what the collector is told: room for those that have ended, too, until
// they time out.
func (t *steadyTraffic) room() string { return room(t.live + t.packets/100) }

// round runs one probe into a new collector.
func (s *steadyRun) round(name string, t *steadyTraffic, c steadyCase, rec *recording) (err error) {
	defer wrap(&err, name)
	col, err := s.startCollector(t.room())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, col.end()) }()
	subs, err := watch(col.line, c.subscribers)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, subs.end()) }()
	if err := col.rest(); err != nil {
		return err
	}
	before, err := col.cpu()
	if err != nil {
		return err
	}
	lap := col.lap(uint64(t.live), new(atomic.Int64))
	probe, err := task{
		Command: append([]string{s.binary, "probe", "-r", rec.path, "--collector", col.line}, c.probe...),
		File:    rec.path, Offset: int64(float64(rec.size) * float64(t.live) / float64(t.packets)),
	}.run(s.env)
	at, lapErr := lap()
	if err := errors.Join(err, lapErr); err != nil {
		return err
	}
	if c.subscribers > 0 {
		time.Sleep(pastTick)
		if err := subs.caughtUp(col.line); err != nil {
			return err
		}
	}
	if err := col.rest(); err != nil {
		return err
	}
	after, err := col.cpu()
	if err != nil {
		return err
	}
	packets := float64(rec.stats.Packets)
	s.table.Add(name, "collector", float64(after-at.cpu)/(packets-float64(at.packets)))
	s.table.Add(name, "collector in all", float64(after-before)/packets)
	return errors.Join(s.addProbe(name, rec, probe), s.addState(name, col, rec.stats.Packets))
}

// addProbe adds what a probe has used; as long as what it reads is all alike, its
// place in the file says how many packets it has read.
func (s *steadyRun) addProbe(name string, rec *recording, r ran) error {
	if r.Mark.Offset == 0 {
		return errors.New("the probe has not been seen where all connections have spoken")
	}
	packets := float64(rec.stats.Packets)
	left := packets * (1 - float64(r.Mark.Offset)/float64(rec.size))
	s.table.Add(name, "probe", float64(r.CPU-r.Mark.CPU)/left)
	s.table.Add(name, "packets/s", left/(r.Wall-r.Mark.Wall).Seconds())
	s.table.Add(name, "probe in all", float64(r.CPU)/packets)
	s.table.Add(name, "probe RSS", float64(r.Peak)/(1<<20))
	return nil
}

// addState adds what a collector holds at the end, which is all packets.
func (s *steadyRun) addState(name string, col *collector, packets uint64) error {
	st, err := status(col.line)
	if err != nil {
		return err
	}
	if st.GetPacketsApplied() != packets {
		return fmt.Errorf("%d packets applied, want %d", st.GetPacketsApplied(), packets)
	}
	resident, _, err := measure.ResidentBytes(col.cmd.Process.Pid)
	if err != nil {
		return err
	}
	s.table.Add(name, "collector RSS", float64(resident)/(1<<20))
	s.table.Add(name, "live", float64(st.GetConnections()))
	s.table.Add(name, "evicted", float64(evicted(st)))
	return nil
}

// wire counts bytes: a probe through a proxy, once, since it would be the same
// again.
func (s *steadyRun) wire(name string, t *steadyTraffic, c steadyCase, rec *recording) (err error) {
	if s.wired[name] {
		return nil
	}
	s.wired[name] = true
	defer wrap(&err, "bytes of "+name)
	col, err := s.startCollector(t.room())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, col.end()) }()
	proxy, err := newProxy(col.line)
	if err != nil {
		return err
	}
	lap := col.lap(uint64(t.live), &proxy.bytes)
	_, err = s.program.whorl(append([]string{"probe", "-r", rec.path, "--collector", proxy.addr()}, c.probe...)...)
	at, lapErr := lap()
	all := proxy.end()
	if err := errors.Join(err, lapErr); err != nil {
		return err
	}
	packets := float64(rec.stats.Packets)
	s.table.Add(name, "wire", float64(all-at.bytes)/(packets-float64(at.packets)))
	s.table.Add(name, "wire in all", float64(all)/packets)
	return nil
}

// wrap says what an error is about.
func wrap(err *error, what string) {
	if *err != nil {
		*err = fmt.Errorf("%s: %w", what, *err)
	}
}

// lapped is how far a collector was when it had applied so many packets, and
// maybe some more.
type lapped struct {
	packets uint64
	cpu     time.Duration
	// bytes is what a proxy had passed on.
	bytes int64
}

// lap begins to watch until the collector has applied that many packets. It asks
// ten times a second and no more after that. Call the result when no more packets
// come.
func (c *collector) lap(packets uint64, bytes *atomic.Int64) func() (lapped, error) {
	var (
		at   lapped
		err  error
		done = make(chan struct{})
	)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(done)
		at, err = c.watchLap(ctx, packets, bytes)
	}()
	return func() (lapped, error) {
		defer cancel()
		defer time.AfterFunc(10*time.Second, cancel).Stop() // nothing comes if the probe has failed
		<-done
		return at, err
	}
}

func (c *collector) watchLap(ctx context.Context, packets uint64, bytes *atomic.Int64) (at lapped, err error) {
	asker, err := client.Dial(ctx, c.line)
	if err != nil {
		return at, err
	}
	defer asker.Close()
	for {
		st, err := asker.Status(ctx, &whorlv1.GetStatusRequest{})
		if err != nil {
			return at, err
		}
		if at.packets = st.GetPacketsApplied(); at.packets >= packets {
			at.bytes = bytes.Load()
			at.cpu, err = c.cpu()
			return at, err
		}
		time.Sleep(100 * time.Millisecond)
	}
}
