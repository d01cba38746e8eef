package enrich

import (
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

// Snapshot fills the fields of s that follow from its newest fingerprints:
// MSSValue and TunnelIndicator from ja4t (or, when only the answer was seen,
// ja4ts), and SSHSessionType from ja4ssh. It reads nothing else, keeps nothing,
// and is safe for concurrent use on different snapshots: a tracker's Enrich hook.
func Snapshot(s *tracker.Snapshot) {
	if len(s.Fingerprints) == 0 {
		return
	}
	value := s.LatestFingerprint(ja4.TypeJA4T)
	if value == "" {
		value = s.LatestFingerprint(ja4.TypeJA4TS)
	}
	if mss, ok := MSS(value); ok {
		s.MSSValue = uint32(mss)
		s.TunnelIndicator = Tunnel(mss, !s.Src.Is4())
	}
	if value := s.LatestFingerprint(ja4.TypeJA4SSH); value != "" {
		s.SSHSessionType = SSHSession(value)
	}
}
