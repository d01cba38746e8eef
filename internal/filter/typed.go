package filter

import (
	"fmt"
	"strconv"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/whorl-net/whorl/ja4"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"github.com/whorl-net/whorl/tracker"
)

// typedClauses turns one entry of include or exclude into clauses: those of one
// inner list are joined by OR, the lists by AND. field is the path of the entry.
func typedClauses(field string, e *whorlv1.ConnectionFilter) ([][]clause, error) {
	var all [][]clause
	if e == nil {
		return nil, nil
	}
	add := func(name, inner string, values []value) {
		if len(values) > 0 {
			all = append(all, []clause{{word: wordNamed(name), values: values, place: place{field: field + "." + inner}}})
		}
	}
	list := func(name, inner string, texts []string) {
		values := make([]value, len(texts))
		for i, text := range texts {
			values[i] = value{text: text, place: place{field: fmt.Sprintf("%s.%s[%d]", field, inner, i)}}
		}
		add(name, inner, values)
	}
	one := func(name, inner, text string) {
		add(name, inner, []value{{text: text, place: place{field: field + "." + inner}}})
	}
	flag := func(name, inner string, v *bool) {
		if v != nil {
			one(name, inner, strconv.FormatBool(*v))
		}
	}
	list("ip", "ip", e.GetIp())
	list("src", "src_ip", e.GetSrcIp())
	list("dst", "dst_ip", e.GetDstIp())
	list("port", "port", e.GetPort())
	list("src.port", "src_port", e.GetSrcPort())
	list("dst.port", "dst_port", e.GetDstPort())
	list("proto", "protocol", e.GetProtocol())
	list("network", "network", e.GetNetwork())
	list("probe", "probe_id", e.GetProbeId())
	list("app", "identified_app", e.GetIdentifiedApp())
	list("sni", "server_name", e.GetServerName())
	list("rule", "anomaly_rule", e.GetAnomalyRule())
	list("ssh", "ssh_session_type", e.GetSshSessionType())
	list("fp", "fingerprint", e.GetFingerprint())
	if matches := e.GetFingerprintMatch(); len(matches) > 0 {
		alternatives, err := matchClauses(field, matches)
		if err != nil {
			return nil, err
		}
		all = append(all, alternatives)
	}
	flag("bad", "is_known_bad", e.IsKnownBad)
	flag("new", "is_new", e.IsNew)
	flag("anomaly", "has_anomaly", e.HasAnomaly)
	flag("tunnel", "has_tunnel", e.HasTunnel)
	if n := e.GetMinSeverity(); n != whorlv1.Severity_SEVERITY_UNSPECIFIED {
		if n < 0 || int(n) >= len(severities) {
			return nil, place{field: field + ".min_severity"}.errorf(n.String(), "is not a severity")
		}
		one("severity", "min_severity", ">="+severities[n])
	}
	if e.MinBytes != nil {
		one("bytes", "min_bytes", ">="+strconv.FormatUint(e.GetMinBytes(), 10))
	}
	if e.MinPackets != nil {
		one("packets", "min_packets", ">="+strconv.FormatUint(e.GetMinPackets(), 10))
	}
	for _, t := range []struct {
		name, inner string
		at          *timestamppb.Timestamp
	}{{"after", "seen_after", e.GetSeenAfter()}, {"before", "seen_before", e.GetSeenBefore()}} {
		if t.at == nil {
			continue
		}
		if err := t.at.CheckValid(); err != nil {
			return nil, place{field: field + "." + t.inner}.errorf("", "is not a valid time")
		}
		one(t.name, t.inner, t.at.AsTime().Format(timeFormat))
	}
	var causes []value
	for i, c := range e.GetEvictionCause() {
		at := place{field: fmt.Sprintf("%s.eviction_cause[%d]", field, i)}
		cause := tracker.Cause(c)
		if c <= 0 || c >= tracker.NumCauses {
			return nil, at.errorf(c.String(), "is not a cause")
		}
		causes = append(causes, value{text: cause.String(), place: at})
	}
	add("cause", "eviction_cause", causes)
	return all, nil
}

// matchClauses turns fingerprint_match into one clause for each element.
func matchClauses(field string, matches []*whorlv1.FingerprintMatch) ([]clause, error) {
	var clauses []clause
	for i, m := range matches {
		at := fmt.Sprintf("%s.fingerprint_match[%d]", field, i)
		if _, err := ja4.ParseType(m.GetType()); err != nil {
			e := place{field: at + ".type"}.errorf(m.GetType(), "is not a fingerprint type such as ja4")
			if w := wordNamed(suggestWord(m.GetType())); w != nil && w.typ.Valid() {
				e.Suggestion = w.name
			}
			return nil, e
		}
		if len(m.GetPattern()) == 0 {
			return nil, place{field: at + ".pattern"}.errorf("", "is empty: * stands for any value")
		}
		c := clause{word: wordNamed(m.GetType()), place: place{field: at}}
		for k, pattern := range m.GetPattern() {
			c.values = append(c.values, value{text: pattern, place: place{field: fmt.Sprintf("%s.pattern[%d]", at, k)}})
		}
		clauses = append(clauses, c)
	}
	return clauses, nil
}
