package numbered

import (
	"fmt"
	"strings"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
)

// Distinct is how many values of each type there are: few clients make most
// connections.
const Distinct = 1000

// Prints are the fingerprints of flows: three types, each with a raw form, about
// as long as real ones. They are made once, so that garbage is no part of what is
// measured.
type Prints [][]ja4.Event

// NewPrints makes those of all flows.
func NewPrints() Prints {
	all := make(Prints, Distinct)
	for n := range all {
		for _, typ := range []ja4.Type{ja4.TypeJA4, ja4.TypeJA4S, ja4.TypeJA4H} {
			value := fmt.Sprintf("%s_t13d1516h2_%012x_%012x", typ, n*7919, n*104729)
			all[n] = append(all[n], ja4.Event{Type: typ, Value: value, Raw: value + strings.Repeat(",002f,0035,009c", 10)})
		}
	}
	return all
}

// Of returns the fingerprints of flow n, one of each type; do not change them.
func (p Prints) Of(n int) []ja4.Event { return p[n%Distinct] }

// Add adds the fingerprints of flow n to the newest row of b.
func (p Prints) Add(b *flow.Batch, n int) {
	for _, e := range p.Of(n) {
		b.Fingerprints = append(b.Fingerprints, flow.Fingerprint{Flow: b.Flow[b.Rows()-1] >> 1, Row: uint32(b.Rows()), Event: e})
	}
}
