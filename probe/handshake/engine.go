package handshake

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/ja4/cleartext"
	"github.com/whorl-net/whorl/ja4/ja4plus"
	"github.com/whorl-net/whorl/probe/decode"
)

// Defaults of Config.
const (
	DefaultMaxFlows    = 1 << 20
	DefaultMaxBytes    = 256 << 20
	DefaultTCPIdle     = time.Hour
	DefaultTCPHalfOpen = 150 * time.Second
	DefaultTCPLinger   = 10 * time.Second
	DefaultSSHIdle     = 4 * time.Minute
	DefaultSSHLinger   = 3 * time.Second
	DefaultUDPIdle     = 3 * time.Minute
	DefaultOtherIdle   = time.Minute
)

// Config bounds an Engine. The zero Config works.
type Config struct {
	// Types are the fingerprints to compute; 0 means ja4.AllTypes.
	Types ja4.TypeSet
	// MaxFlows bounds the conversations known at once; 0 means
	// DefaultMaxFlows. Beyond it the one that matters least of a few is
	// forgotten. A flow costs 64 bytes, and the table is at least 7/16 full. One
	// that may still yield something costs 60 bytes more while it holds no bytes
	// of its connection (HTTP between requests), 36 until its distances are
	// measured, and what HTTP/2 remembers of header fields: one to three bytes
	// for each, and the text of hosts and cookies. SSH costs some 108 to 140.
	MaxFlows int
	// MaxBytes bounds the memory of all fingerprint states together, segments
	// held for reassembly included; 0 means DefaultMaxBytes. A flow that
	// would go beyond it is not fingerprinted (further).
	MaxBytes int64
	// MaxValueBytes bounds a fingerprint's value; a longer one is left out and
	// counted. Only those in original order with everything spelled out are
	// ever longer than 0's flow.MaxValueLen, which is what a batch can hold.
	MaxValueBytes int
	// SSHWindow is the number of SSH packets per JA4SSH, at most
	// ja4plus.MaxSSHWindow; 0 means ja4plus.DefaultSSHWindow.
	SSHWindow int
	// Secrets are those of connections to look into: what they say inside TLS
	// and QUIC gives JA4H (HTTP/1, HTTP/2, HTTP/3) and JA4X (TLS 1.3). With nil
	// or an empty one there is nothing of that. Certificates may be compressed
	// (RFC 8879); requests of HTTP/3 that refer to the dynamic table of QPACK
	// are not read.
	Secrets *cleartext.KeyLog
	// SecretsWait is for secrets that are added while packets come: how much
	// packet time a connection waits for its own, from its beginning. What it
	// says meanwhile is held, some 64 KiB each way of TLS and 32 KiB of QUIC,
	// and found with its first packet after they came. With 0 they have to be there
	// before they are needed.
	SecretsWait time.Duration
	// A flow is forgotten after this much packet time without a packet; 0
	// means the default. TCPLinger is for connections that were closed by FIN
	// both ways or by RST, TCPHalfOpen for those that only one end spoke on.
	TCPIdle, TCPHalfOpen, TCPLinger, UDPIdle, OtherIdle time.Duration
	// The silence after which the open window of an SSH connection is
	// reported, SSHLinger when it was closed; 0 means the default. Meant to be
	// less than the time after which a tracker evicts the connection.
	SSHIdle, SSHLinger time.Duration
}

// Event is a fingerprint and where it was found.
type Event struct {
	ja4.Event
	// Time is the capture time, in Unix nanoseconds, of the packet that
	// completed the fingerprint; of a window closed by time, of the last
	// packet of the connection.
	Time int64
	// PacketNum is the number of that packet within its connection, from 1.
	PacketNum uint64
	// Tuple goes from the client to the server, as far as known by then.
	Tuple flow.Tuple
}

// Mark is room in a flow for its owner's notes, such as the batch it was last
// written to and its index there. It is zero when the flow is new; otherwise
// the engine leaves it alone.
type Mark struct {
	Batch uint32
	Index uint32
}

// EndEvent is a fingerprint that no packet of now completed: of a connection
// that has ended, or of bytes that waited in vain for those before them.
type EndEvent struct {
	Event
	// Mark is the flow's mark as it was.
	Mark Mark
}

// Result is what one packet led to. Its memory is used again by the next
// Engine.Packet with the same Result.
type Result struct {
	// Mark belongs to the packet's flow; valid until the next Engine.Packet.
	Mark *Mark
	// PacketNum is the packet's number within its connection, from 1.
	PacketNum uint64
	// Side is 0 when the packet comes from the A side of its flow.Key, else 1.
	Side uint8
	// FromClient says that the client sent the packet, as far as is known
	// after it.
	FromClient bool
	// Events are what the packet completed, in the order of their types.
	Events []Event
	// Ended are fingerprints that were complete before this packet.
	Ended []EndEvent
}

// Engine finds fingerprints. It is not safe for concurrent use.
type Engine struct {
	cfg   Config
	types ja4.TypeSet
	want  want
	table *table
	stats Stats

	idle  [numTimeouts]int32 // in coarse time
	sweep sweep

	// What is known of flows beside their entries, by entry.ref.
	conns     slab[conn]
	quiets    slab[quiet]
	sshs      slab[sshFlow]
	latencies slab[ja4plus.TCPLatency] // of quiets
	tables    tableStore
	shelf     shelf[streams]
	used      int64 // bytes that they are charged with
	reclaimed place // where reclaim looked last
	late      [numLateLists]lateList
	lateDue   int64 // no late list is left before
	ssh       [numSSHLists]sshList
	sshAfter  [numSSHLists]int64 // the silence after which a list is left
	sshDue    int64              // no list is left before
	early     []earlySSH         // of the connection that becomes SSH, for beginSSH and becomeSSH

	syns tcpValues

	// The packet in work, for the callbacks below, which are made once so
	// that no packet allocates a closure.
	p          *decode.Packet
	out        *Result
	e          *entry
	c          *conn
	side       uint8
	inLate     bool // the packet is latePacket, which came long ago
	latePacket decode.Packet
	lateNumber uint64
	onMessage  func(ja4.Message)
	onHTTP     func(ja4.Event)
	onCert     func(ja4.Event)
	onQUIC     func(side uint8, m ja4.Message)
	inTLS      cleartext.Sink
	inQUIC     cleartext.Sink
}

// New returns an Engine.
func New(cfg Config) *Engine {
	setDefault(&cfg.Types, ja4.AllTypes)
	setDefault(&cfg.MaxFlows, DefaultMaxFlows)
	setDefault(&cfg.MaxBytes, DefaultMaxBytes)
	setDefault(&cfg.MaxValueBytes, flow.MaxValueLen)
	setDefault(&cfg.TCPIdle, DefaultTCPIdle)
	setDefault(&cfg.TCPHalfOpen, DefaultTCPHalfOpen)
	setDefault(&cfg.TCPLinger, DefaultTCPLinger)
	setDefault(&cfg.UDPIdle, DefaultUDPIdle)
	setDefault(&cfg.OtherIdle, DefaultOtherIdle)
	setDefault(&cfg.SSHIdle, DefaultSSHIdle)
	setDefault(&cfg.SSHLinger, DefaultSSHLinger)
	cfg.SSHIdle = min(cfg.SSHIdle, cfg.TCPIdle)
	g := &Engine{cfg: cfg, types: cfg.Types, want: wanted(&cfg), table: newTable(cfg.MaxFlows)}
	g.idle = [numTimeouts]int32{
		timeoutTCP: coarseSpan(cfg.TCPIdle), timeoutHalfOpen: coarseSpan(cfg.TCPHalfOpen),
		timeoutClosed: coarseSpan(cfg.TCPLinger), timeoutUDP: coarseSpan(cfg.UDPIdle),
		timeoutOther: coarseSpan(cfg.OtherIdle),
	}
	g.sshAfter = [numSSHLists]int64{
		sshOpen: int64(cfg.SSHIdle), sshIdle: int64(cfg.TCPIdle), sshClosed: int64(cfg.SSHLinger),
	}
	g.sshDue, g.lateDue = math.MaxInt64, math.MaxInt64
	g.onMessage = g.message
	g.onHTTP = g.request
	g.onCert = g.event
	g.onQUIC = g.quicMessage
	g.inTLS = cleartext.Sink{Message: g.openedMessage, Data: g.openedData}
	g.inQUIC = cleartext.Sink{Message: g.openedQUICMessage, Stream: g.openedStream}
	return g
}

// want is what the wanted types need.
type want struct {
	tls, http, ssh, dhcp, synack, latency, quic bool
	payload, tcp                                bool
	inside                                      bool // TLS and QUIC, with secrets
}

func wanted(cfg *Config) want {
	t := cfg.Types
	w := want{
		tls:     t.Has(ja4.TypeJA4) || t.Has(ja4.TypeJA4O) || t.Has(ja4.TypeJA4S) || t.Has(ja4.TypeJA4X),
		http:    t.Has(ja4.TypeJA4H) || t.Has(ja4.TypeJA4HRO),
		ssh:     t.Has(ja4.TypeJA4SSH),
		dhcp:    t.Has(ja4.TypeJA4D) || t.Has(ja4.TypeJA4D6),
		synack:  t.Has(ja4.TypeJA4TS),
		latency: t.Has(ja4.TypeJA4L) || t.Has(ja4.TypeJA4LS),
	}
	w.inside = cfg.Secrets != nil && (w.http || t.Has(ja4.TypeJA4X))
	w.tls = w.tls || w.inside
	w.quic = w.tls || w.latency
	w.payload = w.tls || w.http || w.ssh
	w.tcp = w.payload || w.synack || w.latency
	return w
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Packet takes the next packet and fills out with what it led to. It keeps
// nothing of p. It is Find and Take.
func (g *Engine) Packet(p *decode.Packet, out *Result) {
	var a Ahead
	g.Find(p, &a)
	g.Take(p, &a, out)
}

// Take takes the next packet, of which a was found, and fills out with what it
// led to. It keeps nothing of p and a.
func (g *Engine) Take(p *decode.Packet, a *Ahead, out *Result) {
	if len(out.Events)|len(out.Ended) > 0 {
		clear(out.Events) // let go of the strings
		clear(out.Ended)
		out.Events, out.Ended = out.Events[:0], out.Ended[:0]
	}
	g.p, g.out, g.e, g.c = p, out, nil, nil
	now := coarse(p.Time)
	if p.Time > g.lateDue {
		g.endLate(p.Time)
	}
	if p.Time > g.sshDue {
		g.endSSH(p.Time)
	}
	if now != g.sweep.last || g.sweep.debt > 0 {
		g.sweepSome(now)
	}

	side := a.side
	e := g.table.find(&a.key, a.hash)
	if e != nil && e.idleFor(now) > g.idle[e.timeout()] {
		g.stats.Expired++
		g.restart(e)
	}
	if e == nil {
		e = g.open(&a.key, a.hash, side, now)
	}
	g.e, g.side = e, side
	if p.TCPFlags&flow.SYN != 0 && p.Tuple.Protocol == flow.TCP {
		switch {
		case isSYN(p.TCPFlags):
			g.begin(e)
		case isSYNACK(p.TCPFlags):
			g.beginACK(e)
		}
	}
	e.seen = now
	e.packets += 1 + uint64(len(p.Held))
	e.flags |= flagSent0 << side

	switch p.Tuple.Protocol {
	case flow.TCP:
		g.tcp(e)
	case flow.UDP:
		g.udp(e)
	}
	out.Mark = &e.mark
	out.PacketNum = e.packets
	out.Side = side
	out.FromClient = e.clientSide() == side
	if len(out.Events) > 1 {
		slices.SortStableFunc(out.Events, func(a, b Event) int { return int(a.Type) - int(b.Type) })
	}
}

// Idle says that no packet comes up to capture time now, and fills out.Ended
// with the fingerprints of windows whose time is over by then. A packet that
// comes with an earlier time after all is taken as any other.
func (g *Engine) Idle(now int64, out *Result) {
	clear(out.Events)
	clear(out.Ended)
	out.Events, out.Ended = out.Events[:0], out.Ended[:0]
	if g.out = out; now > g.sshDue {
		g.endSSH(now)
	}
}

// Finish ends all connections, calls emit with the fingerprints of windows
// that were still open and of bytes that waited for others, in order of time,
// and leaves the engine empty but for its counters.
func (g *Engine) Finish(emit func(EndEvent)) {
	var out Result
	g.out = &out
	for list := range g.late {
		for ref := g.late[list].head; ref != 0; ref = g.late[list].head {
			g.end(g.lateEntry(ref))
		}
	}
	for _, list := range []int{sshOpen, sshClosed} {
		for ref := g.ssh[list].head; ref != 0; ref = g.sshs.at(ref).after {
			g.flushSSH(g.entryOf(ref))
		}
	}
	slices.SortStableFunc(out.Ended, func(a, b EndEvent) int { return cmp.Compare(a.Time, b.Time) })
	for _, e := range out.Ended {
		emit(e)
	}
	g.table.reset()
	g.conns, g.quiets, g.sshs, g.shelf = slab[conn]{}, slab[quiet]{}, slab[sshFlow]{}, shelf[streams]{}
	g.latencies, g.tables = slab[ja4plus.TCPLatency]{}, tableStore{}
	g.used, g.reclaimed, g.sweep = 0, place{}, sweep{}
	g.ssh, g.sshDue = [numSSHLists]sshList{}, math.MaxInt64
	g.late, g.lateDue = [numLateLists]lateList{}, math.MaxInt64
}

// Stats returns the counters so far.
func (g *Engine) Stats() Stats {
	s := g.stats
	s.Flows, s.Bytes = int64(g.table.live), g.used
	return s
}

// open adds a flow whose first packet comes from side.
func (g *Engine) open(k *key, h uint64, side uint8, now uint32) *entry {
	if g.table.full(h) {
		s, victim := g.table.victim(h, now)
		g.end(victim)
		g.table.remove(s, victim)
		g.stats.GivenUp[ReasonCapacity]++
	}
	e := g.table.insert(k, h)
	e.seen = now
	e.setClient(side, evidenceFirst)
	g.stats.Opened++
	return e
}

// end takes leave of the connection of e: its open window is an event of the
// past, its state is freed. The entry stays.
func (g *Engine) end(e *entry) {
	if e.flags&flagState == 0 {
		return
	}
	if e.flags&flagConn != 0 && g.conns.at(e.ref).late.list != notLate && !g.inLate {
		g.stepOver(e)
	}
	if e.flags&flagSSH != 0 {
		g.flushSSH(e)
	}
	if e.flags&flagState != 0 {
		g.release(e)
	}
}

// restart makes e the entry of a new connection with the same 5-tuple, whose
// first packet is the one in work.
func (g *Engine) restart(e *entry) {
	g.end(e)
	k, mark := e.key, e.mark
	*e = entry{key: k, mark: mark}
	e.flags = flagUsed
	e.setClient(k.set(&g.p.Tuple), evidenceFirst)
	g.stats.Opened++
}

// event records ev as completed by the packet in work.
func (g *Engine) event(ev ja4.Event) {
	if ev.Value == "" || !g.types.Has(ev.Type) {
		return
	}
	if len(ev.Value) > g.cfg.MaxValueBytes {
		g.stats.GivenUp[ReasonOversize]++
		return
	}
	if len(ev.Raw) > flow.MaxRawLen {
		ev.Raw = ""
	}
	if len(ev.ServerName) > flow.MaxServerNameLen {
		ev.ServerName = ""
	}
	g.stats.Events++
	if g.inLate {
		g.out.Ended = append(g.out.Ended, EndEvent{
			Event: Event{Event: ev, Time: g.latePacket.Time, PacketNum: g.lateNumber, Tuple: g.e.tuple(g.e.clientSide())},
			Mark:  g.e.mark,
		})
		return
	}
	g.out.Events = append(g.out.Events, Event{
		Event: ev, Time: g.p.Time, PacketNum: g.e.packets, Tuple: g.e.tuple(g.e.clientSide()),
	})
}
