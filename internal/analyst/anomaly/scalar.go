package anomaly

import (
	"net/netip"
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/whorl-net/whorl/internal/analyst/window"
	"github.com/whorl-net/whorl/internal/units"
	"github.com/whorl-net/whorl/tracker"
)

// scalar returns the text of a value that is neither a list nor a mapping.
func (l *loader) scalar(n *yaml.Node, what string) (string, bool) {
	if n.Kind != yaml.ScalarNode || n.Value == "" {
		l.bad(n, "%s has no single value", what)
		return "", false
	}
	return n.Value, true
}

func (l *loader) text(n *yaml.Node, what string, most int) (string, bool) {
	s, ok := l.scalar(n, what)
	if ok && len(s) > most {
		l.bad(n, "%s has %d bytes, at most %d", what, len(s), most)
		return "", false
	}
	return s, ok
}

// texts hands one text, or each of a list, to f.
func (l *loader) texts(n *yaml.Node, what string, most int, f func(n *yaml.Node)) {
	list := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		list = n.Content
	}
	if len(list) == 0 || len(list) > most {
		l.bad(n, "%s has %d values, want 1 to %d", what, len(list), most)
		return
	}
	for _, e := range list {
		if _, ok := l.text(e, what, 255); ok {
			f(e)
		}
	}
}

func (l *loader) boolean(n *yaml.Node, what string) (v, ok bool) {
	switch s, ok := l.scalar(n, what); {
	case !ok:
		return false, false
	case s == "true" || s == "false":
		return s == "true", true
	}
	l.bad(n, "%s is %q, want true or false", what, clip(n.Value, 40))
	return false, false
}

func (l *loader) number(n *yaml.Node, what string, least, most uint64) (uint64, bool) {
	s, ok := l.scalar(n, what)
	if !ok {
		return 0, false
	}
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil || v < least || v > most {
		l.bad(n, "%s is %s, want a whole number from %d to %d", what, clip(s, 40), least, most)
		return 0, false
	}
	return v, true
}

func (l *loader) duration(n *yaml.Node, what string, least, most time.Duration) (time.Duration, bool) {
	s, ok := l.scalar(n, what)
	if !ok {
		return 0, false
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < least || d > most {
		l.bad(n, "%s is %q, want a time from %s to %s, such as 90s or 5m", what, clip(s, 40), units.Duration(least), units.Duration(most))
		return 0, false
	}
	return d, true
}

func (l *loader) severity(n *yaml.Node, to *tracker.Severity) {
	names := []string{"low", "medium", "high", "critical"}
	s, ok := l.scalar(n, "severity")
	if !ok {
		return
	}
	i := slices.Index(names, s)
	if i < 0 {
		l.bad(n, "severity is %q, want low, medium, high or critical", clip(s, 40))
		return
	}
	*to = tracker.SeverityLow + tracker.Severity(i)
}

// ruleID reads the id of a new rule.
func (l *loader) ruleID(n *yaml.Node) string {
	s, ok := l.text(n, "id", 63)
	if !ok {
		return ""
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && (c != '-' || i == 0) {
			l.bad(n, "id %q: want lower-case letters, digits and -", s)
			return s
		}
	}
	if slices.ContainsFunc(l.rules, func(r *Rule) bool { return r.ID == s }) {
		l.bad(n, "there is a rule %s already", s)
	}
	return s
}

func (l *loader) threshold(n *yaml.Node, r *Rule) {
	if v, ok := l.number(n, "threshold", 1, window.MaxThreshold); ok {
		r.limit.Threshold = uint32(v)
	}
}

func (l *loader) window(n *yaml.Node, r *Rule) {
	if d, ok := l.duration(n, "window", time.Duration(window.MinWindow), time.Duration(window.MaxWindow)); ok {
		r.limit.Window = int64(d)
	}
}

func (l *loader) keys(n *yaml.Node, r *Rule) {
	if v, ok := l.number(n, "keys", 64, window.MaxKeys); ok {
		r.limit.Keys = int(v)
	}
}

func (l *loader) interval(n *yaml.Node, what string, to *time.Duration) {
	if d, ok := l.duration(n, what, time.Duration(window.MinInterval), time.Duration(window.MaxInterval)); ok {
		*to = d
	}
}

func (l *loader) intervals(n *yaml.Node, r *Rule) {
	if v, ok := l.number(n, "intervals", 4, window.Intervals); ok {
		r.intervals = int(v)
	}
}

func (l *loader) score(n *yaml.Node, r *Rule) {
	s, ok := l.scalar(n, "score")
	if !ok {
		return
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !(v >= 0.5 && v <= 1) {
		l.bad(n, "score is %s, want 0.5 to 1", clip(s, 40))
		return
	}
	r.score = int(v*1000 + 0.5)
}

func (l *loader) ports(n *yaml.Node, what string, to *ports) {
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		*to = ports{}
		return
	}
	var list []uint16
	l.texts(n, what, 1024, func(n *yaml.Node) {
		if v, ok := l.number(n, what, 0, 65535); ok {
			list = append(list, uint16(v))
		}
	})
	*to = portSet(list...)
}

func (l *loader) prefixes(n *yaml.Node, what string, to *[]netip.Prefix) {
	*to = nil
	l.texts(n, what, 256, func(n *yaml.Node) {
		p, err := netip.ParsePrefix(n.Value)
		if err != nil || p.Addr().Is4In6() {
			l.bad(n, "%s: %q is not a prefix such as 10.0.0.0/8", what, clip(n.Value, 40))
			return
		}
		*to = append(*to, p.Masked())
	})
}
