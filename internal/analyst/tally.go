package analyst

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/whorl-net/whorl/internal/analyst/anomaly"
	"github.com/whorl-net/whorl/internal/analyst/state"
	"github.com/whorl-net/whorl/tracker"
)

// tally counts by rule.
type tally struct {
	mu  sync.RWMutex
	all map[string]*counters // guarded by mu
}

// counters are those of one rule.
type counters struct{ raised, suppressed, dropped atomic.Uint64 }

func (c *counters) empty() bool {
	return c.raised.Load() == 0 && c.suppressed.Load() == 0 && c.dropped.Load() == 0
}

// add counts an anomaly by what became of it.
func (c *counters) add(o outcome) {
	switch o {
	case kept:
		c.raised.Add(1)
	case full:
		c.dropped.Add(1)
	}
}

func (t *tally) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = map[string]*counters{}
}

// maxCounted bounds the rules that are counted: rules come and go with reloads.
const maxCounted = 4 * anomaly.MaxRules

// of returns the counters of a rule.
func (t *tally) of(rule string) *counters {
	t.mu.RLock()
	c := t.all[rule]
	t.mu.RUnlock()
	if c != nil {
		return c
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.all[rule]; c != nil {
		return c
	}
	c = new(counters)
	if len(t.all) < maxCounted {
		t.all[rule] = c
	}
	return c
}

func (t *tally) save(w *state.Writer) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	// Who asks for the counters of a rule makes them: those that nothing was counted
	// by are no state.
	counted := slices.Sorted(maps.Keys(t.all))
	counted = slices.DeleteFunc(counted, func(rule string) bool { return t.all[rule].empty() })
	w.Uint(uint64(len(counted)))
	for _, rule := range counted {
		c := t.all[rule]
		w.Text(rule)
		w.Uint(c.raised.Load())
		w.Uint(c.suppressed.Load())
		w.Uint(c.dropped.Load())
	}
}

func (t *tally) restore(r *state.Reader) {
	for range r.Count(4) {
		c := t.of(r.Text(maxRuleID))
		c.raised.Store(r.Uint())
		c.suppressed.Store(r.Uint())
		c.dropped.Store(r.Uint())
	}
}

// judgements holds what Evicted has found about connections whose departures Take
// has not seen yet: workers are ahead of it, and what it has not taken is in no
// saved state, so counting it at once would count it again after a restart.
type judgements struct {
	n   atomic.Int64
	mu  sync.Mutex
	all map[tracker.UID]judgement // guarded by mu
}

// judgement are the rules that spoke about a connection, and those that an allow
// entry kept silent.
type judgement struct{ raised, suppressed []string }

// maxJudgements bounds those that wait. A tracker is never so far ahead; who does
// not call Take at all has them counted at once.
const maxJudgements = 1 << 17

// add keeps v until its connection's departure comes. It reports false when there
// is no room.
func (vs *judgements) add(u tracker.UID, v judgement) bool {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	if len(vs.all) >= maxJudgements {
		return false
	}
	if vs.all == nil {
		vs.all = make(map[tracker.UID]judgement)
	}
	vs.all[u] = v
	vs.n.Store(int64(len(vs.all)))
	return true
}

// any reports whether any waits.
func (vs *judgements) any() bool { return vs.n.Load() != 0 }

// take returns what add kept, and forgets it.
func (vs *judgements) take(u tracker.UID) (v judgement, ok bool) {
	if !vs.any() {
		return judgement{}, false
	}
	vs.mu.Lock()
	defer vs.mu.Unlock()
	if v, ok = vs.all[u]; ok {
		delete(vs.all, u)
		vs.n.Store(int64(len(vs.all)))
	}
	return v, ok
}

func (t *tally) count(v judgement) {
	for _, rule := range v.raised {
		t.of(rule).raised.Add(1)
	}
	for _, rule := range v.suppressed {
		t.of(rule).suppressed.Add(1)
	}
}
