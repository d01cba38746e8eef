package main

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/whorl-net/whorl/bench/measure"
	"github.com/whorl-net/whorl/bench/traffic"
)

// TestMain plays the roles, too: the parts of a benchmark start this binary.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "-role" {
		roles["parent"] = parentRole
		if err := run(os.Args[1:]); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// small is a run in little time.
func small(t *testing.T) *bench {
	t.Helper()
	s, err := readSample("../examples/sample/sample.pcap")
	if err != nil {
		t.Fatal(err)
	}
	return &bench{sample: s, samplePath: "../examples/sample/sample.pcap", dir: t.TempDir(), packets: 20_000, rounds: 2}
}

// filled checks that every row has a value for each round and none is negative
// that cannot be.
func filled(t *testing.T, b *bench, tables ...string) {
	t.Helper()
	if len(b.report.Tables) != len(tables) {
		t.Fatalf("%d tables, want %v", len(b.report.Tables), tables)
	}
	for i, table := range b.report.Tables {
		if table.Name != tables[i] {
			t.Errorf("table %s, want %s", table.Name, tables[i])
		}
		if len(table.Rows) == 0 {
			t.Errorf("%s has no rows", table.Name)
		}
		for _, r := range table.Rows {
			if n := len(*r.Values[0]); n == 0 || n > b.rounds {
				t.Errorf("%s, %s: %d values in %d rounds", table.Name, r.Name, n, b.rounds)
			}
			for c, v := range r.Values {
				if name := table.Columns[c].Name; name != "added" && name != "from" && name != "to" && len(*v) > 0 && v.Min() < 0 {
					t.Errorf("%s, %s: %s is %v", table.Name, r.Name, name, v.Min())
				}
			}
		}
	}
}

// Every stage runs, and each handles all packets of the capture.
func TestStagesRun(t *testing.T) {
	b := small(t)
	b.packets, b.rounds = 10_000, 1
	if err := b.measureStages(); err != nil {
		t.Fatal(err)
	}
	filled(t, b, "stages/probe", "stages/collector", "stages/forms")
}

// Every case of the tracker runs, and finds in both tables what it expects.
func TestTrackerCasesRun(t *testing.T) {
	b := small(t)
	b.packets = 10_000
	if err := b.measureTracker(); err != nil {
		t.Fatal(err)
	}
	filled(t, b, "tracker")
}

// The feed has its rows, and no subscriber misses anything.
func TestFeedRuns(t *testing.T) {
	b := small(t)
	if err := b.measureFeed(); err != nil {
		t.Fatal(err)
	}
	filled(t, b, "feed")
}

// Cores, shards and sizes: every case runs, in a process of its own.
func TestScalingRuns(t *testing.T) {
	b := small(t)
	b.packets, b.rounds = 4000, 1
	if err := b.measureScaling(); err != nil {
		t.Fatal(err)
	}
	filled(t, b, "scaling/cores", "scaling/connections")
}

// The suites that run whole programs take a minute: WHORL_BENCH=1 asks for them.
func TestProgramsRun(t *testing.T) {
	if os.Getenv("WHORL_BENCH") == "" {
		t.Skip("WHORL_BENCH is not set") // a minute of measuring: make bench runs these suites
	}
	b := small(t)
	b.rounds = 1
	for _, suite := range []func() error{b.measureProgram, b.measureSteady, b.measureDurable, b.measureSustained, b.measureQueries, b.measureEnrichment, b.measureOthers} {
		if err := suite(); err != nil {
			t.Fatal(err)
		}
	}
	filled(t, b, "program", "program/fp", "steady", "durable", "sustained", "queries", "queries/export", "enrich", "peers/mixed", "peers/flood")
}

// A command's use is its own: its memory is not that of the process that asked.
func TestCommandIsMeasuredAlone(t *testing.T) {
	ballast := make([]byte, 64<<20)
	for i := 0; i < len(ballast); i += 4096 {
		ballast[i] = 1
	}
	r, err := command(nil, "true")
	if err != nil {
		t.Fatal(err)
	}
	runtime.KeepAlive(ballast)
	if r.Peak == 0 || r.Peak > 60<<20 || r.Wall == 0 {
		t.Errorf("true used %+v", r)
	}
	if _, err := command(nil, "sh", "-c", "echo because; exit 3"); err == nil || !strings.Contains(err.Error(), "because") {
		t.Errorf("a command that fails: %v", err)
	}
}

// A mark is made at the place in the file that was asked for, and not before.
func TestMarkIsMadeInTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, make([]byte, 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		file         string
		offset, want int64
		rests        string // seconds, in which a busy machine finds the place
	}{{path, 3000, 3000, "2"}, {path, 3001, 0, "0.1"}, {"", 0, 0, "0.1"}, {path + "x", 1, 0, "0.1"}} {
		r, err := task{
			Command: []string{"sh", "-c", "exec 3<" + path + "; dd bs=1000 count=3 of=" + os.DevNull + " <&3; sleep " + c.rests},
			File:    c.file, Offset: c.offset,
		}.run(nil)
		if err != nil {
			t.Fatal(err)
		}
		if r.Mark.Offset != c.want || r.Mark.CPU > r.CPU || r.Mark.Wall > r.Wall {
			t.Errorf("mark at %d of %q: %+v of %+v, want offset %d", c.offset, c.file, r.Mark, r, c.want)
		}
	}
}

// A case runs where its name is asked for, also one that is left out otherwise.
func TestCasesAreChosenByName(t *testing.T) {
	for _, c := range []struct {
		cases               string
		full, onlyFull, run bool
	}{
		{"", false, false, true}, {"", false, true, false}, {"", true, true, true},
		{"4 M", false, true, true}, {"^1 M", false, true, false}, {"^1 M", true, false, false},
	} {
		b := bench{full: c.full}
		if c.cases != "" {
			b.cases = regexp.MustCompile(c.cases)
		}
		if got := b.chosen("4 M live", c.onlyFull); got != c.run {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// A capture that is kept is not made again, and is the same.
func TestCapturesAreKept(t *testing.T) {
	dir := t.TempDir()
	cfg := traffic.Config{Shape: traffic.Steady, Packets: 1000, Connections: 100}
	var first *recording
	for range 2 {
		b := small(t)
		b.keep = dir
		r, err := b.capture("kept", cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.forget(r); err != nil {
			t.Fatal(err)
		}
		if first == nil {
			// Made again it would have other bytes.
			if err := os.WriteFile(r.path, make([]byte, r.size), 0o600); err != nil {
				t.Fatal(err)
			}
			first = r
		}
		if r.path != first.path || r.stats != first.stats || r.size != first.size {
			t.Errorf("%+v, was %+v", r, first)
		}
	}
	data, err := os.ReadFile(first.path)
	if err != nil || data[0] != 0 {
		t.Errorf("%d bytes, %v: made twice", len(data), err)
	}
}

// The proxy counts the bytes of both directions.
func TestProxyCountsBothWays(t *testing.T) {
	l, err := onLoopback()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	answered := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			answered <- err
			return
		}
		defer c.Close()
		if _, err = io.ReadFull(c, make([]byte, 100)); err == nil {
			_, err = c.Write(make([]byte, 23))
		}
		answered <- err
	}()
	p, err := newProxy(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", p.addr())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil || len(got) != 23 {
		t.Errorf("%d bytes back, %v", len(got), err)
	}
	c.Close()
	if err := <-answered; err != nil {
		t.Error(err)
	}
	// What was passed on is counted a moment later.
	for end := time.Now().Add(20 * time.Second); p.bytes.Load() != 123 && time.Now().Before(end); {
		time.Sleep(time.Millisecond) // real: a socket on the other side
	}
	if n := p.bytes.Load(); n != 123 {
		t.Errorf("%d bytes counted while it runs, want 123", n)
	}
	if n := p.end(); n != 123 {
		t.Errorf("%d bytes counted, want 123", n)
	}
}

// Wrong flags are refused with a sentence.
func TestFlagsAreChecked(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken.json")
	if err := os.WriteFile(broken, []byte(`{"tables":[{"columns":[{"name":"a"}],"rows":[{"name":"r","values":[]}]}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for args, problem := range map[string]string{
		"-role x":           "no role",
		"-show a":           "no such file",
		"-rounds 0":         "-rounds",
		"-case (":           "-case",
		"-packets 3":        "-packets",
		"-only nothing":     "no suite",
		"what":              "what is",
		"-sample no-such":   "no such file",
		"-only stages,what": "no suite",
	} {
		if err := run(strings.Fields(args)); err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("%s: %v, want …%s…", args, err, problem)
		}
	}
	if _, err := measure.Read(broken); err == nil || !strings.Contains(err.Error(), "do not fit") {
		t.Errorf("a report with too few values: %v", err)
	}
}
