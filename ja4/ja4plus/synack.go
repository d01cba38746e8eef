package ja4plus

import (
	"strconv"
	"time"
)

// Bounds of part e of a JA4TS.
const (
	maxSYNACKDelays = 10
	// maxSYNACKSilence is how long after a SYN-ACK the next one, or the reset
	// that gives up, still belongs to it.
	maxSYNACKSilence = int64(120 * time.Second)
)

// SYNACKRetries follows the SYN-ACKs of one connection until the client
// answers, and yields its JA4TS: first that of the SYN-ACK, then, each time
// the server repeats it, one that is longer by the delay in seconds: base,
// base_1, base_1-2, base_1-2-4, and base_1-2-4-R6 if the server resets the
// connection in the end. A server's timers tell its operating system.
//
// The zero SYNACKRetries is ready for use. It holds at most ten delays, later
// SYN-ACKs add nothing. Its size is 32 bytes besides the last value, which it
// shares with whoever got it. Times are capture times in nanoseconds; a packet
// captured before the one it follows adds nothing. Not safe for concurrent use.
//
// Source: FoxIO's withdrawn text on JA4TS with its two examples; that the
// client's answer ends it, and that delays are rounded, is our reading.
type SYNACKRetries struct {
	value  string
	last   int64
	delays uint8
	done   bool
}

// SYNACK takes a packet of the server with SYN and ACK, without FIN and RST,
// and returns the JA4TS that it completes; ok is false when it adds nothing.
// The window and options of the first SYN-ACK stand, those of later ones are
// not looked at.
func (r *SYNACKRetries) SYNACK(captureTime int64, window uint16, options []byte) (value string, ok bool) {
	if r.done {
		return "", false
	}
	if r.value == "" {
		r.value, r.last = SYNACK(window, options), captureTime
		return r.value, true
	}
	seconds, ok := r.delay(captureTime)
	if !ok {
		return "", false
	}
	r.last = captureTime
	if r.delays == maxSYNACKDelays {
		return "", false
	}
	r.extend("", seconds)
	r.delays++
	return r.value, true
}

// Answered takes note that the client sent a packet that is not a SYN: what
// the server repeats from now on tells nothing about its timers.
func (r *SYNACKRetries) Answered() { r.done = true }

// Reset takes a RST of the server and returns the JA4TS that it completes; ok
// is false when it adds nothing, as when no SYN-ACK was repeated before.
func (r *SYNACKRetries) Reset(captureTime int64) (value string, ok bool) {
	if r.done || r.delays == 0 {
		r.done = true
		return "", false
	}
	seconds, ok := r.delay(captureTime)
	r.done = true
	if !ok {
		return "", false
	}
	r.extend("R", seconds)
	return r.value, true
}

// Done reports whether nothing more can come of it: the client has answered or
// the connection was reset or stayed silent for two minutes.
func (r *SYNACKRetries) Done() bool { return r.done }

// delay returns the time since the last SYN-ACK, rounded to the nearest
// second. It refuses one captured out of order, and ends the state when the
// silence was too long.
func (r *SYNACKRetries) delay(captureTime int64) (seconds int64, ok bool) {
	switch d := captureTime - r.last; {
	case captureTime < r.last:
		return 0, false
	case d < 0 || d > maxSYNACKSilence: // below 0: the difference overflowed
		r.done = true
		return 0, false
	default:
		return (d + int64(time.Second)/2) / int64(time.Second), true
	}
}

func (r *SYNACKRetries) extend(prefix string, seconds int64) {
	separator := "-"
	if r.delays == 0 {
		separator = "_"
	}
	r.value += separator + prefix + strconv.FormatInt(seconds, 10)
}
