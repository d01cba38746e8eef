package tracker

import (
	"hash/maphash"
	"math/rand/v2"
	"strconv"
	"testing"
)

// Values are found, each as itself, while their table grows by single buckets,
// and gone when the last reference is; no chain becomes long.
func TestValuesAreFoundWhileTheirTableGrows(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	cells := cellSlab{max: 1 << 20}
	v := values{cells: &cells, seed: maphash.MakeSeed()}
	ids := make(map[string]uint32)
	for i := range 40_000 {
		text := strconv.Itoa(i)
		id := v.add(nameType, text, v.hash(nameType, text))
		v.retain(id)
		ids[text] = id
		if r.IntN(4) == 0 {
			for other, id := range ids { // any
				v.letGo(id)
				delete(ids, other)
				if got := v.find(nameType, other, v.hash(nameType, other)); got != 0 {
					t.Fatalf("%s is found as %d after its last reference went", other, got)
				}
				break
			}
		}
	}
	for text, id := range ids {
		if got := v.find(nameType, text, v.hash(nameType, text)); got != id {
			t.Fatalf("%s is found as %d, want %d, with %d buckets", text, got, id, len(v.heads))
		}
	}
	if v.n != len(ids) || len(v.heads) < v.n/2 || len(v.heads) > v.n {
		t.Errorf("%d values, counted %d, in %d buckets", len(ids), v.n, len(v.heads))
	}
	longest := 0
	for at, id := range v.heads {
		n := 0
		for ; id != 0; id = cells.at(id).next {
			if v.place(uint32(cells.at(id).x>>32)) != uint32(at) {
				t.Fatalf("value %d lies in bucket %d", id, at)
			}
			n++
		}
		longest = max(longest, n)
	}
	if longest > 16 {
		t.Errorf("a chain of %d values, for %d values in %d buckets", longest, v.n, len(v.heads))
	}
}
