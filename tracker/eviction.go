package tracker

import "fmt"

// Cause is why a connection left. The numbers are those of
// whorl.v1.EvictionCause; the zero Cause is none.
type Cause uint8

// The causes.
const (
	// CauseIdle: nothing was seen for the timeout of its state.
	CauseIdle Cause = 1
	// CauseCapacity: room was needed, for connections or for memory.
	CauseCapacity Cause = 2
	// CauseClosed: FIN of both sides or RST, and the linger time passed or a
	// new SYN came.
	CauseClosed Cause = 3
	// CauseFlush: an operator or a probe's end emptied the table.
	CauseFlush Cause = 4

	// NumCauses is one more than the largest Cause: the length of a table
	// indexed by Cause.
	NumCauses = 5
)

// String returns "idle", "capacity", "closed" or "flush".
func (c Cause) String() string {
	switch c {
	case CauseIdle:
		return "idle"
	case CauseCapacity:
		return "capacity"
	case CauseClosed:
		return "closed"
	case CauseFlush:
		return "flush"
	}
	return fmt.Sprintf("cause(%d)", uint8(c))
}

// Eviction is a connection that left the table.
type Eviction struct {
	// Number rises by one with each eviction of a shard, from 1.
	Number uint64
	Cause  Cause
	// EvictedAt is in Unix nanoseconds. Of an idle or closed connection it is
	// LastSeen plus its timeout, whenever the sweep came; of a closed one that
	// a new SYN replaced, the time of that SYN; otherwise the network's clock
	// when it left.
	EvictedAt int64
	// Connection is as Full copies it, enriched.
	Connection Snapshot
}
