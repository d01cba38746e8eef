package feed

import (
	"encoding/binary"
	"hash/maphash"

	"github.com/whorl-net/whorl/flow"
)

// recentSlots bounds the memory of what was evicted lately, in connections;
// recentWays of them share a bucket, the oldest of which makes room.
const (
	recentSlots = 1 << 16
	recentWays  = 4
)

// hashSeed hashes connections; it differs from process to process, so that
// nobody outside can aim at one bucket.
type hashSeed struct{ seed maphash.Seed }

func newHashSeed() hashSeed { return hashSeed{maphash.MakeSeed()} }

// sum returns a hash of the connection that is never 0.
func (h hashSeed) sum(key *flow.Key, network string) uint64 {
	if network == "" {
		network = flow.DefaultNetwork
	}
	// One buffer on the stack and one call are twice as fast as maphash.Hash.
	var buf [37 + flow.MaxNetworkLen]byte
	b := append(buf[:0], key.A[:]...)
	b = append(b, key.B[:]...)
	b = binary.BigEndian.AppendUint16(b, key.APort)
	b = binary.BigEndian.AppendUint16(b, key.BPort)
	b = append(b, byte(key.Protocol))
	b = append(b, network...)
	return max(maphash.Bytes(h.seed, b), 1)
}

// recentTable maps hashes of connections to the sequence of their newest
// eviction. It forgets the older ones when it is full.
type recentTable struct {
	slots  []recentSlot // made at the first put
	loaded uint64       // keeps the compiler from leaving out loads that only warm the cache
}

type recentSlot struct{ hash, sequence uint64 }

func (t *recentTable) bucket(hash uint64) []recentSlot {
	i := hash % (recentSlots / recentWays) * recentWays
	return t.slots[i : i+recentWays]
}

func (t *recentTable) put(hash, sequence uint64) {
	if t.slots == nil {
		t.slots = make([]recentSlot, recentSlots)
	}
	b := t.bucket(hash)
	victim := 0
	for i := range b {
		if b[i].hash == hash {
			victim = i
			break
		}
		if b[i].sequence < b[victim].sequence {
			victim = i
		}
	}
	b[victim] = recentSlot{hash, sequence}
}

// load brings the buckets of hashes into the cache: a bucket is one line, and
// misses that do not wait for one another take a tenth.
func (t *recentTable) load(hashes []uint64) {
	if t.slots == nil {
		return
	}
	sum := uint64(0)
	for _, h := range hashes {
		sum += t.bucket(h)[0].hash
	}
	t.loaded = sum
}

// get returns 0 when nothing is known of hash.
func (t *recentTable) get(hash uint64) uint64 {
	if t.slots == nil {
		return 0
	}
	for _, s := range t.bucket(hash) {
		if s.hash == hash {
			return s.sequence
		}
	}
	return 0
}

// Recent returns the newest eviction of the connection that the journal
// remembers and still holds: its sequence, and the encoded whorl.v1.Eviction,
// which must not be changed. It remembers about the newest 65,536 connections.
func (j *Journal) Recent(key *flow.Key, network string) (sequence uint64, event []byte, ok bool) {
	hash := j.hashSeed.sum(key, network)
	j.mu.Lock()
	defer j.mu.Unlock()
	sequence = j.recent.get(hash)
	if sequence < j.oldestLocked() {
		return 0, nil, false
	}
	c, i := j.findLocked(sequence)
	c.lent = true
	b := c.block(i, 1, len(c.data))
	return sequence, b.Event(0), true
}
