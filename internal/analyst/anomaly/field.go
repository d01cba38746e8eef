package anomaly

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/analyst/window"
	"github.com/whorl-net/whorl/tracker"
)

// field is something of an event that can be part of a key or be counted.
type field struct {
	what fieldKind
	// bits cuts IPv4 addresses to a prefix; IPv6 addresses are then cut to 64.
	bits uint8
}

type fieldKind uint8

const (
	noField fieldKind = iota
	srcField
	dstField
	srcPortField
	dstPortField
	protocolField
	probeField
	serverNameField
	valueField
)

var fieldKinds = []struct {
	name string
	kind fieldKind
}{
	{"src", srcField}, {"dst", dstField}, {"src.port", srcPortField}, {"dst.port", dstPortField},
	{"proto", protocolField}, {"probe", probeField}, {"sni", serverNameField}, {"fp", valueField},
}

func (f field) String() string {
	for _, k := range fieldKinds {
		if k.kind == f.what {
			if f.bits > 0 {
				return k.name + "/" + strconv.Itoa(int(f.bits))
			}
			return k.name
		}
	}
	return "nothing"
}

// parseField reads "src", "dst.port", "dst/24" and the like.
func parseField(s string) (field, error) {
	name, bits, cut := strings.Cut(s, "/")
	for _, k := range fieldKinds {
		if k.name != name {
			continue
		}
		if !cut {
			return field{what: k.kind}, nil
		}
		n, err := strconv.ParseUint(bits, 10, 8)
		if err != nil || n == 0 || n > 32 || k.kind != srcField && k.kind != dstField {
			break
		}
		return field{what: k.kind, bits: uint8(n)}, nil
	}
	return field{}, fmt.Errorf("%.40q is not a field: src, dst, src/24, dst/24, src.port, dst.port, proto, probe, sni or fp", s)
}

func fieldNames(fs []field) string {
	names := make([]string, len(fs))
	for i, f := range fs {
		names[i] = f.String()
	}
	return strings.Join(names, "+")
}

// hash returns the hash of f in v.
func (f field) hash(v *view) uint64 {
	switch f.what {
	case srcField:
		if f.bits == 0 {
			return v.src
		}
		a := cut(&v.ev.Src, f.bits)
		return v.hash(&a)
	case dstField:
		if f.bits == 0 {
			return v.dst
		}
		a := cut(&v.ev.Dst, f.bits)
		return v.hash(&a)
	case srcPortField:
		return uint64(v.ev.SrcPort)
	case dstPortField:
		return uint64(v.ev.DstPort)
	case protocolField:
		return uint64(v.ev.Protocol)
	case probeField:
		return v.seed.Start(0).Text(v.ev.Probe).Sum()
	case serverNameField:
		return v.seed.Start(0).Text(v.ev.ServerName).Sum()
	case valueField:
		return v.seed.Start(0).Text(v.ev.Value).Sum()
	}
	return 0
}

// element returns f in v as a 32-bit number: itself where it has no more bits,
// else a hash.
func (f field) element(v *view) uint32 {
	switch {
	case f.what == srcField && f.bits == 0 && v.ev.Src.Is4():
		return binary.BigEndian.Uint32(v.ev.Src[12:])
	case f.what == dstField && f.bits == 0 && v.ev.Dst.Is4():
		return binary.BigEndian.Uint32(v.ev.Dst[12:])
	}
	return uint32(f.hash(v))
}

// show returns an element for people, "" when it is only a hash.
func (f field) show(e uint32, ev *tracker.Event) string {
	switch {
	case f.what == srcPortField || f.what == dstPortField:
		return strconv.Itoa(int(e))
	case f.bits == 0 && (f.what == srcField && ev.Src.Is4() || f.what == dstField && ev.Dst.Is4()):
		return flow.AddrFrom4([4]byte{byte(e >> 24), byte(e >> 16), byte(e >> 8), byte(e)}).String()
	}
	return ""
}

// cut returns the prefix of an address.
func cut(a *flow.Addr, bits uint8) flow.Addr {
	p := *a
	if a.Is4() {
		binary.BigEndian.PutUint32(p[12:], binary.BigEndian.Uint32(p[12:])&^(1<<(32-bits)-1))
		return p
	}
	clear(p[8:])
	return p
}

// view is an event and what rules make of it, each at most once.
type view struct {
	ev       *tracker.Event
	seed     window.Seed
	network  uint64
	src, dst uint64 // hashes
	snapshot *tracker.Snapshot
	filled   bool // snapshot is of ev
}

// look turns to another event.
func (v *view) look(ev *tracker.Event, network int) {
	v.ev, v.network, v.filled = ev, uint64(network), false
	v.src, v.dst = v.hash(&ev.Src), v.hash(&ev.Dst)
}

func (v *view) hash(a *flow.Addr) uint64 { return v.seed.Start(1).Addr((*[16]byte)(a)).Sum() }

// asSnapshot returns ev as a connection, for filters: its addresses and counts,
// and the one fingerprint it is about.
func (v *view) asSnapshot() *tracker.Snapshot {
	s := v.snapshot
	if v.filled {
		return s
	}
	v.filled = true
	ev := v.ev
	history, observers := s.Fingerprints[:0], s.Observers[:0]
	*s = tracker.Snapshot{
		Key: ev.Key, Network: ev.Network, UID: ev.UID, Src: ev.Src, Dst: ev.Dst, SrcPort: ev.SrcPort, DstPort: ev.DstPort,
		Protocol: ev.Protocol, FirstSeen: ev.Time, LastSeen: ev.Time, ServerName: ev.ServerName,
		PacketCount: ev.SrcPackets + ev.DstPackets, ByteCount: ev.SrcBytes + ev.DstBytes,
		SrcPacketCount: ev.SrcPackets, SrcByteCount: ev.SrcBytes,
		Observers: append(observers, tracker.Observer{Probe: ev.Probe}),
	}
	if ev.Kind == tracker.Fingerprinted {
		if cap(history) == 0 {
			history = []tracker.History{{Events: make([]tracker.FingerprintEvent, 1)}}
		}
		history = history[:1]
		history[0].Type, history[0].TotalCount = ev.Type, 1
		history[0].Events[0] = tracker.FingerprintEvent{Value: ev.Value, SeenAt: ev.Time, PacketNum: ev.PacketNum, Probe: ev.Probe}
	}
	s.Fingerprints = history
	return s
}
