package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/whorl-net/whorl/bench/measure"
	"github.com/whorl-net/whorl/bench/traffic"
)

// other is a program that reads a capture and keeps its flows.
type other struct {
	name string
	// args are those for a capture; dir is an empty folder.
	args func(capture, dir string) []string
	// does says in a few words what it makes of a packet.
	does string
	// slow ones take minutes and gigabytes for millions of flows.
	slow bool
}

// others are measured where they are installed.
var others = []other{
	{"nfpcapd", func(f, dir string) []string { return []string{"-r", f, "-w", dir} }, "flows, written as nfdump files", false},
	{"softflowd", func(f, _ string) []string { return []string{"-r", f, "-n", "127.0.0.1:9", "-d", "-m", "10000000"} }, "flows, sent as NetFlow 5", false},
	{"ndpiReader", func(f, _ string) []string { return []string{"-i", f, "-q"} }, "flows, applications, a JA3 of its own", true},
	{"suricata", func(f, dir string) []string {
		return []string{"-r", f, "-l", dir, "--runmode", "single", "-S", os.DevNull}
	}, "flows, protocols, no rules", true},
	{"tshark", func(f, _ string) []string { return []string{"-r", f, "-q", "-n", "-z", "conv,tcp"} }, "full dissection, conversations", true},
}

// measureOthers runs the same captures through Whorl and through the programs of
// others that are installed.
func (b *bench) measureOthers() error {
	p, err := b.newProgram()
	if err != nil {
		return err
	}
	distinct := b.packets
	if b.full {
		distinct = 5 * b.packets
	}
	name, cfg := b.mixed()
	mixed, err := b.capture(name, cfg)
	if err != nil {
		return err
	}
	flood, err := b.capture("flood", traffic.Config{Shape: traffic.Flood, Packets: distinct, Span: 10 * time.Second})
	if err != nil {
		return err
	}
	few, err := b.capture("few", traffic.Config{Shape: traffic.Flood, Packets: 1000, Span: time.Second})
	if err != nil {
		return err
	}
	o := &otherRun{bench: b, program: p, few: few, base: make(map[string]int64)}
	o.table = b.table("peers", "The same captures through programs of others, per packet", []measure.Column{
		{Name: "mixed CPU", Unit: "ns", Spread: true}, {Name: "mixed RSS", Unit: "MiB"},
		{Name: "flood CPU", Unit: "ns", Spread: true}, {Name: "flood RSS", Unit: "MiB"}, {Name: "per flow", Unit: "B"},
	}, mixed.String(), flood.String(),
		"per flow: the peak of memory in the flood less that with 1,000 flows, for each flow; Whorl's is the sum of its processes.",
		"whorl probe is probe and collector, two processes, both counted. Programs that are not installed are left out, and slow ones of floods beyond 2 M flows.")
	for _, other := range others {
		if _, err := exec.LookPath(other.name); err == nil {
			o.installed = append(o.installed, other)
			o.table.Notes = append(o.table.Notes, other.name+": "+other.does+".")
		} else {
			fmt.Printf("%s is not installed: left out\n", other.name)
		}
	}
	return measure.Rounds(b.rounds, func() error {
		return errors.Join(o.round(mixed, "mixed"), o.round(flood, "flood"))
	})
}

// otherRun is a run of the suite.
type otherRun struct {
	*bench
	program   *program
	table     *measure.Table
	installed []other
	few       *recording
	base      map[string]int64 // peak of memory with few flows, by row
}

// round runs one capture through every program.
func (o *otherRun) round(r *recording, column string) error {
	type run struct {
		row string
		run func(r *recording) (ran, error)
	}
	runs := []run{
		{"whorl probe", func(r *recording) (ran, error) { return o.pair(r) }},
		{"whorl probe --types none", func(r *recording) (ran, error) { return o.pair(r, withoutTypes...) }},
		{"whorl fp", func(r *recording) (ran, error) { return o.program.whorl("fp", "-o", "jsonl", r.path) }},
	}
	for _, other := range o.installed {
		if other.slow && r.stats.Connections > 2_000_000 {
			continue
		}
		runs = append(runs, run{other.name, func(r *recording) (ran, error) { return o.foreign(other, r) }})
	}
	for _, run := range runs {
		if _, ok := o.base[run.row]; !ok {
			small, err := run.run(o.few)
			if err != nil {
				return fmt.Errorf("%s: %w", run.row, err)
			}
			o.base[run.row] = small.Peak
		}
		used, err := run.run(r)
		if err != nil {
			return fmt.Errorf("%s, %s: %w", run.row, r.name, err)
		}
		o.table.Add(run.row, column+" CPU", float64(used.CPU)/float64(r.stats.Packets))
		o.table.Add(run.row, column+" RSS", float64(used.Peak)/(1<<20))
		if column == "flood" {
			o.table.Add(run.row, "per flow", float64(used.Peak-o.base[run.row])/float64(r.stats.Connections))
		}
	}
	return nil
}

// pair runs a probe into a new collector and returns what both used.
func (o *otherRun) pair(r *recording, probeFlags ...string) (both ran, err error) {
	col, err := o.program.startCollector(room(int(r.stats.Connections)))
	if err != nil {
		return both, err
	}
	defer func() { err = errors.Join(err, col.end()) }()
	if both, err = o.program.whorl(append([]string{"probe", "-r", r.path, "--collector", col.line}, probeFlags...)...); err != nil {
		return both, err
	}
	used, err := col.cpu() // from its start on, like the others
	if err != nil {
		return both, err
	}
	_, peak, err := measure.ResidentBytes(col.cmd.Process.Pid)
	both.CPU += used
	both.Peak += peak
	return both, err
}

// foreign runs a program of others to its end.
func (o *otherRun) foreign(other other, r *recording) (ran, error) {
	dir, err := os.MkdirTemp(o.dir, filepath.Base(other.name))
	if err != nil {
		return ran{}, err
	}
	defer os.RemoveAll(dir)
	return command(o.program.env, other.name, other.args(r.path, dir)...)
}
