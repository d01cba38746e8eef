// Package fuzzguard gives fuzz targets a bound on time and memory.
//
// The fuzzing engine of Go reports panics and failures; an input that takes
// seconds or gigabytes is no failure to it, and one that never ends is not
// reported at all: the run is stopped and passes. Watch turns all three into
// failures, so that the input is kept.
//
// It is for tests alone.
package fuzzguard

import (
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"time"
)

// What one input may take.
const (
	// MaxCPU is of all threads of the process, so that a busy machine does
	// not count; tenfold under the race detector.
	MaxCPU = 100 * time.Millisecond
	// MaxAllocatedBytes is of all that is allocated, whether it is let go of
	// meanwhile or not: more than what is held at any time. Twice as much
	// under the race detector.
	MaxAllocatedBytes = 64 << 20
)

// An input that still runs after so long is stuck: it used stuckCPU, or it
// waits for something that never comes.
const (
	lookEvery = 2 * time.Second
	stuckCPU  = 20 * time.Second
	stuckWall = 5 * time.Minute
)

// TB is the part of testing.TB that Watch uses.
type TB interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
	Failed() bool
}

// Watch fails t when, from now to its end, it takes more than MaxCPU or
// allocates more than MaxAllocatedBytes. An input that never ends makes the
// process exit with the stacks of all goroutines. It is called first in the
// function of a fuzz target, and costs a few microseconds:
//
//	f.Fuzz(func(t *testing.T, b []byte) {
//		fuzzguard.Watch(t)
//
// Tests that run in parallel to t count to t.
func Watch(t TB) {
	t.Helper()
	w := &watch{cpu: cpuTime(), allocated: allocatedBytes(), began: time.Now()}
	w.timer = time.AfterFunc(lookEvery, w.look)
	t.Cleanup(func() {
		t.Helper()
		w.timer.Stop()
		if t.Failed() {
			return
		}
		if cpu := cpuTime() - w.cpu; cpu > MaxCPU*raceTime {
			t.Errorf("the input took %v of CPU, want at most %v", cpu, MaxCPU*raceTime)
		}
		if n := allocatedBytes() - w.allocated; n > MaxAllocatedBytes*raceMemory {
			t.Errorf("the input allocated %d MiB, want at most %d", n>>20, MaxAllocatedBytes*raceMemory>>20)
		}
	})
}

type watch struct {
	cpu       time.Duration
	allocated uint64
	began     time.Time
	timer     *time.Timer
}

// look ends the process when the input is stuck: the engine then keeps it as
// one that crashes.
func (w *watch) look() {
	cpu, wall := cpuTime()-w.cpu, time.Since(w.began)
	if cpu < stuckCPU*raceTime && wall < stuckWall*raceTime {
		w.timer.Reset(lookEvery)
		return
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	fmt.Fprintf(os.Stderr, "the input is stuck: %v of CPU, %v since its beginning\n\n%s\n", cpu, wall, stacks)
	exit(2)
}

var exit = os.Exit // a test replaces it

func allocatedBytes() uint64 {
	s := [1]metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s[:])
	if s[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return s[0].Value.Uint64()
}
