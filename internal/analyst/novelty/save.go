package novelty

import (
	"cmp"
	"slices"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/analyst/state"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

// minSavedEntry is the fewest bytes a saved entry takes.
const minSavedEntry = 16 + 16 + 38 + 10

// Save writes everything that is remembered: each list from the oldest on.
func (m *Memory) Save(w *state.Writer) {
	w.Uint(m.lastID)
	w.Uint(m.dropped)
	w.Uint(uint64(m.index.used))
	for _, l := range []list{m.once, m.shared} {
		for i := l.oldest; i != 0; i = m.at(i).next {
			m.at(i).save(w)
		}
	}
}

func (e *entry) save(w *state.Writer) {
	w.Uint(e.id)
	w.Bool(e.shared)
	w.Text(e.Network)
	w.Uint(uint64(e.Type))
	w.Text(e.Value)
	w.Int(e.FirstSeen)
	w.Int(e.LastSeen - e.FirstSeen)
	w.Uint(e.Connections)
	w.Bytes(e.FirstUID[:])
	w.Bytes(e.lastUID[:])
	w.Bytes(e.FirstKey.A[:])
	w.Bytes(e.FirstKey.B[:])
	w.Uint(uint64(e.FirstKey.APort))
	w.Uint(uint64(e.FirstKey.BPort))
	w.Uint(uint64(e.FirstKey.Protocol))
	w.Text(e.FirstProbe)
	w.Bool(e.Learned)
}

// maxLabel bounds the labels in a saved state, in bytes.
const maxLabel = 255

// Restore fills an empty Memory with what Save wrote. What is beyond the limits
// leaves. intern returns labels that live as long as the Memory.
func (m *Memory) Restore(r *state.Reader, intern func(string) string) error {
	m.lastID = r.Uint()
	m.dropped = r.Uint()
	n := r.Count(minSavedEntry)
	for range n {
		var e entry
		e.restore(r, intern)
		if r.Err() != nil {
			return r.Err()
		}
		e.hash = m.index.hash(e.Network, e.Type, e.Value)
		if e.id == 0 || e.id > m.lastID || !Types.Has(e.Type) || m.find(e.hash, e.Network, e.Type, e.Value) >= 0 {
			r.Fail("fingerprint %d of %d has no place", e.id, n)
			return r.Err()
		}
		i := m.slot(e.id)
		*m.at(i) = e
		m.index.insert(e.hash, i)
		m.bytes += e.size()
		if e.shared {
			m.shares += e.size()
		}
		m.append(m.listOf(&e), i)
		m.order = append(m.order, place{e.id, i})
	}
	slices.SortFunc(m.order, func(a, b place) int { return cmp.Compare(a.id, b.id) })
	for i := range m.order {
		if i > 0 && m.order[i].id == m.order[i-1].id {
			r.Fail("two fingerprints have number %d", m.order[i].id)
			return r.Err()
		}
	}
	m.fit(0)
	return r.Err()
}

func (e *entry) restore(r *state.Reader, intern func(string) string) {
	e.id = r.Uint()
	e.shared = r.Bool()
	e.Network = intern(r.Text(maxLabel))
	e.Type = ja4.Type(r.UintUpTo(ja4.NumTypes - 1))
	e.Value = r.Text(flow.MaxValueLen)
	e.FirstSeen = r.Int()
	e.LastSeen = e.FirstSeen + r.Int()
	e.Connections = r.Uint()
	e.FirstUID = readUID(r)
	e.lastUID = readUID(r)
	copy(e.FirstKey.A[:], r.Bytes(16))
	copy(e.FirstKey.B[:], r.Bytes(16))
	e.FirstKey.APort = uint16(r.UintUpTo(65535))
	e.FirstKey.BPort = uint16(r.UintUpTo(65535))
	e.FirstKey.Protocol = flow.Protocol(r.UintUpTo(255))
	e.FirstProbe = intern(r.Text(maxLabel))
	e.Learned = r.Bool()
}

func readUID(r *state.Reader) (u tracker.UID) {
	copy(u[:], r.Bytes(len(u)))
	return u
}
