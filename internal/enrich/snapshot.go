package enrich

import (
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

// Snapshot fills the fields of s that follow from its newest fingerprints alone,
// without a table: MSSValue, MTUEstimate and TunnelIndicator from ja4t (or, when
// only the answer was seen, ja4ts), SSHSessionType and SSHSessionHint from
// ja4ssh. It keeps nothing and does not allocate.
func Snapshot(s *tracker.Snapshot) {
	if len(s.Fingerprints) == 0 {
		return
	}
	value := s.LatestFingerprint(ja4.TypeJA4T)
	if value == "" {
		value = s.LatestFingerprint(ja4.TypeJA4TS)
	}
	if mss, ok := MSS(value); ok {
		ipv6 := !s.Src.Is4()
		s.MSSValue, s.MTUEstimate = uint32(mss), uint32(MTU(mss, ipv6))
		s.TunnelIndicator = Tunnel(mss, ipv6)
	}
	if value := s.LatestFingerprint(ja4.TypeJA4SSH); value != "" {
		s.SSHSessionType, s.SSHSessionHint = SSHSession(value)
	}
}
