//go:build !unix

package fuzzguard

import "time"

var start = time.Now()

// cpuTime returns the time since the start of the process, there being nothing
// better.
func cpuTime() time.Duration { return time.Since(start) }
