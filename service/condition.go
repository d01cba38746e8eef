package service

import (
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// condition is what the collector does now: it restores, serves, refuses to
// take anything in, or drains. Safe for concurrent use.
type condition struct {
	mu       sync.Mutex // guards all below
	draining bool
	// refusal is why nothing can be written to the log, nil when it can.
	refusal error
	// restoring is set until the log was applied up to to.
	restoring bool
	from, to  uint64
}

// name is that of GetStatusResponse.state.
func (c *condition) name() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.draining:
		return "draining"
	case c.restoring:
		return "restoring"
	case c.refusal != nil:
		return "refusing"
	}
	return "serving"
}

// restores says that the log is being applied from behind from up to to.
func (c *condition) restores(from, to uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.restoring, c.from, c.to = true, from, to
}

func (c *condition) restored() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.restoring = false
}

// progress describes the restore, nil when there is none.
func (c *condition) progress(position uint64) *whorlv1.RestoreStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.restoring {
		return nil
	}
	return &whorlv1.RestoreStatus{FromPosition: c.from, Position: max(position, c.from), ToPosition: c.to}
}

func (c *condition) drains() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
}

// refuse notes why nothing can be written, nil when it can, and reports whether
// that is another answer than before.
func (c *condition) refuse(why error) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed = (why == nil) != (c.refusal == nil)
	c.refusal = why
	return changed
}

// refusing returns why nothing can be written, nil when it can.
func (c *condition) refusing() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refusal
}

// closed returns why calls are turned away for now, nil when they are not.
func (c *condition) closed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.restoring {
		return retryLater(codes.Unavailable, ReasonRestoring, retryDelay, "the collector is restoring its state: try again soon")
	}
	return nil
}

// unwritableDelay is what callers are told to wait while the log takes nothing:
// a disk that is full is seldom free again within a second.
const unwritableDelay = 2 * time.Second

// errUnwritable refuses what would have to be written to the log.
func errUnwritable() error {
	return retryLater(codes.Unavailable, ReasonLogUnwritable, unwritableDelay,
		"the collector cannot write its log now, so it takes nothing in: keep it and try again")
}
