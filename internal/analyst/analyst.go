package analyst

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whorl-net/whorl/internal/analyst/anomaly"
	"github.com/whorl-net/whorl/internal/analyst/novelty"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

// Config says what an Analyst looks for and how much it may remember. The zero
// Config works.
type Config struct {
	// Rules are the rules in force; nil means anomaly.Builtin().
	Rules *anomaly.Rules
	// Learn is for how long, from its first packet on, a network is learned: what
	// it shows first in this time makes nothing new. The time is that of packets;
	// when the log has gone on for twice as long, learning is over, too, so that
	// a first packet of a wrong clock does not make it last for ever. 0 learns
	// nothing: every first sight is new.
	Learn time.Duration
	// NewTypes are the types whose first sight makes a connection new; 0 means
	// novelty.DefaultTypes.
	NewTypes ja4.TypeSet
	// MaxFingerprints and MaxFingerprintBytes bound what is remembered of
	// fingerprints; 0 is 131,072 and 64 MiB. The least recently seen leave.
	MaxFingerprints     int
	MaxFingerprintBytes int64
	// MaxFindingBytes bounds what is kept of findings for connections that are
	// live; 0 is 128 MiB. When it is full, new ones are counted only: first, at
	// three quarters, anomalies of low and medium severity.
	MaxFindingBytes int64
	// Seed makes the hashes of keys unforeseeable; take the tracker's HashSeed.
	// A restored state brings its own.
	Seed uint64
}

func (c Config) withDefaults() Config {
	if c.Rules == nil {
		c.Rules = anomaly.Builtin()
	}
	if c.NewTypes == 0 {
		c.NewTypes = novelty.DefaultTypes
	}
	if c.MaxFingerprints == 0 {
		c.MaxFingerprints = 1 << 17
	}
	if c.MaxFingerprintBytes == 0 {
		c.MaxFingerprintBytes = 64 << 20
	}
	if c.MaxFindingBytes == 0 {
		c.MaxFindingBytes = 128 << 20
	}
	return c
}

func (c *Config) check() error {
	switch {
	case c.Learn < 0 || c.Learn > 366*24*time.Hour:
		return fmt.Errorf("analyst: Learn is %v, want 0 to 366 days", c.Learn)
	case c.NewTypes&^novelty.Types != 0:
		return fmt.Errorf("analyst: NewTypes has types that are measurements (ja4l, ja4ls, ja4ssh) or optional")
	case c.MaxFingerprints < 1 || c.MaxFingerprints > 1<<24:
		return fmt.Errorf("analyst: MaxFingerprints is %d, want 1 to %d", c.MaxFingerprints, 1<<24)
	case c.MaxFingerprintBytes < 4<<10:
		return fmt.Errorf("analyst: MaxFingerprintBytes is %d, want 4096 or more", c.MaxFingerprintBytes)
	case c.MaxFindingBytes < 4<<10:
		return fmt.Errorf("analyst: MaxFindingBytes is %d, want 4096 or more", c.MaxFindingBytes)
	}
	return nil
}

// Analyst finds what is new and what is odd. Its methods are safe for
// concurrent use; Take is called by one goroutine, in the order of the log.
type Analyst struct {
	cfg    Config
	rules  atomic.Pointer[anomaly.Rules] // in force
	found  store
	tally  tally
	judged judgements

	mu       sync.Mutex // guards what follows: Take holds it for one Output
	position uint64     // of the newest entry that was taken as a whole
	midway   bool       // the newest Output was not the last of its entry
	networks map[string]*network
	newest   *network          // of the newest event
	labels   map[string]string // of networks and probes, once each
	label    string            // of the newest probe
	memory   *novelty.Memory
	engine   *anomaly.Engine
	seed     uint64
	waiting  []reload
	ahead    ahead
	// Of the event that is being taken.
	event *tracker.Event
	raise func(*anomaly.Raised)
}

// network is what is known of a network.
type network struct {
	label string
	index int // in the order in which they came, from 0
	// firstPacket and firstLog are when it was first heard of: by a packet's
	// time, by the log's.
	firstPacket, firstLog int64
}

// reload waits for the log to pass position.
type reload struct {
	rules    *anomaly.Rules
	position uint64
}

// EventTypes returns the types of fingerprints that an Analyst with these rules looks
// at: those that are remembered and those that a rule counts. Events of others change
// nothing, so a tracker need not make them; what measures, as ja4l does, differs with
// every connection and would be half of all events.
func EventTypes(rs *anomaly.Rules) ja4.TypeSet { return novelty.Types | rs.Types() }

// New returns an Analyst that knows nothing yet.
func New(cfg Config) (*Analyst, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	a := &Analyst{cfg: cfg}
	a.raise = a.take
	a.clear(cfg.Seed)
	return a, nil
}

// clear forgets everything. The caller holds mu, or is the only one to know a.
func (a *Analyst) clear(seed uint64) {
	rs := a.rules.Load()
	if rs == nil {
		rs = a.cfg.Rules
	}
	a.rules.Store(rs)
	a.seed = seed
	a.position, a.midway = 0, false
	a.networks, a.newest, a.labels, a.label = map[string]*network{}, nil, map[string]string{}, ""
	a.memory = novelty.New(novelty.Config{
		NewTypes: a.cfg.NewTypes, MaxEntries: a.cfg.MaxFingerprints, MaxBytes: a.cfg.MaxFingerprintBytes,
	})
	a.engine = anomaly.NewEngine(rs, seed)
	a.found.clear(a.cfg.MaxFindingBytes)
	a.tally.clear()
}

// Take reads one Output: all Outputs of a tracker, in order. For each departure
// with findings amend, if not nil, is called with them, in order, and must not
// block; what it is lent is valid during the call. The body of a departure says
// already what Enrich finds; f is what comes on top.
//
// Outputs of entries that the restored state has seen already are passed over.
func (a *Analyst) Take(o *tracker.Output, amend func(d *tracker.Departure, f *Findings)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if o.Position <= a.position {
		a.passOver(o)
		return
	}
	for len(a.waiting) > 0 && !a.midway && o.Position > a.waiting[0].position {
		a.use(a.waiting[0].rules)
		a.waiting = a.waiting[1:]
	}
	for items := o.Items; len(items) > 0; {
		n := min(len(items), lookAhead)
		a.takeSome(items[:n], o.LogTime, amend)
		items = items[n:]
	}
	a.midway = !o.Last
	if o.Last {
		a.position = o.Position
	}
}

// passOver forgets what was found about departures that are counted already.
func (a *Analyst) passOver(o *tracker.Output) {
	for i := range o.Items {
		if d := o.Items[i].Departure; d != nil {
			a.judged.take(d.UID)
		}
	}
}

// lookAhead is how many items are looked at before the first of them is taken: of
// as many, some thirty lines of memory are on their way at once.
const lookAhead = 64

// ahead is what was found out about items before they are taken.
type ahead struct {
	prepared [lookAhead]anomaly.Prepared
	networks [lookAhead]*network
	// sights are of events in their order, and number says which.
	sights [lookAhead]novelty.Sight
	number [lookAhead]int8 // -1: none
	warm   uint32          // keeps the compiler from dropping loads that only warm the cache
}

// takeSome takes at most lookAhead items. It looks at all of them first, so that
// the memory of a flood can be fetched at once, and then takes them in order.
func (a *Analyst) takeSome(items []tracker.Item, logTime int64, amend func(d *tracker.Departure, f *Findings)) {
	l := &a.ahead
	sights := 0
	for i := range items {
		ev := items[i].Event
		if ev == nil {
			continue
		}
		l.networks[i] = a.network(ev, logTime)
		l.prepared[i] = a.engine.Prepare(ev, l.networks[i].index)
		l.number[i] = -1
		if ev.Kind == tracker.Fingerprinted && a.look(&l.sights[sights], ev, l.networks[i], logTime) {
			l.number[i] = int8(sights)
			sights++
		}
	}
	a.engine.Fetch()
	l.warm += a.memory.Fetch(l.sights[:sights])
	for i := range items {
		if d := items[i].Departure; d != nil {
			a.depart(d, amend)
			continue
		}
		a.event = items[i].Event
		if n := l.number[i]; n >= 0 {
			a.remember(&l.sights[n])
		}
		a.engine.Apply(l.prepared[i], a.raise)
	}
	a.engine.Done()
	clear(l.sights[:sights]) // they hold texts that were lent
	a.event = nil
}

// depart amends a departure by what was found about it, and forgets that.
func (a *Analyst) depart(d *tracker.Departure, amend func(d *tracker.Departure, f *Findings)) {
	// Of most nothing is known: their memory is not even read.
	if a.judged.any() {
		if v, ok := a.judged.take(d.UID); ok {
			a.tally.count(v)
		}
	}
	if a.found.any() {
		if h := a.found.remove(d.UID); h != nil && amend != nil {
			amend(d, h.findings())
		}
	}
}

// network returns the network of ev.
func (a *Analyst) network(ev *tracker.Event, logTime int64) *network {
	if a.newest != nil && a.newest.label == ev.Network {
		return a.newest
	}
	n := a.networks[ev.Network]
	if n == nil {
		n = &network{label: a.intern(ev.Network), index: len(a.networks), firstPacket: ev.Time, firstLog: logTime}
		a.networks[n.label] = n
	}
	a.newest = n
	return n
}

// look makes s the sight of a fingerprint and reports whether that is remembered.
func (a *Analyst) look(s *novelty.Sight, ev *tracker.Event, n *network, logTime int64) bool {
	if !novelty.Types.Has(ev.Type) {
		return false
	}
	if a.label != ev.Probe {
		a.label = a.intern(ev.Probe)
	}
	s.Event, s.Network, s.Probe = ev, n.label, a.label
	s.Learning = ev.Time-n.firstPacket < int64(a.cfg.Learn) && logTime-n.firstLog < 2*int64(a.cfg.Learn)
	return a.memory.Prepare(s)
}

// remember takes note of a fingerprint, and of its connection if it is new.
func (a *Analyst) remember(s *novelty.Sight) {
	if !a.memory.Saw(s) {
		return
	}
	ev := s.Event
	r, suppressed := a.engine.Novel(ev)
	if r == nil || suppressed {
		if suppressed {
			a.tally.of(r.ID).suppressed.Add(1)
		}
		a.found.markNew(ev.UID, nil)
		return
	}
	first := anomaly.FirstSight{
		Severity: r.Severity, Type: ev.Type, Value: s.Kept, Network: s.Network, Probe: s.Probe, SeenAt: ev.Time, PacketNum: ev.PacketNum,
	}
	a.tally.of(r.ID).add(a.found.markNew(ev.UID, &first))
}

// take keeps what the event that is being taken raised.
func (a *Analyst) take(x *anomaly.Raised) {
	c := a.tally.of(x.Rule.ID)
	if x.Suppressed {
		c.suppressed.Add(1)
		return
	}
	c.add(a.found.add(a.event.UID, x.Anomaly))
}

// intern returns a copy of a label, the same for equal ones. There are as many
// as the tracker admits.
func (a *Analyst) intern(label string) string {
	if known, ok := a.labels[label]; ok {
		return known
	}
	label = string([]byte(label))
	a.labels[label] = label
	return label
}

// maxWaiting bounds the reloads that wait for their position.
const maxWaiting = 16

// Reload puts rules in force for all entries behind position, and for Enrich
// when the first of them is taken, at the latest. What an unchanged rule has
// counted stays. A position that was taken already means now: behind the newest
// entry. Of more than 16 that wait, the newest replaces the one before.
func (a *Analyst) Reload(rs *anomaly.Rules, position uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.waiting) > 0 && a.waiting[len(a.waiting)-1].position >= position || len(a.waiting) >= maxWaiting {
		a.waiting = a.waiting[:len(a.waiting)-1]
	}
	if position <= a.position && !a.midway {
		a.waiting = nil
		a.use(rs)
		return
	}
	a.waiting = append(a.waiting, reload{rs, position})
}

func (a *Analyst) use(rs *anomaly.Rules) {
	a.engine.Use(rs)
	a.rules.Store(rs)
}

// Position returns the newest entry that was taken as a whole.
func (a *Analyst) Position() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.position
}

// Rules returns the rules in force.
func (a *Analyst) Rules() *anomaly.Rules { return a.rules.Load() }
