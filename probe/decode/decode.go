package decode

import (
	"fmt"
	"time"

	"github.com/whorl-net/whorl/probe/capture"
)

// Defaults of Config.
const (
	DefaultMaxDatagrams     = 256
	DefaultMaxFragmentBytes = 8 << 20
	DefaultFragmentAge      = 30 * time.Second
)

// Config says how a Decoder looks at packets. The zero Config works.
type Config struct {
	// Outer stops at the outermost IP header: a tunnel is then a connection
	// of its own, with the ports of its UDP header or, where it has none (GRE,
	// IP in IP), with ports 0.
	Outer bool
	// MaxDatagrams and MaxFragmentBytes bound the fragmented datagrams that
	// wait for their missing parts; beyond them the oldest is given up. 0 means
	// DefaultMaxDatagrams and DefaultMaxFragmentBytes.
	MaxDatagrams     int
	MaxFragmentBytes int
	// FragmentAge is the packet time after which an incomplete datagram is
	// given up; 0 means DefaultFragmentAge.
	FragmentAge time.Duration
}

// Decoder decodes packets. It keeps incomplete datagrams, so all packets of one
// direction of one connection must go to the same Decoder, in order of capture.
// A Decoder belongs to one goroutine.
type Decoder struct {
	config Config // without zeros
	outer  bool
	stats  Stats
	frags  reassembler
	faults []capture.Packet

	lends bool // of the last packet: it refers to memory of ours

	// Of the packet being decoded:

	out     *Packet
	time    int64
	budget  int            // headers that may still be entered
	depth   int            // tunnels entered
	partial bool           // looking at the beginning of a datagram only
	held    []HeldFragment // fragments that share the fate of this packet
	scratch Packet         // what the beginning of a datagram said
}

const (
	// maxDepth bounds tunnels within each other. What is there at that depth
	// is the connection, even if it is a tunnel.
	maxDepth = 4
	// maxHeaders bounds all headers of a packet together, tags and labels
	// included.
	maxHeaders = 48
	// maxFrame bounds the length of a packet on the wire.
	maxFrame = capture.MaxWire
	// maxFaults bounds the packets kept for Offenders.
	maxFaults = 16
)

// Stats counts what a Decoder saw. It holds at any time that
//
//	Packets = the sum of Verdicts + FragmentsIncomplete + FragmentsWaiting
//
// where Verdicts[Held] is always 0: a held fragment counts where it ends up.
type Stats struct {
	// Packets and Bytes (on the wire) count every packet given to Decode.
	Packets, Bytes uint64
	// Verdicts counts packets, by their final verdict.
	Verdicts [NumVerdicts]uint64

	// FragmentsWaiting is the number of held fragments whose datagram may still
	// be completed; FragmentsIncomplete those of datagrams that were given up.
	FragmentsWaiting, FragmentsIncomplete uint64
	// DatagramsComplete counts datagrams put together from fragments.
	DatagramsComplete uint64
	// The datagrams given up: after Config.FragmentAge, for want of room, and
	// because they came in too many pieces.
	DatagramsAged, DatagramsEvicted, DatagramsShredded uint64
	// FragmentsOverlapping counts fragments some of whose bytes had come
	// before; the first ones count.
	FragmentsOverlapping uint64

	// DepthExceeded counts tracked packets with more tunnels than are opened.
	DepthExceeded uint64
	// UnknownLink is the link type of the first packet whose verdict was
	// UnknownLink; 0 while there is none.
	UnknownLink capture.LinkType
	// HeadersBroken counts tracked packets whose transport header contradicts
	// itself behind the ports; HeadersCut those whose transport header was not
	// captured whole.
	HeadersBroken, HeadersCut uint64
}

// Untracked returns the sum of the verdicts that say so.
func (s *Stats) Untracked() (n uint64) { return s.sum(Verdict.Untracked) }

// Undecodable returns the sum of the verdicts that say so.
func (s *Stats) Undecodable() (n uint64) { return s.sum(Verdict.Undecodable) }

func (s *Stats) sum(in func(Verdict) bool) (n uint64) {
	for v, count := range s.Verdicts {
		if in(Verdict(v)) {
			n += count
		}
	}
	return n
}

// New returns a Decoder. It panics if a number of c is negative.
func New(c Config) *Decoder {
	if c.MaxDatagrams < 0 || c.MaxFragmentBytes < 0 || c.FragmentAge < 0 {
		panic(fmt.Sprintf("decode: negative limit in %+v", c))
	}
	if c.MaxDatagrams == 0 {
		c.MaxDatagrams = DefaultMaxDatagrams
	}
	if c.MaxFragmentBytes == 0 {
		c.MaxFragmentBytes = DefaultMaxFragmentBytes
	}
	if c.FragmentAge == 0 {
		c.FragmentAge = DefaultFragmentAge
	}
	d := &Decoder{config: c, outer: c.Outer}
	d.frags.init(c, &d.stats)
	return d
}

// Stats returns a copy of the counters.
func (d *Decoder) Stats() Stats { return d.stats }

// Offenders returns the first packets that made Decode panic, at most 16. They
// are copies; the slice belongs to the Decoder.
func (d *Decoder) Offenders() []capture.Packet { return d.faults }

// Flush gives up all incomplete datagrams, as at the end of a capture.
func (d *Decoder) Flush() { d.frags.flush() }

// Decode says what the headers of in say. It fills out, whatever the verdict:
// Time and WireLength always, the rest when it returns Tracked. Nothing is
// kept of in.Data but fragments, which are copied.
func (d *Decoder) Decode(in *capture.Packet, out *Packet) Verdict {
	d.stats.Packets++
	d.stats.Bytes += uint64(in.WireLength)
	if d.lends = false; d.common(in, out) {
		if d.frags.busy {
			d.frags.begin(in.Time)
		}
		d.stats.Verdicts[Tracked]++
		return Tracked
	}
	return d.any(in, out)
}

// any decodes whatever it is.
func (d *Decoder) any(in *capture.Packet, out *Packet) (v Verdict) {
	*out = Packet{Time: in.Time, WireLength: in.WireLength}
	d.out, d.time = out, in.Time
	d.budget, d.depth = maxHeaders, 0
	d.held, d.partial = d.held[:0], false
	if d.frags.busy {
		d.frags.begin(in.Time)
	}
	defer d.recover(in, &v)
	v = d.link(in)
	d.settle(v)
	d.lends = len(d.held) > 0 || len(d.frags.lent) > 0
	return v
}

// Lends reports whether what the last Decode filled in refers to memory of the
// Decoder, which the next Decode overwrites, rather than to the captured bytes
// alone.
func (d *Decoder) Lends() bool { return d.lends }

// settle counts the packet, and the fragments that share its fate, under v.
func (d *Decoder) settle(v Verdict) {
	if v == Held { // counted where it is kept, or lost
		return
	}
	d.stats.Verdicts[v]++
	if len(d.held) == 0 {
		return
	}
	d.stats.Verdicts[v] += uint64(len(d.held))
	if v == Tracked {
		d.out.Held = d.held
	}
}

// recover turns a panic into a verdict: one packet must not end a probe.
func (d *Decoder) recover(in *capture.Packet, v *Verdict) {
	if recover() == nil {
		return
	}
	*v, d.lends = Fault, false
	*d.out = Packet{Time: in.Time, WireLength: in.WireLength}
	if len(d.faults) < maxFaults {
		kept := *in
		kept.Data = append([]byte(nil), in.Data...)
		d.faults = append(d.faults, kept)
	}
	// What is open may be half changed.
	d.stats.FragmentsIncomplete += d.stats.FragmentsWaiting
	d.stats.FragmentsWaiting = 0
	d.frags.init(d.config, &d.stats)
	d.settle(Fault)
}
