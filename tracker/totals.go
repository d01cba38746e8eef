package tracker

import "sync/atomic"

// tally counts what happened in a shard, under its lock.
type tally struct {
	evicted                  [NumCauses]uint64
	packets, bytes           uint64
	late, future             uint64
	capped, noRoom, orphaned uint64
	observersCapped          uint64
}

// counts are the figures of a shard for Count, written by its worker once per
// part.
type counts struct {
	live, opened, memory     atomic.Uint64
	evicted                  [NumCauses]atomic.Uint64
	packets, bytes           atomic.Uint64
	late, future             atomic.Uint64
	capped, noRoom, orphaned atomic.Uint64
	observersCapped          atomic.Uint64
}

// publish makes the shard's tally visible to Count.
func (s *shard) publish() {
	set := func(a *atomic.Uint64, v uint64) {
		if a.Load() != v { // a store takes the cache line away from readers
			a.Store(v)
		}
	}
	c, t := &s.counts, &s.tally
	set(&c.live, uint64(s.live))
	set(&c.opened, s.opened)
	set(&c.memory, uint64(s.memory()))
	for i := range t.evicted {
		set(&c.evicted[i], t.evicted[i])
	}
	set(&c.packets, t.packets)
	set(&c.bytes, t.bytes)
	set(&c.late, t.late)
	set(&c.future, t.future)
	set(&c.capped, t.capped)
	set(&c.noRoom, t.noRoom)
	set(&c.orphaned, t.orphaned)
	set(&c.observersCapped, t.observersCapped)
}

// Totals counts what happened since New.
type Totals struct {
	// Live connections now, and those ever opened: live + all evicted.
	Live, Opened uint64
	// Evicted is indexed by Cause.
	Evicted [NumCauses]uint64
	// Packets and Bytes applied, as every probe reported them.
	Packets, Bytes uint64
	// Late packets came later than their connection's timeout, Future packets
	// were more than 24 h ahead of a live session: applied, but no clock moved.
	Late, Future uint64
	// FingerprintsCapped were dropped from the middle of a full history;
	// FingerprintsNoRoom (fingerprints, raw forms, server names) were not
	// recorded for want of memory; FingerprintsOrphaned had no connection.
	FingerprintsCapped, FingerprintsNoRoom, FingerprintsOrphaned uint64
	// ObserversCapped are packets of probes beyond MaxObservers or memory.
	ObserversCapped uint64
	// MemoryBytes is what the slabs hold, of MaxMemoryBytes.
	MemoryBytes, MaxMemoryBytes uint64
	// MaxConnections is the bound in force.
	MaxConnections uint64
}

// Count returns the totals. It takes no lock; the figures of different shards
// may be a batch apart.
func (t *Tracker) Count() Totals {
	n := Totals{MaxMemoryBytes: uint64(t.cfg.MaxMemoryBytes)}
	for _, s := range t.shards {
		c := &s.counts
		n.Live += c.live.Load()
		n.Opened += c.opened.Load()
		n.MemoryBytes += c.memory.Load()
		for i := range n.Evicted {
			n.Evicted[i] += c.evicted[i].Load()
		}
		n.Packets += c.packets.Load()
		n.Bytes += c.bytes.Load()
		n.Late += c.late.Load()
		n.Future += c.future.Load()
		n.FingerprintsCapped += c.capped.Load()
		n.FingerprintsNoRoom += c.noRoom.Load()
		n.FingerprintsOrphaned += c.orphaned.Load()
		n.ObserversCapped += c.observersCapped.Load()
		n.MaxConnections += uint64(s.maxLive)
	}
	return n
}

// ShardStatus is how one shard is doing.
type ShardStatus struct {
	Connections int
	// QueueDepth and QueueCapacity are in batches, and those of the worker
	// that owns the shard.
	QueueDepth, QueueCapacity int
}

// ShardStatus returns the status of each shard, indexed by shard.
func (t *Tracker) ShardStatus() []ShardStatus {
	all := make([]ShardStatus, len(t.shards))
	for i, s := range t.shards {
		q := s.worker.in
		all[i] = ShardStatus{Connections: int(s.counts.live.Load()), QueueDepth: len(q), QueueCapacity: cap(q)}
	}
	return all
}
