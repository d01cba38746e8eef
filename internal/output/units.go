package output

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/whorl-net/whorl/internal/units"
)

// Bytes shows a number of bytes in SI units with two digits or more: "812 B",
// "3.2 kB", "41 kB", "1.1 GB".
func Bytes(n uint64) string {
	if n < 1000 {
		return strconv.FormatUint(n, 10) + " B"
	}
	v := float64(n)
	for _, unit := range [...]string{"kB", "MB", "GB", "TB", "PB", "EB"} {
		v /= 1000
		switch {
		case v < 9.95:
			return strconv.FormatFloat(v, 'f', 1, 64) + " " + unit
		case v < 999.5 || unit == "EB":
			return strconv.FormatFloat(v, 'f', 0, 64) + " " + unit
		}
	}
	return "" // not reached: 2^64 is 18 EB
}

// Number shows n with a comma between thousands.
func Number(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Plural is Number and a noun in the right number: "1 packet", "12 packets".
func Plural(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return Number(n) + " " + noun + "s"
}

// Ago shows how long ago something was: "14 s", "3 min", "2 h", "5 d".
func Ago(d time.Duration) string {
	switch {
	case d < time.Second:
		return "0 s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d/time.Second))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d/time.Minute))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d/time.Hour))
	}
	return fmt.Sprintf("%d d", int(d/(24*time.Hour)))
}

// Elapsed shows how long something took: "2 ms", "0.03 s", "3.4 s", "2m5s".
func Elapsed(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "<1 ms"
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%d ms", d/time.Millisecond)
	case d < time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return units.Duration(d.Round(time.Second))
}

// clean makes text of an outsider harmless on a terminal and in a line:
// control characters, also those that move a cursor or start a new line, become
// a dot.
func clean(s string) string {
	harmless := func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' {
			return '.'
		}
		return r
	}
	return strings.Map(harmless, s)
}
