package client

import "time"

// Batches that come quickly leave in bursts: each time a batch is sent threads
// wake up on both sides, and with a million packets/s that was a fourth of what
// they cost a collector. A batch that comes alone is sent at once.
const (
	// burstEvery is the time between the beginnings of two bursts, and so the
	// longest that a batch waits for the sake of others.
	burstEvery = 10 * time.Millisecond
	// With so much to send the next burst begins at once.
	burstBatches = 8
	burstBytes   = 256 << 10
)

// rhythm says when to send. The zero rhythm sends at once. Not safe for concurrent
// use: the Reporter's mutex guards it.
type rhythm struct {
	began    time.Time // the newest burst
	bursting bool      // there was always something to send since
	resting  bool      // the stream waits for the next burst, and only for that
}

// delay returns how long those batches should wait that can be sent now; 0 begins a
// burst, or goes on with one.
func (h *rhythm) delay(now time.Time, much bool) time.Duration {
	if !h.bursting {
		if d := burstEvery - now.Sub(h.began); d > 0 && !much {
			h.resting = true
			return d
		}
		h.began = now
	}
	h.bursting, h.resting = true, false
	return 0
}

// idle notes that there is nothing to send, or that it must not be.
func (h *rhythm) idle() { h.bursting, h.resting = false, false }

// muchLocked reports whether what is queued is worth a burst, or must not wait:
// somebody waits for room, or for the end.
func (r *Reporter) muchLocked() bool {
	return len(r.ring.queued) >= burstBatches || r.ring.size-r.ring.sentBytes >= min(burstBytes, r.ring.maxBytes/4) ||
		r.waiting > 0 || r.finish != nil
}
