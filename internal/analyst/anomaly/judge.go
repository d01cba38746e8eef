package anomaly

import (
	"fmt"
	"slices"
	"strings"

	"github.com/whorl-net/whorl/internal/analyst/window"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/ja4/ja4plus"
	"github.com/whorl-net/whorl/tracker"
)

// Judge applies the connection rules to s, whose fields that follow from tables
// and MSS are filled, and appends what they say to dst, at most
// MaxPerConnection. suppressed, if not nil, is called for each rule that an
// allow entry keeps silent. Judge is a function of s and rs alone, and safe for
// concurrent use.
func (rs *Rules) Judge(s *tracker.Snapshot, dst []tracker.Anomaly, suppressed func(r *Rule)) []tracker.Anomaly {
	if rs.known != nil && s.KnownBad {
		dst = rs.judgeKnownBad(s, dst, suppressed)
	}
	for _, r := range rs.judges {
		if len(dst) >= MaxPerConnection {
			break
		}
		var a tracker.Anomaly
		var odd bool
		if r.judge != nil {
			if len(s.Fingerprints) == 0 {
				continue // all of them look at fingerprints
			}
			a, odd = r.judge(r, s)
		} else if odd = r.filter.Match(s); odd {
			a = r.matched(s)
		}
		switch {
		case !odd:
		case rs.allowed(r, s):
			if suppressed != nil {
				suppressed(r)
			}
		default:
			a.Rule, a.Severity = r.ID, r.Severity
			dst = append(dst, a)
		}
	}
	return dst
}

// Condemns reports which of matches, those of s, best first, condemns it: the
// best bad one that no allow entry names, with the severity of the rule. ok is
// false when there is none or the rule is off. A generic allow entry does not
// reach this rule. It is safe for concurrent use.
func (rs *Rules) Condemns(s *tracker.Snapshot, matches []tracker.TableMatch) (best int, severity tracker.Severity, ok bool) {
	if rs.known == nil {
		return 0, 0, false
	}
	for i := range matches {
		if matches[i].Bad && !rs.allowedEntry(matches[i].Entry, s) {
			return i, rs.known.Severity, true
		}
	}
	return 0, 0, false
}

// judgeKnownBad says which entry of a table condemns s, whose KnownBad is set.
func (rs *Rules) judgeKnownBad(s *tracker.Snapshot, dst []tracker.Anomaly, suppressed func(r *Rule)) []tracker.Anomaly {
	best, severity, ok := rs.Condemns(s, s.TableMatches)
	if !ok {
		if suppressed != nil && slices.ContainsFunc(s.TableMatches, func(m tracker.TableMatch) bool { return m.Bad }) {
			suppressed(rs.known)
		}
		return dst
	}
	m := &s.TableMatches[best]
	a := tracker.Anomaly{Rule: ruleKnownBad, Severity: severity}
	what := m.App
	if what == "" {
		what = "entry " + m.Entry
	}
	if m.Note != "" {
		what += ", " + m.Note
	}
	a.Description = clip(fmt.Sprintf("known to be bad: %s (confidence %d)", what, m.Confidence), 400)
	a.Evidence = append(a.Evidence, m.Evidence[:min(len(m.Evidence), MaxEvidence)]...)
	for _, e := range a.Evidence {
		if e.SeenAt > a.RaisedAt { // all parts of a combination have to be there
			a.RaisedAt, a.PacketNum = e.SeenAt, e.PacketNum
		}
	}
	return append(dst, a)
}

// matched says that s matches the filter of r.
func (r *Rule) matched(s *tracker.Snapshot) tracker.Anomaly {
	ev := tracker.Event{
		Network: s.Network, Src: s.Src, Dst: s.Dst, SrcPort: s.SrcPort, DstPort: s.DstPort, Protocol: s.Protocol,
		ServerName: s.ServerName,
	}
	if len(s.Observers) > 0 {
		ev.Probe = s.Observers[0].Probe
	}
	ev.Type, ev.Value = s.PrimaryFingerprint()
	var h hit
	return tracker.Anomaly{
		RaisedAt:    s.LastSeen,
		Description: r.text.render(func(name string) string { return h.place(name, r, &ev) }),
		Evidence:    []tracker.Evidence{{Value: clip(r.filter.String(), 255)}},
	}
}

// because returns an anomaly that rests on fingerprints, raised by the last.
func because(text string, es ...tracker.Evidence) tracker.Anomaly {
	a := tracker.Anomaly{Description: text, Evidence: es}
	for _, e := range es {
		if e.SeenAt >= a.RaisedAt {
			a.RaisedAt, a.PacketNum = e.SeenAt, e.PacketNum
		}
	}
	return a
}

func evidence(t ja4.Type, e *tracker.FingerprintEvent) tracker.Evidence {
	return tracker.Evidence{Type: t, Value: e.Value, PacketNum: e.PacketNum, Probe: e.Probe, SeenAt: e.SeenAt}
}

// judgeChange finds a connection whose client became another one: a second
// client hello with other ciphers. After a HelloRetryRequest a client repeats
// its hello with other extensions, but with the same ciphers. A hello behind a
// CONNECT is not the proxy's client's first, but there is only one.
func judgeChange(_ *Rule, s *tracker.Snapshot) (tracker.Anomaly, bool) {
	h := s.History(ja4.TypeJA4)
	if h == nil {
		return tracker.Anomaly{}, false
	}
	for i := 1; i < len(h.Events); i++ {
		one, two := &h.Events[i-1], &h.Events[i]
		if part(one.Value, 1) == part(two.Value, 1) {
			continue
		}
		return because("the client of this connection became another one",
			evidence(ja4.TypeJA4, one), evidence(ja4.TypeJA4, two)), true
	}
	return tracker.Anomaly{}, false
}

// part returns the nth part of a fingerprint, from 0.
func part(value string, n int) string {
	for ; n > 0; n-- {
		_, rest, ok := strings.Cut(value, "_")
		if !ok {
			return ""
		}
		value = rest
	}
	first, _, _ := strings.Cut(value, "_")
	return first
}

// judgeReverseSSH finds a shell inside a shell: packets of twice the padding,
// acknowledged by the server's side, which is where somebody types.
func judgeReverseSSH(_ *Rule, s *tracker.Snapshot) (tracker.Anomaly, bool) {
	e := sshWindow(s, ja4plus.SSHSessionReverse)
	if e == nil {
		return tracker.Anomaly{}, false
	}
	return because("a reverse shell over SSH: the server's side types", evidence(ja4.TypeJA4SSH, e)), true
}

// judgeUpload finds a large transfer from the client of an SSH connection.
func judgeUpload(r *Rule, s *tracker.Snapshot) (tracker.Anomaly, bool) {
	if s.SrcByteCount < r.minBytes {
		return tracker.Anomaly{}, false
	}
	e := sshWindow(s, ja4plus.SSHSessionUpload)
	if e == nil {
		return tracker.Anomaly{}, false
	}
	// The bytes of this moment are not in the text: it would change with each packet.
	return because(fmt.Sprintf("an upload over SSH of more than %d MB", r.minBytes/1_000_000), evidence(ja4.TypeJA4SSH, e)), true
}

// sshWindow returns the first window of traffic that looks like a kind of session.
func sshWindow(s *tracker.Snapshot, kind string) *tracker.FingerprintEvent {
	h := s.History(ja4.TypeJA4SSH)
	if h == nil {
		return nil
	}
	for i := range h.Events {
		if ja4plus.SSHSessionType(h.Events[i].Value) == kind {
			return &h.Events[i]
		}
	}
	return nil
}

// judgeTunnel finds a client inside whose MSS has lost room to a tunnel. The
// server's MSS says nothing of the inside.
func judgeTunnel(r *Rule, s *tracker.Snapshot) (tracker.Anomaly, bool) {
	if s.TunnelIndicator == "" {
		return tracker.Anomaly{}, false
	}
	h := s.History(ja4.TypeJA4T)
	if h == nil || len(h.Events) == 0 || !inPrefixes(r.networks, s.Src) {
		return tracker.Anomaly{}, false
	}
	e := &h.Events[len(h.Events)-1]
	return because(fmt.Sprintf("%s has an MSS of %d: %s", s.Src, s.MSSValue, s.TunnelIndicator), evidence(ja4.TypeJA4T, e)), true
}

// clientKind is the hash of what stays of a client's ja4 from connection to
// connection: the transport and the ciphers. The extensions vary with
// resumption, with the server's name and with padding.
func clientKind(seed window.Seed, value string) uint64 {
	if value == "" {
		return 0
	}
	return seed.Start(uint64(value[0])).Text(part(value, 1)).Sum()
}
