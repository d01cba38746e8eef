//go:build !linux

package measure

import (
	"errors"
	"runtime"
	"time"
)

// Use is what something cost.
type Use struct {
	CPU, Wall time.Duration
}

// errLinux is what everything about processes says here.
var errLinux = errors.New("benchmarks measure processes on Linux only")

// Start begins to measure wall time only: there is no process clock here.
func Start() func() Use {
	wall := time.Now()
	return func() Use { return Use{Wall: time.Since(wall)} }
}

// StartThread is Start.
func StartThread() func() Use { return Start() }

// ProcessCPU always fails.
func ProcessCPU(int) (time.Duration, error) { return 0, errLinux }

// ResidentBytes always fails.
func ResidentBytes(int) (now, peak int64, err error) { return 0, 0, errLinux }

// Machine says what this runs on.
func Machine() string { return runtime.GOOS + "/" + runtime.GOARCH }
