package pattern

import (
	"regexp"
	"strings"
	"testing"

	"github.com/whorl-net/whorl/internal/fuzzguard"
	"github.com/whorl-net/whorl/ja4"
)

// A star is any letters of its part, or any tail at the end; without one a
// pattern is a value.
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
		{pattern: "t13d*_*_02713d6af862", yes: []string{ja4, "t13d_x_02713d6af862", "t13d__02713d6af862"},
			no: []string{"t12d1516h2_8daaf6152771_02713d6af862", "t13d1516h2_02713d6af862", "t13d_a_b_02713d6af862", ja4 + "0", "t13d1_a_02713d6af86"}},
		{pattern: "t1*h2_8daa*_*62", yes: []string{ja4, "t1h2_8daa_62", "t1h2h2_8daax_x62"},
			no: []string{"t1h_8daa_62", "t1_h2_8daa_62", "t1h2_8da_62", "t1h2_8daa_6", "t1h2_8daa_62_62"}},
		{pattern: "*h2_*", yes: []string{ja4, "h2_", "xh2_a_b"}, no: []string{"h2", "h2x_a", "a_h2_b"}},
		{pattern: "a*b*c", yes: []string{"abc", "axbxc", "abbcc", "abcbc"}, no: []string{"ab", "ac", "acb", "ab_c", "a_bc", "abcx"}},
		{pattern: "a*a", yes: []string{"aa", "aba"}, no: []string{"a"}},
		{pattern: "a*b*", yes: []string{"ab", "axb", "ab_c_d", "aab_"}, no: []string{"a_b", "b", "ba"}},
		{pattern: "x_a*b*", yes: []string{"x_ab_c", "x_a1b"}, no: []string{"x_a_b", "ab"}},
		{pattern: "*a", yes: []string{"a", "ba"}, no: []string{"a_a", "ab", ""}},
		{pattern: "*", yes: []string{"", ja4}, isPrefix: true},
		{pattern: "", yes: []string{""}, no: []string{"a"}, exact: true},
	} {
		p, err := Parse(tc.pattern)
		if err != nil || p.String() != tc.pattern || p.Exact() != tc.exact {
			t.Fatalf("%q: %v, prints as %q, exact %v", tc.pattern, err, p.String(), p.Exact())
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
	for _, text := range []string{"**", "a_**", "a**b_c", "***"} {
		if p, err := Parse(text); err == nil {
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
	f.Add("t13d*_*_027*f862", "t13d1516h2_8daaf6152771_02713d6af862")
	f.Add("a*b*_c*", "axbyb_c_d")
	f.Fuzz(func(t *testing.T, text, value string) {
		fuzzguard.Watch(t)
		p, err := Parse(text)
		if err != nil {
			return
		}
		parts := strings.Split(text, "_")
		for i, part := range parts {
			tail := ""
			if rest, found := strings.CutSuffix(part, "*"); found && i == len(parts)-1 {
				part, tail = rest, `[\s\S]*`
			}
			parts[i] = strings.ReplaceAll(regexp.QuoteMeta(part), `\*`, `[^_]*`) + tail
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
	p, _ := Parse("t13d*_*_027*f862")
	if n := testing.AllocsPerRun(100, func() {
		if !p.Match("t13d1516h2_8daaf6152771_02713d6af862") {
			t.Fatal("no match")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// A pattern that can never match a value of its type is refused with one that
// can.
func TestFits(t *testing.T) {
	for _, tc := range []struct {
		typ     ja4.Type
		pattern string
		want    string
	}{
		{ja4.TypeJA4, "t13d*", ""},
		{ja4.TypeJA4, "t13d*_*_02713d6af862", ""},
		{ja4.TypeJA4, "t13d*_*", ""},
		{ja4.TypeJA4, "anything", ""}, // no star: a value, whatever it is
		{ja4.TypeJA4TS, "*_*_*_*_1", ""},
		{ja4.TypeJA4HRO, "a*_b_c_d_e_f_g", ""},
		{ja4.TypeJA4L, "1*_64", ""},
		{ja4.TypeJA4, "t13d*_02713d6af862", "has 2 parts, a ja4 fingerprint has 3: write t13d*_*_02713d6af862, or t13d*_02713d6af862_*"},
		{ja4.TypeJA4H, "ge*_a", "has 2 parts, a ja4h fingerprint has 4: write ge*_*_*_a, or ge*_a_*"},
		{ja4.TypeJA4, "*862", "has 1 part, a ja4 fingerprint has 3: write *_*_*862"},
		{ja4.TypeJA4, "*b26ce05bbdd6", "has 1 part, a ja4 fingerprint has 3: write *_*_b26ce05bbdd6"},
		{ja4.TypeJA4, "t1*d", "has 1 part, a ja4 fingerprint has 3: write t1*d*"},
		{ja4.TypeJA4, "a_*_*_d", "has 4 parts, a ja4 fingerprint has 3"},
		{ja4.TypeJA4, "a_b_c_*", "has 4 parts, a ja4 fingerprint has 3"},
	} {
		p, err := Parse(tc.pattern)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := p.Fits(tc.typ); err != nil {
			got = err.Error()
		}
		if got != tc.want {
			t.Errorf("%v %q:\n got %s\nwant %s", tc.typ, tc.pattern, got, tc.want)
		}
	}
}
