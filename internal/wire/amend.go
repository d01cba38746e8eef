package wire

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/whorl-net/whorl/tracker"
)

// AmendEviction appends body, which AppendEviction wrote, to dst, with is_new and
// anomalies added to its connection: what decoding it, adding them and encoding
// it again says, for a tenth of the price. It reports false, and appends nothing,
// when body says is_new or has anomalies already, so that somebody has to put
// them in order, or is no eviction.
func AmendEviction(dst, body []byte, isNew bool, anomalies []tracker.Anomaly) (amended []byte, ok bool) {
	for p := body; len(p) > 0; {
		f, rest, ok := nextField(p)
		if !ok {
			return dst, false
		}
		if !f.isBytes(evictionConnection) {
			p = rest
			continue
		}
		if !amendable(f.p) {
			return dst, false
		}
		start := len(body) - len(p)
		dst = append(dst, body[:start]...)
		dst, start = open(dst, evictionConnection, mediumRoom)
		dst = append(dst, f.p...)
		dst = appendBool(dst, connectionIsNew, isNew)
		for i := range anomalies {
			dst = appendAnomaly(dst, connectionAnomalies, &anomalies[i])
		}
		dst = finish(dst, start, mediumRoom)
		return append(dst, rest...), true
	}
	return dst, false
}

// amendable reports whether a connection has neither is_new nor anomalies.
func amendable(connection []byte) bool {
	for p := connection; len(p) > 0; {
		num, _, n := protowire.ConsumeField(p)
		if n < 0 || num == connectionIsNew || num == connectionAnomalies {
			return false
		}
		p = p[n:]
	}
	return true
}
