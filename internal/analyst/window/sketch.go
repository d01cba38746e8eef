package window

import (
	"math"
	"math/bits"

	"github.com/whorl-net/whorl/internal/analyst/state"
)

// registers is the size of a sketch: HyperLogLog with 1,024 registers.
const (
	registerBits = 10
	registers    = 1 << registerBits
)

// sketch estimates how many different elements were added, in two halves of a
// window: the older one and the newest.
type sketch [2][registers]uint8

// takeSketch returns the number of an empty sketch.
func (d *Distinct) takeSketch() uint32 {
	if n := len(d.freeSketches); n > 0 {
		i := d.freeSketches[n-1]
		d.freeSketches = d.freeSketches[:n-1]
		*d.sketches[i] = sketch{}
		return i
	}
	d.sketches = append(d.sketches, new(sketch))
	return uint32(len(d.sketches) - 1)
}

// halfOf returns the number of the half that holds a time.
func (d *Distinct) halfOf(at int64) int64 {
	if d.limit.Sliding {
		return at / (d.limit.Window / 2)
	}
	return at / d.limit.Window
}

// beginSketch turns the elements of s into a sketch.
func (d *Distinct) beginSketch(s *gathered, at int64) {
	var es [Exact]element
	copy(es[:], d.elements(s))
	d.letGo(s)
	s.many, s.sketched, s.n = d.takeSketch(), true, 0
	now, newest := stamp(at), d.halfOf(at)
	for _, e := range es {
		if half := d.halfOf(at - int64(now-e.when)<<20); half >= newest-1 {
			d.sketches[s.many].put(e.what, int(half&1))
		}
	}
	s.estimate = d.sketches[s.many].estimate()
}

// addToSketch adds an element at s.last to the sketch of s, whose newest element
// until now is of before, and returns the estimate. It is made anew only when it
// has changed.
func (d *Distinct) addToSketch(s *gathered, what uint32, before int64) uint32 {
	k := d.sketches[s.many]
	half := d.halfOf(s.last)
	changed := true
	switch old := d.halfOf(before); {
	case half > old+1:
		*k = sketch{}
	case half == old+1:
		k[half&1] = [registers]uint8{}
	default:
		changed = false
	}
	if k.put(what, int(half&1)) || changed {
		s.estimate = k.estimate()
	}
	return s.estimate
}

// spread mixes the bits of an element: addresses and ports are not even.
func spread(x uint32) uint64 { return fold(uint64(x)^mixB, mixA) }

// put adds an element and reports whether that changed anything.
func (k *sketch) put(what uint32, half int) bool {
	h := spread(what)
	rank := uint8(bits.LeadingZeros64(h<<registerBits|1<<(registerBits-1))) + 1
	p := &k[half][h>>(64-registerBits)]
	if *p >= rank {
		return false
	}
	*p = rank
	return true
}

// estimate returns how many different elements both halves hold together.
func (k *sketch) estimate() uint32 {
	// Powers of two are exact, so the sum does not depend on its order.
	sum, empty := 0.0, 0
	for i := range registers {
		rank := max(k[0][i], k[1][i])
		if rank == 0 {
			empty++
		}
		sum += 1 / float64(uint64(1)<<min(rank, 63))
	}
	const alpha = 0.7213 / (1 + 1.079/registers)
	n := alpha * registers * registers / sum
	if n <= 2.5*registers && empty > 0 {
		n = registers * math.Log(registers/float64(empty))
	}
	return uint32(n)
}

func (k *sketch) save(w *state.Writer) {
	w.Bytes(k[0][:])
	w.Bytes(k[1][:])
}

func (k *sketch) restore(r *state.Reader) {
	for half := range k {
		copy(k[half][:], r.Bytes(registers))
	}
}
