package analyst

import (
	"bytes"
	"cmp"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/whorl-net/whorl/internal/analyst/anomaly"
	"github.com/whorl-net/whorl/tracker"
)

// MaxAnomalies bounds the anomalies of one connection.
const MaxAnomalies = anomaly.MaxPerConnection

// Findings is what an Analyst found out about one connection from others.
type Findings struct {
	// New says that it introduced a fingerprint to its network after the time
	// of learning.
	New bool
	// Anomalies are in the order in which they were raised, one for each rule.
	Anomalies []tracker.Anomaly
}

// Apply adds f to what s says already: New, and Anomalies, which are then sorted
// (oldest first, then by rule) and at most MaxAnomalies, one for each rule. s
// shares nothing with f but text: whoever owns s may use its memory again.
func (f *Findings) Apply(s *tracker.Snapshot) {
	s.New = s.New || f.New
	for i := range f.Anomalies {
		rule := f.Anomalies[i].Rule
		if !slices.ContainsFunc(s.Anomalies, func(a tracker.Anomaly) bool { return a.Rule == rule }) {
			a := f.Anomalies[i]
			a.Evidence = slices.Clone(a.Evidence)
			s.Anomalies = append(s.Anomalies, a)
		}
	}
	sortAnomalies(s.Anomalies)
	s.Anomalies = s.Anomalies[:min(len(s.Anomalies), MaxAnomalies)]
}

func sortAnomalies(as []tracker.Anomaly) {
	slices.SortStableFunc(as, func(x, y tracker.Anomaly) int {
		return cmp.Or(cmp.Compare(x.RaisedAt, y.RaisedAt), cmp.Compare(x.Rule, y.Rule))
	})
}

// store keeps findings for connections that are live. Take alone writes; anybody
// reads.
type store struct {
	max    int64
	bytes  atomic.Int64
	count  atomic.Int64
	lost   atomic.Uint64 // first sights that there was no room to note
	shards [64]storeShard
}

// storeShard holds those of some connections. A Findings in it is never changed:
// it is replaced.
type storeShard struct {
	mu  sync.RWMutex
	all map[tracker.UID]*Findings // guarded by mu
}

func (st *store) clear(most int64) {
	st.max = most
	for i := range st.shards {
		sh := &st.shards[i]
		sh.mu.Lock()
		sh.all = map[tracker.UID]*Findings{}
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

// recordBytes is what the findings of a connection take beside anomalies.
const recordBytes = 160

func (f *Findings) size() int64 {
	n := int64(recordBytes)
	for i := range f.Anomalies {
		n += sizeOf(&f.Anomalies[i])
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

// get returns the findings of u, nil if there are none. They never change.
func (st *store) get(u tracker.UID) *Findings {
	if st.count.Load() == 0 {
		return nil
	}
	sh := st.shard(u)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.all[u]
}

func (st *store) put(u tracker.UID, f *Findings, more int64) {
	sh := st.shard(u)
	sh.mu.Lock()
	if _, known := sh.all[u]; !known {
		st.count.Add(1)
	}
	sh.all[u] = f
	sh.mu.Unlock()
	st.bytes.Add(more)
}

// remove takes the findings of u out and returns them, nil if there are none.
func (st *store) remove(u tracker.UID) *Findings {
	f := st.get(u)
	if f == nil {
		return nil
	}
	sh := st.shard(u)
	sh.mu.Lock()
	delete(sh.all, u)
	sh.mu.Unlock()
	st.count.Add(-1)
	st.bytes.Add(-f.size())
	return f
}

// markNew notes that u introduced a fingerprint.
func (st *store) markNew(u tracker.UID) {
	old := st.get(u)
	switch {
	case old != nil && old.New:
	case old != nil:
		st.put(u, &Findings{New: true, Anomalies: old.Anomalies}, 0)
	case st.bytes.Load()+recordBytes > st.max:
		st.lost.Add(1)
	default:
		st.put(u, &Findings{New: true}, recordBytes)
	}
}

// outcome is what became of an anomaly.
type outcome uint8

const (
	kept  outcome = iota
	twice         // its rule had raised one for this connection already
	full          // there was no room
)

// add keeps an anomaly for u.
func (st *store) add(u tracker.UID, a tracker.Anomaly) outcome {
	old := st.get(u)
	next := Findings{}
	more := sizeOf(&a)
	if old == nil {
		more += recordBytes
	} else {
		if slices.ContainsFunc(old.Anomalies, func(b tracker.Anomaly) bool { return a.Rule == b.Rule }) {
			return twice
		}
		next = *old
	}
	most := st.max
	if a.Severity < tracker.SeverityHigh {
		most = st.max / 4 * 3
	}
	if len(next.Anomalies) >= MaxAnomalies || st.bytes.Load()+more > most {
		return full
	}
	// A copy: readers may hold the old one.
	next.Anomalies = append(slices.Clip(next.Anomalies), a)
	st.put(u, &next, more)
	return kept
}

// record is what was found about one connection.
type record struct {
	uid tracker.UID
	*Findings
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
