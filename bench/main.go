// Bench measures what a packet costs on its way from a capture to the table,
// and what the table costs beside the design it replaced.
//
//	go run ./bench                          a few minutes
//	go run ./bench -only stages -packets 200000
//	go run ./bench -full                    an hour, less when nothing else runs
//	go run ./bench -show report.json -markdown
//
// Tables go to standard output, and to -out as JSON and, for benchstat (make
// bench-compare), in the format of Go benchmarks. What the traffic is like
// is said in package traffic, how time is taken in package measure. Nothing here
// asserts a time: the figures are for people.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/whorl-net/whorl/bench/measure"
	"github.com/whorl-net/whorl/bench/traffic"
)

// bench is one run.
type bench struct {
	report measure.Report
	sample *traffic.Sample
	// samplePath is where the sample was read from.
	samplePath string
	dir        string // for captures and the binary
	keep       string // for captures of more runs than this; empty is dir
	whorl      string // the binary to measure; empty builds one
	packets    int
	rounds     int
	full       bool
	// cases chooses some of the cases of a suite by name; nil is all.
	cases *regexp.Regexp
	made  []*recording
}

// chosen reports whether -case asks for the case of that name, or for none in
// particular. One that is asked for by name runs without -full, too.
func (b *bench) chosen(name string, onlyFull bool) bool {
	if b.cases == nil {
		return b.full || !onlyFull
	}
	return b.cases.MatchString(name)
}

// suites are what -only chooses from, in the order in which they run.
var suites = []struct {
	name string
	run  func(*bench) error
}{
	{"stages", (*bench).measureStages},
	{"program", (*bench).measureProgram},
	{"steady", (*bench).measureSteady},
	{"durable", (*bench).measureDurable},
	{"sustained", (*bench).measureSustained},
	{"enrich", (*bench).measureEnrichment},
	{"knowledge", (*bench).measureKnowledge},
	{"hunt", (*bench).measureHunt},
	{"feed", (*bench).measureFeed},
	{"queries", (*bench).measureQueries},
	{"tracker", (*bench).measureTracker},
	{"scaling", (*bench).measureScaling},
	{"peers", (*bench).measureOthers},
}

// suiteNames are the names of all suites.
func suiteNames() (names []string) {
	for _, s := range suites {
		names = append(names, s.name)
	}
	return names
}

func main() {
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	var (
		b        bench
		only     = flags.String("only", "", "comma-separated suites: "+strings.Join(suiteNames(), ", ")+" (default all)")
		out      = flags.String("out", "bench/out", "folder for JSON")
		sample   = flags.String("sample", "examples/sample/sample.pcap", "capture that handshakes are taken from")
		show     = flags.String("show", "", "print a report that was written before")
		markdown = flags.Bool("markdown", false, "print tables as markdown")
		cases    = flags.String("case", "", "a regular expression: only the cases of suites program, steady, tracker and peers whose names it matches, such as '1 M live', also such as are for -full")
		role     = flags.String("role", "", "be a part of another run; for internal use")
	)
	profile := flags.String("cpuprofile", "", "write a CPU profile of this process to a file")
	flags.StringVar(&b.keep, "captures", "", "keep captures in this folder and use those that are there; empty it when the generator has changed")
	flags.StringVar(&b.whorl, "whorl", "", "measure this binary instead of one that is built here")
	flags.IntVar(&b.packets, "packets", 1_000_000, "packets of a capture")
	flags.IntVar(&b.rounds, "rounds", 3, "how often everything is measured, in turn")
	flags.BoolVar(&b.full, "full", false, "also the sizes that take long: 4 and 5 M flows, 20 and 80 M packets")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case *role != "":
		f := roles[*role]
		if f == nil {
			return fmt.Errorf("no role %q", *role)
		}
		return f(flags.Args())
	case *show != "":
		return showReport(*show, *markdown)
	case flags.NArg() > 0:
		return fmt.Errorf("what is %q? see -help", flags.Arg(0))
	case b.packets < 10_000 || b.rounds < 1:
		return errors.New("-packets: want 10000 or more; -rounds: want 1 or more")
	}
	if *cases != "" {
		re, err := regexp.Compile(*cases)
		if err != nil {
			return fmt.Errorf("-case: %w", err)
		}
		b.cases = re
	}
	if *profile != "" {
		stop, err := startProfile(*profile)
		if err != nil {
			return err
		}
		defer stop()
	}
	return b.run(*only, *sample, *out, args, *markdown)
}

// run measures, prints and writes.
func (b *bench) run(only, sample, out string, args []string, markdown bool) (err error) {
	wanted := strings.Split(only, ",")
	for _, w := range wanted {
		if only != "" && !slices.Contains(suiteNames(), w) {
			return fmt.Errorf("-only: no suite %q", w)
		}
	}
	b.samplePath = sample
	if b.sample, err = readSample(sample); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "whorl-bench"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	defer onInterrupt(func() { os.RemoveAll(b.dir) })()
	if b.keep != "" {
		if err := os.MkdirAll(b.keep, 0o755); err != nil {
			return err
		}
	}
	b.report = measure.Report{Started: time.Now(), Machine: measure.Machine(), Args: args}
	fmt.Println(b.report.Machine)
	for _, s := range suites {
		if only != "" && !slices.Contains(wanted, s.name) {
			continue
		}
		from, start := len(b.report.Tables), time.Now()
		if err := s.run(b); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		for _, t := range b.report.Tables[from:] {
			if err := t.Print(os.Stdout, markdown); err != nil {
				return err
			}
		}
		fmt.Printf("\n%s took %v\n", s.name, time.Since(start).Round(time.Second))
	}
	return b.write(out)
}

// onInterrupt ends this process with status 1 when it is asked to end, after f: captures
// are gigabytes, often in memory. What was started ends with it. Call the result
// when there is nothing to clear any more.
func onInterrupt(f func()) (stop func()) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, os.Interrupt, syscall.SIGTERM)
	ended := make(chan struct{})
	go func() {
		select {
		case <-asked:
			f()
			os.Exit(1)
		case <-ended:
		}
	}()
	return func() {
		signal.Stop(asked)
		close(ended)
	}
}

// write leaves the report in files.
func (b *bench) write(out string) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	path := filepath.Join(out, b.report.Started.UTC().Format("20060102-150405"))
	if err := b.report.Write(path); err != nil {
		return err
	}
	fmt.Printf("wrote %s.json and .txt\n", path)
	return nil
}

func readSample(path string) (*traffic.Sample, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: run it in the folder of the project, or say -sample", err)
	}
	defer f.Close()
	return traffic.ReadSample(path, f)
}

// showReport prints the tables of a report.
func showReport(path string, markdown bool) error {
	r, err := measure.Read(path)
	if err != nil {
		return err
	}
	fmt.Println(r.Machine)
	for _, t := range r.Tables {
		if err := t.Print(os.Stdout, markdown); err != nil {
			return err
		}
	}
	return nil
}

// table adds a table to the report.
func (b *bench) table(name, title string, columns []measure.Column, notes ...string) *measure.Table {
	t := &measure.Table{Name: name, Title: title, Columns: columns, Notes: notes}
	b.report.Tables = append(b.report.Tables, t)
	return t
}

// timed measures f, with the garbage of before out of the way.
func timed(f func() error) (measure.Use, error) {
	runtime.GC()
	stop := measure.Start()
	err := f()
	return stop(), err
}

// startProfile profiles this process until stop is called.
func startProfile(path string) (stop func(), err error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		f.Close()
	}, nil
}
