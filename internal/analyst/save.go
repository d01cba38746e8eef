package analyst

import (
	"errors"
	"fmt"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/analyst/anomaly"
	"github.com/whorl-net/whorl/internal/analyst/state"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

// stateVersion numbers the form of a saved state. The one before is read, too.
const stateVersion = 2

// ErrMidway says that a state was asked for when only a part of an entry had
// been taken.
var ErrMidway = errors.New("an entry of the log was taken in part only")

// Save appends everything that is remembered to dst, and returns it with the
// position of the newest entry that is in it. The bytes are the same for the
// same outputs and reloads. Between the Outputs of one entry it returns
// ErrMidway: call it when the last of an entry has been taken.
//
// Rules are not part of the state; who restores brings them.
func (a *Analyst) Save(dst []byte) (saved []byte, position uint64, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.midway {
		return dst, 0, ErrMidway
	}
	w := state.Writer{B: dst}
	w.Uint(stateVersion)
	w.Fixed(a.seed)
	w.Uint(a.position)
	a.saveNetworks(&w)
	w.Block(a.memory.Save)
	w.Block(a.engine.Save)
	w.Block(a.found.save)
	w.Block(a.tally.save)
	return w.B, a.position, nil
}

// Restore replaces everything that is remembered by what Save wrote. Counts of
// rules that are not in force, or count otherwise by now, are left out. Damaged
// input is an error that wraps state.ErrDamaged; then the Analyst is empty.
func (a *Analyst) Restore(data []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	err := a.restore(state.NewReader(data))
	if err != nil {
		a.clear(a.cfg.Seed)
		return fmt.Errorf("restore analyst: %w", err)
	}
	return nil
}

func (a *Analyst) restore(r *state.Reader) error {
	version := r.Uint()
	if r.Err() == nil && (version < 1 || version > stateVersion) {
		return fmt.Errorf("state has version %d, want %d", version, stateVersion)
	}
	a.clear(r.Fixed())
	a.position = r.Uint()
	a.restoreNetworks(r)
	memory, engine, found, counts := r.Block(), r.Block(), r.Block(), r.Block()
	if err := r.End(); err != nil {
		return err
	}
	if err := a.memory.Restore(memory, a.intern); err != nil {
		return err
	}
	if err := a.engine.Restore(engine); err != nil {
		return err
	}
	a.found.restore(found, version, a.intern)
	a.tally.restore(counts)
	for _, b := range []*state.Reader{memory, engine, found, counts} {
		if err := b.End(); err != nil {
			return err
		}
	}
	return nil
}

func (a *Analyst) saveNetworks(w *state.Writer) {
	list := make([]*network, len(a.networks))
	for _, n := range a.networks {
		list[n.index] = n
	}
	w.Uint(uint64(len(list)))
	for _, n := range list {
		w.Text(n.label)
		w.Int(n.firstPacket)
		w.Int(n.firstLog)
	}
}

// maxLabel bounds a label in a saved state, in bytes.
const maxLabel = 255

func (a *Analyst) restoreNetworks(r *state.Reader) {
	for i := range r.Count(3) {
		n := &network{label: a.intern(r.Text(maxLabel)), index: i, firstPacket: r.Int(), firstLog: r.Int()}
		if _, twice := a.networks[n.label]; twice {
			r.Fail("network %q is there twice", n.label)
			return
		}
		a.networks[n.label] = n
	}
}

func (st *store) save(w *state.Writer) {
	w.Uint(st.lost.Load())
	list := st.all()
	w.Uint(uint64(len(list)))
	for _, f := range list {
		w.Bytes(f.uid[:])
		w.Bool(f.isNew)
		w.Bool(f.hasFirst)
		if f.hasFirst {
			saveFirst(w, &f.first)
		}
		w.Uint(uint64(len(f.others)))
		for i := range f.others {
			saveAnomaly(w, &f.others[i])
		}
	}
}

func (st *store) restore(r *state.Reader, version uint64, intern func(string) string) {
	st.lost.Store(r.Uint())
	for range r.Count(18) {
		var u tracker.UID
		copy(u[:], r.Bytes(len(u)))
		h := &held{isNew: r.Bool()}
		if h.hasFirst = version > 1 && r.Bool(); h.hasFirst {
			h.first = restoreFirst(r, intern)
		}
		for range r.UintUpTo(MaxAnomalies) {
			h.others = append(h.others, restoreAnomaly(r, intern))
			if r.Err() != nil {
				return
			}
		}
		if st.mine(u) != nil {
			r.Fail("findings of one connection are there twice")
		}
		if r.Err() != nil {
			return
		}
		st.put(u, nil, h)
	}
}

func saveFirst(w *state.Writer, f *anomaly.FirstSight) {
	w.Uint(uint64(f.Severity))
	w.Uint(uint64(f.Type))
	w.Text(f.Value)
	w.Text(f.Network)
	w.Text(f.Probe)
	w.Int(f.SeenAt)
	w.Uint(f.PacketNum)
}

func restoreFirst(r *state.Reader, intern func(string) string) anomaly.FirstSight {
	return anomaly.FirstSight{
		Severity: tracker.Severity(r.UintUpTo(uint64(tracker.SeverityCritical))), Type: ja4.Type(r.UintUpTo(ja4.NumTypes - 1)),
		Value: r.Text(flow.MaxValueLen), Network: intern(r.Text(maxLabel)), Probe: intern(r.Text(maxLabel)),
		SeenAt: r.Int(), PacketNum: r.Uint(),
	}
}

// Bounds of what an anomaly in a saved state may say, in bytes.
const (
	maxRuleID      = 63
	maxDescription = 4096
)

func saveAnomaly(w *state.Writer, a *tracker.Anomaly) {
	w.Text(a.Rule)
	w.Text(a.Description)
	w.Uint(uint64(a.Severity))
	w.Int(a.RaisedAt)
	w.Uint(a.PacketNum)
	w.Uint(uint64(len(a.Evidence)))
	for i := range a.Evidence {
		e := &a.Evidence[i]
		w.Uint(uint64(e.Type))
		w.Text(e.Value)
		w.Uint(e.PacketNum)
		w.Text(e.Probe)
		w.Int(e.SeenAt)
	}
}

func restoreAnomaly(r *state.Reader, intern func(string) string) tracker.Anomaly {
	a := tracker.Anomaly{
		Rule: intern(r.Text(maxRuleID)), Description: r.Text(maxDescription),
		Severity: tracker.Severity(r.UintUpTo(uint64(tracker.SeverityCritical))), RaisedAt: r.Int(), PacketNum: r.Uint(),
	}
	for range r.UintUpTo(anomaly.MaxEvidence) {
		a.Evidence = append(a.Evidence, tracker.Evidence{
			Type: ja4.Type(r.UintUpTo(ja4.NumTypes - 1)), Value: r.Text(flow.MaxValueLen + 3), PacketNum: r.Uint(),
			Probe: intern(r.Text(maxLabel)), SeenAt: r.Int(),
		})
	}
	return a
}
