package enrich

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// A sieve lets every key through, and little else.
func TestSieve(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{0, 1, 7, 300, 20_000} {
		m := make(map[string]bool)
		for i := range n {
			for _, key := range []string{fmt.Sprintf("t13d1516h2_%012x_%012x", r.Uint64()>>16, i), fmt.Sprintf("%012x", r.Uint64()>>16), fmt.Sprintf("%x", i), ""} {
				m[key] = true
			}
		}
		s := sieveOf(m)
		for key := range m {
			if !s.may(key) {
				t.Errorf("of %d keys %q does not pass", len(m), key)
			}
		}
		passed := 0
		for i := range 10_000 {
			if s.may(fmt.Sprintf("t13d1516h2_%012x_%012x", r.Uint64()>>16, i)) {
				passed++
			}
		}
		if passed > 1000 {
			t.Errorf("%d of 10,000 that are no keys pass one of %d keys", passed, len(m))
		}
	}
}
