package anomaly

import (
	"fmt"
	"testing"
	"time"

	"github.com/whorl-net/whorl/internal/analyst/window"
)

// Sources that made way for others are counted, and so are the keys of rules.
func TestForgottenIsCounted(t *testing.T) {
	const keys = 4096
	small := "builtin:\n"
	for _, rule := range []string{"port-scan", "host-sweep", "connection-flood", "beacon-fast", "beacon-slow"} {
		small += fmt.Sprintf("  %s: {keys: %d}\n", rule, keys)
	}
	e := NewEngine(load(t, small), 1)
	if held, evicted := e.Sources(); held != 0 || evicted != 0 || e.KeysEvicted() != 0 {
		t.Errorf("a new engine holds %d sources, has forgotten %d", held, evicted)
	}
	room := window.Room(keys)
	const beyond = 10_000
	for i := range room + beyond {
		e.Event(opened(fmt.Sprintf("100.%d.%d.%d", i>>16, i>>8&255, i&255), "192.0.2.1", 80, time.Duration(i)*time.Second), 0, func(*Raised) {})
	}
	held, evicted := e.Sources()
	if held+int(evicted) != room+beyond || evicted < beyond || e.KeysEvicted() != 0 {
		t.Errorf("%d sources are known and %d forgotten, of %d; %d keys", held, evicted, room+beyond, e.KeysEvicted())
	}
	// Each second attempt makes keys of the rules, of which there is less room.
	for i := range 4 * keys {
		for port := range 2 {
			e.Event(opened(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), "192.0.2.1", uint16(port), 0), 0, func(*Raised) {})
		}
	}
	if e.KeysEvicted() < 3*keys {
		t.Errorf("%d keys of rules were forgotten, want %d or more", e.KeysEvicted(), 3*keys)
	}
	none := NewEngine(load(t, "builtin:\n  port-scan: {enabled: false}\n  host-sweep: {enabled: false}\n  beacon-fast: {enabled: false}\n  beacon-slow: {enabled: false}\n"), 1)
	none.Event(opened("10.0.0.1", "192.0.2.1", 80, 0), 0, func(*Raised) {})
	if held, _ := none.Sources(); held != 0 {
		t.Errorf("%d sources are remembered for no rule", held)
	}
}
