package client

import (
	"testing"
	"time"
)

// The wait stays short while somebody answers, doubles while nobody does, and
// starts again when something worked.
func TestBackoffEases(t *testing.T) {
	var b backoff
	within := func(what string, most time.Duration) {
		t.Helper()
		if d := b.delay(); d < most/2 || d > most {
			t.Errorf("%s: wait %v, want %v to %v", what, d, most/2, most)
		}
	}
	for most := minBackoff; most < maxBackoff; most *= 2 {
		within("doubling", most)
	}
	within("at the bound", maxBackoff)
	for range 3 {
		b.ease()
		within("eased", maxEased)
	}
	within("away again", 2*maxEased)
	b.reset()
	within("reset", minBackoff)
	b.ease()
	within("eased from the start", 2*minBackoff)
}
