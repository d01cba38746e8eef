package tracker

import "slices"

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
			s.meta(slot).setClass(c)
			s.link(g, slot, uint16(b-1))
		})
	}
	if until != 0 && r.err == nil {
		r.want(g.n > 0 && r.listed[until] && s.hot(uint32(until)).pair != freePair && s.meta(uint32(until)).class() == c &&
			r.names.pairs[s.hot(uint32(until)).pair].network == n &&
			int64(s.meta(uint32(until)).bucket()) == g.swept%ringBuckets, "no sweep can end at slot %d", until)
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
