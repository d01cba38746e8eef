package analyst

import (
	"bytes"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/whorl-net/whorl/internal/analyst/anomaly"
	"github.com/whorl-net/whorl/tracker"
)

// store keeps findings for connections that are live. Take alone writes; anybody
// reads.
type store struct {
	max    int64
	bytes  atomic.Int64
	count  atomic.Int64
	lost   atomic.Uint64 // first sights that there was no room to note
	shards [64]storeShard
}

// storeShard holds those of some connections.
type storeShard struct {
	mu  sync.RWMutex
	all map[tracker.UID]*held // guarded by mu; only Take changes it, so Take reads without
}

// held is what is kept of the findings of one connection, as small as it comes:
// most are the first sight of an invented fingerprint, and nobody ever asks. It
// never changes once it is in a store: it is replaced.
type held struct {
	isNew bool
	// first is what the rule for new fingerprints raised, if hasFirst.
	hasFirst bool
	first    anomaly.FirstSight
	// others are those of other rules, in the order in which they were raised.
	others []tracker.Anomaly
}

// findings puts h into words.
func (h *held) findings() *Findings {
	f := &Findings{New: h.isNew, Anomalies: h.others}
	if h.hasFirst {
		f.Anomalies = append(make([]tracker.Anomaly, 0, 1+len(h.others)), h.first.Anomaly())
		f.Anomalies = append(f.Anomalies, h.others...)
	} else if len(h.others) > 1 {
		f.Anomalies = slices.Clone(h.others)
	}
	if len(f.Anomalies) > 1 {
		sortAnomalies(f.Anomalies)
	}
	return f
}

// of reports whether a rule has raised something already, and how many have.
func (h *held) of(rule string) (raised bool, n int) {
	if h == nil {
		return false, 0
	}
	n = len(h.others)
	if h.hasFirst {
		raised = rule == anomaly.NewFingerprint
		n++
	}
	return raised || slices.ContainsFunc(h.others, func(a tracker.Anomaly) bool { return a.Rule == rule }), n
}

// recordBytes is what the findings of a connection take: a held, its place in a
// map and a pointer to it.
const recordBytes = 256

func (h *held) size() int64 {
	if h == nil {
		return 0
	}
	n := int64(recordBytes + len(h.first.Value))
	for i := range h.others {
		n += sizeOf(&h.others[i])
	}
	return n
}

func sizeOf(a *tracker.Anomaly) int64 {
	n := int64(112 + len(a.Description))
	for i := range a.Evidence {
		n += 64 + int64(len(a.Evidence[i].Value))
	}
	return n
}

func (st *store) clear(most int64) {
	st.max = most
	for i := range st.shards {
		sh := &st.shards[i]
		sh.mu.Lock()
		sh.all = map[tracker.UID]*held{}
		sh.mu.Unlock()
	}
	st.bytes.Store(0)
	st.count.Store(0)
	st.lost.Store(0)
}

// shard returns where the findings of u are: its creation number and its shard
// in the tracker spread well enough.
func (st *store) shard(u tracker.UID) *storeShard {
	return &st.shards[(u[5]^u[11])%uint8(len(st.shards))]
}

// any reports whether there are findings at all.
func (st *store) any() bool { return st.count.Load() != 0 }

// get returns the findings of u, nil if there are none. It is for everybody.
func (st *store) get(u tracker.UID) *held {
	if !st.any() {
		return nil
	}
	sh := st.shard(u)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.all[u]
}

// mine is get for Take.
func (st *store) mine(u tracker.UID) *held {
	if !st.any() {
		return nil
	}
	return st.shard(u).all[u]
}

// put replaces the findings of u, which were old.
func (st *store) put(u tracker.UID, old, h *held) {
	sh := st.shard(u)
	sh.mu.Lock()
	sh.all[u] = h
	sh.mu.Unlock()
	if old == nil {
		st.count.Add(1)
	}
	st.bytes.Add(h.size() - old.size())
}

// remove takes the findings of u out and returns them, nil if there are none.
func (st *store) remove(u tracker.UID) *held {
	h := st.mine(u)
	if h == nil {
		return nil
	}
	sh := st.shard(u)
	sh.mu.Lock()
	delete(sh.all, u)
	sh.mu.Unlock()
	st.count.Add(-1)
	st.bytes.Add(-h.size())
	return h
}

// outcome is what became of an anomaly.
type outcome uint8

const (
	kept  outcome = iota
	twice         // its rule had raised one for this connection already
	full          // there was no room
)

// most is how many bytes may be taken when an anomaly of that severity comes.
func (st *store) most(s tracker.Severity) int64 {
	if s < tracker.SeverityHigh {
		return st.max / 4 * 3
	}
	return st.max
}

// markNew notes that u introduced a fingerprint, and what was raised for that,
// unless it is nil.
func (st *store) markNew(u tracker.UID, first *anomaly.FirstSight) outcome {
	old := st.mine(u)
	raised, n := old.of(anomaly.NewFingerprint)
	if old != nil && old.isNew && (first == nil || raised) {
		return twice
	}
	next := &held{}
	if old != nil {
		*next = *old
	} else if st.bytes.Load()+recordBytes > st.max {
		st.lost.Add(1)
		return full
	}
	next.isNew = true
	result := twice
	if first != nil && !raised {
		result = kept
		next.hasFirst, next.first = true, *first
		if n >= MaxAnomalies || st.bytes.Load()+next.size()-old.size() > st.most(first.Severity) {
			result = full
			next.hasFirst, next.first = false, anomaly.FirstSight{}
		}
	}
	st.put(u, old, next)
	return result
}

// add keeps an anomaly for u.
func (st *store) add(u tracker.UID, a tracker.Anomaly) outcome {
	old := st.mine(u)
	raised, n := old.of(a.Rule)
	if raised {
		return twice
	}
	next := &held{}
	more := sizeOf(&a)
	if old != nil {
		*next = *old
	} else {
		more += recordBytes
	}
	if n >= MaxAnomalies || st.bytes.Load()+more > st.most(a.Severity) {
		return full
	}
	// A copy: readers may hold the old one.
	next.others = append(slices.Clip(next.others), a)
	st.put(u, old, next)
	return kept
}

// record is what was found about one connection.
type record struct {
	uid tracker.UID
	*held
}

// all returns all findings, in the order of their uids.
func (st *store) all() []record {
	list := make([]record, 0, st.count.Load())
	for i := range st.shards {
		sh := &st.shards[i]
		sh.mu.RLock()
		for u, f := range sh.all {
			list = append(list, record{u, f})
		}
		sh.mu.RUnlock()
	}
	slices.SortFunc(list, func(x, y record) int { return bytes.Compare(x.uid[:], y.uid[:]) })
	return list
}
