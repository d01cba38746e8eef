package handshake

import (
	"testing"
	"unsafe"

	"github.com/whorl-net/whorl/flow"
	"pgregory.net/rapid"
)

func testKey(i uint32) key {
	t := flow.Tuple{Src: flow.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), Protocol: flow.TCP}
	var k key
	k.set(&t)
	return k
}

// The table behaves as a map, while it grows, shrinks and moves entries.
func TestTableIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := newTable(20000)
		want := map[key]uint64{}
		keys := rapid.Uint32Range(1, 9000).Draw(t, "keys")
		for step := range rapid.IntRange(1, 12000).Draw(t, "steps") {
			k := testKey(uint32(step) * 2654435761 % keys)
			h := table.hash(&k)
			e := table.find(&k, h)
			n, there := want[k]
			if (e != nil) != there || there && e.packets != n {
				t.Fatalf("step %d: found %v, want %d (%v)", step, e, n, there)
			}
			switch {
			case !there:
				e = table.insert(&k, h)
				e.packets = uint64(step)
				want[k] = uint64(step)
			case step%3 == 0:
				table.remove(table.segment(h), e)
				delete(want, k)
			}
		}
		if table.live != len(want) {
			t.Fatalf("%d live, want %d", table.live, len(want))
		}
		live := 0
		for _, s := range table.segments {
			live += s.live
			for i := range s.entries {
				e, tag := &s.entries[i], uint8(0)
				if e.flags != 0 {
					tag = tagOf(table.hash(&e.key))
				}
				if s.tags[i] != tag || i < tagsAtOnce && s.tags[segmentEntries+i] != tag {
					t.Fatalf("place %d has tag %d, again %d, want %d", i, s.tags[i], s.tags[segmentEntries+i%tagsAtOnce], tag)
				}
			}
		}
		if live != len(want) {
			t.Fatalf("%d live in segments, want %d", live, len(want))
		}
		for k, n := range want {
			if e := table.find(&k, table.hash(&k)); e == nil || e.packets != n {
				t.Fatalf("%v: found %v, want %d", k, e, n)
			}
		}
	})
}

// Both directions of a connection give one key, opposite sides, and the tuple
// they came from.
func TestKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tuple flow.Tuple
		copy(tuple.Src[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "src"))
		copy(tuple.Dst[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "dst"))
		if rapid.Bool().Draw(t, "same") {
			tuple.Dst = tuple.Src
		}
		tuple.SrcPort = rapid.Uint16().Draw(t, "srcPort")
		tuple.DstPort = rapid.Uint16().Draw(t, "dstPort")
		tuple.Protocol = flow.Protocol(rapid.Byte().Draw(t, "protocol"))
		back := tuple.Reverse()
		var a, b key
		sideA, sideB := a.set(&tuple), b.set(&back)
		if a != b || tuple != back && sideA == sideB {
			t.Fatalf("%v gives %v side %d, reversed %v side %d", tuple, a, sideA, b, sideB)
		}
		if got := a.tuple(sideA); got != tuple {
			t.Fatalf("%v comes back as %v", tuple, got)
		}
		if k, reversed := tuple.Key(); k.APort != a.port(0) || k.BPort != a.port(1) || reversed != (sideA == 1) {
			t.Fatalf("%v: flow.Key is %v reversed %v, here %v side %d", tuple, k, reversed, a, sideA)
		}
	})
}

// An entry is one cache line; the documentation says so.
func TestEntryIsACacheLine(t *testing.T) {
	if n := unsafe.Sizeof(entry{}); n != 64 {
		t.Errorf("an entry has %d bytes, want 64", n)
	}
}

// A full table has a victim for every new flow, and never one more flow than
// it may have.
func TestTableIsBounded(t *testing.T) {
	for _, limit := range []int{1, 100, segmentFull, 5000} {
		table := newTable(limit)
		for i := range uint32(20000) {
			k := testKey(i)
			h := table.hash(&k)
			if table.full(h) {
				s, e := table.victim(h, i)
				table.remove(s, e)
			}
			table.insert(&k, h).seen = i
			if table.live > limit {
				t.Fatalf("%d flows, limit %d", table.live, limit)
			}
			if table.find(&k, h) == nil {
				t.Fatalf("flow %d is not found", i)
			}
		}
		if table.live < limit*9/10 {
			t.Errorf("%d flows in the end, limit %d", table.live, limit)
		}
	}
}
