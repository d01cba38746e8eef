package output

import (
	"strings"
	"testing"

	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// What deserves a look is a word and a colour: red for what is known to be bad
// and for severe anomalies, yellow for what is new or odd.
func TestFlags(t *testing.T) {
	anomaly := func(severities ...whorlv1.Severity) (as []*whorlv1.Anomaly) {
		for _, s := range severities {
			as = append(as, &whorlv1.Anomaly{Severity: s, Rule: "port-scan"})
		}
		return as
	}
	const low, medium, high = whorlv1.Severity_SEVERITY_LOW, whorlv1.Severity_SEVERITY_MEDIUM, whorlv1.Severity_SEVERITY_HIGH
	for _, tc := range []struct {
		c     *whorlv1.Connection
		words string
		style Style
		app   Style
	}{
		{&whorlv1.Connection{}, "", StylePlain, StylePlain},
		{&whorlv1.Connection{TunnelIndicator: "possible PPPoE or DSL"}, "TUNNEL", StylePlain, StylePlain},
		{&whorlv1.Connection{IsNew: true}, "NEW", StyleWarn, StylePlain},
		{&whorlv1.Connection{Anomalies: anomaly(low, medium)}, "ANOMALY", StyleWarn, StylePlain},
		{&whorlv1.Connection{Anomalies: anomaly(low, high, low)}, "ANOMALY", StyleBad, StylePlain},
		{&whorlv1.Connection{IsKnownBad: true, IsNew: true, Anomalies: anomaly(low), TunnelIndicator: "x"}, "BAD NEW ANOMALY TUNNEL", StyleBad, StyleBad},
	} {
		if words, style, app := flags(tc.c), flagStyle(tc.c), appStyle(tc.c); words != tc.words || style != tc.style || app != tc.app {
			t.Errorf("%v: %q, styles %d and %d; want %q, %d and %d", tc.c, words, style, app, tc.words, tc.style, tc.app)
		}
	}
	// On a terminal the colours are there, and the words with them.
	got := shown(t, Connections(Clock{}), Options{Format: Table, Color: true},
		&whorlv1.Connection{IdentifiedApp: "IcedID", IsKnownBad: true}, &whorlv1.Connection{IdentifiedApp: "Curl", IsNew: true})
	for _, want := range []string{"\x1b[31mIcedID\x1b[0m", "\x1b[31mBAD\x1b[0m", "\x1b[33mNEW\x1b[0m", "Curl "} {
		if !strings.Contains(got, want) {
			t.Errorf("%q has no %q", got, want)
		}
	}
}

// A CSV file says which rules and which entries spoke.
func TestEnrichmentCSV(t *testing.T) {
	c := &whorlv1.Connection{MtuEstimate: 1420, SshSessionHint: "Interactive SSH Session",
		Anomalies:    []*whorlv1.Anomaly{{Rule: "port-scan", Description: "a"}, {Rule: "known-bad", Description: "b"}, {Rule: "port-scan", Description: "c"}},
		TableMatches: []*whorlv1.TableMatch{{Source: "builtin", Entry: "icedid"}, {Source: "own.yaml", Entry: "x"}}}
	lines := strings.Split(shown(t, Connections(Clock{}), Options{Format: CSV}, c), "\n")
	if want := ",mtu_estimate,ssh_session_hint,anomaly_rules,table_matches"; !strings.HasSuffix(lines[0], want) {
		t.Errorf("header %s, want it to end in %s", lines[0], want)
	}
	if want := ",1420,Interactive SSH Session,port-scan known-bad,builtin/icedid own.yaml/x"; !strings.HasSuffix(lines[1], want) {
		t.Errorf("row %s, want it to end in %s", lines[1], want)
	}
}
