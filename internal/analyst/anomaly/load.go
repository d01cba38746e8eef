package anomaly

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/whorl-net/whorl/internal/analyst/window"
	"github.com/whorl-net/whorl/internal/filter"
	"github.com/whorl-net/whorl/internal/suggest"
	"github.com/whorl-net/whorl/internal/units"
	"github.com/whorl-net/whorl/ja4"
)

// Limits of rules files.
const (
	// MaxFileBytes bounds one file.
	MaxFileBytes = 1 << 20
	// MaxRules bounds the rules of all files, MaxAllow the allow entries.
	MaxRules = 256
	MaxAllow = 1024
	// MaxStateBytes bounds what all stream rules together may come to remember.
	MaxStateBytes = 1 << 30
	// maxErrors is how many mistakes are reported at once.
	maxErrors = 20
)

// Error is one mistake in a rules file.
type Error struct {
	File string
	// Line is from 1; 0 when it is the file as a whole.
	Line    int
	Problem string
}

// Error returns one line: "rules.yaml:12: threshold is 0, want 1 to 16777216".
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Problem
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Problem)
}

// File is a rules file that was read.
type File struct {
	Name string
	Data []byte
}

// LoadFiles reads and compiles rules files, on top of the built-in rules.
func LoadFiles(names ...string) (*Rules, error) {
	var files []File
	for _, name := range names {
		data, err := readFile(name)
		if err != nil {
			return nil, err
		}
		files = append(files, File{name, data})
	}
	return Load(files...)
}

// readFile reads a file that is not too large.
func readFile(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("rules file: %w", err)
	}
	if info.Size() > MaxFileBytes {
		return nil, &Error{File: name, Problem: fmt.Sprintf("has %d bytes, at most %d", info.Size(), MaxFileBytes)}
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("rules file: %w", err)
	}
	return data, nil
}

// Load compiles rules files, on top of the built-in rules. It is all or nothing:
// the error joins what is wrong, each an *Error, at most 20 of them.
func Load(files ...File) (*Rules, error) {
	l := loader{rules: builtins()}
	for _, f := range files {
		l.file = f.Name
		l.load(f.Data)
	}
	if len(l.errs) == 0 {
		l.checkSize()
	}
	if len(l.errs) > 0 {
		if len(l.errs) > maxErrors {
			l.errs = append(l.errs[:maxErrors], errors.New("and more"))
		}
		return nil, errors.Join(l.errs...)
	}
	on := l.rules[:0]
	for _, r := range l.rules {
		if !slices.Contains(l.off, r.ID) {
			on = append(on, r)
		}
	}
	return newRules(on, l.allow), nil
}

// loader collects rules from files.
type loader struct {
	file  string
	rules []*Rule
	off   []string // ids of built-in rules that are switched off
	set   []string // ids of built-in rules that have settings already
	allow []*allow
	errs  []error
}

func (l *loader) bad(n *yaml.Node, format string, args ...any) {
	e := &Error{File: l.file, Problem: fmt.Sprintf(format, args...)}
	if n != nil {
		e.Line = n.Line
	}
	l.errs = append(l.errs, e)
}

func (l *loader) load(data []byte) {
	if len(data) > MaxFileBytes {
		l.bad(nil, "has %d bytes, at most %d", len(data), MaxFileBytes)
		return
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		l.bad(nil, "%s", strings.ReplaceAll(err.Error(), "\n", " "))
		return
	}
	if len(doc.Content) == 0 {
		return // empty: nothing to add
	}
	l.mapping(doc.Content[0], "the file", section{
		"version": func(n *yaml.Node) { l.number(n, "version", 1, 1) },
		"builtin": l.builtin,
		"rules":   func(n *yaml.Node) { l.list(n, "rules", l.rule) },
		"allow":   func(n *yaml.Node) { l.list(n, "allow", l.allowEntry) },
	})
}

// section says what to do with each key of a mapping.
type section map[string]func(n *yaml.Node)

func (s section) names() []string {
	var names []string
	for name := range s {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// mapping hands the values of a mapping to s. It refuses what is no mapping,
// has an unknown key, or one twice. what is a name for the mapping.
func (l *loader) mapping(n *yaml.Node, what string, s section) {
	if n.Kind != yaml.MappingNode {
		l.bad(n, "%s is not a list of keys and values", what)
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		f, ok := s[k.Value]
		switch {
		case k.Kind != yaml.ScalarNode || !ok:
			hint := ""
			if near := suggest.Nearest(k.Value, s.names()); near != "" {
				hint = "; did you mean " + near + "?"
			}
			l.bad(k, "%s has no key %q: it has %s%s", what, clip(k.Value, 40), strings.Join(s.names(), ", "), hint)
		case seen[k.Value]:
			l.bad(k, "%s has %s twice", what, k.Value)
		case v.Kind == yaml.AliasNode || v.Anchor != "":
			l.bad(v, "anchors and aliases are not supported")
		default:
			seen[k.Value] = true
			f(v)
		}
	}
}

// list hands the elements of a list to f.
func (l *loader) list(n *yaml.Node, what string, f func(n *yaml.Node)) {
	if n.Kind != yaml.SequenceNode {
		l.bad(n, "%s is not a list", what)
		return
	}
	for _, e := range n.Content {
		if e.Kind == yaml.AliasNode || e.Anchor != "" {
			l.bad(e, "anchors and aliases are not supported")
			continue
		}
		f(e)
	}
}

// builtin reads settings of built-in rules.
func (l *loader) builtin(n *yaml.Node) {
	s := section{}
	for _, r := range l.rules {
		if r.Source != sourceBuiltin {
			continue
		}
		s[r.ID] = func(v *yaml.Node) {
			if slices.Contains(l.set, r.ID) {
				l.bad(v, "%s has settings already, in another file", r.ID)
				return
			}
			l.set = append(l.set, r.ID)
			l.mapping(v, r.ID, l.settings(r))
			l.checkBeat(v, r)
		}
	}
	l.mapping(n, "builtin", s)
}

// settings are those that a built-in rule has.
func (l *loader) settings(r *Rule) section {
	s := section{
		"enabled": func(n *yaml.Node) {
			if on, ok := l.boolean(n, "enabled"); ok && !on {
				l.off = append(l.off, r.ID)
			}
		},
		"severity": func(n *yaml.Node) { l.severity(n, &r.Severity) },
	}
	if r.limit.Keys > 0 {
		s["keys"] = func(n *yaml.Node) { l.keys(n, r) }
	}
	if r.limit.Threshold > 0 {
		s["threshold"] = func(n *yaml.Node) { l.threshold(n, r) }
		s["window"] = func(n *yaml.Node) { l.window(n, r) }
	}
	if r.measure == byBeat {
		s["shortest"] = func(n *yaml.Node) { l.interval(n, "shortest", &r.shortest) }
		s["longest"] = func(n *yaml.Node) { l.interval(n, "longest", &r.longest) }
		s["intervals"] = func(n *yaml.Node) { l.intervals(n, r) }
		s["score"] = func(n *yaml.Node) { l.score(n, r) }
	}
	if r.stable > 0 {
		s["stable"] = func(n *yaml.Node) {
			if v, ok := l.number(n, "stable", 1, 1<<20); ok {
				r.stable = uint32(v)
			}
		}
	}
	if r.exceptPorts.bits != nil {
		s["except-ports"] = func(n *yaml.Node) { l.ports(n, "except-ports", &r.exceptPorts) }
	}
	if r.commonPorts.bits != nil {
		s["common-ports"] = func(n *yaml.Node) { l.ports(n, "common-ports", &r.commonPorts) }
	}
	if r.minBytes > 0 {
		s["min-bytes"] = func(n *yaml.Node) {
			if v, ok := l.number(n, "min-bytes", 1, 1<<60); ok {
				r.minBytes = v
			}
		}
	}
	if r.networks != nil {
		s["networks"] = func(n *yaml.Node) { l.prefixes(n, "networks", &r.networks) }
	}
	return s
}

func (l *loader) checkBeat(n *yaml.Node, r *Rule) {
	if r.measure == byBeat && r.shortest >= r.longest {
		l.bad(n, "%s: shortest is %s, longest %s", r.ID, units.Duration(r.shortest), units.Duration(r.longest))
	}
}

// rule reads a rule of the operator's.
func (l *loader) rule(n *yaml.Node) {
	r := &Rule{Source: l.file}
	r.limit.Keys = 1 << 13
	var condition, text, on, distinct, threshold, windowed *yaml.Node
	failed := len(l.errs)
	l.mapping(n, "a rule", section{
		"id":       func(n *yaml.Node) { r.ID = l.ruleID(n) },
		"severity": func(n *yaml.Node) { l.severity(n, &r.Severity) },
		"text":     func(n *yaml.Node) { text = n },
		"filter":   func(n *yaml.Node) { condition = n },
		"on":       func(n *yaml.Node) { on = n },
		"key": func(n *yaml.Node) {
			l.texts(n, "key", 8, func(n *yaml.Node) {
				if f, err := parseField(n.Value); err != nil {
					l.bad(n, "key: %v", err)
				} else {
					r.key = append(r.key, f)
				}
			})
		},
		"distinct":  func(n *yaml.Node) { distinct = n },
		"threshold": func(n *yaml.Node) { threshold = n; l.threshold(n, r) },
		"window":    func(n *yaml.Node) { windowed = n; l.window(n, r) },
		"sliding": func(n *yaml.Node) {
			r.limit.Sliding, _ = l.boolean(n, "sliding")
		},
		"keys": func(n *yaml.Node) { l.keys(n, r) },
	})
	stream := len(r.key) > 0 || on != nil || distinct != nil || threshold != nil || windowed != nil
	if r.ID == "" {
		l.bad(n, "a rule has no id")
	}
	if r.Severity == 0 {
		l.bad(n, "rule %s has no severity: low, medium, high or critical", r.ID)
	}
	if text == nil {
		l.bad(n, "rule %s has no text", r.ID)
	} else if t, ok := l.text(text, "text", 1024); ok {
		var err error
		if r.text, err = parseTemplate(t, places); err != nil {
			l.bad(text, "text: %v", err)
		}
	}
	if stream {
		l.streamRule(n, r, on, distinct, threshold, windowed)
	}
	if condition != nil {
		r.filter = l.condition(condition, "filter", stream)
	} else if !stream {
		l.bad(n, "rule %s has neither a filter nor something to count", r.ID)
	}
	if len(l.errs) > failed {
		return
	}
	if len(l.rules) >= MaxRules {
		l.bad(n, "more than %d rules", MaxRules)
		return
	}
	l.rules = append(l.rules, r)
}

// streamRule reads what only a rule that counts has.
func (l *loader) streamRule(n *yaml.Node, r *Rule, on, distinct, threshold, windowed *yaml.Node) {
	r.measure = byCount
	if len(r.key) == 0 {
		l.bad(n, "rule %s counts, but has no key such as [src]", r.ID)
	}
	if threshold == nil || windowed == nil {
		l.bad(n, "rule %s counts, but lacks threshold or window", r.ID)
	}
	r.opened = true
	if on != nil {
		r.opened = false
		l.texts(on, "on", 16, func(n *yaml.Node) {
			if n.Value == "opened" {
				r.opened = true
			} else if t, err := ja4.ParseType(n.Value); err == nil {
				r.types = r.types.With(t)
			} else {
				l.bad(n, "on: %q is neither opened nor a fingerprint type", clip(n.Value, 40))
			}
		})
	}
	if distinct != nil {
		r.measure = byDistinct
		f, err := parseField(distinct.Value)
		if err != nil || distinct.Kind != yaml.ScalarNode {
			l.bad(distinct, "distinct: %q is not a field", clip(distinct.Value, 40))
		}
		r.of = f
	}
	if r.opened && (r.of.what == valueField || slices.ContainsFunc(r.key, func(f field) bool { return f.what == valueField })) {
		l.bad(n, "rule %s counts fingerprints (fp): say which, as in on: [ja4]", r.ID)
	}
}

// streamless are filter words that an event has no answer to.
var streamless = []string{"app", "bad", "new", "anomaly", "rule", "severity", "tunnel", "ssh", "after", "before", "cause"}

// endless are filter words that no rule may use: they depend on the clock or on
// what rules say.
var endless = []string{"new", "anomaly", "rule", "severity", "after", "before", "cause"}

// condition reads a filter.
func (l *loader) condition(n *yaml.Node, what string, stream bool) *filter.Filter {
	text, ok := l.text(n, what, filter.MaxTextLen)
	if !ok {
		return nil
	}
	f, err := filter.Parse(text, 0)
	if err != nil {
		l.bad(n, "%v", err) // it says "filter" and the column
		return nil
	}
	refused, why := endless, "works in no rule: it depends on the time or on what rules say"
	if stream {
		refused, why = streamless, "is not known while a connection is only counted; a rule without key, window and threshold can use some of these"
	}
	words, err := filter.Used(text)
	if err != nil {
		l.bad(n, "%v", err)
		return nil
	}
	for _, word := range words {
		if slices.Contains(refused, word) {
			l.bad(n, "%s: the word %s %s", what, word, why)
			return nil
		}
	}
	return f
}

// allowEntry reads an entry of the allowlist.
func (l *loader) allowEntry(n *yaml.Node) {
	a := &allow{file: l.file}
	var condition *yaml.Node
	failed := len(l.errs)
	l.mapping(n, "an allow entry", section{
		"id": func(n *yaml.Node) { a.id, _ = l.text(n, "id", 63) },
		"rules": func(n *yaml.Node) {
			l.texts(n, "rules", 64, func(n *yaml.Node) { a.rules = append(a.rules, n.Value) })
		},
		"known-bad": func(n *yaml.Node) {
			l.texts(n, "known-bad", 64, func(n *yaml.Node) {
				a.known, a.lines = append(a.known, n.Value), append(a.lines, n.Line)
			})
		},
		"filter": func(n *yaml.Node) { condition = n },
	})
	if condition != nil {
		a.filter = l.condition(condition, "filter", len(a.known) == 0)
	}
	switch {
	case len(a.known) > 0 && len(a.rules) > 0:
		l.bad(n, "an allow entry with known-bad silences these entries only: leave out rules")
	case slices.Contains(a.rules, ruleKnownBad):
		l.bad(n, "known-bad is not silenced as a whole: name the entries, as in known-bad: [ENTRY]")
	case condition == nil && len(a.rules) == 0 && len(a.known) == 0:
		l.bad(n, "an allow entry that names nothing would silence everything")
	case len(l.allow) >= MaxAllow:
		l.bad(n, "more than %d allow entries", MaxAllow)
	}
	for _, id := range a.rules {
		if !slices.ContainsFunc(l.rules, func(r *Rule) bool { return r.ID == id }) {
			l.bad(n, "there is no rule %q before this entry", clip(id, 40))
		}
	}
	if len(l.errs) == failed {
		l.allow = append(l.allow, a)
	}
}

// checkSize refuses rules that may come to remember too much.
func (l *loader) checkSize() {
	if sum := stateBytes(l.rules); sum > MaxStateBytes {
		l.bad(nil, "the rules may come to remember %d MB, at most %d MB: lower keys or threshold", sum>>20, int64(MaxStateBytes)>>20)
	}
}

// StateBytes returns the most that the state of all rules takes.
func (rs *Rules) StateBytes() int64 { return stateBytes(rs.stream) }

func stateBytes(rules []*Rule) (sum int64) {
	var beat int64
	for _, r := range rules {
		if r.measure == byBeat {
			beat = max(beat, r.bytes()) // they share it
		} else {
			sum += r.bytes()
		}
	}
	if keys := loneKeys(rules); keys > 0 {
		sum += window.OnceBytes[lone](keys)
	}
	return sum + beat
}
