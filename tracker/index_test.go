package tracker

import (
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"github.com/whorl-net/whorl/flow"
)

// A bucket is a cache line, a hot record too.
func TestSizes(t *testing.T) {
	for _, c := range []struct {
		what      string
		got, want uintptr
	}{
		{"bucket", unsafe.Sizeof(bucket{}), bucketBytes},
		{"hot", unsafe.Sizeof(hot{}), hotBytes},
		{"meta", unsafe.Sizeof(meta{}), metaBytes},
		{"cell", unsafe.Sizeof(cell{}), cellBytes},
	} {
		if c.got != c.want {
			t.Errorf("%s has %d bytes, want %d", c.what, c.got, c.want)
		}
	}
	if n := unsafe.Sizeof(ring{}); n > ringBytes {
		t.Errorf("ring has %d bytes, counted as %d", n, ringBytes)
	}
}

// matches finds every entry of a tag, and names none first that has another.
func TestBucketMatches(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 100_000 {
		var b bucket
		tags := [4]uint16{0, 1, 2, 0x8000}
		b.lanes[overWord] = uint64(r.Uint32N(3)) << overShift
		for e := range bucketSlots {
			b.set(e, tags[r.IntN(4)], uint32(e))
		}
		for _, tag := range tags {
			m := b.matches(tag)
			if m>>bucketSlots != 0 {
				t.Fatalf("%x: tag %x matches %b", b.lanes, tag, m)
			}
			if m != 0 && b.tag(bits.TrailingZeros32(m)) != tag {
				t.Fatalf("%x: the lowest match of %x in %b is none", b.lanes, tag, m)
			}
			for e := range bucketSlots {
				if b.tag(e) == tag && m>>e&1 == 0 {
					t.Fatalf("%x: tag %x of entry %d is not in %b", b.lanes, tag, e, m)
				}
			}
		}
	}
}

// What was inserted and not removed is found, also when buckets overflow, and
// nothing else is; an empty index has no trace of what was there.
func TestIndexAgainstMap(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for _, n := range []int{1, 7, 60, 600} {
		x := newIndex(n)
		want := map[uint32]uint64{}
		find := func(slot uint32, hash uint64) bool {
			i := x.home(hash)
			for range len(x) {
				for m := x[i].matches(tagOf(hash)); m != 0; m &= m - 1 {
					if x[i].slots[bits.TrailingZeros32(m)] == slot {
						return true
					}
				}
				if x[i].over() == 0 {
					return false
				}
				i = x.next(i)
			}
			return false
		}
		for step := range 20_000 {
			slot := 1 + r.Uint32N(uint32(n))
			hash, there := want[slot]
			switch {
			case there && (step > 15_000 || r.IntN(2) == 0):
				x.remove(hash, slot)
				delete(want, slot)
				if find(slot, hash) {
					t.Fatalf("slot %d is found after it was removed", slot)
				}
			case !there && step <= 15_000:
				hash = r.Uint64() >> (r.IntN(2) * 3) // half of them crowd in one part
				x.insert(hash, slot)
				want[slot] = hash
			}
			if step%500 == 0 {
				for slot, hash := range want {
					if !find(slot, hash) {
						t.Fatalf("slot %d of %d is not found", slot, n)
					}
				}
			}
		}
		for slot, hash := range want {
			x.remove(hash, slot)
		}
		for i := range x {
			if x[i] != (bucket{}) {
				t.Fatalf("bucket %d of an empty index is %+v", i, x[i])
			}
		}
	}
}

// A keyIn is the same key that flow.Tuple.Key gives, both ways round.
func TestKeyInIsTheKey(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	for range 10_000 {
		tu := flow.Tuple{SrcPort: uint16(r.IntN(3)), DstPort: uint16(r.IntN(3)), Protocol: flow.Protocol(r.IntN(256))}
		for _, a := range []*flow.Addr{&tu.Src, &tu.Dst} {
			a[r.IntN(16)] = byte(r.IntN(3))
			a[r.IntN(16)] = byte(255 * r.IntN(2))
		}
		network := uint16(r.Uint32())
		want, wantTurned := tu.Key()
		var k keyIn
		turned := k.putTuple(&tu, network) == 1
		var h hot
		k.store(&h.key)
		if turned != wantTurned || h.flowKey() != want || k != makeKeyIn(&want, network) || k != h.in(network) || k.network() != network {
			t.Fatalf("%v: key %v turned %v, want %v %v", tu, h.flowKey(), turned, want, wantTurned)
		}
		pairs := []pair{{network: network}, {network: network ^ 1}}
		for p, want := range map[uint16]bool{0: true, 1: false, freePair: false} {
			if h.pair = p; h.is(&k, pairs) != want {
				t.Fatalf("%v of pair %d is %v in network %d", h.flowKey(), p, !want, network)
			}
		}
	}
}

// Where a connection lies is for good: data directories hold it. Each value
// here was computed once, by this code.
func TestShardIsForGood(t *testing.T) {
	tr, err := New(Config{Shards: 64, HashSeed: 42})
	if err != nil {
		t.Fatal(err)
	}
	var got []uint32
	for i := range 8 {
		tu := udp(i * 1000)
		key, _ := tu.Key()
		k := makeKeyIn(&key, uint16(i)) // the network's number does not matter
		label := tr.labelSecret([]string{"default", "lab"}[i%2])
		got = append(got, tr.shardOf(&k, &label))
	}
	if want := []uint32{33, 40, 48, 55, 18, 51, 44, 19}; !slices.Equal(got, want) {
		t.Errorf("shards %v, want %v", got, want)
	}
}

// A stored key is that of one flow: one bit of difference, wherever, is another
// connection, whatever the other words hold.
func TestRecordHoldsOneKey(t *testing.T) {
	for _, fill := range []byte{0, 0x55, 0xff} {
		var h hot
		for i := range h.key {
			h.key[i] = fill
		}
		k := h.in(7)
		if !h.holds(&k) {
			t.Fatalf("filled with %#x: it does not hold its own key", fill)
		}
		for bit := range keyBytes * 8 {
			h.key[bit/8] ^= 1 << (bit % 8)
			if h.holds(&k) {
				t.Errorf("filled with %#x: bit %d differs, and it is taken for the same key", fill, bit)
			}
			h.key[bit/8] ^= 1 << (bit % 8)
		}
	}
}
