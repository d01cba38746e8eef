// Package capture lends packets: from capture files (pcap and pcapng, also
// inside gzip) and, in a sub-package, from a live interface.
//
// A Source lends one Packet after the other. A File is a Source over bytes that
// somebody else wrote: it believes no length in them before it has checked it,
// and its memory is bounded whatever they say. A Writer makes such files. What a
// packet means is package decode's to say.
//
// # Why the readers are our own
//
// gopacket's pcapgo reads both formats, and the tests compare every packet of
// well-formed files with it. It cannot be fenced for files of strangers,
// though: its link types have 8 bits (SLL2 reads as 20), it allocates what a
// snap length or a block length claims, it hides Decryption Secrets Blocks, it
// knows no byte offsets to report, and of two errors it cannot say which one
// was a file cut short. A wrapper that checks every length before pcapgo sees it
// has to parse every header anyway, so it is the reader.
package capture

// Source lends captured packets, one at a time.
//
// A Source belongs to one goroutine. Packets come in the order of capture, or
// of the file; their times may still go backwards.
type Source interface {
	// Next fills p with the next packet. What p.Data refers to is lent until
	// the next call of Next or Close. It returns io.EOF when there are no more
	// packets and, from the first error on, always that error; ErrIdle of a
	// live source is none.
	Next(p *Packet) error
	// Close lets go of the source. It must not be called during Next.
	Close() error
}

// BlockSource is a Source that can lend several packets at a time, for who works
// on more than one at once.
type BlockSource interface {
	Source
	// NextBlock fills ps, which is not empty, from its beginning and returns
	// how many packets it has lent: all of them until the next call of Next,
	// NextBlock or Close. It lends one at least, or returns an error as Next
	// does; it lends fewer than ps has room for wherever the next one would
	// make it wait, move what it has lent, or call somebody else. So how many
	// come at a time says nothing.
	NextBlock(ps []Packet) (int, error)
}

// NextBlock is s.NextBlock where s has it, and else lends one packet by s.Next.
func NextBlock(s Source, ps []Packet) (int, error) {
	if b, ok := s.(BlockSource); ok {
		return b.NextBlock(ps)
	}
	if err := s.Next(&ps[0]); err != nil {
		return 0, err
	}
	return 1, nil
}

// Stats says what a Source has lent so far.
type Stats struct {
	// Packets is the number of packets lent, WireBytes the sum of their wire
	// lengths, CapturedBytes of what was kept of them.
	Packets, WireBytes, CapturedBytes uint64
	// Dropped is the number of packets that arrived and found no room. Always
	// 0 for a file.
	Dropped uint64
	// TimesClamped is the number of packets whose time does not fit 64-bit
	// nanoseconds (before 1677 or after 2262); they carry the nearest that does.
	TimesClamped uint64
}
