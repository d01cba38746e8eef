package measure

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

// Clocks of clock_gettime(2).
const (
	clockProcess = 2
	clockThread  = 3
)

// Use is what something cost.
type Use struct {
	CPU, Wall time.Duration
}

// Start begins to measure this process. Call the result at the end.
func Start() func() Use {
	cpu, wall := cpuTime(clockProcess), time.Now()
	return func() Use { return Use{CPU: cpuTime(clockProcess) - cpu, Wall: time.Since(wall)} }
}

// StartThread is Start for the calling goroutine, which it locks to its thread
// until the result is called.
func StartThread() func() Use {
	runtime.LockOSThread()
	cpu, wall := cpuTime(clockThread), time.Now()
	return func() Use {
		defer runtime.UnlockOSThread()
		return Use{CPU: cpuTime(clockThread) - cpu, Wall: time.Since(wall)}
	}
}

// ProcessCPU returns the CPU time that a running process has used so far.
func ProcessCPU(pid int) (time.Duration, error) {
	// The clock of another process: clock_getcpuclockid(3).
	return clock(^pid<<3 | clockProcess)
}

// cpuTime reads a clock of this process, which never fails.
func cpuTime(id int) time.Duration {
	d, err := clock(id)
	if err != nil {
		panic(err)
	}
	return d
}

func clock(id int) (time.Duration, error) {
	var ts syscall.Timespec
	_, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, uintptr(id), uintptr(unsafe.Pointer(&ts)), 0)
	if errno != 0 {
		return 0, fmt.Errorf("clock %d: %w", id, errno)
	}
	return time.Duration(ts.Nano()), nil
}

// ResidentBytes returns the memory of a running process that is in RAM, now and
// at its peak.
func ResidentBytes(pid int) (now, peak int64, err error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, 0, err
	}
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if len(f) < 2 {
			continue
		}
		kib, _ := strconv.ParseInt(string(f[1]), 10, 64)
		switch string(f[0]) {
		case "VmRSS:":
			now = kib << 10
		case "VmHWM:":
			peak = kib << 10
		}
	}
	if now == 0 {
		return 0, 0, errors.New("no VmRSS in the status of the process")
	}
	return now, peak, nil
}

// Machine says what this runs on.
func Machine() string {
	model := "unknown CPU"
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range bytes.Lines(b) {
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && string(bytes.TrimSpace(name)) == "model name" {
			model = string(bytes.TrimSpace(value))
			break
		}
	}
	load, _ := os.ReadFile("/proc/loadavg")
	if f := bytes.Fields(load); len(f) > 0 {
		load = f[0]
	}
	return fmt.Sprintf("%s, %d cores, %s %s/%s, load %s at the start", model, runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH, load)
}
