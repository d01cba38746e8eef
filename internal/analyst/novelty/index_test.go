package novelty

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/whorl-net/whorl/internal/analyst/state"
	"github.com/whorl-net/whorl/ja4"
)

// The index finds what was inserted and not removed, whatever came in between,
// also when every tag belongs to a few places.
func TestIndexIsAMap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, tags := range []uint32{7, 300, 1 << 31} {
		ix, want, next := newIndex(), map[int32]uint32{}, int32(1)
		for range 20_000 {
			if len(want) > 0 && r.IntN(100) < 48 {
				for slot, tag := range want {
					ix.remove(ix.find(tag, func(s int32) bool { return s == slot }))
					delete(want, slot)
					break
				}
			} else {
				tag := r.Uint32N(tags) * 0x10001
				ix.insert(tag, next)
				want[next] = tag
				next++
			}
		}
		for slot := int32(1); slot < next; slot++ {
			tag, there := want[slot]
			if !there {
				continue
			}
			if at := ix.find(tag, func(s int32) bool { return s == slot }); at < 0 || ix.slots[at].slot != slot {
				t.Fatalf("%d tags: entry %d is lost", tags, slot)
			}
		}
		if ix.used != len(want) || ix.find(12345, func(int32) bool { return false }) >= 0 {
			t.Errorf("%d tags: %d are in use, want %d", tags, ix.used, len(want))
		}
	}
}

// A known fingerprint allocates nothing.
func TestSawAgainDoesNotAllocate(t *testing.T) {
	m := newMemory(1000)
	var sights []*Sight
	for i := range 500 {
		s := sight("lab", ja4.TypeJA4, fmt.Sprintf("t13d1516h2_%012x_02713d6af862", i), i, 0)
		m.saw(s)
		sights = append(sights, s)
	}
	n := testing.AllocsPerRun(100, func() {
		for _, s := range sights {
			s.Event.UID[0]++
			m.saw(s)
		}
	})
	if n > 0 {
		t.Errorf("%v allocations for 500 known ones", n)
	}
}

// A first sight that counts hands out a copy of the whole value.
func TestSawKeeps(t *testing.T) {
	m := newMemory(10)
	value := []byte("ge11cn05enus_aaaa_bbbb_cccc")
	s := sight("lab", ja4.TypeJA4H, string(value), 1, 0)
	if !m.saw(s) || s.Kept != string(value) {
		t.Fatalf("kept %q", s.Kept)
	}
	if page, _ := m.Page(0, 10, nil); page[0].Value != "ge11cn05enus_aaaa" {
		t.Errorf("remembered %q", page[0].Value)
	}
}

// An entry takes whole lines of a cache, so that none straddles more than it must,
// and what is used of a known one is in the first two.
func TestEntryTakesThreeLines(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("the layout is for pointers of eight bytes") // the size holds nowhere else
	}
	var e entry
	if size := unsafe.Sizeof(e); size != 3*64 {
		t.Errorf("an entry takes %d bytes, want 192", size)
	}
	if end := unsafe.Offsetof(e.Connections) + unsafe.Sizeof(e.Connections); end > 2*64 {
		t.Errorf("Connections ends at byte %d, want 128 at most", end)
	}
}

// What is fetched for sights is what Saw finds, and fetching changes nothing: a
// memory that is never fetched from answers and saves the same.
func TestFetchChangesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	fetched, plain := newMemory(40), newMemory(40)
	for range 500 {
		var sights []Sight
		for range 1 + r.IntN(64) {
			s := sight("lab", ja4.TypeJA4, fmt.Sprint(r.IntN(70)), r.IntN(50), int64(r.IntN(1000)))
			if !fetched.Prepare(s) {
				t.Fatal("a ja4 is not remembered")
			}
			sights = append(sights, *s)
		}
		fetched.Fetch(sights)
		for i := range sights {
			same := sights[i]
			plain.Prepare(&same) // the seeds of their hashes differ
			if got, want := fetched.Saw(&sights[i]), plain.Saw(&same); got != want {
				t.Fatalf("%s is new: %v, want %v", sights[i].value, got, want)
			}
		}
	}
	var a, b state.Writer
	fetched.Save(&a)
	plain.Save(&b)
	if !bytes.Equal(a.B, b.B) {
		t.Error("they save different states")
	}
}
