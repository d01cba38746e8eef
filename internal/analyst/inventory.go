package analyst

import (
	"github.com/whorl-net/whorl/internal/analyst/anomaly"
	"github.com/whorl-net/whorl/internal/analyst/novelty"
	"github.com/whorl-net/whorl/ja4"
)

// Fingerprint is a fingerprint that a network has shown.
type Fingerprint = novelty.Fingerprint

// Remembered returns the part of a value of type t that a Fingerprint has, and
// whether values of that type are remembered at all: see novelty.Remembered.
func Remembered(t ja4.Type, value string) (string, bool) {
	part, _ := novelty.Remembered(t, value)
	return part, novelty.Types.Has(t)
}

// RuleStats are counters of one rule since the state was made.
type RuleStats = anomaly.Stats

// Stats says how much is remembered.
type Stats struct {
	// Rules are those in force, in their order.
	Rules []RuleStats
	// Fingerprints are remembered now, in FingerprintBytes; FingerprintsForgotten
	// have left because there was no room.
	Fingerprints          int
	FingerprintBytes      int64
	FingerprintsForgotten uint64
	// Connections have findings, in FindingBytes.
	Connections, FindingBytes int64
	// Sources are remembered because rules wait for their second attempt;
	// SourcesEvicted and KeysEvicted, of all rules, had to leave because there was no
	// room, and start anew.
	Sources                     int
	SourcesEvicted, KeysEvicted uint64
	// NewLost counts connections that were new, but there was no room to note it.
	NewLost uint64
}

// Stats returns counters and sizes.
func (a *Analyst) Stats() Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := Stats{
		Fingerprints: a.memory.Len(), FingerprintBytes: a.memory.Bytes(), FingerprintsForgotten: a.memory.Dropped(),
		Connections: a.found.count.Load(), FindingBytes: a.found.bytes.Load(), NewLost: a.found.lost.Load(),
	}
	s.Sources, s.SourcesEvicted = a.engine.Sources()
	s.KeysEvicted = a.engine.KeysEvicted()
	for _, r := range a.rules.Load().All() {
		c := a.tally.of(r.ID)
		rs := RuleStats{
			ID: r.ID, Severity: r.Severity, Source: r.Source,
			Raised: c.raised.Load(), Suppressed: c.suppressed.Load(), Dropped: c.dropped.Load(),
		}
		rs.Keys, rs.KeysEvicted = a.engine.Keys(r.ID)
		s.Rules = append(s.Rules, rs)
	}
	return s
}

// Fingerprints returns up to most fingerprints for which match is true (nil:
// all), in the order in which they were first seen, behind the page that
// returned after; 0 begins. next is 0 on the last page. One that is remembered
// during the whole walk appears exactly once. Take waits while match is asked.
func (a *Analyst) Fingerprints(after uint64, most int, match func(f *Fingerprint) bool) (page []Fingerprint, next uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.memory.Page(after, most, match)
}

// Matching counts the fingerprints for which match is true (nil: all).
func (a *Analyst) Matching(match func(f *Fingerprint) bool) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.memory.Forget(match, true)
}

// Forget forgets the fingerprints for which match is true (nil: all) and returns
// how many. The next sight of one is its first. It is an entry of the log, at
// position: call it when the last Output before has been taken and none behind
// it. One that the restored state has seen already is passed over, with 0.
func (a *Analyst) Forget(position uint64, match func(f *Fingerprint) bool) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if position <= a.position {
		return 0
	}
	a.position = position
	return a.memory.Forget(match, false)
}
