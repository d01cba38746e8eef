package capture

import (
	"fmt"
	"io/fs"
	"math"
	"time"

	"github.com/google/gopacket"
)

// Gopacket is a Source of the packets of a gopacket.PacketDataSource, for
// programs that capture with gopacket already: a handle of its pcap, afpacket or
// pfring package, or another reader of theirs. What that promises of lengths is
// checked here; the memory it takes is its own affair. For files a File is the
// better Source.
//
// Fill in the fields before the first Next, and not later.
type Gopacket struct {
	// Packets lends the packets; where it is a
	// gopacket.ZeroCopyPacketDataSource, without a copy of each. The caller
	// closes it after Close.
	Packets gopacket.PacketDataSource
	// LinkType is that of all packets.
	LinkType LinkType
	// Idle, if not nil, says of an error of Packets that it only means that no
	// packet came for a while, such as pcap.NextErrorTimeoutExpired: Next then
	// returns ErrIdle. A live source needs it, see probe.Config.Live.
	Idle func(error) bool

	read  func() ([]byte, gopacket.CaptureInfo, error)
	err   error // sticky
	stats Stats
}

// Next implements Source. The end of Packets is io.EOF; its other errors, but
// for idle ones, end the Source as they are.
func (g *Gopacket) Next(p *Packet) error {
	if g.err != nil {
		return g.err
	}
	if g.read == nil {
		g.read = g.Packets.ReadPacketData
		if lender, ok := g.Packets.(gopacket.ZeroCopyPacketDataSource); ok {
			g.read = lender.ZeroCopyReadPacketData
		}
	}
	data, info, err := g.read()
	switch {
	case err != nil && g.Idle != nil && g.Idle(err):
		return ErrIdle
	case err != nil:
		g.err = err
		return err
	case len(data) > MaxCaptured:
		g.err = fmt.Errorf("%w: packet %s has %s bytes, at most %s are possible",
			ErrMalformed, commas(g.stats.Packets+1), commas(len(data)), commas(MaxCaptured))
		return g.err
	}
	t, fits := unixNano(info.Timestamp)
	if !fits {
		g.stats.TimesClamped++
	}
	wire := min(uint64(max(info.Length, len(data))), math.MaxUint32)
	*p = Packet{Data: data, Time: t, WireLength: uint32(wire), LinkType: g.LinkType}
	g.stats.Packets++
	g.stats.WireBytes += wire
	g.stats.CapturedBytes += uint64(len(data))
	return nil
}

// Close implements Source.
func (g *Gopacket) Close() error {
	if g.err == nil {
		g.err = fs.ErrClosed
	}
	return nil
}

// Stats returns what was lent so far. Like Next it belongs to one goroutine.
func (g *Gopacket) Stats() Stats { return g.stats }

// unixNano returns t in nanoseconds. If that does not fit it returns the nearest
// that does, and false.
func unixNano(t time.Time) (int64, bool) {
	switch s := t.Unix(); {
	case s < math.MinInt64/int64(time.Second):
		return math.MinInt64, false
	case s >= math.MaxInt64/int64(time.Second):
		return math.MaxInt64, false
	}
	return t.UnixNano(), true
}
