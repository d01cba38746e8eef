package output

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Totals are what a probe says at its end.
type Totals struct {
	Packets, Bytes, Connections, Fingerprints, Undecodable, Lost uint64
	// Uncounted says that nobody counted connections: they are left out.
	Uncounted bool
	// Elapsed is wall time.
	Elapsed time.Duration
}

// Line is one line for people, such as
// "12 packets, 3,132 bytes, 1 connection, 10 fingerprints, 0 undecodable, 0 lost in 0.03 s".
// Without reporting nothing could be lost, and nothing is said of it.
func (t Totals) Line(reported bool) string {
	parts := []string{Plural(t.Packets, "packet"), Plural(t.Bytes, "byte")}
	if !t.Uncounted {
		parts = append(parts, Plural(t.Connections, "connection"))
	}
	parts = append(parts, Plural(t.Fingerprints, "fingerprint"), Number(t.Undecodable)+" undecodable")
	if reported {
		parts = append(parts, Number(t.Lost)+" lost")
	}
	return strings.Join(parts, ", ") + " in " + Elapsed(t.Elapsed)
}

// AppendJSON appends the totals as an object, seconds with a fraction.
func (t Totals) AppendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	for _, m := range []struct {
		name  string
		value uint64
	}{
		{"packets", t.Packets}, {"bytes", t.Bytes}, {"connections", t.Connections},
		{"fingerprints", t.Fingerprints}, {"undecodable", t.Undecodable}, {"lost", t.Lost},
	} {
		if m.name == "connections" && t.Uncounted {
			continue
		}
		dst = strconv.AppendUint(appendKey(dst, m.name), m.value, 10)
	}
	return fmt.Appendf(dst, `,"seconds":%.3f}`, t.Elapsed.Seconds())
}
