package analyst

import (
	"testing"
	"time"

	"github.com/whorl-net/whorl/ja4"
)

// Forgetting is an entry of the log: a state that was saved behind it has it, and
// does not forget again what it has seen since.
func TestForgetIsAppliedOnce(t *testing.T) {
	r := newRig(t, 2, Config{}, false)
	show := func(n uint16) {
		tu := tuple("10.0.0.1", "192.0.2.1", n, 443)
		r.submit("lab", 0, batch([]act{syn(tu, 0), hello(tu, 1, ja4.TypeJA4, chrome)}))
	}
	show(1)
	if n := r.Matching(nil); n != 1 {
		t.Fatalf("%d match, want 1", n)
	}
	at := r.entry(0).Position
	if n := r.Forget(at, func(f *Fingerprint) bool { return f.Value != chrome }); n != 0 {
		t.Errorf("forgot %d that did not match", n)
	}
	at = r.entry(0).Position
	if n := r.Forget(at, nil); n != 1 || r.Matching(nil) != 0 {
		t.Fatalf("forgot %d, %d are left; want 1 and 0", n, r.Matching(nil))
	}
	show(2)
	saved, position, err := r.Save(nil)
	if err != nil || position <= at {
		t.Fatalf("saved at %d, %v", position, err)
	}
	again, err := New(Config{Learn: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Restore(saved); err != nil {
		t.Fatal(err)
	}
	if n := again.Forget(at, nil); n != 0 || again.Matching(nil) != 1 {
		t.Errorf("a replay forgot %d, %d are left; want 0 and 1", n, again.Matching(nil))
	}
}
