package service

import "sync"

// completions turns "applied by every shard", which happens in any order, into
// "applied, and everything before it too", which happens in log order: what an
// Ack says. Safe for concurrent use.
type completions struct {
	mu      sync.Mutex // guards the queue and the order of calls
	head    int
	queue   []*completion
	waiting chan struct{} // closed when the queue is empty; nil when nobody waits
}

// completion is one record on its way through the tracker. finish is called
// once, in log order, with completions' lock held: it must be short and must not
// come back here.
type completion struct {
	finish func()
	done   bool
}

// begin puts c behind those before it. Calls come from the applier alone.
func (q *completions) begin(c *completion) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.head > 0 && q.head == len(q.queue) {
		q.head, q.queue = 0, q.queue[:0]
	}
	if q.head > 256 && q.head*2 > len(q.queue) {
		n := copy(q.queue, q.queue[q.head:])
		clear(q.queue[n:])
		q.head, q.queue = 0, q.queue[:n]
	}
	q.queue = append(q.queue, c)
}

// end marks c as applied and finishes it and those behind it that wait for it
// alone.
func (q *completions) end(c *completion) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c.done = true
	for q.head < len(q.queue) && q.queue[q.head].done {
		next := q.queue[q.head]
		q.queue[q.head] = nil
		q.head++
		next.finish()
	}
	if q.head == len(q.queue) && q.waiting != nil {
		close(q.waiting)
		q.waiting = nil
	}
}

// idle returns a channel that is closed when nothing is on its way.
func (q *completions) idle() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.head == len(q.queue) {
		return alreadyClosed
	}
	if q.waiting == nil {
		q.waiting = make(chan struct{})
	}
	return q.waiting
}

var alreadyClosed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()
