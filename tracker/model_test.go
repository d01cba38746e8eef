package tracker

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
)

// model is the table written down as its rules say, with maps and scans: what a
// Tracker must agree with. It evicts at once what has expired and knows no
// limits.
type model struct {
	timeouts            Timeouts
	liveHold, rplayHold time.Duration
	clocks              map[string]*modelClock
	conns               map[modelKey]*modelConn
	gone                []*Eviction
	totals              Totals
	logTime             int64
}

type modelKey struct {
	network string
	key     flow.Key
}

type modelClock struct {
	started     bool
	now         int64
	newest, set int64
	hold        time.Duration
}

type modelConn struct {
	Snapshot
	activity  int64
	srcIsB    bool
	evidence  int
	closed    bool
	nonSYN    bool
	fin       [2]bool
	sent      [2]bool
	observers []*modelObserver
	values    map[ja4.Type][]FingerprintEvent
	raws      map[ja4.Type][]FingerprintEvent
	order     []ja4.Type
	rawOrder  []ja4.Type
}

type modelObserver struct {
	probe          string
	packets, bytes [2]uint64
	first, last    int64
}

func newModel(c Config) *model {
	c = c.withDefaults()
	return &model{
		timeouts: c.Timeouts, liveHold: c.LiveHold, rplayHold: c.ReplayHold,
		clocks: map[string]*modelClock{}, conns: map[modelKey]*modelConn{},
	}
}

func (m *model) clock(network string) *modelClock {
	if m.clocks[network] == nil {
		m.clocks[network] = &modelClock{}
	}
	return m.clocks[network]
}

// timeout returns the timeout of a connection's state, in nanoseconds.
func (m *model) timeout(c *modelConn) int64 {
	d := m.timeouts.Other
	switch c.state() {
	case TCPHalfOpen:
		d = m.timeouts.TCPHalfOpen
	case TCPEstablished:
		d = m.timeouts.TCP
	case TCPClosed:
		d = m.timeouts.TCPClosed
	}
	if c.Protocol == flow.UDP {
		d = m.timeouts.UDPOneWay
		if c.sent[0] && c.sent[1] {
			d = m.timeouts.UDP
		}
	}
	if d < 0 {
		return never
	}
	return int64(d)
}

func (c *modelConn) state() TCPState {
	switch {
	case c.Protocol != flow.TCP:
		return TCPNone
	case c.closed:
		return TCPClosed
	case c.nonSYN && c.sent[0] && c.sent[1]:
		return TCPEstablished
	}
	return TCPHalfOpen
}

func (m *model) evict(k modelKey, cause Cause, at int64) {
	c := m.conns[k]
	delete(m.conns, k)
	m.totals.Evicted[cause]++
	m.gone = append(m.gone, &Eviction{Cause: cause, EvictedAt: at, Connection: c.snapshot()})
}

func (m *model) idle(k modelKey) {
	c, cause := m.conns[k], CauseIdle
	if c.closed {
		cause = CauseClosed
	}
	m.evict(k, cause, c.LastSeen+m.timeout(c))
}

// expire evicts everything whose deadline its clock has passed.
func (m *model) expire() {
	for k, c := range m.conns {
		if m.clock(k.network).now-c.activity > m.timeout(c) {
			m.idle(k)
		}
	}
}

// reach moves all clocks on to logTime.
func (m *model) reach(logTime int64) {
	m.logTime = max(m.logTime, logTime)
	for _, c := range m.clocks {
		if quiet := m.logTime - c.set - int64(c.hold); c.started && quiet > 0 {
			c.now = max(c.now, c.newest+quiet)
		}
	}
	m.expire()
}

func (m *model) batch(logTime int64, network, probe string, live bool, b *flow.Batch) {
	m.reach(logTime)
	clock := m.clock(network)
	for row := range b.Flow {
		future := live && b.Time[row]+runSpan(b, row) > m.logTime+int64(24*time.Hour)
		last := b.Time[row] + runSpan(b, row)
		if future && !clock.started {
			clock.now = max(clock.now, m.logTime)
		}
		if !future && (!clock.started || last > clock.newest) {
			clock.started, clock.newest, clock.set, clock.hold = true, last, m.logTime, m.rplayHold
			if live {
				clock.hold = m.liveHold
			}
			clock.now = max(clock.now, last)
		}
		m.expire()
		c := m.packet(network, probe, future, b, row)
		for i := range b.Fingerprints {
			if f := &b.Fingerprints[i]; int(f.Row) == row+1 {
				if f.Type == ja4.TypeJA4 || f.Type == ja4.TypeJA4H {
					c.initiate(modelSide(b, row), 1)
				}
				c.fingerprint(probe, &f.Event, last)
			}
		}
	}
	for i := range b.Fingerprints {
		f := &b.Fingerprints[i]
		if f.Row != 0 {
			continue
		}
		k, _ := b.Flows[f.Flow].Key()
		if c := m.conns[modelKey{network, k}]; c != nil {
			c.fingerprint(probe, &f.Event, c.LastSeen)
			continue
		}
		m.totals.FingerprintsOrphaned++
	}
}

func runSpan(b *flow.Batch, row int) int64 {
	if len(b.RunSpan) == 0 {
		return 0
	}
	return int64(b.RunSpan[row])
}

// modelSide returns which side of the key sent a row: 0 is A.
func modelSide(b *flow.Batch, row int) int {
	_, turned := b.Flows[b.Flow[row]/2].Key()
	if fromDst := b.Flow[row]%2 == 1; fromDst != turned {
		return 1
	}
	return 0
}

func (m *model) packet(network, probe string, future bool, b *flow.Batch, row int) *modelConn {
	key, _ := b.Flows[b.Flow[row]/2].Key()
	k := modelKey{network, key}
	now := m.clock(network).now
	first, last := b.Time[row], b.Time[row]+runSpan(b, row)
	flags, side := b.TCPFlags[row], modelSide(b, row)
	packets := uint64(1)
	if len(b.RunPackets) > 0 {
		packets = uint64(b.RunPackets[row])
	}
	if c := m.conns[k]; c != nil && !future {
		sameProbe := c.observers[0].probe == probe
		if first-c.LastSeen > m.timeout(c) {
			m.idle(k)
		} else if c.closed && flags&(flow.SYN|flow.ACK) == flow.SYN &&
			(first > c.LastSeen || first == c.LastSeen && sameProbe) {
			m.evict(k, CauseClosed, first)
		}
	}
	c := m.conns[k]
	if c == nil {
		c = &modelConn{values: map[ja4.Type][]FingerprintEvent{}, raws: map[ja4.Type][]FingerprintEvent{}}
		c.Key, c.Network, c.Protocol = key, network, key.Protocol
		c.FirstSeen, c.LastSeen, c.activity = first, last, last
		c.srcIsB = side == 1
		c.observers = []*modelObserver{{probe: probe, first: first, last: last}}
		m.conns[k] = c
		m.totals.Opened++
	}
	m.totals.Packets += packets
	m.totals.Bytes += uint64(b.WireLength[row])
	i := slices.IndexFunc(c.observers, func(o *modelObserver) bool { return o.probe == probe })
	if i < 0 && len(c.observers) < MaxObservers {
		i = len(c.observers)
		c.observers = append(c.observers, &modelObserver{probe: probe, first: first, last: last})
	}
	if i >= 0 {
		o := c.observers[i]
		o.packets[side] += packets
		o.bytes[side] += uint64(b.WireLength[row])
		o.first, o.last = min(o.first, first), max(o.last, last)
		c.sent[side] = true
	} else {
		m.totals.ObserversCapped += packets
	}
	c.FirstSeen, c.LastSeen = min(c.FirstSeen, first), max(c.LastSeen, last)
	if c.Protocol == flow.TCP {
		c.tcp(flags, side, packets, i < 0)
	}
	switch late := now-last > m.timeout(c); {
	case future:
		m.totals.Future += packets
		c.activity = now
	case late:
		m.totals.Late += packets
		c.activity = now
	default:
		c.activity = max(c.activity, last)
	}
	return c
}

func (c *modelConn) tcp(flags uint8, side int, packets uint64, capped bool) {
	if flags&flow.SYN != 0 && flags&flow.ACK == 0 {
		c.initiate(side, 3)
	}
	if flags&flow.SYN != 0 && flags&flow.ACK != 0 && packets == 1 {
		c.initiate(1-side, 2)
	}
	if c.closed {
		return
	}
	if flags&flow.SYN == 0 || packets > 1 {
		c.nonSYN = true
	}
	if flags&flow.FIN != 0 {
		c.fin[side] = true
	}
	c.closed = flags&flow.RST != 0 || c.fin[0] && c.fin[1]
}

func (c *modelConn) initiate(side, evidence int) {
	if evidence > c.evidence {
		c.srcIsB, c.evidence = side == 1, evidence
	}
}

func (c *modelConn) fingerprint(probe string, e *ja4.Event, seenAt int64) {
	i := max(0, slices.IndexFunc(c.observers, func(o *modelObserver) bool { return o.probe == probe }))
	ev := FingerprintEvent{
		Value: e.Value, SeenAt: seenAt, Probe: probe,
		PacketNum: c.observers[i].packets[0] + c.observers[i].packets[1],
	}
	add := func(all map[ja4.Type][]FingerprintEvent, order *[]ja4.Type) {
		h := all[e.Type]
		if len(h) == 0 {
			*order = append(*order, e.Type)
		}
		if len(h) == 0 || h[len(h)-1].Value != ev.Value {
			all[e.Type] = append(h, ev)
		}
	}
	add(c.values, &c.order)
	if ev.Value = e.Raw; e.Raw != "" {
		add(c.raws, &c.rawOrder)
	}
	if e.ServerName != "" {
		c.ServerName = e.ServerName
	}
}

// snapshot returns what a Tracker must say of the connection, without a UID.
func (c *modelConn) snapshot() Snapshot {
	s := c.Snapshot
	s.TCPState = c.state()
	s.Src, s.SrcPort, s.Dst, s.DstPort = s.Key.A, s.Key.APort, s.Key.B, s.Key.BPort
	src := 0
	if c.srcIsB {
		s.Src, s.SrcPort, s.Dst, s.DstPort = s.Key.B, s.Key.BPort, s.Key.A, s.Key.APort
		src = 1
	}
	for _, o := range c.observers {
		n := Observer{
			Probe: o.probe, PacketCount: o.packets[0] + o.packets[1], ByteCount: o.bytes[0] + o.bytes[1],
			SrcPacketCount: o.packets[src], SrcByteCount: o.bytes[src], FirstSeen: o.first, LastSeen: o.last,
		}
		if n.PacketCount > s.PacketCount {
			s.PacketCount, s.ByteCount = n.PacketCount, n.ByteCount
			s.SrcPacketCount, s.SrcByteCount = n.SrcPacketCount, n.SrcByteCount
		}
		s.Observers = append(s.Observers, n)
	}
	s.Fingerprints = modelHistories(c.order, c.values)
	s.RawFingerprints = modelHistories(c.rawOrder, c.raws)
	return s
}

func modelHistories(order []ja4.Type, all map[ja4.Type][]FingerprintEvent) (hs []History) {
	for _, t := range order {
		h := History{Type: t, Events: all[t], TotalCount: uint64(len(all[t]))}
		if n := len(h.Events); n > 1000 {
			h.Events = slices.Concat(h.Events[:100], h.Events[n-900:])
		}
		hs = append(hs, h)
	}
	return hs
}

// live returns the model's table, sorted by byKey.
func (m *model) live() (all []Snapshot) {
	for _, c := range m.conns {
		all = append(all, c.snapshot())
	}
	slices.SortFunc(all, byKey)
	return all
}

// traffic makes random batches of a few connections, in random order of time.
type traffic struct {
	*rand.Rand
	now      int64
	networks int
	probes   int
	hosts    int
	values   int
}

func (r *traffic) chance(percent int) bool { return r.IntN(100) < percent }

func (r *traffic) seconds(n int) int64 { return r.Int64N(int64(n)*int64(time.Second) + 1) }

func (r *traffic) tuple() flow.Tuple {
	tu := flow.Tuple{
		Src: flow.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(r.hosts))}), SrcPort: uint16(1 + r.IntN(2)),
		Dst: flow.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(r.hosts))}), DstPort: uint16(1 + r.IntN(2)),
		Protocol: []flow.Protocol{flow.TCP, flow.TCP, flow.TCP, flow.UDP, flow.ICMP}[r.IntN(5)],
	}
	if r.chance(20) {
		tu.Src, tu.Dst = flow.Addr{15: tu.Src[15]}, flow.Addr{15: tu.Dst[15]} // IPv6
	}
	return tu
}

func (r *traffic) flags(p flow.Protocol) uint8 {
	if p != flow.TCP && r.chance(90) {
		return 0
	}
	common := []uint8{
		flow.SYN, flow.SYN, flow.SYN | flow.ACK, flow.ACK, flow.ACK, flow.ACK | flow.PSH,
		flow.FIN | flow.ACK, flow.FIN | flow.ACK, flow.RST,
	}
	if r.chance(5) {
		return uint8(r.Uint32())
	}
	return common[r.IntN(len(common))]
}

// packetTime moves time on, mostly a little, and returns a time near it.
func (r *traffic) packetTime() int64 {
	switch n := r.IntN(100); {
	case n < 80:
		r.now += r.Int64N(int64(300 * time.Millisecond))
	case n < 85:
		r.now += r.seconds(40)
	case n < 86:
		r.now += r.seconds(400)
	case n < 92:
		return r.now - r.seconds(5)
	case n < 96:
		return r.now - r.seconds(500)
	case n < 97:
		return r.now + int64(25*time.Hour)
	}
	return r.now
}

func (r *traffic) batch() *flow.Batch {
	b := new(flow.Batch)
	runs := r.chance(20)
	for range 1 + r.IntN(6) {
		b.AddFlow(r.tuple())
	}
	for range r.IntN(30) {
		f := uint32(r.IntN(len(b.Flows)))
		b.AddPacket(f, r.chance(40), r.packetTime(), r.Uint32N(1500), r.flags(b.Flows[f].Protocol))
		if runs {
			b.RunPackets = append(b.RunPackets, 1+r.Uint32N(4))
			b.RunSpan = append(b.RunSpan, uint64(r.seconds(1)))
		}
	}
	for range r.IntN(4) {
		f := flow.Fingerprint{Flow: uint32(r.IntN(len(b.Flows)))}
		if len(b.Flow) > 0 && r.chance(70) {
			f.Row = 1 + uint32(r.IntN(len(b.Flow)))
			f.Flow = b.Flow[f.Row-1] / 2
		}
		f.Event = r.event()
		b.Fingerprints = append(b.Fingerprints, f)
	}
	return b
}

func (r *traffic) event() ja4.Event {
	e := ja4.Event{Type: ja4.Type(1 + r.IntN(ja4.NumTypes-1)), Value: r.text()}
	if r.chance(50) {
		e.Raw = r.text()
	}
	if r.chance(30) {
		e.ServerName = r.text()
	}
	return e
}

// text returns one of r.values texts of quite different lengths.
func (r *traffic) text() string {
	n := r.IntN(r.values)
	b := make([]byte, 1+n*13%250)
	for i := range b {
		b[i] = 'a' + byte((n+i)%26)
	}
	return string(b)
}

// normal empties what the model does not know, and makes empty slices nil.
func normal(s *Snapshot) {
	s.UID = UID{}
	if len(s.Fingerprints) == 0 {
		s.Fingerprints = nil
	}
	if len(s.RawFingerprints) == 0 {
		s.RawFingerprints = nil
	}
	if len(s.Anomalies) == 0 {
		s.Anomalies = nil
	}
}

// A Tracker agrees with the model on every eviction, on the whole table and on
// all totals, whatever comes.
func TestModel(t *testing.T) {
	for i := range max(40, sequences(t, 40)) {
		seed := uint64(time.Now().UnixNano())
		if i < 10 {
			seed = uint64(i)
		}
		runModel(t, seed, 100)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func runModel(t *testing.T, seed uint64, batches int) {
	r := &traffic{Rand: rand.New(rand.NewPCG(seed, 0)), now: epochTime}
	r.networks, r.probes, r.hosts, r.values = 1+r.IntN(3), 1+r.IntN(6), 2+r.IntN(4), 2+r.IntN(20)
	cfg := Config{Shards: 1 + r.IntN(8), MaxConnections: 1 << 14, MaxMemoryBytes: 64 << 20}
	if r.chance(20) {
		cfg.Timeouts = Timeouts{TCP: Never, UDPOneWay: time.Second, Other: time.Hour, TCPClosed: 45 * time.Second}
	}
	rig, m := newRig(t, cfg), newModel(cfg)
	logTime := epochTime
	names := []string{"default", "lab", "office"}
	probes := []string{"p0", "p1", "p2", "p3", "p4", "p5"}
	for range batches {
		switch {
		case r.chance(70):
			logTime = max(logTime, r.now) + r.seconds(1)
		case r.chance(10):
			logTime += r.seconds(200)
		}
		if r.chance(20) {
			rig.tick(logTime)
			m.reach(logTime)
			compare(t, rig, m)
			continue
		}
		network, probe := names[r.IntN(r.networks)], probes[r.IntN(r.probes)]
		live := r.chance(60)
		o, err := rig.Origin(network, probe, live)
		if err != nil {
			t.Fatal(err)
		}
		b := r.batch()
		rig.submit(logTime, o, b)
		m.batch(logTime, network, probe, live, b)
	}
	logTime += int64(1000 * time.Hour)
	rig.tick(logTime)
	m.reach(logTime)
	compare(t, rig, m)
}

// compare checks the evictions since the last time, the table and the totals.
// It comes after a tick, when nothing that has expired is left.
func compare(t *testing.T, rig *rig, m *model) {
	t.Helper()
	got, want := rig.evictions(), m.gone
	m.gone = nil
	slices.SortFunc(got, byConnection)
	slices.SortFunc(want, byConnection)
	for _, e := range got {
		e.Number = 0
		normal(&e.Connection)
	}
	same(t, "evictions", want, got)
	live := rig.live()
	for i := range live {
		normal(&live[i])
	}
	same(t, "table", m.live(), live)
	rig.checkInvariants()
	totals := rig.Count()
	m.totals.Live = uint64(len(m.conns))
	m.totals.FingerprintsCapped = totals.FingerprintsCapped
	m.totals.MemoryBytes, m.totals.MaxMemoryBytes, m.totals.MaxConnections =
		totals.MemoryBytes, totals.MaxMemoryBytes, totals.MaxConnections
	same(t, "totals", m.totals, totals)
}

// same fails if got is not want.
func same[T any](t *testing.T, what string, want, got T) {
	t.Helper()
	if !reflect.DeepEqual(want, got) { // much faster than a Diff
		t.Fatalf("%s (-want +got):\n%s", what, cmp.Diff(want, got))
	}
}
