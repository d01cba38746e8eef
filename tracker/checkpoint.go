package tracker

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// A checkpoint is what a Tracker needs to go on from a place in the log instead
// of from its start: a head, of what the goroutine that submits knows (labels and
// clocks), and behind it each shard, one at a time and each at its own later
// place in the log, so that the table never stands still as a whole.
//
// A Tracker that is to go on restores the head and all shards before Run, and is
// then given the entries behind the head's place; what a shard had applied by its
// own place is not applied to it again. What it then puts out, and its whole
// state, is that of a Tracker that never stopped. What is restored may be used
// with other limits and timeouts, never with another number of shards, HashSeed
// or Epoch.
//
// The data is in a form of its own, by fields and not as memory: numbers are
// varints, little endian. It has a version; it has no checksum.

// ErrCheckpoint is wrapped by the errors of RestoreHead and RestoreShard that say
// what is wrong with the data.
var ErrCheckpoint = errors.New("checkpoint cannot be used")

// checkpointVersion is that of the data of head and shards.
const checkpointVersion = 1

// Position returns the position of the newest entry: that of the restored head,
// if nothing was submitted since. It is for the goroutine that submits.
func (t *Tracker) Position() uint64 { return t.position }

// Restored returns the greatest place in the log that a shard was restored at: up
// to there a replay makes only a part of the outputs again. 0 if none was.
func (t *Tracker) Restored() uint64 {
	var at uint64
	for _, s := range t.shards {
		at = max(at, s.appliedTo)
	}
	return at
}

// SaveHead appends the head to dst and returns it. It is for the goroutine that
// submits; its place in the log is behind the newest entry. Shards that are saved
// from then on belong to this head.
func (t *Tracker) SaveHead(dst []byte) []byte {
	n := t.names.Load()
	t.headNames = n.counts()
	return t.appendHead(dst, n)
}

// SaveShard asks for a copy of a shard at this place in the log, behind the
// newest entry. The worker makes it between two entries: in about a millisecond
// per 16,000 connections. done is called once, by the merging goroutine and in
// its turn like that of Submit: with the copy, which it should pass on at once.
// SaveShard is for the goroutine that submits; it blocks and fails as Submit does,
// and fails while the log is still behind the place that the shard was restored
// at (see Restored).
func (t *Tracker) SaveShard(ctx context.Context, shard int, done func(*ShardImage)) error {
	if shard < 0 || shard >= len(t.shards) {
		return fmt.Errorf("shard %d of %d", shard, len(t.shards))
	}
	if at := t.shards[shard].appliedTo; at > t.position {
		return fmt.Errorf("save shard %d: the log is at %d, the shard was restored at %d", shard, t.position, at)
	}
	if err := t.enter(ctx); err != nil {
		return err
	}
	j := t.newJob(jobSave)
	image := t.images.take(t.shards[shard])
	image.position, image.names, image.base = t.position, j.names, t.headNames
	j.image = image
	j.done = func() { done(image) }
	t.send(j)
	return nil
}

// ShardImage is a copy of a shard. Its owner may use it on any one goroutine.
type ShardImage struct {
	position uint64
	names    *names
	base     nameCounts // what the head knew
	shard    shard      // of it, only what is saved
	order    []uint32   // of each value: 1 + its place among the values saved
	from     *images
}

// Position returns the place in the log: that of the newest entry in the image.
func (i *ShardImage) Position() uint64 { return i.position }

// Release gives the memory back. The image must not be used any more.
func (i *ShardImage) Release() { i.from.put(i) }

// images keeps the memory of one image, so that the copy of the next shard goes
// to pages that are there already.
type images struct {
	mu   sync.Mutex
	kept *ShardImage
}

// take returns an image with room for what s holds now.
func (i *images) take(s *shard) *ShardImage {
	i.mu.Lock()
	image := i.kept
	i.kept = nil
	i.mu.Unlock()
	if image == nil {
		image = &ShardImage{from: i}
	}
	image.shard.id = s.id
	s.worker.gate.enter()
	chunks, cells := len(s.chunks), len(s.cells.chunks)
	s.worker.gate.leave()
	for len(image.shard.chunks) < chunks {
		image.shard.addChunk(new(chunk))
	}
	for len(image.shard.cells.chunks) < cells {
		image.shard.cells.chunks = append(image.shard.cells.chunks, make([]cell, chunkCells))
	}
	return image
}

func (i *images) put(image *ShardImage) {
	image.names = nil
	i.mu.Lock()
	defer i.mu.Unlock()
	i.kept = image
}

// copyFrom makes c a copy of s, as far as it is saved. Only the worker of s calls
// it, so it needs no lock.
func (c *shard) copyFrom(s *shard) {
	c.id, c.epoch, c.timeouts = s.id, s.epoch, s.timeouts
	c.free, c.fresh, c.live = s.free, s.fresh, s.live
	c.opened, c.evicted, c.tally = s.opened, s.evicted, s.tally
	for i, from := range s.chunks {
		if i == len(c.chunks) {
			c.addChunk(new(chunk))
		}
		*c.chunks[i] = *from
		if late := s.late[i]; late != nil {
			c.late[i] = append(c.late[i][:0], late...)
		}
	}
	for i, from := range s.cells.chunks {
		if i == len(c.cells.chunks) {
			c.cells.chunks = append(c.cells.chunks, make([]cell, chunkCells))
		}
		copy(c.cells.chunks[i], from)
	}
	c.cells.fresh = s.cells.fresh
	c.values.cells = &c.cells
	c.nets = c.nets[:0]
	for _, net := range s.nets {
		if net != nil {
			net = net.clone()
		}
		c.nets = append(c.nets, net)
	}
	for k := range s.open {
		c.open[k] = append(c.open[k][:0], s.open[k]...)
	}
}

func (n *shardNet) clone() *shardNet {
	c := &shardNet{clock: n.clock}
	for k, r := range n.rings {
		if r != nil {
			copied := *r
			c.rings[k] = &copied
		}
	}
	return c
}
