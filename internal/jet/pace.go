package jet

import "time"

// Pace says when the next of many small writes may begin, so that there are at
// most one in each Every on average, and Burst at once after a pause. Not safe
// for concurrent use.
type Pace struct {
	Every time.Duration
	Burst int

	// due is when the write after the last one would have its turn without any
	// bursts.
	due time.Time
}

// Delay returns how long the next write has to wait; 0 is not at all.
func (p *Pace) Delay(now time.Time) time.Duration {
	return max(0, p.due.Add(-time.Duration(p.Burst-1)*p.Every).Sub(now))
}

// Began notes that a write began at now. One that did not wait for its turn holds
// the next back by no more than Every, however many there were of them.
func (p *Pace) Began(now time.Time) {
	if p.due.Before(now) {
		p.due = now
	}
	p.due = p.due.Add(p.Every)
	if most := now.Add(time.Duration(p.Burst) * p.Every); p.due.After(most) {
		p.due = most
	}
}
