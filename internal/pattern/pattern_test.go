package pattern

import (
	"regexp"
	"strings"
	"testing"

	"github.com/whorl-net/whorl/internal/fuzzguard"
)

// A star is a whole part, or any tail at the end; without one a pattern is a value.
func TestMatch(t *testing.T) {
	const ja4 = "t13d1516h2_8daaf6152771_02713d6af862"
	for _, tc := range []struct {
		pattern  string
		yes, no  []string
		exact    bool
		prefix   string
		isPrefix bool
	}{
		{pattern: ja4, yes: []string{ja4}, no: []string{"", ja4 + "_", ja4[:35]}, exact: true},
		{pattern: "t13d1516h2_*_02713d6af862", yes: []string{ja4, "t13d1516h2__02713d6af862"},
			no: []string{"t13d1516h2_02713d6af862", "t13d1516h2_a_b_02713d6af862", ja4 + "_x", "x" + ja4}},
		{pattern: "t13d*", yes: []string{ja4, "t13d", "t13d_"}, no: []string{"t13", "t12d1516h2"}, prefix: "t13d", isPrefix: true},
		{pattern: "t13d1516h2_8daaf6152771_*", yes: []string{ja4, "t13d1516h2_8daaf6152771_", "t13d1516h2_8daaf6152771_a_b"},
			no: []string{"t13d1516h2_8daaf6152771", "t13d1516h2_8daaf615277_1_"}, prefix: "t13d1516h2_8daaf6152771_", isPrefix: true},
		{pattern: "*_8daaf6152771_*", yes: []string{ja4}, no: []string{"8daaf6152771_a", "a_b_8daaf6152771_c"}},
		{pattern: "*", yes: []string{"", ja4}, isPrefix: true},
		{pattern: "", yes: []string{""}, no: []string{"a"}, exact: true},
	} {
		p, ok := Parse(tc.pattern)
		if !ok || p.String() != tc.pattern || p.Exact() != tc.exact {
			t.Fatalf("%q: ok %v, prints as %q, exact %v", tc.pattern, ok, p.String(), p.Exact())
		}
		if prefix, ok := p.Prefix(); prefix != tc.prefix || ok != tc.isPrefix {
			t.Errorf("%q: prefix %q, %v; want %q, %v", tc.pattern, prefix, ok, tc.prefix, tc.isPrefix)
		}
		for _, v := range tc.yes {
			if !p.Match(v) {
				t.Errorf("%q does not match %q", tc.pattern, v)
			}
		}
		for _, v := range tc.no {
			if p.Match(v) {
				t.Errorf("%q matches %q", tc.pattern, v)
			}
		}
	}
	for _, text := range []string{"t*d", "t13*_a", "**", "a_**", "*a", "a_b*c_d", "*a*"} {
		if p, ok := Parse(text); ok {
			t.Errorf("%q is taken as %+v", text, p)
		}
	}
	if p := Exact("a_*"); !p.Match("a_*") || p.Match("a_b") || !p.Exact() {
		t.Error("a quoted star is no star")
	}
}

// A match is what a regular expression with the same meaning says, and does not
// allocate.
func FuzzMatch(f *testing.F) {
	f.Add("t13d1516h2_*_02713d6af862", "t13d1516h2_8daaf6152771_02713d6af862")
	f.Add("ge11cn020000_*", "ge11cn020000_a_b_c")
	f.Add("*", "")
	f.Fuzz(func(t *testing.T, text, value string) {
		fuzzguard.Watch(t)
		p, ok := Parse(text)
		if !ok {
			return
		}
		parts := strings.Split(text, "_")
		for i, part := range parts {
			tail := ""
			if rest, found := strings.CutSuffix(part, "*"); found && i == len(parts)-1 {
				part, tail = rest, `[\s\S]*`
			}
			if part = regexp.QuoteMeta(part); part == `\*` {
				part = `[^_]*`
			}
			parts[i] = part + tail
		}
		re, err := regexp.Compile(`\A(?:` + strings.Join(parts, "_") + `)\z`)
		if err != nil { // not UTF-8
			return
		}
		if got, want := p.Match(value), re.MatchString(value); got != want {
			t.Errorf("%q on %q: %v, want %v", text, value, got, want)
		}
	})
}

func TestMatchDoesNotAllocate(t *testing.T) {
	p, _ := Parse("t13d1516h2_*_02713d6af862")
	if n := testing.AllocsPerRun(100, func() {
		if !p.Match("t13d1516h2_8daaf6152771_02713d6af862") {
			t.Fatal("no match")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
