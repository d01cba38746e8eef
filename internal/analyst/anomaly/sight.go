package anomaly

import (
	"strings"

	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

// FirstSight is what the rule for new fingerprints raises, before it is put into
// words: whoever invents fingerprints raises one for each, and most are never
// read. Its texts may be kept.
type FirstSight struct {
	Severity              tracker.Severity
	Type                  ja4.Type
	Value, Network, Probe string
	// SeenAt is the packet's time in Unix nanoseconds.
	SeenAt    int64
	PacketNum uint64
}

// Anomaly says it in words.
func (f *FirstSight) Anomaly() tracker.Anomaly {
	var b strings.Builder
	b.Grow(128)
	b.WriteString(f.Type.String())
	b.WriteByte(' ')
	b.WriteString(clip(f.Value, maxPlace))
	b.WriteString(" is new in network ")
	b.WriteString(clip(f.Network, maxPlace))
	return tracker.Anomaly{
		Rule: ruleNewFingerprint, Severity: f.Severity, RaisedAt: f.SeenAt, PacketNum: f.PacketNum, Description: b.String(),
		Evidence: []tracker.Evidence{{Type: f.Type, Value: clip(f.Value, 255), PacketNum: f.PacketNum, Probe: f.Probe, SeenAt: f.SeenAt}},
	}
}

// NewFingerprint is the id of the rule of a FirstSight.
const NewFingerprint = ruleNewFingerprint

// Novel reports what becomes of the anomaly of a fingerprint that its network had
// not shown before ev: its rule, nil when that is off, and whether an allow entry
// keeps it silent.
func (e *Engine) Novel(ev *tracker.Event) (r *Rule, suppressed bool) {
	r = e.rules.novel
	if r != nil && e.rules.Allows() {
		e.view.look(ev, 0)
		suppressed = e.rules.allowedEvent(r, &e.view)
	}
	return r, suppressed
}
