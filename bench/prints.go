package main

import (
	"fmt"
	"strings"

	"github.com/whorl-net/whorl/bench/traffic"
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
)

// prints are the fingerprints of a connection that has some: three types, each
// with a raw form.
var prints = []ja4.Type{ja4.TypeJA4, ja4.TypeJA4S, ja4.TypeJA4H}

// distinct is how many values of each type there are: few clients make most
// connections.
const distinct = 1000

// value and rawValue are those of connection n, about as long as real ones.
func value(typ ja4.Type, n int) string {
	return fmt.Sprintf("%s_t13d1516h2_%012x_%012x", typ, n%distinct*7919, n%distinct*104729)
}

func rawValue(typ ja4.Type, n int) string {
	return value(typ, n) + strings.Repeat(",002f,0035,009c", 10)
}

// addWithPrints adds a packet of flow n with its fingerprints.
func addWithPrints(b *flow.Batch, n int) {
	f := b.AddFlow(traffic.UDPFlow(n))
	b.AddPacket(f, false, traffic.Epoch, 100, 0)
	for _, typ := range prints {
		b.Fingerprints = append(b.Fingerprints, flow.Fingerprint{
			Flow: f, Row: uint32(b.Rows()), Event: ja4.Event{Type: typ, Value: value(typ, n), Raw: rawValue(typ, n)},
		})
	}
}
