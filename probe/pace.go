package probe

import (
	"context"
	"time"

	"github.com/whorl-net/whorl/probe/capture"
)

// pace shifts the times of a replay and holds it back to the speed it was
// captured at, or a multiple of it. The zero pace does neither.
type pace struct {
	speed  float64
	retime bool

	started   bool
	wallStart time.Time
	captured  int64 // time of the first packet, as captured
	shift     int64
}

func (c *pace) active() bool { return c.speed > 0 || c.retime }

// due shifts *t, the capture time of a packet, and returns how long the packet
// has to wait still. now is asked only when it may have to.
func (c *pace) due(t *int64, now func() time.Time) time.Duration {
	if !c.started {
		c.started = true
		c.wallStart, c.captured = now(), *t
		if c.retime {
			c.shift = c.wallStart.UnixNano() - *t
		}
	}
	since := *t - c.captured
	*t += c.shift
	if c.speed == 0 || since <= 0 {
		return 0
	}
	return time.Duration(float64(since)/c.speed) - now().Sub(c.wallStart)
}

// keepPace waits until the packet in is due. A batch that would grow too
// old meanwhile is cut first.
func (w *worker) keepPace(ctx context.Context, in *capture.Packet) error {
	wait := w.pace.due(&in.Time, time.Now)
	if w.pace.speed == 0 {
		return nil
	}
	if err := w.cutAged(ctx); err != nil {
		return err
	}
	for wait > 0 {
		step := wait
		if !w.batcher.empty() {
			step = min(step, max(maxBatchAge-time.Since(w.since), 0))
		}
		if err := sleep(ctx, step); err != nil {
			return err
		}
		wait -= step
		if err := w.cutAged(ctx); err != nil {
			return err
		}
	}
	return nil
}

// sleep returns after d, or with the cause when ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
