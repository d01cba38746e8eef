package tracker

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// gate is the lock of a worker's shards: the worker holds it while it changes
// them, queries while they read. A sync.Mutex alone is not enough: who unlocks
// it and locks it again at once gets it nearly always, until whoever waits has
// done so for a millisecond.
type gate struct {
	mu      sync.Mutex
	waiting atomic.Int32 // queries that want in
}

// enter is for queries, leave ends it.
func (g *gate) enter() {
	g.waiting.Add(1)
	g.mu.Lock()
	g.waiting.Add(-1)
}

func (g *gate) leave() { g.mu.Unlock() }

// gateTries bounds how often a worker stands back for one query: who was woken
// may have to wait for a processor.
const gateTries = 4

// lock is for the worker. It lets queries in that wait.
func (g *gate) lock() {
	for i := 0; i < gateTries && g.waiting.Load() > 0; i++ {
		runtime.Gosched() // to whoever the unlock before has woken
	}
	g.mu.Lock()
}

// unlock is for the worker.
func (g *gate) unlock() { g.mu.Unlock() }

// pause lets queries in that wait. The worker holds the lock and gets it back.
func (g *gate) pause() {
	if g.waiting.Load() > 0 {
		g.unlock()
		g.lock()
	}
}
