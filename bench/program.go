package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"github.com/whorl-net/whorl/bench/measure"
	"github.com/whorl-net/whorl/bench/traffic"
)

// program measures the whole program: whorl probe -r into whorl collector, two
// processes over loopback.
type program struct {
	binary string
	env    []string
	table  *measure.Table
	files  *measure.Table
	cases  []programCase
	// counted are the captures whose bytes on the wire are known.
	counted map[*recording]bool
}

// programCase is a capture and what the collector is told.
type programCase struct {
	*recording
	collector []string
	// subscribers are how many watch the feed, in turn: some only where
	// connections leave.
	subscribers []int
}

// newProgram builds the binary.
func (b *bench) newProgram() (*program, error) {
	nowhere := filepath.Join(b.dir, "home") // no configuration of this host
	p := &program{counted: make(map[*recording]bool), binary: filepath.Join(b.dir, "whorl"), env: append(os.Environ(), "HOME="+nowhere, "XDG_CONFIG_HOME="+nowhere)}
	if out, err := exec.Command("go", "build", "-o", p.binary, "./cmd/whorl").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build whorl: %w\n%s", err, out)
	}
	return p, nil
}

// measureProgram runs the binary.
func (b *bench) measureProgram() error {
	p, err := b.newProgram()
	if err != nil {
		return err
	}
	notes, err := b.programCases(p)
	if err != nil {
		return err
	}
	p.table = b.table("program", "whorl probe -r FILE into whorl collector, two processes, per packet", []measure.Column{
		{Name: "probe CPU", Unit: "ns", Spread: true}, {Name: "collector CPU", Unit: "ns", Spread: true},
		{Name: "packets/s", More: true}, {Name: "wire", Unit: "B"}, {Name: "probe RSS", Unit: "MiB"},
		{Name: "collector RSS", Unit: "MiB"}, {Name: "live"}, {Name: "evicted"}, {Name: "told"}, {Name: "missed"},
	}, append(notes,
		"probe CPU: the whole process, start included; collector CPU: from before the probe starts until it rests again.",
		"wire: bytes both ways on the TCP connection; told: evictions that subscribers have received, all together; missed: those they were told to be lost to them.")...)
	p.files = b.table("program/fp", "whorl fp -o jsonl FILE, per packet", []measure.Column{
		{Name: "CPU", Unit: "ns", Spread: true}, {Name: "wall", Unit: "ns"}, {Name: "packets/s", More: true}, {Name: "RSS", Unit: "MiB"},
	})
	return measure.Rounds(b.rounds, p.round)
}

// programCases makes the captures.
func (b *bench) programCases(p *program) (notes []string, err error) {
	n := b.packets
	quiet, watched := []int{0}, []int{0, 4}
	add := func(name string, subscribers []int, cfg traffic.Config, collector ...string) {
		if err != nil {
			return
		}
		var r *recording
		if r, err = b.capture(name, cfg); err == nil {
			p.cases = append(p.cases, programCase{r, collector, subscribers})
			notes = append(notes, r.String())
		}
	}
	room := func(connections int) string { return "--max-connections=" + strconv.Itoa(connections) }
	name, mixed := b.mixed()
	add(name, watched, mixed)
	add("short", quiet, traffic.Config{Shape: traffic.Short, Packets: 4 * n, Connections: n, Span: 5 * time.Second}, room(n+n/10))
	add("flood", watched, traffic.Config{Shape: traffic.Flood, Packets: n, Span: 10 * time.Second}, room(n/10))
	add("elephants", quiet, traffic.Config{Shape: traffic.Elephants, Packets: n, Connections: 16, Span: time.Minute})
	if b.full {
		add("mixed, large", watched, traffic.Config{Shape: traffic.Mixed, Packets: 20 * n, Connections: n, Span: 20 * time.Second}, room(n+n/10))
	}
	return notes, err
}

// round runs every case once.
func (p *program) round() error {
	for i, c := range p.cases {
		for _, n := range c.subscribers {
			if err := p.run(c, n); err != nil {
				return fmt.Errorf("%s, %d subscribers: %w", c.name, n, err)
			}
		}
		if i == 0 || c.name == "short" {
			if err := p.fingerprints(c); err != nil {
				return fmt.Errorf("fp of %s: %w", c.name, err)
			}
		}
	}
	return nil
}

// run runs one probe into a new collector with n subscribers.
func (p *program) run(c programCase, n int) (err error) {
	col, err := p.startCollector(c.collector...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, col.end()) }()
	subs, err := watch(col.line, n)
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
	start := time.Now()
	used, peak, err := p.whorl("probe", "-r", c.path, "--collector", col.line)
	if err != nil {
		return err
	}
	wall := time.Since(start)
	time.Sleep(pastTick)
	live, evicted, err := subs.caughtUp(col.line)
	if err != nil {
		return err
	}
	if err := col.rest(); err != nil {
		return err
	}
	after, err := col.cpu()
	if err != nil {
		return err
	}
	resident, _, err := measure.ResidentBytes(col.cmd.Process.Pid)
	if err != nil {
		return err
	}

	packets := float64(c.stats.Packets)
	name := fmt.Sprintf("%s, %d subscribers", c.name, n)
	p.table.Add(name, "probe CPU", float64(used)/packets)
	p.table.Add(name, "collector CPU", float64(after-before)/packets)
	p.table.Add(name, "packets/s", packets/wall.Seconds())
	p.table.Add(name, "probe RSS", float64(peak)/(1<<20))
	p.table.Add(name, "collector RSS", float64(resident)/(1<<20))
	p.table.Add(name, "live", float64(live))
	p.table.Add(name, "evicted", float64(evicted))
	if n > 0 {
		p.table.Add(name, "told", float64(subs.evictions.Load()))
		p.table.Add(name, "missed", float64(subs.missed.Load()))
		return nil
	}
	if p.counted[c.recording] {
		return nil // it would be the same again
	}
	bytes, err := p.countBytes(c)
	p.counted[c.recording] = true
	p.table.Add(name, "wire", float64(bytes)/packets)
	return err
}

// countBytes runs a probe through a proxy and returns the bytes both ways.
func (p *program) countBytes(c programCase) (bytes int64, err error) {
	col, err := p.startCollector(c.collector...)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, col.end()) }()
	proxy, err := newProxy(col.line)
	if err != nil {
		return 0, err
	}
	_, _, err = p.whorl("probe", "-r", c.path, "--collector", proxy.addr())
	return proxy.end(), err
}

// fingerprints runs whorl fp.
func (p *program) fingerprints(c programCase) error {
	start := time.Now()
	used, peak, err := p.whorl("fp", "-o", "jsonl", c.path)
	if err != nil {
		return err
	}
	wall := time.Since(start)
	p.files.AddUse(c.name, measure.Use{CPU: used, Wall: wall}, int(c.stats.Packets))
	p.files.Add(c.name, "packets/s", float64(c.stats.Packets)/wall.Seconds())
	p.files.Add(c.name, "RSS", float64(peak)/(1<<20))
	return nil
}

// whorl runs a command to its end and returns its CPU time and its peak of
// memory. Its output goes nowhere.
func (p *program) whorl(args ...string) (cpu time.Duration, peakBytes int64, err error) {
	cmd := exec.Command(p.binary, args...)
	cmd.Env = p.env
	if err := cmd.Run(); err != nil {
		return 0, 0, fmt.Errorf("whorl %s: %w", args[0], err)
	}
	s := cmd.ProcessState
	if u, ok := s.SysUsage().(*syscall.Rusage); ok {
		peakBytes = int64(u.Maxrss) << 10
	}
	return s.UserTime() + s.SystemTime(), peakBytes, nil
}

// collector is a running whorl collector; its line is where it listens.
type collector struct{ *child }

var listening = regexp.MustCompile(`collector on (\S+) `)

// startCollector starts a collector on a free port.
func (p *program) startCollector(args ...string) (*collector, error) {
	cmd := exec.Command(p.binary, append([]string{"collector", "--listen", "127.0.0.1:0", "--durability", "memory"}, args...)...)
	cmd.Env = p.env
	c, err := start(cmd, cmd.StderrPipe, listening.MatchString)
	if err != nil {
		return nil, err
	}
	c.line = listening.FindStringSubmatch(c.line + " ")[1]
	return &collector{c}, nil
}

// end stops the collector as an operator would.
func (c *collector) end() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return c.stop()
}

// pastTick is longer than the second after which a collector looks for what has
// expired: then it is a matter of the capture alone how many have left.
const pastTick = 1300 * time.Millisecond

// rest waits until the collector does next to nothing, at most 20 s.
func (c *collector) rest() error {
	for range 200 {
		before, err := c.cpu()
		if err != nil {
			return err
		}
		time.Sleep(100 * time.Millisecond)
		after, err := c.cpu()
		if err != nil {
			return err
		}
		if after-before < 3*time.Millisecond {
			return nil
		}
	}
	return errors.New("the collector does not come to rest")
}
