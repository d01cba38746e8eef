package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
// others that are installed. A case is a program on a capture, such as "mixed:
// nfpcapd".
func (b *bench) measureOthers() error {
	p, err := b.newProgram()
	if err != nil {
		return err
	}
	o := &otherRun{bench: b, program: p, base: make(map[string]int64)}
	for _, other := range others {
		if _, err := exec.LookPath(other.name); err == nil {
			o.installed = append(o.installed, other)
		} else {
			fmt.Printf("%s is not installed: left out\n", other.name)
		}
	}
	_, mixed := b.mixed()
	flood := func(packets int) traffic.Config {
		return traffic.Config{Shape: traffic.Flood, Packets: packets, Span: 10 * time.Second}
	}
	if o.few, err = b.capture("few", flood(1000)); err != nil {
		return err
	}
	var cases []func() error
	for _, c := range []struct {
		name     string
		cfg      traffic.Config
		onlyFull bool
	}{
		{"mixed", mixed, false}, {"flood", flood(b.packets), false}, {"flood of 5", flood(5 * b.packets), true},
	} {
		runs := o.runs(c.name, c.cfg, c.onlyFull)
		if len(runs) == 0 {
			continue
		}
		r, err := b.capture(c.name, c.cfg)
		if err != nil {
			return err
		}
		table := o.newTable(r, runs)
		cases = append(cases, func() error { return o.round(r, runs, table) })
	}
	return measure.Rounds(b.rounds, cases...)
}

// otherRun is a run of the suite.
type otherRun struct {
	*bench
	program   *program
	installed []other
	few       *recording
	base      map[string]int64 // peak of memory with few flows, by row
}

// peerRun is a program that is measured.
type peerRun struct {
	row string
	run func(r *recording) (ran, error)
}

// reference is the row that others are compared with, where it is measured.
const reference = "nfpcapd"

// runs are the programs for a capture.
func (o *otherRun) runs(capture string, cfg traffic.Config, onlyFull bool) []peerRun {
	all := []peerRun{
		{"whorl probe", func(r *recording) (ran, error) { return o.pair(r) }},
		{"whorl probe --types none", func(r *recording) (ran, error) { return o.pair(r, withoutTypes...) }},
	}
	for _, other := range o.installed {
		if !other.slow || cfg.Shape != traffic.Flood || cfg.Packets <= 2_000_000 {
			all = append(all, peerRun{other.name, func(r *recording) (ran, error) { return o.foreign(other, r) }})
		}
	}
	all = append(all, peerRun{"whorl fp", func(r *recording) (ran, error) { return o.program.whorl("fp", "-o", "jsonl", r.path) }})
	return slices.DeleteFunc(all, func(p peerRun) bool { return !o.chosen(capture+": "+p.row, onlyFull) })
}

func (o *otherRun) newTable(r *recording, runs []peerRun) *measure.Table {
	t := o.table("peers/"+r.name, "The same capture through programs of others, per packet", []measure.Column{
		{Name: "CPU", Unit: "ns", Spread: true}, {Name: "to " + reference, Spread: true},
		{Name: "RSS", Unit: "MiB"}, {Name: "per flow", Unit: "B"}, {Name: "per flow, to " + reference},
	}, r.String(),
		"to "+reference+": the quotient within a round. Rounds go through the programs forwards and backwards, in turn.",
		"per flow: the peak of memory less that with 1,000 flows, for each flow; Whorl's is the sum of its processes.",
		"whorl probe is probe and collector, two processes, both counted from their start on. Programs that are not installed are left out, and slow ones of floods beyond 2 M flows.")
	for _, other := range o.installed {
		if slices.ContainsFunc(runs, func(p peerRun) bool { return p.row == other.name }) {
			t.Notes = append(t.Notes, other.name+": "+other.does+".")
		}
	}
	return t
}

// round runs a capture through every program.
func (o *otherRun) round(r *recording, runs []peerRun, table *measure.Table) error {
	defer slices.Reverse(runs)
	used := make(map[string]ran)
	for _, run := range runs {
		if _, ok := o.base[run.row]; !ok {
			small, err := run.run(o.few)
			if err != nil {
				return fmt.Errorf("%s: %w", run.row, err)
			}
			o.base[run.row] = small.Peak
		}
		u, err := run.run(r)
		if err != nil {
			return fmt.Errorf("%s, %s: %w", run.row, r.name, err)
		}
		used[run.row] = u
	}
	perFlow := func(row string) float64 {
		return float64(used[row].Peak-o.base[row]) / float64(r.stats.Connections)
	}
	to, compared := used[reference]
	for _, run := range runs {
		u := used[run.row]
		table.Add(run.row, "CPU", float64(u.CPU)/float64(r.stats.Packets))
		table.Add(run.row, "RSS", float64(u.Peak)/(1<<20))
		if compared {
			table.Add(run.row, "to "+reference, float64(u.CPU)/float64(to.CPU))
		}
		if r.cfg.Shape != traffic.Flood {
			continue
		}
		table.Add(run.row, "per flow", perFlow(run.row))
		if base := perFlow(reference); compared && base > 0 {
			table.Add(run.row, "per flow, to "+reference, perFlow(run.row)/base)
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
