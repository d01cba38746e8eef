package window

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/whorl-net/whorl/internal/analyst/state"
	"github.com/whorl-net/whorl/internal/fuzzguard"
)

// start is where the tests' time begins: a multiple of every window used.
const start = int64(1_700_000_000_000_000_000) / int64(time.Hour) * int64(time.Hour)

func at(d time.Duration) int64 { return start + int64(d) }

// A key crosses with one more than the threshold, not with the threshold, and
// only within the window: a sliding one by eighths, a tumbling one by its start.
func TestCountsCross(t *testing.T) {
	for _, tt := range []struct {
		name    string
		sliding bool
		at      []time.Duration
		want    int // index of the crossing, -1: none
	}{
		{"at the threshold", true, []time.Duration{0, 1, 2}, -1},
		{"above it", true, []time.Duration{0, 1, 2, 3}, 3},
		{"spread over the window", true, []time.Duration{0, 20 * time.Second, 40 * time.Second, 59 * time.Second}, 3},
		{"spread over more", true, []time.Duration{0, 30 * time.Second, 50 * time.Second, 70 * time.Second}, -1},
		{"across the edge of a tumbling window", false, []time.Duration{58 * time.Second, 59 * time.Second, 60 * time.Second, 61 * time.Second}, -1},
		{"inside a tumbling window", false, []time.Duration{60 * time.Second, 70 * time.Second, 80 * time.Second, 119 * time.Second}, 3},
		{"across the edge of a sliding window", true, []time.Duration{58 * time.Second, 59 * time.Second, 60 * time.Second, 61 * time.Second}, 3},
		{"late packets count as of now", true, []time.Duration{30 * time.Second, 0, 1, 2}, 3},
		{"and stay as long as now", true, []time.Duration{30 * time.Second, 0, 1, 65 * time.Second}, 3},
		{"a wrong clock is forgotten", true, []time.Duration{9 * time.Hour, 0, 1, 2, 3}, 4},
		{"quiet for a window after it", true, []time.Duration{0, 1, 2, 3, 4, 5, 6, 7, 8}, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := NewCounts(Limit{Window: int64(time.Minute), Sliding: tt.sliding, Threshold: 3, Keys: 64})
			got := -1
			for i, d := range tt.at {
				if n, crossed := c.Add(7, at(d)); crossed {
					if got >= 0 {
						t.Errorf("crossed again at %v", d)
					}
					if n != 4 {
						t.Errorf("crossed with %d, want 4", n)
					}
					got = i
				}
			}
			if got != tt.want {
				t.Errorf("crossed at %d, want %d", got, tt.want)
			}
		})
	}
}

// After the quiet time a key counts from the start.
func TestCountsAgain(t *testing.T) {
	c := NewCounts(Limit{Window: int64(time.Minute), Sliding: true, Threshold: 3, Keys: 64})
	crossed := 0
	for s := range 200 {
		if _, yes := c.Add(7, at(time.Duration(s)*time.Second)); yes {
			crossed++
		}
	}
	if crossed != 4 { // at 3 s, 66 s, 129 s, 192 s
		t.Errorf("crossed %d times in 200 s, want 4", crossed)
	}
}

// Distinct counts an element once in a window and forgets it when the window has
// slid past it; what is kept one by one slides exactly.
func TestDistinctCross(t *testing.T) {
	type seen struct {
		d    time.Duration
		what uint32
	}
	for _, tt := range []struct {
		name    string
		sliding bool
		seen    []seen
		want    int
	}{
		{"equal ones count once", true, []seen{{0, 1}, {1, 1}, {2, 1}, {3, 2}, {4, 3}}, -1},
		{"at the threshold", true, []seen{{0, 1}, {1, 2}, {2, 3}}, -1},
		{"above it", true, []seen{{0, 1}, {1, 2}, {2, 3}, {3, 4}}, 3},
		{"the first has slid out", true, []seen{{0, 1}, {time.Second, 2}, {2 * time.Second, 3}, {61 * time.Second, 4}}, -1},
		{"seen again counts as new", true, []seen{{0, 1}, {10 * time.Second, 2}, {50 * time.Second, 1}, {52 * time.Second, 3}, {65 * time.Second, 4}}, 4},
		{"a tumbling window begins anew", false, []seen{{58 * time.Second, 1}, {59 * time.Second, 2}, {60 * time.Second, 3}, {61 * time.Second, 4}}, -1},
		{"inside a tumbling window", false, []seen{{60 * time.Second, 1}, {61 * time.Second, 2}, {62 * time.Second, 3}, {119 * time.Second, 4}}, 3},
		{"a wrong clock is forgotten", true, []seen{{9 * time.Hour, 9}, {0, 1}, {1, 2}, {2, 3}, {3, 4}}, 4},
		{"nothing after 0", true, []seen{{0, 0}, {1, 1}, {2, 2}, {3, 3}}, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := NewDistinct(Limit{Window: int64(time.Minute), Sliding: tt.sliding, Threshold: 3, Keys: 64})
			got := -1
			for i, s := range tt.seen {
				if n, crossed := d.Add(7, s.what, at(s.d)); crossed {
					got = i
					if n != 4 || len(d.Found()) != 4 || !slices.IsSorted(d.Found()) {
						t.Errorf("crossed with %d: %v", n, d.Found())
					}
				}
			}
			if got != tt.want {
				t.Errorf("crossed at %d, want %d", got, tt.want)
			}
		})
	}
}

// Every threshold up to Exact is crossed by exactly one more; above, the
// estimate is off by a few standard errors at most.
func TestDistinctThresholds(t *testing.T) {
	for _, threshold := range []uint32{1, 3, 4, 5, 15, 16, 17, 63, 64, 65, 255} {
		d := NewDistinct(Limit{Window: int64(time.Minute), Sliding: true, Threshold: threshold, Keys: 64})
		for i := range uint32(1000) {
			if n, crossed := d.Add(1, i*2654435761, start); crossed {
				if n != threshold+1 || i != threshold {
					t.Errorf("threshold %d was crossed by element %d with %d", threshold, i+1, n)
				}
				break
			}
		}
	}
	for _, threshold := range []uint32{256, 500, 2000, 20_000} {
		for seed := range uint64(5) {
			r := rand.New(rand.NewPCG(seed, 1))
			d := NewDistinct(Limit{Window: int64(time.Minute), Sliding: true, Threshold: threshold, Keys: 64})
			var n int
			for crossed := false; !crossed; n++ {
				_, crossed = d.Add(1, r.Uint32(), start)
			}
			if off := math.Abs(float64(n)-float64(threshold)) / float64(threshold); off > 0.15 {
				t.Errorf("threshold %d was crossed by %d elements", threshold, n)
			}
		}
	}
}

// A sliding sketch forgets by halves of a window.
func TestSketchSlides(t *testing.T) {
	var d *Distinct
	add := func(from, n int, when time.Duration) (got uint32) {
		for i := range n {
			got, _ = d.Add(1, uint32(from+i)*2654435761, at(when))
		}
		return got
	}
	anew := func() {
		d = NewDistinct(Limit{Window: int64(time.Minute), Sliding: true, Threshold: 1 << 20, Keys: 64})
	}
	anew()
	if n := add(0, 3000, 0); n < 2600 || n > 3400 {
		t.Errorf("3,000 elements are estimated as %d", n)
	}
	if n := add(3000, 1000, 31*time.Second); n < 3500 || n > 4500 {
		t.Errorf("4,000 elements of two halves are estimated as %d", n)
	}
	if n := add(4000, 1000, 61*time.Second); n < 1700 || n > 2300 {
		t.Errorf("2,000 elements of the newest two halves are estimated as %d", n)
	}
	if n := add(0, 1, 10*time.Minute); n != 1 {
		t.Errorf("after ten minutes there are %d, want 1", n)
	}
	anew()
	if add(0, 200, 20*time.Second); add(200, 200, 31*time.Second) < 350 {
		t.Errorf("of 200 elements kept one by one and 200 more only %d are there", add(200, 1, 31*time.Second))
	}
	anew()
	if add(0, 3000, 29*time.Second); add(3000, 1, 61*time.Second) > 5 {
		t.Errorf("elements of two halves ago are there: %d", add(3000, 1, 61*time.Second))
	}
}

// A rhythm is found for regular beats, with jitter up to its score, and not for
// irregular ones.
func TestRhythm(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, tt := range []struct {
		name        string
		next        func(i int) time.Duration
		least, most int // score
	}{
		{"exact", func(int) time.Duration { return 30 * time.Second }, 1000, 1000},
		{"2 % jitter", func(int) time.Duration { return 30*time.Second + time.Duration(r.IntN(1200)-600)*time.Millisecond }, 950, 999},
		{"20 % jitter", func(int) time.Duration { return 30*time.Second + time.Duration(r.IntN(12000)-6000)*time.Millisecond }, 550, 850},
		{"random", func(int) time.Duration { return time.Second + time.Duration(r.ExpFloat64()*float64(30*time.Second)) }, 0, 300},
		{"two rhythms", func(i int) time.Duration {
			return []time.Duration{5 * time.Second, 25 * time.Second}[i%2]
		}, 0, 300},
		{"in groups", func(i int) time.Duration {
			if i%3 == 0 {
				return 60 * time.Second
			}
			return 100 * time.Millisecond
		}, 990, 1000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			y := NewRhythm(64)
			now := start
			var last Beat
			found := false
			for i := range 60 {
				if b, ok := y.Add(5, now, 8); ok {
					last, found = b, true
				}
				now += int64(tt.next(i))
			}
			if !found || last.Score < tt.least || last.Score > tt.most {
				t.Errorf("score %d of %d beats, want %d to %d", last.Score, last.Beats, tt.least, tt.most)
			}
		})
	}
}

// A value is only another one after it was the same for a while.
func TestSteady(t *testing.T) {
	y := NewSteady(64)
	for i, tt := range []struct {
		value uint64
		want  uint32
	}{{1, 0}, {1, 0}, {1, 0}, {2, 3}, {1, 1}, {1, 0}, {3, 2}} {
		if got := y.Add(9, tt.value); got != tt.want {
			t.Errorf("step %d: %d equal ones before, want %d", i, got, tt.want)
		}
	}
}

// The cache never holds more than it has room for; what is used again stays
// while inventions come and go, and what leaves is counted.
func TestCacheUnderInventions(t *testing.T) {
	c := NewCounts(Limit{Window: MaxWindow, Sliding: true, Threshold: 1 << 20, Keys: 1024})
	regular := make([]uint64, 100)
	for i := range regular {
		regular[i] = Seed(5).Start(1).Mix(uint64(i)).Sum()
	}
	lost := 0
	for i := range 200_000 {
		c.Add(Seed(5).Start(2).Mix(uint64(i)).Sum(), start)
		if i%500 == 0 { // each of them about once in 50,000 inventions, unless it is protected
			k := regular[i/500%len(regular)]
			if n, _ := c.Add(k, start); i >= 500*len(regular) && n == 1 {
				lost++
			}
		}
	}
	held, evicted := c.Keys()
	if held > 1024 || int(evicted)+held < 200_000 {
		t.Errorf("%d keys are held and %d were evicted of 200,100", held, evicted)
	}
	// A recency of 50,000 in a cache of 1,024 is beyond any protection; one of
	// 2,000 is not.
	c = NewCounts(Limit{Window: MaxWindow, Sliding: true, Threshold: 1 << 20, Keys: 1024})
	lost = 0
	for _, k := range regular {
		c.Add(k, start)
		c.Add(k, start)
	}
	for i := range 100_000 {
		c.Add(Seed(5).Start(2).Mix(uint64(i)).Sum(), start)
		if i%20 == 0 {
			if n, _ := c.Add(regular[i/20%len(regular)], start); n <= 1 {
				lost++
			}
		}
	}
	if lost > 250 { // a twentieth: chance fills a set now and then
		t.Errorf("%d of 5,000 times a regular key had been pushed out by inventions", lost)
	}
}

// subject is a state under test, behind one method for a random step.
type subject struct {
	name string
	make func() any
	step func(s any, key uint64, what uint32, at int64) string
}

var subjects = []subject{
	{"counts", func() any {
		return NewCounts(Limit{Window: int64(10 * time.Second), Sliding: true, Threshold: 6, Keys: 64})
	}, func(s any, key uint64, _ uint32, at int64) string {
		n, crossed := s.(*Counts).Add(key, at)
		return fmt.Sprint(n, crossed)
	}},
	{"distinct", func() any {
		return NewDistinct(Limit{Window: int64(10 * time.Second), Sliding: true, Threshold: 40, Keys: 64})
	}, func(s any, key uint64, what uint32, at int64) string {
		n, crossed := s.(*Distinct).Add(key, what, at)
		return fmt.Sprint(n, crossed)
	}},
	{"sketch", func() any {
		return NewDistinct(Limit{Window: int64(1000 * time.Second), Threshold: 600, Keys: 8})
	}, func(s any, key uint64, what uint32, at int64) string {
		n, crossed := s.(*Distinct).Add(key%2, what, at)
		return fmt.Sprint(n, crossed)
	}},
	{"rhythm", func() any { return NewRhythm(64) }, func(s any, key uint64, _ uint32, at int64) string {
		return fmt.Sprint(s.(*Rhythm).Add(key, at, 4))
	}},
	{"steady", func() any { return NewSteady(64) }, func(s any, key uint64, what uint32, _ int64) string {
		return fmt.Sprint(s.(*Steady).Add(key, uint64(what%3)))
	}},
}

type saver interface {
	Save(*state.Writer)
	Restore(*state.Reader)
}

func saved(s any) []byte {
	var w state.Writer
	s.(saver).Save(&w)
	return w.B
}

// A state that was saved and restored anywhere goes on as if nothing had
// happened, and saves the same bytes.
func TestSaveRestoreAnywhere(t *testing.T) {
	for _, sub := range subjects {
		t.Run(sub.name, func(t *testing.T) {
			for seed := range uint64(6) {
				r := rand.New(rand.NewPCG(seed, 7))
				one, two := sub.make(), sub.make()
				now := start
				for i := range 4000 {
					now += int64(r.IntN(int(time.Second)))
					key, what := Seed(seed).Start(0).Mix(uint64(r.IntN(150))).Sum(), uint32(r.IntN(3000))
					late := now - int64(r.IntN(int(time.Second)))
					if a, b := sub.step(one, key, what, late), sub.step(two, key, what, late); a != b {
						t.Fatalf("seed %d, step %d: %s, after a restore %s", seed, i, a, b)
					}
					if r.IntN(400) == 0 {
						data := saved(two)
						two = sub.make()
						rd := state.NewReader(data)
						two.(saver).Restore(rd)
						if err := rd.End(); err != nil {
							t.Fatal(err)
						}
						if !slices.Equal(data, saved(two)) {
							t.Fatalf("seed %d, step %d: the restored state saves other bytes", seed, i)
						}
					}
				}
			}
		})
	}
}

// Whatever the bytes are, Restore ends with a state or an error.
func FuzzRestore(f *testing.F) {
	for i, sub := range subjects {
		s := sub.make()
		for k := range 900 {
			sub.step(s, Seed(1).Start(0).Mix(uint64(k%70)).Sum(), uint32(k), start+int64(k)*1e8)
		}
		f.Add(uint8(i), saved(s))
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		fuzzguard.Watch(t)
		sub := subjects[int(which)%len(subjects)]
		s := sub.make()
		r := state.NewReader(data)
		s.(saver).Restore(r)
		if err := r.Err(); err != nil && !errors.Is(err, state.ErrDamaged) {
			t.Errorf("error %v is not ErrDamaged", err)
		}
		for k := range 50 {
			sub.step(s, Seed(1).Start(0).Mix(uint64(k%70)).Sum(), uint32(k), start+int64(k)*1e8)
		}
		saved(s)
	})
}

// Adding to a key that is there costs no allocation, nor does a flood of keys.
func TestNoAllocation(t *testing.T) {
	c := NewCounts(Limit{Window: int64(time.Minute), Sliding: true, Threshold: 1 << 20, Keys: 1024})
	d := NewDistinct(Limit{Window: int64(time.Minute), Sliding: true, Threshold: 1 << 20, Keys: 1024})
	y := NewRhythm(1024)
	k := uint64(0)
	if n := testing.AllocsPerRun(20_000, func() {
		k++
		key := Seed(1).Start(0).Mix(k).Sum()
		c.Add(key, start)
		d.Add(key, uint32(k), start)
		y.Add(key, start, 8)
	}); n != 0 {
		t.Errorf("%v allocations for each, want 0", n)
	}
}

// BenchmarkFlood: keys that were never seen, what a flood from invented
// addresses costs each rule.
func BenchmarkFlood(b *testing.B) {
	for _, keys := range []int{1 << 13, 1 << 16} {
		d := NewDistinct(Limit{Window: int64(time.Minute), Sliding: true, Threshold: 20, Keys: keys})
		b.Run(fmt.Sprintf("distinct/keys=%d", keys), func(b *testing.B) {
			for i := range b.N {
				d.Add(Seed(1).Start(0).Mix(uint64(i)).Sum(), uint32(i), start)
			}
		})
		y := NewRhythm(keys)
		b.Run(fmt.Sprintf("rhythm/keys=%d", keys), func(b *testing.B) {
			for i := range b.N {
				y.Add(Seed(1).Start(0).Mix(uint64(i)).Sum(), start, 8)
			}
		})
	}
}

func BenchmarkSketch(b *testing.B) {
	d := NewDistinct(Limit{Window: int64(time.Minute), Sliding: true, Threshold: 1 << 20, Keys: 64})
	for i := range b.N {
		d.Add(1, uint32(i)*2654435761, start+int64(i))
	}
}
