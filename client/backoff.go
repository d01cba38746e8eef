package client

import (
	"context"
	"math/rand/v2"
	"time"
)

// Bounds of the wait between two attempts to reach a collector.
const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
	maxEased   = 500 * time.Millisecond
)

// backoff is the wait between attempts: it doubles from minBackoff to
// maxBackoff and each wait is drawn between half of it and all of it, so that a
// fleet does not come back in step. The zero value is ready.
type backoff struct{ next time.Duration }

// reset starts again from minBackoff, after something worked.
func (b *backoff) reset() { b.next = 0 }

// ease bounds the next wait by maxEased, after something answered: whoever is
// there and busy, or behind a bad line, is asked more often than who is away.
func (b *backoff) ease() { b.next = min(b.next, maxEased/2) }

// delay returns how long to wait now.
func (b *backoff) delay() time.Duration {
	b.next = min(max(2*b.next, minBackoff), maxBackoff)
	half := b.next / 2
	return half + rand.N(half+1)
}

// sleep waits d, or until ctx ends, and then returns its cause.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
