package tracker

// part is what a worker has found to say of an entry, or a piece of it. It goes
// to the merging goroutine and comes back: a worker has partsPerWorker of them
// at most, and waits when all are on their way.
type part struct {
	items      []item
	departures []Departure
	ends       []int  // of the body of each departure in bodies
	bodies     []byte // behind one another
	opened     []opened
	printed    []printed
}

const (
	partsPerWorker = 8
	// partItems and partBytes say when a part is full. One connection more, or
	// one slice of applying, may go beyond.
	partItems = 1024
	partBytes = 256 << 10
	// keepPartBytes keeps the memory of giants from staying for good.
	keepPartBytes = 1 << 20
)

// item is one Item of the Output to be: the at-th of its kind in the part.
type item struct {
	order uint64 // rises within what one worker says of an entry
	at    uint32
	kind  itemKind
}

type itemKind uint8

const (
	itemDeparture itemKind = iota
	itemOpened
	itemPrinted
)

// Places in the order of an entry: rows of a batch have their index, then come
// its fingerprints without a row, then what a sweep, a tick or a flush does, by
// shard.
const (
	orderUnplaced = uint64(1) << 32
	orderShards   = uint64(1) << 33
)

// subject is the connection of an event.
type subject struct {
	number     uint64
	slot, flow uint32 // flow is an index into the batch's flows
	shard      uint16
	side       uint8 // of the initiator: 0 is the key's A side
}

// opened is an Event to be; the rest of it is in the batch.
type opened struct {
	subject
	sender uint8 // side of the packet
	row    uint32
}

// printed is an Event to be; the rest of it is in the batch.
type printed struct {
	subject
	index    uint32 // of the fingerprint in the batch
	time     int64
	packets  [2]uint64 // as the totals of the connection are: sent by A, by B
	bytes    [2]uint64
	num      uint64
	previous string
}

func (p *part) full() bool { return len(p.items) >= partItems || len(p.bodies) >= partBytes }

// depart fills in the next departure; its item is there already.
func (p *part) depart(shard uint16, e *Eviction, encode func([]byte, *Eviction) []byte) {
	c := &e.Connection
	p.departures = append(p.departures, Departure{
		Shard: int(shard), Number: e.Number, UID: c.UID, Key: c.Key, Network: c.Network,
		Cause: e.Cause, EvictedAt: e.EvictedAt,
	})
	if encode != nil {
		p.bodies = encode(p.bodies, e)
	}
	p.ends = append(p.ends, len(p.bodies))
}

// seal gives the departures their bodies, which will not move any more.
func (p *part) seal() {
	from := 0
	for i, end := range p.ends {
		p.departures[i].Body = p.bodies[from:end:end]
		from = end
	}
}

func (p *part) reset() {
	clear(p.printed) // let go of the strings
	p.items, p.departures, p.ends = p.items[:0], p.departures[:0], p.ends[:0]
	p.opened, p.printed, p.bodies = p.opened[:0], p.printed[:0], p.bodies[:0]
	if cap(p.bodies) > keepPartBytes {
		p.bodies = nil
	}
}

// event fills in e.
func (o *opened) event(e *Event, j *job) {
	b := j.b
	*e = Event{Kind: Opened, Time: b.Time[o.row], TCPFlags: b.TCPFlags[o.row]}
	packets, bytes := uint64(1), uint64(b.WireLength[o.row])
	if len(b.RunPackets) > 0 {
		packets = uint64(b.RunPackets[o.row])
		e.Time += int64(b.RunSpan[o.row])
	}
	o.identify(e, j)
	if o.sender == o.side {
		e.SrcPackets, e.SrcBytes = packets, bytes
	} else {
		e.DstPackets, e.DstBytes = packets, bytes
	}
}

// subject returns the connection in slot, flow being its index in the batch.
func (s *shard) subject(slot uint32, h *hot, flow uint32) subject {
	return subject{number: s.meta(slot).number, slot: slot, flow: flow, shard: s.id, side: uint8(h.state & initiatorB)}
}

// tellPrinted notes the event of a fingerprint that was just recorded; before is
// the value it came after.
func (s *shard) tellPrinted(slot, flow, index uint32, seenAt int64, num uint64, before uint32) {
	h := s.hot(slot)
	p := s.worker.printed()
	p.subject, p.index, p.time, p.num = s.subject(slot, h, flow), index, seenAt, num
	if s.meta(slot).is(multi | carried) {
		var all [MaxObservers]counted
		_, most := s.observed(slot, &all)
		p.packets, p.bytes = all[most].packets, all[most].bytes
	} else {
		p.packets = [2]uint64{uint64(h.packets[0]), uint64(h.packets[1])}
		p.bytes = [2]uint64{uint64(h.bytes[0]), uint64(h.bytes[1])}
	}
	if before != 0 {
		p.previous = s.values.text(before)
	}
}

// event fills in e.
func (p *printed) event(e *Event, j *job) {
	f := &j.b.Fingerprints[p.index]
	src, dst := p.side, p.side^1
	// Field by field, all of them: a literal would be made elsewhere and copied.
	e.Kind, e.Time, e.TCPFlags = Fingerprinted, p.time, 0
	e.Type, e.Value, e.Raw, e.ServerName = f.Type, f.Value, f.Raw, f.ServerName
	e.Previous, e.PacketNum = p.previous, p.num
	e.SrcPackets, e.DstPackets, e.SrcBytes, e.DstBytes = p.packets[src], p.packets[dst], p.bytes[src], p.bytes[dst]
	if f.Row > 0 {
		e.TCPFlags = j.b.TCPFlags[f.Row-1]
	}
	p.identify(e, j)
}

// identify fills in what says which connection it is.
func (s *subject) identify(e *Event, j *job) {
	k, _ := j.b.Flows[s.flow].Key()
	e.UID = makeUID(j.t.cfg.Epoch, s.shard, s.slot, s.number)
	e.Key, e.Protocol = k, k.Protocol
	e.Network = j.names.networks[j.network]
	e.Probe = j.names.probes[j.names.pairs[j.origin].probe]
	e.Src, e.SrcPort, e.Dst, e.DstPort = k.A, k.APort, k.B, k.BPort
	if s.side == 1 {
		e.Src, e.SrcPort, e.Dst, e.DstPort = k.B, k.BPort, k.A, k.APort
	}
}
