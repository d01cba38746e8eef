package fuzzguard

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// tb is a test that ends when it is told to.
type tb struct {
	ends   []func()
	failed []string
}

func (t *tb) Helper()          {}
func (t *tb) Cleanup(f func()) { t.ends = append(t.ends, f) }
func (t *tb) Failed() bool     { return len(t.failed) > 0 }
func (t *tb) Errorf(format string, args ...any) {
	t.failed = append(t.failed, fmt.Sprintf(format, args...))
}

func (t *tb) end() {
	for _, f := range t.ends {
		f()
	}
}

var sink []byte

// What stays within its bounds passes; CPU time and allocated bytes beyond
// them fail, time that is only waited for does not.
func TestWatch(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func()
		want int
	}{
		{"nothing", func() {}, 0},
		{"waits", func() { time.Sleep(MaxCPU * raceTime * 3 / 2) }, 0},
		{"computes", func() {
			for began := cpuTime(); cpuTime()-began < MaxCPU*raceTime*3/2; {
			}
		}, 1},
		{"allocates", func() {
			for range raceMemory*MaxAllocatedBytes>>20 + 1 {
				sink = make([]byte, 1<<20)
			}
		}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			var b tb
			Watch(&b)
			test.do()
			b.end()
			if len(b.failed) != test.want {
				t.Errorf("%d failures, want %d: %q", len(b.failed), test.want, b.failed)
			}
		})
	}
}

// An input that does not end makes the process exit.
func TestStuck(t *testing.T) {
	code := 0
	exit = func(c int) { code = c }
	defer func() { exit = os.Exit }()
	w := &watch{cpu: cpuTime(), began: time.Now().Add(-stuckWall * raceTime)}
	w.timer = time.AfterFunc(time.Hour, func() {})
	defer w.timer.Stop()
	if w.look(); code != 2 {
		t.Errorf("exit code %d for an input that waits forever, want 2", code)
	}
	code = 0
	w.began = time.Now()
	if w.look(); code != 0 {
		t.Errorf("exit code %d for an input that has just begun, want none", code)
	}
	w.cpu = cpuTime() - stuckCPU*raceTime
	if w.look(); code != 2 {
		t.Errorf("exit code %d for an input that computes forever, want 2", code)
	}
}
