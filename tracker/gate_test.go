package tracker

import (
	"runtime"
	"testing"
)

// A query that waits is let in at the next pause, even when all processors are
// busy: it does not wait until the worker has come to the end.
func TestPauseLetsQueriesIn(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var g gate
	for range 100 {
		g.lock()
		in := false
		done := make(chan struct{})
		go func() {
			g.enter()
			in = true
			g.leave()
			close(done)
		}()
		for g.waiting.Load() == 0 {
			runtime.Gosched()
		}
		pauses := 0
		for ; !in && pauses < 10; pauses++ {
			g.pause()
		}
		if !in {
			t.Fatalf("not let in after %d pauses", pauses)
		}
		g.unlock()
		<-done
	}
}
