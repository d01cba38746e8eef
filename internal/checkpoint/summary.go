package checkpoint

import (
	"encoding/binary"
	"errors"
	"time"
)

// Summary says what a round is worth. It is the content of the end block.
type Summary struct {
	// Oldest is the position of the log behind which all is needed to go on from
	// this round: the least of its blocks.
	Oldest uint64
	// Newest is the greatest position of a block: all events up to it are in the
	// feed, and those behind it come again from the log.
	Newest uint64
	// FeedSequence is the number of the newest event in the feed when the round
	// was completed.
	FeedSequence uint64
	// Connections is the number of connections in it.
	Connections uint64
	// Completed is when it was complete, on the collector's clock.
	Completed time.Time

	// What follows is not stored.

	// Number of the round, and Bytes of its file.
	Number uint64
	Bytes  int64
}

// summaryBytes is the length of a stored Summary: five numbers.
const summaryBytes = 40

func (s *Summary) append(dst []byte) []byte {
	for _, n := range [...]uint64{s.Oldest, s.Newest, s.FeedSequence, s.Connections, uint64(s.Completed.UnixNano())} {
		dst = binary.LittleEndian.AppendUint64(dst, n)
	}
	return dst
}

func parseSummary(p []byte) (Summary, error) {
	if len(p) != summaryBytes {
		return Summary{}, errors.New("the end block has another length")
	}
	n := func(i int) uint64 { return binary.LittleEndian.Uint64(p[i*8:]) }
	s := Summary{
		Oldest: n(0), Newest: n(1), FeedSequence: n(2), Connections: n(3),
		Completed: time.Unix(0, int64(n(4))),
	}
	if s.Oldest > s.Newest {
		return Summary{}, errors.New("the end block holds positions in the wrong order")
	}
	return s, nil
}
