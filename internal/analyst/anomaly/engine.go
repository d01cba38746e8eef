package anomaly

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/whorl-net/whorl/internal/analyst/window"
	"github.com/whorl-net/whorl/internal/units"
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
	opened []int       // those that look at opened connections at once
	// waiting look at them once their source was seen before; see lone.
	waiting []int
	lone    *window.Once[lone]
	again   tracker.Event // a lone attempt that is made up for
	salt    uint64        // of sources
	byType  [ja4.NumTypes][]int
	rhythm  *window.Rhythm
	// leastBeats is the fewest that any rule on beats asks for.
	leastBeats int
	prepared   []prepared
	work       []work         // what is prepared
	doors      []window.Place // of sources
	places     []window.Place
	fetched    uint32
	view       view
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
	e.rules, e.states, e.opened, e.waiting, e.byType = rs, nil, nil, nil, [ja4.NumTypes][]int{}
	e.salt = e.seed.Start(6).Sum()
	e.leastBeats = window.Intervals
	e.Done()
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
			e.leastBeats = min(e.leastBeats, r.intervals)
		}
		switch {
		case r.waits():
			e.waiting = append(e.waiting, i)
		case r.opened:
			e.opened = append(e.opened, i)
		}
		for t := range ja4.Type(ja4.NumTypes) {
			if r.types.Has(t) {
				e.byType[t] = append(e.byType[t], i)
			}
		}
	}
	if keys := loneKeys(rs.stream); keys == 0 {
		e.lone = nil
	} else if e.lone == nil || e.lone.Room() != window.Room(keys) {
		e.lone = window.NewOnce[lone](keys)
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

// work is what one rule has to do with one event.
type work struct {
	state *ruleState
	key   uint64
	what  uint64 // the element that is counted, or the value that may change
}

// Prepared is what an Engine has to do with one event: its number among those that
// were prepared.
type Prepared int

// prepared is an event and the work that it makes.
type prepared struct {
	ev       *tracker.Event
	network  int
	from, to int // at once
	// source is the key of its source when rules wait for a second attempt of it,
	// 0 if none does; then planned says that their work is from and to as well.
	source          uint64
	planned         bool
	laterFrom, last int
}

// Event applies the rules to ev. network is a number of its network, the same
// for as long as the state is kept. raise is called for each anomaly.
//
// Who has many events prepares some of them, calls Fetch, applies them in the
// same order, and calls Done before it prepares the next: the state of a flood
// of keys lies in many places of memory, and their cache misses then overlap.
// The events must stay until then.
func (e *Engine) Event(ev *tracker.Event, network int, raise func(*Raised)) {
	e.Apply(e.Prepare(ev, network), raise)
	e.Done()
}

// nothing is what is prepared for an event that concerns no rule.
const nothing = Prepared(-1)

// Prepare finds out which rules ev concerns. It changes no state.
func (e *Engine) Prepare(ev *tracker.Event, network int) Prepared {
	list := e.opened
	if ev.Kind == tracker.Fingerprinted {
		if !ev.Type.Valid() || len(e.byType[ev.Type]) == 0 {
			return nothing
		}
		list = e.byType[ev.Type]
	}
	e.prepared = append(e.prepared, prepared{})
	p := &e.prepared[len(e.prepared)-1]
	p.ev, p.network, p.from = ev, network, len(e.work)
	looked := len(list) > 0
	if looked {
		e.view.look(ev, network)
		e.plan(list)
	}
	p.to = len(e.work)
	if ev.Kind == tracker.Opened && e.anyWaits(ev) {
		if !looked {
			e.view.look(ev, network)
		}
		p.source = window.Hash(e.salt).Mix(e.view.network).Mix(e.view.src).Sum() | 1
		e.doors = append(e.doors, e.lone.Place(p.source))
	}
	return Prepared(len(e.prepared) - 1)
}

// anyWaits reports whether a rule that waits for second attempts looks at ev.
func (e *Engine) anyWaits(ev *tracker.Event) bool {
	for _, i := range e.waiting {
		if r := e.states[i].rule; r.accept(r, ev) {
			return true
		}
	}
	return false
}

// plan appends the work of those rules of list that the event in view concerns.
func (e *Engine) plan(list []int) {
	v := &e.view
	beaten := false
	for _, i := range list {
		s := &e.states[i]
		r := s.rule
		if r.accept != nil && !r.accept(r, v.ev) || !r.filter.All() && !r.filter.Match(v.asSnapshot()) {
			continue
		}
		w := work{state: s}
		switch r.measure {
		case byCount:
			w.key = s.key(v)
			e.places = append(e.places, s.counts.Place(w.key))
		case byDistinct:
			w.key, w.what = s.key(v), uint64(r.of.element(v))
			e.places = append(e.places, s.distinct.Place(w.key))
		case bySteadiness:
			w.key, w.what = s.key(v), clientKind(e.seed, v.ev.Value)
			e.places = append(e.places, s.steady.Place(w.key))
		case byBeat:
			if beaten {
				continue // the first of these rules stands for all: they have one key
			}
			beaten = true
			w.key = s.key(v)
			e.places = append(e.places, e.rhythm.Place(w.key))
		}
		e.work = append(e.work, w)
	}
}

// Fetch reads what applying all that is prepared will use. It changes nothing.
func (e *Engine) Fetch() {
	e.fetched += window.Fetch(e.doors)
	for i := range e.prepared {
		if p := &e.prepared[i]; p.source != 0 && e.lone.Knows(p.source) {
			e.planWaiting(p)
		}
	}
	e.fetched += window.Fetch(e.places)
}

// planWaiting plans the work of rules that wait.
func (e *Engine) planWaiting(p *prepared) {
	p.planned, p.laterFrom = true, len(e.work)
	e.view.look(p.ev, p.network)
	e.plan(e.waiting)
	p.last = len(e.work)
}

// Apply applies the rules to an event that was prepared.
func (e *Engine) Apply(n Prepared, raise func(*Raised)) {
	if n == nothing {
		return
	}
	p := &e.prepared[n]
	for i := p.from; i < p.to; i++ {
		e.do(&e.work[i], p.ev.Time, p.ev, raise)
	}
	if p.source == 0 {
		return
	}
	slot, sight := e.lone.Visit(p.source)
	switch sight {
	case window.First:
		slot.of(p.ev, p.network)
		return
	case window.Second:
		first := *slot
		*slot = lone{}
		e.makeUpFor(&first, p.ev, raise)
	}
	if !p.planned {
		e.planWaiting(p)
	}
	for i := p.laterFrom; i < p.last; i++ {
		e.do(&e.work[i], p.ev.Time, p.ev, raise)
	}
}

// makeUpFor tells the rules that wait of the first attempt of a source, now that
// there is a second, ev. Whatever that raises is said of ev.
func (e *Engine) makeUpFor(l *lone, ev *tracker.Event, raise func(*Raised)) {
	if l.time == 0 {
		return
	}
	l.event(&e.again)
	from := len(e.work)
	e.view.look(&e.again, int(l.network))
	e.plan(e.waiting)
	for i := from; i < len(e.work); i++ {
		e.do(&e.work[i], l.time, ev, raise)
	}
}

// do does one piece of work, which is of a time; what it raises is about ev.
func (e *Engine) do(w *work, at int64, ev *tracker.Event, raise func(*Raised)) {
	switch s, r := w.state, w.state.rule; r.measure {
	case byCount:
		if n, crossed := s.counts.Add(w.key, at); crossed {
			e.raise(ev, r, hit{n: n}, raise)
		}
	case byDistinct:
		if n, crossed := s.distinct.Add(w.key, uint32(w.what), at); crossed {
			e.raise(ev, r, hit{n: n, found: s.distinct.Found()}, raise)
		}
	case bySteadiness:
		if n := s.steady.Add(w.key, w.what); n >= r.stable {
			e.raise(ev, r, hit{n: n}, raise)
		}
	case byBeat:
		e.beat(ev, at, w.key, raise)
	}
}

// Done forgets what was prepared.
func (e *Engine) Done() {
	e.prepared, e.work, e.doors, e.places = e.prepared[:0], e.work[:0], e.doors[:0], e.places[:0]
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
// the one in whose range the beat lies.
func (e *Engine) beat(ev *tracker.Event, at int64, key uint64, raise func(*Raised)) {
	b, ok := e.rhythm.Add(key, at, e.leastBeats)
	if !ok {
		return
	}
	for i := range e.states {
		r := e.states[i].rule
		if r.measure != byBeat || b.Beats < r.intervals || b.Score < r.score ||
			b.Interval < int64(r.shortest) || b.Interval >= int64(r.longest) {
			continue
		}
		e.raise(ev, r, hit{n: uint32(b.Beats), beat: b}, raise)
		// Once in a day: what ticks goes on ticking.
		e.rhythm.Quiet(key, at+window.MaxInterval)
		return
	}
}

// hit is what crossed a threshold.
type hit struct {
	n     uint32
	found []uint32
	beat  window.Beat
}

func (e *Engine) raise(ev *tracker.Event, r *Rule, h hit, raise func(*Raised)) {
	x := Raised{Rule: r}
	if e.rules.Allows() {
		e.view.look(ev, 0)
		x.Suppressed = e.rules.allowedEvent(r, &e.view)
	}
	if !x.Suppressed {
		x.Anomaly = h.anomaly(r, ev)
	}
	raise(&x)
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
			Value: fmt.Sprintf("%d in %v, more than %d", h.n, units.Duration(time.Duration(r.limit.Window)), r.limit.Threshold),
		})
	case byBeat:
		a.Evidence = append(a.Evidence, tracker.Evidence{
			Value: fmt.Sprintf("%d intervals of about %v, score %v", h.n, units.Duration(h.interval()), h.score()),
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
		return units.Duration(time.Duration(r.limit.Window))
	case "interval":
		return units.Duration(h.interval())
	case "score":
		return h.score()
	}
	return ""
}
