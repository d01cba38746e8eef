package tracker

import "time"

// netClock is the clock of a network: its newest packet time; once log time
// has gone on for hold without a newer packet, that plus the log time beyond
// hold. It never goes back, even if packets are behind it.
//
// The hold is what keeps the clock a function of the packets: without it, a
// tick between two batches would overtake packets that a probe has captured
// and not yet sent.
type netClock struct {
	set    bool
	now    int64 // the greatest the clock has ever been
	newest int64 // packet time
	setAt  int64 // log time at which newest came
	hold   int64 // how long log time is held from then on
}

// future is how far a packet of a live session may be ahead of its log time.
const future = int64(24 * time.Hour)

// maxTime bounds packet and log times, in Unix nanoseconds: the year 2116.
// Times beyond it, or before 1970, are malformed.
const maxTime = 1 << 62

// reach moves the clock on to where it is at logTime, and returns that.
func (c *netClock) reach(logTime int64) int64 {
	if c.set {
		c.now = min(max(c.now, c.newest+max(0, logTime-c.setAt-c.hold)), maxTime)
	}
	return c.now
}

// packet moves the clock on for a packet at time t that entered the log at
// logTime.
func (c *netClock) packet(t, logTime, hold int64) int64 {
	if !c.set || t > c.newest {
		c.set, c.newest, c.setAt, c.hold = true, t, logTime, hold
		c.now = max(c.now, t)
	}
	return c.now
}

// ahead is what a packet from the future does: nothing, but that a clock which
// was never set starts at the log's.
func (c *netClock) ahead(logTime int64) int64 {
	if !c.set {
		c.now = max(c.now, logTime)
	}
	return c.now
}
