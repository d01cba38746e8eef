package anomaly

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/whorl-net/whorl/internal/analyst/window"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

// Raised is an anomaly that an event raised, or would have.
type Raised struct {
	Rule    *Rule
	Anomaly tracker.Anomaly
	// Suppressed says that an allow entry keeps it silent.
	Suppressed bool
}

// Engine applies the stream rules of a set to events. It holds their state.
type Engine struct {
	rules  *Rules
	seed   window.Seed
	states []ruleState // of rules.stream
	opened []int       // indexes of rules.opened, by place
	byType [ja4.NumTypes][]int
	rhythm *window.Rhythm
	view   view
}

// ruleState is the state of one stream rule: the part its measure asks for.
type ruleState struct {
	rule       *Rule
	salt       uint64
	definition string
	counts     *window.Counts
	distinct   *window.Distinct
	steady     *window.Steady
}

// NewEngine returns an Engine without any state.
func NewEngine(rs *Rules, seed uint64) *Engine {
	e := &Engine{seed: window.Seed(seed)}
	e.view.snapshot, e.view.seed = new(tracker.Snapshot), e.seed
	e.Use(rs)
	return e
}

// Use changes to another set of rules, from the next event on. A rule that
// counts the same as before keeps what it has counted.
func (e *Engine) Use(rs *Rules) {
	old := e.states
	e.rules, e.states, e.opened, e.byType = rs, nil, nil, [ja4.NumTypes][]int{}
	beats := 0
	for i, r := range rs.stream {
		s := ruleState{rule: r, definition: r.definition()}
		for k := range old {
			if old[k].definition == s.definition {
				s = old[k]
				s.rule = r
			}
		}
		s.make(e.seed)
		e.states = append(e.states, s)
		if r.measure == byBeat {
			beats = max(beats, r.limit.Keys)
		}
		if r.opened {
			e.opened = append(e.opened, i)
		}
		for t := range ja4.Type(ja4.NumTypes) {
			if r.types.Has(t) {
				e.byType[t] = append(e.byType[t], i)
			}
		}
	}
	if beats == 0 {
		e.rhythm = nil
	} else if e.rhythm == nil || e.rhythm.Room() != window.Room(beats) {
		e.rhythm = window.NewRhythm(beats)
	}
}

// make gives s the state that its measure needs, unless it has one.
func (s *ruleState) make(seed window.Seed) {
	name := s.rule.ID
	if s.rule.measure == byBeat {
		name = "beacon" // they share what they know
	}
	s.salt = seed.Start(2).Text(name).Sum()
	switch {
	case s.rule.measure == byCount && s.counts == nil:
		s.counts = window.NewCounts(s.rule.limit)
	case s.rule.measure == byDistinct && s.distinct == nil:
		s.distinct = window.NewDistinct(s.rule.limit)
	case s.rule.measure == bySteadiness && s.steady == nil:
		s.steady = window.NewSteady(s.rule.limit.Keys)
	}
}

// Event applies the rules to ev. network is a number of its network, the same
// for as long as the state is kept. raise is called for each anomaly.
func (e *Engine) Event(ev *tracker.Event, network int, raise func(*Raised)) {
	list := e.opened
	if ev.Kind == tracker.Fingerprinted {
		if !ev.Type.Valid() {
			return
		}
		list = e.byType[ev.Type]
	}
	if len(list) == 0 {
		return
	}
	v := &e.view
	v.ev, v.network, v.filled = ev, uint64(network), false
	v.src, v.dst = v.hash(&ev.Src), v.hash(&ev.Dst)
	beaten := false
	for _, i := range list {
		s := &e.states[i]
		r := s.rule
		if r.accept != nil && !r.accept(r, ev) || !r.filter.All() && !r.filter.Match(v.asSnapshot()) {
			continue
		}
		if r.measure == byBeat {
			if !beaten {
				beaten = true
				e.beat(v, s, raise)
			}
			continue
		}
		key := s.key(v)
		switch r.measure {
		case byCount:
			if n, crossed := s.counts.Add(key, ev.Time); crossed {
				e.raise(v, r, hit{n: n}, raise)
			}
		case byDistinct:
			if n, crossed := s.distinct.Add(key, r.of.element(v), ev.Time); crossed {
				e.raise(v, r, hit{n: n, found: s.distinct.Found()}, raise)
			}
		case bySteadiness:
			if n := s.steady.Add(key, clientKind(e.seed, ev.Value)); n >= r.stable {
				e.raise(v, r, hit{n: n}, raise)
			}
		}
	}
}

// key returns the key of v under the rule of s.
func (s *ruleState) key(v *view) uint64 {
	h := window.Hash(s.salt).Mix(v.network)
	for _, f := range s.rule.key {
		h = h.Mix(f.hash(v))
	}
	if s.rule.commonPorts.has(v.ev.DstPort) {
		for _, f := range s.rule.narrow {
			h = h.Mix(f.hash(v))
		}
	}
	return h.Sum()
}

// beat notes ev in the rhythm that all rules of this measure share, and raises
// the one in whose range the beat lies. s is the first of them: they have one
// key.
func (e *Engine) beat(v *view, s *ruleState, raise func(*Raised)) {
	key := s.key(v)
	least := window.Intervals
	for _, i := range e.opened {
		if r := e.states[i].rule; r.measure == byBeat {
			least = min(least, r.intervals)
		}
	}
	b, ok := e.rhythm.Add(key, v.ev.Time, least)
	if !ok {
		return
	}
	for _, i := range e.opened {
		r := e.states[i].rule
		if r.measure != byBeat || b.Beats < r.intervals || b.Score < r.score ||
			b.Interval < int64(r.shortest) || b.Interval >= int64(r.longest) {
			continue
		}
		e.raise(v, r, hit{n: uint32(b.Beats), beat: b}, raise)
		// Once in a day: what ticks goes on ticking.
		e.rhythm.Quiet(key, v.ev.Time+window.MaxInterval)
		return
	}
}

// hit is what crossed a threshold.
type hit struct {
	n     uint32
	found []uint32
	beat  window.Beat
}

func (e *Engine) raise(v *view, r *Rule, h hit, raise func(*Raised)) {
	x := Raised{Rule: r, Suppressed: e.rules.allowedEvent(r, v)}
	if !x.Suppressed {
		x.Anomaly = h.anomaly(r, v.ev)
	}
	raise(&x)
}

// Novel returns the anomaly of a fingerprint that its network had not shown
// before ev, nil when the rule is off.
func (e *Engine) Novel(ev *tracker.Event) *Raised {
	r := e.rules.novel
	if r == nil {
		return nil
	}
	v := &e.view
	v.ev, v.filled = ev, false
	var x *Raised
	e.raise(v, r, hit{n: 1}, func(raised *Raised) { x = raised })
	return x
}

// places are what a text may name.
var places = []string{
	"src", "dst", "src.port", "dst.port", "proto", "network", "probe", "sni", "type", "value",
	"n", "threshold", "window", "interval", "score",
}

// anomaly says in words what h is. The texts of ev are lent, so they are copied.
func (h *hit) anomaly(r *Rule, ev *tracker.Event) tracker.Anomaly {
	probe := strings.Clone(ev.Probe)
	a := tracker.Anomaly{
		Rule: r.ID, Severity: r.Severity, RaisedAt: ev.Time, PacketNum: ev.PacketNum,
		Description: r.text.render(func(name string) string { return h.place(name, r, ev) }),
	}
	if ev.Kind == tracker.Fingerprinted {
		a.Evidence = append(a.Evidence, tracker.Evidence{
			Type: ev.Type, Value: strings.Clone(clip(ev.Value, 255)), PacketNum: ev.PacketNum, Probe: probe, SeenAt: ev.Time,
		})
	} else {
		a.PacketNum = 1
		a.Evidence = append(a.Evidence, tracker.Evidence{Value: "opened", PacketNum: 1, Probe: probe, SeenAt: ev.Time})
	}
	switch r.measure {
	case byCount, byDistinct:
		a.Evidence = append(a.Evidence, tracker.Evidence{
			Value: fmt.Sprintf("%d in %v, more than %d", h.n, time.Duration(r.limit.Window), r.limit.Threshold),
		})
	case byBeat:
		a.Evidence = append(a.Evidence, tracker.Evidence{
			Value: fmt.Sprintf("%d intervals of about %v, score %v", h.n, h.interval(), h.score()),
		})
	case bySteadiness:
		a.Evidence = append(a.Evidence, tracker.Evidence{Value: fmt.Sprintf("%d equal ones before", h.n)})
	}
	for _, e := range h.found {
		if len(a.Evidence) == MaxEvidence {
			break
		}
		if text := r.of.show(e, ev); text != "" {
			a.Evidence = append(a.Evidence, tracker.Evidence{Value: text})
		}
	}
	return a
}

func (h *hit) interval() time.Duration {
	d := time.Duration(h.beat.Interval)
	if d < time.Minute {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}

func (h *hit) score() string { return strconv.FormatFloat(float64(h.beat.Score)/1000, 'f', 2, 64) }

func (h *hit) place(name string, r *Rule, ev *tracker.Event) string {
	switch name {
	case "src":
		return ev.Src.String()
	case "dst":
		return ev.Dst.String()
	case "src.port":
		return strconv.Itoa(int(ev.SrcPort))
	case "dst.port":
		return strconv.Itoa(int(ev.DstPort))
	case "proto":
		return ev.Protocol.String()
	case "network":
		return ev.Network
	case "probe":
		return ev.Probe
	case "sni":
		return ev.ServerName
	case "type":
		return ev.Type.String()
	case "value":
		return ev.Value
	case "n":
		return strconv.Itoa(int(h.n))
	case "threshold":
		return strconv.Itoa(int(r.limit.Threshold))
	case "window":
		return time.Duration(r.limit.Window).String()
	case "interval":
		return h.interval().String()
	case "score":
		return h.score()
	}
	return ""
}
