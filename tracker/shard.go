package tracker

import (
	"hash/maphash"
	"math/bits"
)

// shard is one part of the table. Its worker is the only one to change it.
type shard struct {
	id       uint16
	epoch    uint32
	timeouts timeouts
	secret   *secret // of the index
	worker   *worker // who owns it
	// appliedTo is the position of the last entry that is in what the shard was
	// restored from: it is not applied again.
	appliedTo uint64
	// batch is the number of the worker's last batch that had a flow for the
	// shard, unknown how many of them had no connection.
	batch   uint64
	unknown int

	// The worker's gate guards everything below but counts. The worker holds it
	// while it changes the shard, queries hold it while they read.

	index  index
	chunks []*chunk
	// hots and metas are the parts of chunks. An element of a slice has no pointer
	// on its way that has to be looked at, as one of an array in a struct has: that
	// is a cache miss less for each connection that is not in the cache.
	hots  [][]hot
	metas [][]meta
	// late has, by chunk, the last activity on the network's clock of those
	// connections that are offClock. A chunk that never had one has nil: packets
	// are rarely late, and an activity is rarely another time than hot.lastSeen.
	late       [][]int64
	lateChunks int    // those that are not nil
	free       uint32 // chain of free slots
	fresh      uint32 // first slot never used
	live       int
	// maxLive is the shard's part of MaxConnections, or less if memory says so.
	maxLive int
	opened  uint64
	evicted uint64 // of all causes: the number of the newest eviction
	nets    []*shardNet
	// open lists, by class, the networks whose ring is not empty.
	open   [numClasses][]uint16
	cells  cellSlab
	values values
	// weightMax bounds the cells that hang on one connection.
	weightMax uint32
	// cellBytesMax is what cells, with the tables of their values left out, and
	// wheels may take; ringBytes is what wheels do.
	cellBytesMax int64
	ringBytes    int

	tally  tally
	counts counts

	// hashes are of some connections about to leave, by slot; slot 0 is none.
	hashes [touchBlock]slotHash
}

// shardNet is what a shard knows of one network.
type shardNet struct {
	clock int64
	rings [numClasses]*ring
}

func newShard(id int, c *Config, secret *secret, maxLive int, maxBytes int64) *shard {
	s := &shard{
		id: uint16(id), epoch: c.Epoch, timeouts: newTimeouts(c.Timeouts), secret: secret,
		fresh: 1, maxLive: maxLive,
	}
	s.index = newIndex(maxLive)
	s.cellBytesMax = int64(float64(maxBytes-int64(s.connectionBytes(maxLive)+severalBytes(maxLive))) * cellShare)
	s.boundCells()
	s.values = values{cells: &s.cells, seed: maphash.MakeSeed()}
	s.weightMax = uint32(max(s.cells.max/8, min(s.cells.max, 256)))
	s.weightMax = min(s.weightMax, maxWeight)
	s.publish()
	return s
}

// boundCells bounds the cells to the whole chunks that fit beside the wheels.
func (s *shard) boundCells() {
	chunks := (s.cellBytesMax - int64(s.ringBytes)) / (chunkCells * cellBytes)
	s.cells.max = int(min(max(chunks*chunkCells-1, 0), maxShardCells))
}

// maxWeight bounds what one connection can hang on itself, in cells: 1.5 MiB.
const maxWeight = 1 << 16

// slotBytes is what a slot takes at most.
const slotBytes = hotBytes + metaBytes + activityBytes

// connectionBytes returns what n connections take, all of them off their clock.
func (s *shard) connectionBytes(n int) int {
	return len(s.index)*bucketBytes + (n/chunkSlots+1)*chunkSlots*slotBytes
}

// connectionsIn returns how many connections fit in n bytes.
func connectionsIn(n int64) int64 {
	n -= chunkSlots*slotBytes + 2*bucketBytes
	return n * bucketLoad / (slotBytes*bucketLoad + bucketBytes)
}

func (s *shard) hot(slot uint32) *hot {
	return &s.hots[slot/chunkSlots][slot%chunkSlots]
}

func (s *shard) meta(slot uint32) *meta {
	return &s.metas[slot/chunkSlots][slot%chunkSlots]
}

// hash returns the index hash of a key.
func (s *shard) hash(k *keyIn) uint64 { return s.secret.hash(k) }

// find returns the slot of k, 0 if there is none.
func (s *shard) find(hash uint64, k *keyIn, pairs []pair) uint32 {
	tag := tagOf(hash)
	i := s.index.home(hash)
	for range len(s.index) {
		b := &s.index[i]
		for m := b.matches(tag); m != 0; m &= m - 1 {
			slot := b.slots[bits.TrailingZeros32(m)]
			if s.hot(slot).is(k, pairs) {
				return slot
			}
		}
		if b.over() == 0 {
			return 0
		}
		i = s.index.next(i)
	}
	return 0
}

// is reports whether the record is the live connection of k.
func (h *hot) is(k *keyIn, pairs []pair) bool {
	return h.holds(k) && h.pair != freePair && pairs[h.pair].network == k.network()
}

// net returns what the shard knows of network n.
func (s *shard) net(n uint16) *shardNet {
	if int(n) >= len(s.nets) {
		s.nets = append(s.nets, make([]*shardNet, int(n)+1-len(s.nets))...)
	}
	if s.nets[n] == nil {
		s.nets[n] = new(shardNet)
	}
	return s.nets[n]
}

// list puts a connection into the wheel of class c at its deadline.
func (s *shard) list(slot uint32, n uint16, c class, activity int64) {
	net := s.net(n)
	r := net.rings[c]
	if r == nil {
		r = newRing(s.timeouts[c])
		net.rings[c] = r
		s.ringBytes += ringBytes
		s.boundCells()
	}
	if r.n == 0 {
		r.swept = r.position(net.clock)
		s.open[c] = append(s.open[c], n)
	}
	r.advance(net.clock)
	s.meta(slot).setClass(c)
	s.link(r, slot, r.bucketOf(activity+r.timeout))
}

// unlist takes a connection out of the wheel it is in.
func (s *shard) unlist(slot uint32, n uint16) {
	c := s.meta(slot).class()
	r := s.nets[n].rings[c]
	s.unlink(r, slot)
	if r.n > 0 {
		return
	}
	open := s.open[c]
	for i := range open {
		if open[i] == n {
			open[i] = open[len(open)-1]
			s.open[c] = open[:len(open)-1]
			return
		}
	}
}

// activity returns the last activity on the network's clock.
func (s *shard) activity(slot uint32, h *hot) int64 {
	if h.state&slow != 0 && s.meta(slot).is(offClock) {
		return *s.activityAt(slot)
	}
	return h.lastSeen
}

// activityAt returns where the last activity of a connection is that is offClock.
func (s *shard) activityAt(slot uint32) *int64 {
	of := &s.late[slot/chunkSlots]
	if *of == nil {
		*of = make([]int64, chunkSlots)
		s.lateChunks++
	}
	return &(*of)[slot%chunkSlots]
}

// add opens a connection with its first packet. It may evict another to make
// room.
func (s *shard) add(j *job, k *keyIn, hash uint64, p *packet) (uint32, *hot) {
	if s.live >= s.maxLive {
		s.makeRoom(j)
	}
	slot := s.free
	if slot != 0 {
		s.free = s.meta(slot).next
	} else {
		slot = s.fresh
		s.fresh++
		if int(slot/chunkSlots) >= len(s.chunks) {
			s.grow()
		}
	}
	s.live++
	s.opened++
	h, m := s.hot(slot), s.meta(slot)
	k.store(&h.key)
	h.state, h.pair, h.lastSeen = state(p.side), j.origin, p.last
	h.packets, h.bytes = [2]uint32{}, [2]uint32{}
	h.packets[p.side&1], h.bytes[p.side&1] = p.packets, p.bytes
	*m = meta{firstSeen: p.first, number: s.opened}
	s.index.insert(hash, slot)
	return slot, h
}

// grow adds a chunk of free slots.
func (s *shard) grow() {
	c := new(chunk)
	for i := range c.hot {
		c.hot[i].pair = freePair
	}
	s.addChunk(c)
}

func (s *shard) addChunk(c *chunk) {
	s.chunks = append(s.chunks, c)
	s.hots, s.metas = append(s.hots, c.hot[:]), append(s.metas, c.meta[:])
	s.late = append(s.late, nil)
}

// remove frees the slot of a connection, with all that hangs on it.
func (s *shard) remove(slot uint32, pairs []pair) {
	h, m := s.hot(slot), s.meta(slot)
	n := pairs[h.pair].network
	known := &s.hashes[slot%touchBlock]
	if known.slot != slot {
		k := h.in(n)
		*known = slotHash{slot, s.hash(&k)}
	}
	s.index.remove(known.hash, slot)
	s.worker.removed++
	known.slot = 0 // the next connection in this slot has another
	s.unlist(slot, n)
	s.dropCells(slot, m)
	h.pair = freePair
	m.next = s.free
	s.free = slot
	s.live--
}

// memory returns what the slabs hold, in bytes.
func (s *shard) memory() int {
	return len(s.index)*bucketBytes + len(s.chunks)*chunkSlots*(hotBytes+metaBytes) +
		s.lateChunks*chunkSlots*activityBytes + s.cells.bytes() + s.values.bytes() + s.ringBytes
}

// expired reports whether the clock of the connection's network n is beyond its
// deadline, so that it is as good as gone.
func (s *shard) expired(slot uint32, n uint16) bool {
	h := s.hot(slot)
	return s.nets[n].clock-s.activity(slot, h) > s.timeouts[h.class()]
}
