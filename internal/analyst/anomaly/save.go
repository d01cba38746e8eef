package anomaly

import (
	"github.com/whorl-net/whorl/internal/analyst/state"
	"github.com/whorl-net/whorl/internal/analyst/window"
)

// fingerprint is a short form of a definition.
func (s *ruleState) fingerprint() uint64 { return window.Seed(0).Start(3).Text(s.definition).Sum() }

// saver is what the state of every measure can do.
type saver interface {
	Save(w *state.Writer)
	Restore(r *state.Reader)
	Keys() (held int, evicted uint64)
}

// held returns the state of s, nil if its rule keeps none of its own.
func (s *ruleState) held() saver {
	switch {
	case s.counts != nil:
		return s.counts
	case s.distinct != nil:
		return s.distinct
	case s.steady != nil:
		return s.steady
	}
	return nil
}

// Save writes the state of every rule.
func (e *Engine) Save(w *state.Writer) {
	n := 0
	for i := range e.states {
		if e.states[i].held() != nil {
			n++
		}
	}
	w.Uint(uint64(n))
	for i := range e.states {
		if h := e.states[i].held(); h != nil {
			w.Fixed(e.states[i].fingerprint())
			w.Block(h.Save)
		}
	}
	w.Bool(e.rhythm != nil)
	if e.rhythm != nil {
		w.Uint(uint64(e.rhythm.Room()))
		w.Block(e.rhythm.Save)
	}
	w.Bool(e.lone != nil)
	if e.lone != nil {
		w.Uint(uint64(e.lone.Room()))
		w.Block(func(w *state.Writer) { e.lone.Save(w, func(l *lone) { l.save(w) }) })
	}
}

// Restore fills an Engine that has no state yet, made with the same seed. State
// of rules that are not in force, or count otherwise by now, is left out.
func (e *Engine) Restore(r *state.Reader) error {
	for range r.Count(12) {
		id := r.Fixed()
		block := r.Block()
		for i := range e.states {
			s := &e.states[i]
			if h := s.held(); h != nil && s.fingerprint() == id {
				h.Restore(block)
				if err := block.End(); err != nil {
					return err
				}
			}
		}
	}
	if r.Bool() {
		room := r.Uint()
		block := r.Block()
		if e.rhythm != nil && room == uint64(e.rhythm.Room()) {
			e.rhythm.Restore(block)
			if err := block.End(); err != nil {
				return err
			}
		}
	}
	if r.Left() == 0 {
		return r.Err() // as it was before lone attempts were kept
	}
	if r.Bool() {
		room := r.Uint()
		block := r.Block()
		if e.lone != nil && room == uint64(e.lone.Room()) {
			e.lone.Restore(block, func(l *lone) { l.restore(block) })
			if err := block.End(); err != nil {
				return err
			}
		}
	}
	return r.Err()
}

// Lone returns how many sources are remembered of which only one attempt may have
// been seen, and how many had to leave because there was no room.
func (e *Engine) Lone() (held int, evicted uint64) {
	if e.lone == nil {
		return 0, 0
	}
	return e.lone.Keys()
}

// Keys returns how many keys the rule with an id holds, and how many had to
// leave because there was no room.
func (e *Engine) Keys(id string) (held int, evicted uint64) {
	for i := range e.states {
		if s := &e.states[i]; s.rule.ID == id {
			if h := s.held(); h != nil {
				return h.Keys()
			}
			if s.rule.measure == byBeat {
				return e.rhythm.Keys()
			}
		}
	}
	return 0, 0
}

// Sources returns of how many sources the only attempt so far, or that there were
// more, is remembered for the rules that wait for a second one, and how many had to
// leave because there was no room: their next attempt counts as their first.
func (e *Engine) Sources() (held int, evicted uint64) {
	if e.lone == nil {
		return 0, 0
	}
	return e.lone.Keys()
}

// KeysEvicted returns how many keys of all rules had to leave because there was no
// room. Rules on beats share theirs.
func (e *Engine) KeysEvicted() (n uint64) {
	if e.rhythm != nil {
		_, n = e.rhythm.Keys()
	}
	for i := range e.states {
		if h := e.states[i].held(); h != nil {
			_, evicted := h.Keys()
			n += evicted
		}
	}
	return n
}
