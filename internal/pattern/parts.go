package pattern

import (
	"fmt"
	"math"
	"strings"

	"github.com/whorl-net/whorl/ja4"
)

// hashLen is the length of the hashes that are parts of most types, in bytes.
const hashLen = 12

// PartCount says how many parts between underscores the values of a type have.
func PartCount(t ja4.Type) (least, most int) {
	switch t {
	case ja4.TypeJA4H, ja4.TypeJA4T:
		return 4, 4
	case ja4.TypeJA4TS:
		return 4, 5
	case ja4.TypeJA4L, ja4.TypeJA4LS:
		return 2, 3
	case ja4.TypeJA4HRO:
		return 2, math.MaxInt
	}
	return 3, 3
}

// Fits returns an error if no value of type t has as many parts as p names, so
// that p would never match. An Exact one is not looked at. The text of the error
// goes on behind the pattern.
func (p *Pattern) Fits(t ja4.Type) error {
	least, most := PartCount(t)
	n := len(p.parts)
	switch {
	case n == 0 || n <= most && (n >= least || p.tail):
		return nil
	case n > most:
		return fmt.Errorf("has %d parts, a %v fingerprint has %d", n, t, most)
	case n == 1 && p.text[0] == '*': // meant is the end of a value
		last := p.text
		if len(last) == 1+hashLen {
			last = last[1:]
		}
		return fmt.Errorf("has 1 part, a %v fingerprint has %d: write %s%s", t, least, strings.Repeat("*_", least-1), last)
	case n == 1:
		return fmt.Errorf("has 1 part, a %v fingerprint has %d: write %s*", t, least, p.text)
	}
	first := strings.Join(p.parts[:n-1], "_")
	gap := strings.Repeat("_*", least-n)
	return fmt.Errorf("has %d parts, a %v fingerprint has %d: write %s%s_%s, or %s_*", n, t, least, first, gap, p.parts[n-1], p.text)
}
