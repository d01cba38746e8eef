package anomaly

import (
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/analyst/state"
	"github.com/whorl-net/whorl/tracker"
)

// loneKeys is for how many sources there is room: as many as any rule that waits
// has keys, since the first of a slow beacon's beats may be kept here. It is 0
// when none waits.
func loneKeys(rules []*Rule) (keys int) {
	for _, r := range rules {
		if r.waits() {
			keys = max(keys, r.limit.Keys)
		}
	}
	return keys
}

// lone is the only attempt of a source so far. What rules count for each source
// cannot cross a threshold with one, so they are told of it when there is a
// second: a flood from invented addresses, of which each comes once, then costs
// two lines of memory instead of those of every rule.
type lone struct {
	src, dst         flow.Addr
	time             int64
	network          uint32
	srcPort, dstPort uint16
	protocol         flow.Protocol
	flags            uint8
	_                [14]byte // so that a slot is one line of the cache
}

// of makes l that of ev, field by field in its place: a literal would be made
// elsewhere and copied.
func (l *lone) of(ev *tracker.Event, network int) {
	l.src, l.dst, l.time, l.network = ev.Src, ev.Dst, ev.Time, uint32(network)
	l.srcPort, l.dstPort, l.protocol, l.flags = ev.SrcPort, ev.DstPort, ev.Protocol, ev.TCPFlags
}

// event makes an event of l again, as far as the built-in rules look at it.
func (l *lone) event(ev *tracker.Event) {
	ev.Kind, ev.Src, ev.Dst, ev.SrcPort, ev.DstPort = tracker.Opened, l.src, l.dst, l.srcPort, l.dstPort
	ev.Protocol, ev.TCPFlags, ev.Time = l.protocol, l.flags, l.time
}

// waits reports whether a rule can be told of the first attempt of a source when
// there is a second: it counts by source, from 2 on, and looks at nothing that a
// lone does not keep.
func (r *Rule) waits() bool {
	if !r.opened || r.types != 0 || r.accept == nil || !r.filter.All() || len(r.key) == 0 || r.key[0] != (field{what: srcField}) {
		return false
	}
	return r.measure == byBeat || r.measure == byDistinct && r.limit.Threshold > 0
}

func (l *lone) save(w *state.Writer) {
	w.Bool(l.time != 0)
	if l.time == 0 {
		return // seen again: nothing is kept
	}
	w.Bytes(l.src[:])
	w.Bytes(l.dst[:])
	w.Int(l.time)
	w.Uint(uint64(l.network))
	w.Uint(uint64(l.srcPort))
	w.Uint(uint64(l.dstPort))
	w.Uint(uint64(l.protocol))
	w.Uint(uint64(l.flags))
}

func (l *lone) restore(r *state.Reader) {
	*l = lone{}
	if !r.Bool() {
		return
	}
	copy(l.src[:], r.Bytes(len(l.src)))
	copy(l.dst[:], r.Bytes(len(l.dst)))
	l.time = r.Int()
	l.network = uint32(r.UintUpTo(1<<32 - 1))
	l.srcPort, l.dstPort = uint16(r.UintUpTo(65535)), uint16(r.UintUpTo(65535))
	l.protocol, l.flags = flow.Protocol(r.UintUpTo(255)), uint8(r.UintUpTo(255))
}
