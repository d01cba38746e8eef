package measure

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// The median of an even number is the mean of the two in the middle; the spread
// is in parts of it.
func TestSeries(t *testing.T) {
	for _, c := range []struct {
		s                   Series
		min, median, spread float64
	}{
		{Series{5}, 5, 5, 0}, {Series{3, 1, 2}, 1, 2, 1}, {Series{4, 1, 2, 3}, 1, 2.5, 1.2}, {Series{0, 0}, 0, 0, 0},
		{Series{-4, -2}, -4, -3, 2. / 3},
	} {
		if c.s.Min() != c.min || c.s.Median() != c.median || c.s.Spread() != c.spread {
			t.Errorf("%v: %v, %v, %v; want %+v", c.s, c.s.Min(), c.s.Median(), c.s.Spread(), c)
		}
	}
}

// Numbers have about three digits, and commas between thousands.
func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0.00", 0.001234: "0.0012", 0.5: "0.50", 12.345: "12.3", 123.4: "123", 1234.5: "1,234", -1234: "-1,234",
		1234567.8: "1,234,568", 99999.9: "100,000",
	} {
		if got := number(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}

// What CPU time is measured grows with work and is not the time slept.
func TestUseIsOfWork(t *testing.T) {
	stop := Start()
	time.Sleep(30 * time.Millisecond) // real: the kernel counts CPU time by no other clock
	asleep := stop()
	stop = StartThread()
	for begin := time.Now(); time.Since(begin) < 20*time.Millisecond; {
	}
	awake := stop()
	if asleep.Wall < 30*time.Millisecond || asleep.CPU > asleep.Wall/2 || awake.CPU == 0 || awake.CPU > awake.Wall+time.Millisecond {
		t.Errorf("asleep %+v, awake %+v", asleep, awake)
	}
	own, err := ProcessCPU(os.Getpid())
	if err != nil || own < awake.CPU {
		t.Errorf("this process: %v, %v", own, err)
	}
	if _, err := ProcessCPU(1 << 22); err == nil {
		t.Error("a process that is not there has CPU time")
	}
	if now, peak, err := ResidentBytes(os.Getpid()); err != nil || now < 1<<20 || peak < now {
		t.Errorf("resident: %d, %d, %v", now, peak, err)
	}
}

// Rounds runs cases in turn and stops at an error.
func TestRoundsRunInTurn(t *testing.T) {
	var order strings.Builder
	enough := errors.New("enough")
	note := func(s string, until int) func() error {
		return func() error {
			if order.WriteString(s); order.Len() == until {
				return enough
			}
			return nil
		}
	}
	if err := Rounds(3, note("a", 5), note("b", 5)); err != enough || order.String() != "ababa" {
		t.Errorf("%v after %s", err, &order)
	}
}

func example() *Report {
	r := &Report{Machine: "here"}
	t := &Table{Name: "t", Title: "A table", Columns: []Column{{Name: "CPU", Unit: "ns", Spread: true}, {Name: "wall", Unit: "ns"}}}
	r.Tables = append(r.Tables, t)
	t.AddUse("one", Use{CPU: 1000, Wall: 4000}, 10)
	t.AddUse("one", Use{CPU: 2000, Wall: 4000}, 10)
	t.AddUse("two, with a longer name", Use{CPU: 1234567, Wall: 1}, 1)
	return r
}

// A table is aligned, in text as in markdown.
func TestPrint(t *testing.T) {
	var text, md strings.Builder
	table := example().Tables[0]
	table.Notes = []string{"A note."}
	if err := errors.Join(table.Print(&text, false), table.Print(&md, true)); err != nil {
		t.Fatal(err)
	}
	const want = `
A table
                           CPU ns min     median  spread  wall ns
  one                             100        150    67 %      400
  two, with a longer name   1,234,567  1,234,567     0 %     1.00
  A note.
`
	if text.String() != want {
		t.Errorf("got %s\nwant %s", &text, want)
	}
	if !strings.Contains(md.String(), "### A table\n") || !strings.Contains(md.String(), "\n|---|---:|---:|---:|---:|\n") {
		t.Errorf("markdown: %s", &md)
	}
}

// A report survives its file, what is no number left out.
func TestReadReadsWhatWasWritten(t *testing.T) {
	r, path := example(), filepath.Join(t.TempDir(), "r")
	r.Tables[0].Add("one", "CPU", math.Inf(1))
	if err := r.Write(path); err != nil {
		t.Fatal(err)
	}
	got, err := Read(path + ".json")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, r) {
		t.Errorf("read %+v, wrote %+v", got, r)
	}
}

// For benchstat each round is a line, with the columns as units, and no name
// has spaces.
func TestBenchmarksAreALinePerRound(t *testing.T) {
	r := example()
	r.Tables[0].Name = "a/b"
	r.Tables[0].Add("one", "CPU", 300)
	const want = `cpu: here
BenchmarkA/b/one 1 100 CPU-ns 400 wall-ns
BenchmarkA/b/one 1 200 CPU-ns 400 wall-ns
BenchmarkA/b/one 1 300 CPU-ns
BenchmarkA/b/two_with_a_longer_name 1 1.23457e+06 CPU-ns 1 wall-ns
`
	if got := string(r.benchmarks()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
