package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/whorl-net/whorl/bench/measure"
	"github.com/whorl-net/whorl/bench/traffic"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// program measures the whole program: whorl probe -r into whorl collector, two
// processes over loopback.
type program struct {
	binary string
	env    []string
	table  *measure.Table
	files  *measure.Table
	cases  []programCase
	// counted are the cases whose bytes on the wire are known.
	counted map[string]bool
}

// programCase is a capture and what probe and collector are told.
type programCase struct {
	name string
	*recording
	probe, collector []string
	// subscribers are how many watch the feed, in turn: some only where
	// connections leave.
	subscribers []int
	// fp runs whorl fp over it, too.
	fp bool
	// onlyFull cases take long.
	onlyFull bool
}

// newProgram builds the binary, unless it is there.
func (b *bench) newProgram() (*program, error) {
	nowhere := filepath.Join(b.dir, "home") // no configuration of this host
	p := &program{
		counted: make(map[string]bool), binary: filepath.Join(b.dir, "whorl"),
		env: append(os.Environ(), "HOME="+nowhere, "XDG_CONFIG_HOME="+nowhere),
	}
	if b.whorl != "" {
		p.binary = b.whorl
	}
	if _, err := os.Stat(p.binary); err == nil || b.whorl != "" {
		return p, err
	}
	if out, err := exec.Command("go", "build", "-o", p.binary, "github.com/whorl-net/whorl/cmd/whorl").CombinedOutput(); err != nil {
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
		"Durability memory. probe CPU: the whole process, start included; collector CPU: from before the probe starts until it rests again.",
		"wire: bytes both ways on the TCP connection; told: evictions that subscribers have received, all together; missed: those they were told to be lost to them.")...)
	p.files = b.table("program/fp", "whorl fp -o jsonl FILE, per packet", []measure.Column{
		{Name: "CPU", Unit: "ns", Spread: true}, {Name: "wall", Unit: "ns"}, {Name: "packets/s", More: true}, {Name: "RSS", Unit: "MiB"},
	})
	return measure.Rounds(b.rounds, p.round)
}

// room is the flag for a table with room for connections and some more.
func room(connections int) string {
	return "--max-connections=" + strconv.Itoa(connections+connections/10+1000)
}

// withoutTypes is for a probe that only counts.
var withoutTypes = []string{"--types", "none"}

// programCases makes the captures.
func (b *bench) programCases(p *program) (notes []string, err error) {
	n := b.packets
	add := func(cfg traffic.Config, c programCase) {
		plain := c.name + ", no fingerprints"
		every, none := b.chosen(c.name, c.onlyFull), cfg.Shape == traffic.Mixed && b.chosen(plain, c.onlyFull)
		if err != nil || !every && !none {
			return
		}
		if c.recording, err = b.capture(c.name, cfg); err == nil {
			notes = append(notes, c.recording.String())
			if every {
				p.cases = append(p.cases, c)
			}
			if none {
				c.name, c.probe, c.subscribers, c.fp = plain, withoutTypes, []int{0}, false
				p.cases = append(p.cases, c)
			}
		}
	}
	quiet, watched := []int{0}, []int{0, 4}
	name, mixed := b.mixed()
	add(mixed, programCase{name: name, subscribers: watched, fp: true})
	add(traffic.Config{Shape: traffic.Short, Packets: 4 * n, Connections: n, Span: 5 * time.Second},
		programCase{name: "short", subscribers: quiet, collector: []string{room(n)}, fp: true})
	add(traffic.Config{Shape: traffic.Flood, Packets: n, Span: 10 * time.Second},
		programCase{name: "flood", subscribers: watched, collector: []string{"--max-connections=" + strconv.Itoa(n/10)}})
	add(traffic.Config{Shape: traffic.Elephants, Packets: n, Connections: 16, Span: time.Minute},
		programCase{name: "elephants", subscribers: quiet})
	add(traffic.Config{Shape: traffic.Mixed, Packets: 20 * n, Connections: n, Span: 20 * time.Second},
		programCase{name: "mixed, " + millions(n) + " connections of 20 packets", subscribers: quiet, collector: []string{room(n)}, onlyFull: true})
	return notes, err
}

// round runs every case once.
func (p *program) round() error {
	for _, c := range p.cases {
		for _, n := range c.subscribers {
			if err := p.run(c, n); err != nil {
				return fmt.Errorf("%s, %d subscribers: %w", c.name, n, err)
			}
		}
		if c.fp {
			if err := p.fingerprints(c); err != nil {
				return fmt.Errorf("fp of %s: %w", c.name, err)
			}
		}
	}
	return nil
}

// passed is what it took to bring a capture into a collector.
type passed struct {
	probe        ran
	collectorCPU time.Duration
	// status and resident are the collector's, when it rests again.
	status   *whorlv1.GetStatusResponse
	resident int64
}

// pass brings a capture into a collector that runs and waits until it rests.
// settled, if not nil, is called before its last look at it.
func (p *program) pass(col *collector, c *recording, flags []string, settled func() error) (r passed, err error) {
	if err := col.rest(); err != nil {
		return r, err
	}
	before, err := col.cpu()
	if err != nil {
		return r, err
	}
	if r.probe, err = p.whorl(append([]string{"probe", "-r", c.path, "--collector", col.line}, flags...)...); err != nil {
		return r, err
	}
	time.Sleep(pastTick)
	if settled != nil {
		if err := settled(); err != nil {
			return r, err
		}
	}
	if err := col.rest(); err != nil {
		return r, err
	}
	after, err := col.cpu()
	if err != nil {
		return r, err
	}
	r.collectorCPU = after - before
	if r.status, err = status(col.line); err != nil {
		return r, err
	}
	r.resident, _, err = measure.ResidentBytes(col.cmd.Process.Pid)
	return r, err
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
	r, err := p.pass(col, c.recording, c.probe, func() error { return subs.caughtUp(col.line) })
	if err != nil {
		return err
	}

	packets := float64(c.stats.Packets)
	name := fmt.Sprintf("%s, %d subscribers", c.name, n)
	p.table.Add(name, "probe CPU", float64(r.probe.CPU)/packets)
	p.table.Add(name, "collector CPU", float64(r.collectorCPU)/packets)
	p.table.Add(name, "packets/s", packets/r.probe.Wall.Seconds())
	p.table.Add(name, "probe RSS", float64(r.probe.Peak)/(1<<20))
	p.table.Add(name, "collector RSS", float64(r.resident)/(1<<20))
	p.table.Add(name, "live", float64(r.status.GetConnections()))
	p.table.Add(name, "evicted", float64(evicted(r.status)))
	if n > 0 {
		p.table.Add(name, "told", float64(subs.evictions.Load()))
		p.table.Add(name, "missed", float64(subs.missed.Load()))
		return nil
	}
	if p.counted[c.name] {
		return nil // it would be the same again
	}
	bytes, err := p.countBytes(c)
	p.counted[c.name] = true
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
	_, err = p.whorl(append([]string{"probe", "-r", c.path, "--collector", proxy.addr()}, c.probe...)...)
	return proxy.end(), err
}

// fingerprints runs whorl fp.
func (p *program) fingerprints(c programCase) error {
	r, err := p.whorl("fp", "-o", "jsonl", c.path)
	if err != nil {
		return err
	}
	p.files.AddUse(c.name, measure.Use{CPU: r.CPU, Wall: r.Wall}, int(c.stats.Packets))
	p.files.Add(c.name, "packets/s", float64(c.stats.Packets)/r.Wall.Seconds())
	p.files.Add(c.name, "RSS", float64(r.Peak)/(1<<20))
	return nil
}

// whorl runs a command of the binary to its end.
func (p *program) whorl(args ...string) (ran, error) { return command(p.env, p.binary, args...) }

// collector is a running whorl collector; its line is where it listens.
type collector struct{ *child }

var listening = regexp.MustCompile(`collector on (\S+) `)

// startCollector starts a collector on a free port, without durability unless
// args name a data directory.
func (p *program) startCollector(args ...string) (*collector, error) {
	durability := "memory"
	if slices.Contains(args, "--data-dir") {
		durability = "disk"
	}
	cmd := exec.Command(p.binary, append([]string{
		"collector", "--listen", "127.0.0.1:0", "--admin-listen", "off", "--durability", durability,
	}, args...)...)
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
