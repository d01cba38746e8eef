package suggest

import (
	"strings"
	"testing"
)

func TestNearest(t *testing.T) {
	words := []string{"", "port", "proto", "probe", "dst.port", "network", "ja4", "ja4s", "bytes"}
	for word, want := range map[string]string{
		"prt": "port", "prot": "port", "potr": "port", "prto": "proto", "Port": "port", "netwrok": "network",
		"byte": "bytes", "dst.prt": "dst.port", "ja5": "ja4", "x": "", "": "", "zzz": "", "dst": "",
		strings.Repeat("a", 1000): "",
	} {
		if got := Nearest(word, words); got != want {
			t.Errorf("%.20s: got %q, want %q", word, got, want)
		}
	}
	if got := Nearest("ab", []string{strings.Repeat("a", 100)}); got != "" {
		t.Errorf("a very long candidate: got %q", got)
	}
	if got := Nearest("port", nil); got != "" {
		t.Errorf("no candidates: got %q", got)
	}
}

// The distance is a metric on what is typed: zero for equal words, the same both
// ways, one for each mistake.
func TestDistance(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "A", 0}, {"", "abc", 3}, {"abc", "", 3}, {"port", "prot", 1}, {"port", "pot", 1},
		{"port", "poort", 1}, {"port", "pert", 1}, {"kitten", "sitting", 3}, {"ab", "ba", 1}, {"abcd", "badc", 2},
	} {
		if got, back := distance(tc.a, tc.b), distance(tc.b, tc.a); got != tc.want || back != tc.want {
			t.Errorf("%q, %q: %d and %d, want %d", tc.a, tc.b, got, back, tc.want)
		}
	}
}
