package tracker

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
)

// RestoreHead makes a new Tracker go on from a head that SaveHead made. It comes
// before Run, before anything else that a log would do, and before RestoreShard.
// Damaged data, and that of a Tracker with another number of shards, HashSeed or
// Epoch, is refused with ErrCheckpoint: then the Tracker must not be used.
func (t *Tracker) RestoreHead(data []byte) error {
	if t.started.Load() || t.position != 0 || len(t.names.Load().pairs) > 1 {
		return errors.New("restore a head: the tracker is not new")
	}
	d := newSource(data)
	d.mark(headMark, "head")
	shards := d.uvarint()
	d.want(shards == uint64(len(t.shards)), "made for %d shards, this tracker has %d", shards, len(t.shards))
	epoch := d.uvarint()
	d.want(epoch == uint64(t.cfg.Epoch), "made in epoch %d, this is epoch %d", epoch, t.cfg.Epoch)
	check := d.uvarint()
	d.want(check == seedCheck(t.cfg.HashSeed), "made with another hash seed")
	position := d.uvarint()
	logTime := d.time(0, "log time")
	all := d.names(names{}, t.cfg)
	d.want(len(all.networks) > 0 && len(all.probes) > 0 && len(all.pairs) > 0,
		"%d networks, %d probes, %d pairs", len(all.networks), len(all.probes), len(all.pairs))
	d.want(d.err != nil || all.networks[0] == flow.DefaultNetwork && all.probes[0] == "" && all.pairs[0] == pair{},
		"the first labels are not the default ones")
	var clocks []netClock
	for range all.networks {
		c := netClock{set: d.bool()}
		c.now, c.newest, c.setAt = d.time(0, "clock"), d.time(0, "packet time"), d.time(0, "log time")
		c.hold = d.time(0, "hold")
		clocks = append(clocks, c)
	}
	if err := d.end(); err != nil {
		return fmt.Errorf("restore a head: %w", err)
	}
	t.position, t.logTime, t.clocks = position, logTime, nil
	t.adopt(&all)
	t.clocks = clocks
	t.headNames = all.counts()
	return nil
}

// names reads labels, which stand behind those of base.
func (d *source) names(base names, c Config) names {
	all := names{slices.Clone(base.networks), slices.Clone(base.probes), slices.Clone(base.pairs)}
	for range d.count("networks") {
		s := d.text(1, flow.MaxNetworkLen, "network label")
		d.want(flow.CheckNetwork(s) == nil, "%q is no network label", s)
		all.networks = append(all.networks, s)
	}
	for range d.count("probes") {
		all.probes = append(all.probes, d.text(0, maxProbeLen, "probe label"))
	}
	for range d.count("pairs") {
		p := pair{uint16(d.upTo(math.MaxUint16, "network")), uint16(d.upTo(math.MaxUint16, "probe"))}
		d.want(int(p.network) < len(all.networks) && int(p.probe) < len(all.probes), "a pair of unknown labels")
		all.pairs = append(all.pairs, p)
	}
	n := all.counts()
	d.want(n.networks <= math.MaxUint16 && n.probes <= math.MaxUint16 && n.pairs <= maxPairs,
		"%d networks, %d probes, %d pairs", n.networks, n.probes, n.pairs)
	d.want(distinct(all.networks) && distinct(all.probes) && distinct(all.pairs), "a label is there twice")
	return all
}

func distinct[T comparable](all []T) bool {
	seen := make(map[T]struct{}, len(all))
	for _, v := range all {
		seen[v] = struct{}{}
	}
	return len(seen) == len(all)
}

// adopt makes n, which goes on from the labels known, the labels.
func (t *Tracker) adopt(n *names) {
	for i, s := range n.networks {
		t.labels.addNetwork(s, uint16(i))
	}
	for i, s := range n.probes {
		t.labels.probes[s] = uint16(i)
	}
	for i, p := range n.pairs {
		t.labels.pairs[p] = uint16(i)
	}
	for len(t.clocks) < len(n.networks) {
		t.clocks = append(t.clocks, netClock{})
	}
	t.names.Store(n)
}

// RestoreShard makes a shard go on from an image, which must belong to the head
// that was restored, and returns its place in the log. Calls for different shards
// may run at the same time, all before Run and before any query. It fails as
// RestoreHead does.
func (t *Tracker) RestoreShard(shard int, data []byte) (position uint64, err error) {
	position, err = t.restoreShard(shard, data)
	if err != nil {
		return 0, fmt.Errorf("restore shard %d: %w", shard, err)
	}
	return position, nil
}

func (t *Tracker) restoreShard(shard int, data []byte) (position uint64, err error) {
	if shard < 0 || shard >= len(t.shards) {
		return 0, fmt.Errorf("there are %d shards", len(t.shards))
	}
	s := t.shards[shard]
	if t.started.Load() || s.opened > 0 || s.appliedTo > 0 {
		return 0, errors.New("the shard is not new")
	}
	d := newSource(data)
	d.mark(shardMark, "shard")
	id := d.uvarint()
	d.want(id == uint64(shard), "this is shard %d", id)
	position = d.uvarint()
	d.want(position >= t.position, "at entry %d, before the head at %d", position, t.position)
	n, err := t.moreNames(d)
	if err != nil {
		return 0, err
	}
	r := restorer{source: d, t: t, s: s, names: n}
	r.shard()
	if err := d.end(); err != nil {
		return 0, err
	}
	s.appliedTo = position
	s.publish()
	return position, nil
}

// moreNames reads the labels that a shard had and its head did not.
func (t *Tracker) moreNames(d *source) (*names, error) {
	t.restoring.Lock()
	defer t.restoring.Unlock()
	known := t.names.Load()
	base := nameCounts{
		int(d.upTo(uint64(t.headNames.networks), "number of networks")),
		int(d.upTo(uint64(t.headNames.probes), "number of probes")),
		int(d.upTo(uint64(t.headNames.pairs), "number of pairs")),
	}
	d.want(base == t.headNames, "it belongs to another head")
	if d.err != nil {
		return nil, d.err
	}
	all := d.names(names{known.networks[:base.networks], known.probes[:base.probes], known.pairs[:base.pairs]}, t.cfg)
	if d.err != nil {
		return nil, d.err
	}
	if !agree(all.networks, known.networks) || !agree(all.probes, known.probes) || !agree(all.pairs, known.pairs) {
		d.fail("its labels are not those of the other shards")
		return nil, d.err
	}
	merged := names{longer(all.networks, known.networks), longer(all.probes, known.probes), longer(all.pairs, known.pairs)}
	t.adopt(&merged)
	return &all, nil
}

// agree reports whether one of a and b is how the other begins.
func agree[T comparable](a, b []T) bool {
	n := min(len(a), len(b))
	return slices.Equal(a[:n], b[:n])
}

func longer[T any](a, b []T) []T {
	if len(a) > len(b) {
		return a
	}
	return b
}

// restorer fills a new shard from an image.
type restorer struct {
	*source
	t     *Tracker
	s     *shard
	names *names // those that the shard knew
	seeds []secret
	// values are the interned values by their place in the data.
	values []uint32
	// listed says which slots are in a wheel or on the free chain.
	listed []bool
	// relist is set if the timeouts are not those of the image.
	relist bool
}

func (r *restorer) shard() {
	s := r.s
	for _, n := range r.names.networks {
		r.seeds = append(r.seeds, r.t.labelSecret(n))
	}
	var was timeouts
	for c := range was {
		was[c] = r.varint()
		r.want(was[c] > 0, "a timeout of %d ns", was[c])
	}
	r.relist = was != s.timeouts
	s.opened = r.upTo(maxNumber, "number of connections opened")
	s.evicted = r.uvarint()
	for _, n := range s.tally.all() {
		*n = r.uvarint()
	}
	r.connections()
	r.free()
	r.wheels(was)
	r.open()
}

// maxNumber bounds creation numbers, see makeUID.
const maxNumber = 1<<48 - 1

// connections reads all connections and gives them their places in slabs and
// index.
func (r *restorer) connections() {
	s := r.s
	// Each slot takes a byte at least, as a connection or on the free chain.
	fresh := r.upTo(min(maxShardSlots, uint64(len(r.p))+1), "number of slots")
	live := r.upTo(fresh, "number of connections")
	r.want(fresh > 0 && live < fresh, "%d connections in %d slots", live, fresh)
	if r.err != nil {
		return
	}
	s.fresh, s.live = uint32(fresh), int(live)
	if s.live > s.maxLive { // the limit was greater: the table shrinks in time
		s.index = newIndex(s.live)
	}
	for fresh > 1 && len(s.chunks)*chunkSlots < int(fresh) {
		s.grow()
	}
	r.listed = make([]bool, fresh)
	slot, seen := uint64(0), int64(0)
	for range live {
		slot += r.upTo(fresh, "distance between slots")
		r.want(slot > 0 && slot < fresh, "slot %d of %d", slot, fresh)
		if r.err != nil {
			return
		}
		r.want(s.hot(uint32(slot)).pair == freePair, "slot %d is there twice", slot)
		seen = r.connection(uint32(slot), seen)
		if r.err != nil {
			return
		}
	}
}

// connection reads one connection and returns its last seen.
func (r *restorer) connection(slot uint32, seenBefore int64) int64 {
	s := r.s
	h, m := s.hot(slot), s.meta(slot)
	*h, *m = hot{pair: freePair}, meta{}
	has := r.byte()
	r.want(has < hasTexts<<1, "a connection with %#x", has)
	h.state = state(r.byte())
	r.want(h.state&slow == 0, "a state of %#x", uint8(h.state))
	protocol := r.byte()
	if has&hasIPv4 != 0 {
		copy(h.key[0:], mapped[:12])
		copy(h.key[16:], mapped[:12])
		copy(h.key[12:16], r.bytes(4))
		copy(h.key[28:32], r.bytes(4))
	} else {
		copy(h.key[0:32], r.bytes(32))
	}
	copy(h.key[32:36], r.bytes(4))
	h.key[keyBytes-1] = protocol
	pair := r.pair()
	h.lastSeen = r.time(seenBefore, "last seen")
	m.firstSeen = r.before(h.lastSeen, "first seen")
	back := r.uvarint()
	r.want(back < s.opened, "connection %d counted back from %d", back, s.opened)
	m.number = s.opened - back
	var c counted
	r.counters(&c)
	if has&hasActivity != 0 {
		m.activity = r.time(h.lastSeen, "activity")
		m.flags |= offClock
		h.state |= slow
	}
	if r.err != nil {
		return 0
	}
	network := r.names.pairs[pair].network
	k := h.in(network)
	key := h.flowKey()
	tu := flow.Tuple{Src: key.A, SrcPort: key.APort, Dst: key.B, DstPort: key.BPort, Protocol: key.Protocol}
	canonical, _ := tu.Key()
	r.want(canonical == key, "key %v is not canonical", key)
	r.want(r.t.shardOf(&k, &r.seeds[network]) == uint32(s.id), "%v belongs to another shard", key)
	hash := s.hash(&k)
	r.want(r.err != nil || s.find(hash, &k, r.names.pairs) == 0, "%v is there twice", key)
	if r.err != nil {
		return 0
	}
	h.pair = pair
	s.index.insert(hash, slot)
	for side := range c.packets {
		h.packets[side], h.bytes[side] = uint32(c.packets[side]), uint32(c.bytes[side])
	}
	if has&hasObservers != 0 {
		r.observers(slot)
	}
	r.carry(slot, &c)
	if has&hasTexts != 0 {
		r.texts(slot)
	}
	r.want(m.weight <= 2*maxWeight, "slot %d holds %d cells", slot, m.weight)
	return h.lastSeen
}

func (r *restorer) pair() uint16 {
	return uint16(r.upTo(uint64(len(r.names.pairs)-1), "number of a probe in a network"))
}

// counters reads packets and bytes.
func (r *restorer) counters(c *counted) {
	for _, n := range []*uint64{&c.packets[0], &c.packets[1], &c.bytes[0], &c.bytes[1]} {
		*n = r.uvarint()
	}
}

// observers reads the observers beside the first.
func (r *restorer) observers(slot uint32) {
	s := r.s
	h, m := s.hot(slot), s.meta(slot)
	n := r.byte()
	r.want(n >= 1 && n < MaxObservers, "%d observers beside the first", n)
	if r.err != nil {
		return
	}
	m.flags |= multi
	h.state |= slow
	i, first := s.cells.alloc()
	*first = cell{tag: tagFirst}
	first.x = uint64(r.before(h.lastSeen, "first seen"))
	first.y = uint64(r.before(h.lastSeen, "last seen"))
	s.hang(slot, i)
	m.weight++
	for range n {
		pair := r.pair()
		var c counted
		r.counters(&c)
		c.first, c.last = r.before(h.lastSeen, "first seen"), r.before(h.lastSeen, "last seen")
		for _, v := range []cell{
			{tag: tagObserver, a: pair, x: c.packets[0], y: c.packets[1]},
			{tag: tagMore, x: c.bytes[0], y: c.bytes[1]},
			{tag: tagMore, x: uint64(c.first), y: uint64(c.last)},
		} {
			i, to := s.cells.alloc()
			*to = v
			s.hang(slot, i)
		}
		m.weight += observerCells
	}
}

// carry keeps what of the counters does not fit the hot record.
func (r *restorer) carry(slot uint32, c *counted) {
	high := func(a, b uint64) uint64 { return a>>32<<32 | b>>32 }
	x, y := high(c.packets[0], c.packets[1]), high(c.bytes[0], c.bytes[1])
	if x|y == 0 {
		return
	}
	i, to := r.s.cells.alloc()
	*to = cell{tag: tagCarry, x: x, y: y}
	r.s.hang(slot, i)
	r.s.meta(slot).weight++
}

// texts reads histories and server name.
func (r *restorer) texts(slot uint32) {
	var seen [256]bool
	for range r.count("histories") {
		typ := r.byte()
		r.want(!seen[typ], "type %#x is there twice", typ)
		seen[typ] = true
		if r.err != nil {
			return
		}
		if typ == nameType {
			id := r.value(slot, flow.MaxServerNameLen)
			i, c := r.s.cells.alloc()
			*c = cell{tag: tagName, x: uint64(id)}
			r.s.hang(slot, i)
			r.s.meta(slot).weight++
			continue
		}
		r.history(slot, typ)
	}
}

// history reads the events of one type.
func (r *restorer) history(slot uint32, typ uint8) {
	s := r.s
	r.want(ja4.Type(typ&^rawType).Valid(), "type %#x", typ)
	most := flow.MaxValueLen
	if typ&rawType != 0 {
		most = flow.MaxRawLen
	}
	total := r.upTo(1<<48-1, "number of events")
	stored := r.upTo(MaxHistory, "number of events kept")
	r.want(stored > 0 && (stored == total || stored == MaxHistory && total > stored), "%d events kept of %d", stored, total)
	at := uint32(0)
	for range stored {
		ev := cell{tag: tagEvent, typ: typ}
		id := r.value(slot, most)
		ev.x = uint64(r.before(s.hot(slot).lastSeen, "time of a fingerprint"))
		ev.y = uint64(id)<<packetNumBits | r.upTo(packetNumMask, "packet number")
		ev.a = r.pair()
		if r.err != nil {
			return
		}
		if at == 0 {
			i, c := s.cells.alloc()
			*c = ev
			s.hang(slot, i)
			s.meta(slot).weight++
			at = i
			continue
		}
		s.appendEvent(slot, at, ev)
	}
	if stored > 1 && r.err == nil {
		c := s.cells.at(at)
		c.x = total<<16 | stored
	}
}

// value reads a value of up to most bytes, and returns its number with one more
// reference, charged to the connection.
func (r *restorer) value(slot uint32, most int) uint32 {
	s := r.s
	at := r.upTo(uint64(len(r.values)), "number of a value")
	if at == uint64(len(r.values)) {
		text := r.text(1, flow.MaxRawLen, "value")
		hash := s.values.hash(text)
		r.want(r.err != nil || s.values.find(text, hash) == 0, "value %d is there twice", at)
		if r.err != nil {
			return 0
		}
		r.values = append(r.values, s.values.add(text, hash))
	}
	if r.err != nil {
		return 0
	}
	id := r.values[at]
	size := s.values.size(id)
	r.want(size <= most, "a value of %d bytes, want at most %d", size, most)
	s.values.retain(id)
	s.meta(slot).weight += uint32(valueCells(size))
	return id
}

// chain calls f with the slots of a chain.
func (r *restorer) chain(f func(slot uint32)) {
	slot := int64(0)
	for {
		step := r.varint()
		if step == 0 || r.err != nil {
			return
		}
		slot += step
		if slot <= 0 || slot >= int64(r.s.fresh) || r.listed[slot] {
			r.fail("slot %d of %d on a chain, or twice", slot, r.s.fresh)
			return
		}
		r.listed[slot] = true
		f(uint32(slot))
	}
}

// free reads the chain of free slots.
func (r *restorer) free() {
	s := r.s
	n := 0
	tail := &s.free
	r.chain(func(slot uint32) {
		r.want(s.hot(slot).pair == freePair, "slot %d is free and in use", slot)
		*tail = slot
		tail = &s.meta(slot).next
		n++
	})
	r.want(n+s.live == int(s.fresh)-1, "%d slots in use, %d free, of %d", s.live, n, s.fresh-1)
}

// wheels reads clocks and wheels.
func (r *restorer) wheels(was timeouts) {
	n := r.count("networks")
	r.want(n <= len(r.names.networks), "%d networks of %d", n, len(r.names.networks))
	in := 0
	for i := range n {
		if r.err != nil {
			return
		}
		if !r.bool() {
			continue
		}
		net := r.s.net(uint16(i))
		net.clock = r.time(0, "clock")
		for c := range net.rings {
			if r.bool() {
				in += r.ring(uint16(i), class(c), was[c])
			}
		}
	}
	r.want(in == r.s.live, "%d connections in wheels, %d in all", in, r.s.live)
}

// ring reads the wheel of a class, whose timeout was was, and returns how many
// connections are in it.
func (r *restorer) ring(n uint16, c class, was int64) int {
	s := r.s
	net := s.nets[n]
	g := newRing(was)
	g.swept = r.varint()
	r.want(g.swept >= 0 && g.swept <= net.clock/g.grain, "swept is %d, the clock %d", g.swept, net.clock/g.grain)
	until := r.upTo(uint64(s.fresh-1), "slot")
	net.rings[c] = g
	s.ringBytes += ringBytes
	s.boundCells()
	before := uint64(0)
	for {
		b := r.upTo(ringBuckets+1, "number of a bucket")
		if b == 0 || r.err != nil {
			break
		}
		r.want(b > before, "bucket %d behind bucket %d", b, before)
		before = b
		r.chain(func(slot uint32) {
			h := s.hot(slot)
			if h.pair == freePair || h.class() != c || r.names.pairs[h.pair].network != n {
				r.fail("slot %d is not of this wheel", slot)
				return
			}
			s.meta(slot).class = c
			s.link(g, slot, uint16(b-1))
		})
	}
	if until != 0 && r.err == nil {
		r.want(g.n > 0 && r.listed[until] && s.hot(uint32(until)).pair != freePair && s.meta(uint32(until)).class == c &&
			r.names.pairs[s.hot(uint32(until)).pair].network == n &&
			int64(s.meta(uint32(until)).bucket) == g.swept%ringBuckets, "no sweep can end at slot %d", until)
		g.until = uint32(until)
	}
	if r.relist && r.err == nil {
		s.relist(net, c)
	}
	return g.n
}

// relist lists the connections of a wheel that was made for another timeout,
// the least recently used first.
func (s *shard) relist(net *shardNet, c class) {
	old, now := net.rings[c], newRing(s.timeouts[c])
	net.rings[c] = now
	now.swept = net.clock / now.grain
	var order []uint32
	bucket := func(b int64) {
		for slot := old.heads[b]; slot != 0; {
			order = append(order, slot)
			if slot = s.meta(slot).next; slot == old.heads[b] {
				break
			}
		}
	}
	bucket(parked)
	for i := range int64(ringBuckets) {
		bucket((old.swept + i) % ringBuckets)
	}
	least := now.swept - ringBuckets + 2
	for _, slot := range order {
		at := max((s.activity(slot, s.hot(slot))+now.timeout)/now.grain, least, 0)
		now.swept = min(now.swept, at)
		s.link(now, slot, uint16(at%ringBuckets))
	}
}

// open reads, by class, the networks whose wheel is not empty.
func (r *restorer) open() {
	s := r.s
	for c := range s.open {
		full := 0
		for _, net := range s.nets {
			if net != nil && net.rings[c] != nil && net.rings[c].n > 0 {
				full++
			}
		}
		for range r.count("networks") {
			n := r.uvarint()
			if n >= uint64(len(s.nets)) || s.nets[n] == nil || s.nets[n].rings[c] == nil || s.nets[n].rings[c].n == 0 ||
				slices.Contains(s.open[c], uint16(n)) {
				r.fail("network %d is open in class %d, or twice", n, c)
				return
			}
			s.open[c] = append(s.open[c], uint16(n))
		}
		r.want(len(s.open[c]) == full, "%d networks open in class %d, want %d", len(s.open[c]), c, full)
	}
}
