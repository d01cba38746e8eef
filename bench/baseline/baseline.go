// Package baseline is the tracker that package tracker took the place of, kept
// to be measured beside it: a connection is an object of its own, found in a Go
// map by a formatted string and kept in order of use by container/list, and idle
// ones are found by looking at all. One lock guards everything.
//
// It has the behaviour of the original and none of what came later: no states of
// TCP, no networks, no counters per direction. It is written as one would write it
// well, so that a ratio to it says something about the structure: nothing is
// copied, formatted or allocated without need of it.
package baseline

import (
	"container/list"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/whorl-net/whorl/flow"
)

// Connection is what is known of one.
type Connection struct {
	ID               string
	Src, Dst         netip.Addr
	SrcPort, DstPort uint16
	Protocol         flow.Protocol

	FirstSeen, LastSeen    time.Time
	PacketCount, ByteCount uint64

	// Fingerprints and RawFPs hold histories by type.
	Fingerprints map[string][]Event
	RawFPs       map[string][]Event

	IdentifiedApp   string
	IsKnownBad      bool
	IsNew           bool
	MSSValue        int
	TunnelIndicator string
	SSHSessionType  string
	Anomalies       []string

	inOrder *list.Element
}

// Event is a fingerprint in a history.
type Event struct {
	Value     string
	SeenAt    time.Time
	PacketNum uint64
}

// What is kept of a history: the first events and the newest.
const (
	maxEvents   = 1000
	firstEvents = 100
)

// Tracker is the table. It is safe for concurrent use.
type Tracker struct {
	mu      sync.Mutex // guards all below, connections included
	conns   map[string]*Connection
	order   *list.List // of *Connection, most recently used in front
	max     int
	timeout time.Duration
	onEvict func(*Connection)
}

// New returns a Tracker for at most max connections, which leave after timeout
// without a packet. onEvict gets a copy of each that leaves.
func New(max int, timeout time.Duration, onEvict func(*Connection)) *Tracker {
	return &Tracker{
		conns: make(map[string]*Connection), order: list.New(),
		max: max, timeout: timeout, onEvict: onEvict,
	}
}

// MakeKey formats a 5-tuple, equal for both directions.
func MakeKey(src netip.Addr, sport uint16, dst netip.Addr, dport uint16, p flow.Protocol) string {
	if dst.Less(src) || dst == src && dport < sport {
		src, sport, dst, dport = dst, dport, src, sport
	}
	return fmt.Sprintf("%s:%d-%s:%d-%s", src, sport, dst, dport, p)
}

// Update counts a packet and returns its connection's key.
func (t *Tracker) Update(src netip.Addr, sport uint16, dst netip.Addr, dport uint16, p flow.Protocol, ts time.Time, length int) string {
	key := MakeKey(src, sport, dst, dport, p)
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.conns[key]
	if c == nil {
		c = &Connection{
			ID: key, Src: src, Dst: dst, SrcPort: sport, DstPort: dport, Protocol: p,
			FirstSeen: ts, IsNew: true,
			Fingerprints: make(map[string][]Event), RawFPs: make(map[string][]Event),
		}
		c.inOrder = t.order.PushFront(c)
		t.conns[key] = c
	} else {
		t.order.MoveToFront(c.inOrder)
	}
	c.LastSeen = ts
	c.PacketCount++
	c.ByteCount += uint64(length)
	for len(t.conns) > t.max {
		t.evictLocked(t.order.Back().Value.(*Connection))
	}
	return key
}

// Evict removes what has been idle for longer than the timeout.
func (t *Tracker) Evict(now time.Time) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.conns {
		if now.Sub(c.LastSeen) > t.timeout {
			t.evictLocked(c)
			n++
		}
	}
	return n
}

func (t *Tracker) evictLocked(c *Connection) {
	t.order.Remove(c.inOrder)
	delete(t.conns, c.ID)
	if t.onEvict != nil {
		t.onEvict(c.snapshot())
	}
}

// AddFingerprint adds to the history of a type. Equal values in a row are one
// event.
func (t *Tracker) AddFingerprint(key, typ, value, raw string, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.conns[key]
	if c == nil {
		return
	}
	c.Fingerprints[typ] = add(c.Fingerprints[typ], Event{value, at, c.PacketCount})
	if raw != "" {
		c.RawFPs[typ] = add(c.RawFPs[typ], Event{raw, at, c.PacketCount})
	}
}

func add(h []Event, e Event) []Event {
	if n := len(h); n > 0 && h[n-1].Value == e.Value {
		return h
	}
	if len(h) == maxEvents {
		copy(h[firstEvents:], h[firstEvents+1:])
		h = h[:maxEvents-1]
	}
	return append(h, e)
}

// Get returns a copy of a connection.
func (t *Tracker) Get(key string) (*Connection, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.conns[key]
	if c == nil {
		return nil, false
	}
	return c.snapshot(), true
}

// Count returns how many connections there are.
func (t *Tracker) Count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.conns)
}

// All returns copies of all connections.
func (t *Tracker) All() []*Connection {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*Connection, 0, len(t.conns))
	for _, c := range t.conns {
		all = append(all, c.snapshot())
	}
	return all
}

// snapshot is a deep copy.
func (c *Connection) snapshot() *Connection {
	s := *c
	s.inOrder = nil
	s.Fingerprints, s.RawFPs = cloneHistories(c.Fingerprints), cloneHistories(c.RawFPs)
	s.Anomalies = append([]string(nil), c.Anomalies...)
	return &s
}

func cloneHistories(m map[string][]Event) map[string][]Event {
	c := make(map[string][]Event, len(m))
	for typ, h := range m {
		c[typ] = append([]Event(nil), h...)
	}
	return c
}
