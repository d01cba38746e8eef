package service

import (
	"sync/atomic"

	"github.com/whorl-net/whorl/ja4"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// counters say what the collector did not take or could not deliver. Every
// place that drops something adds here; GetStatus.drops shows all of it. With a
// data directory they outlive the process: those that the log decides exactly,
// the others as they were at the newest checkpoint.
type counters struct {
	batchesInvalid    atomic.Uint64 // malformed: skipped for good
	batchesTooLarge   atomic.Uint64 // beyond maxBatchBytes: skipped for good
	batchesOutOfOrder atomic.Uint64 // a sequence was skipped: asked for again
	batchesMissing    atomic.Uint64 // the probe no longer had them and had no Lost record
	streamsBroken     atomic.Uint64 // ended because of an unreadable message

	probesRefused      atomic.Uint64 // beyond MaxProbes, or the id is taken
	namesRefused       atomic.Uint64 // of a network or a probe, beyond what is told apart
	subscribersRefused atomic.Uint64 // beyond MaxSubscribers
	readersStalled     atomic.Uint64 // Watch streams ended because Send stood still
	eventsLost         atomic.Uint64 // evictions a reader did not get: sum of all gaps
	eventsLate         atomic.Uint64 // evictions after the feed was closed, in a shutdown out of time
	historiesThinned   atomic.Uint64 // connections shown or fed with a shortened history
	panics             atomic.Uint64
	internalErrors     atomic.Uint64 // calls that ended for a reason nobody expected

	lostPackets  [len(lostReasons)]atomic.Uint64 // by reason, as probes told
	fingerprints [ja4.NumTypes]atomic.Uint64     // refused by NoJA4Plus, by type
}

// lostReasons is the closed set of Lost.reason; anything else counts as other.
var lostReasons = [...]string{"other", "ring-full", "spool-full", "shutdown", "missing"}

func (c *counters) lost(reason string, packets uint64) {
	for i, r := range lostReasons {
		if r == reason {
			c.lostPackets[i].Add(packets)
			return
		}
	}
	c.lostPackets[0].Add(packets)
}

// namedCounter is a counter with its name in GetStatusResponse.drops.
type namedCounter struct {
	where string
	n     *atomic.Uint64
}

// all lists every counter, in a fixed order.
func (c *counters) all() []namedCounter {
	out := []namedCounter{
		{"ingest.batches_invalid", &c.batchesInvalid},
		{"ingest.batches_too_large", &c.batchesTooLarge},
		{"ingest.batches_out_of_order", &c.batchesOutOfOrder},
		{"ingest.batches_missing", &c.batchesMissing},
		{"ingest.streams_broken", &c.streamsBroken},
		{"ingest.probes_refused", &c.probesRefused},
		{"ingest.names_refused", &c.namesRefused},
	}
	for i, r := range lostReasons {
		out = append(out, namedCounter{"probe.packets_lost." + r, &c.lostPackets[i]})
	}
	for t := ja4.TypeJA4; t < ja4.NumTypes; t++ {
		out = append(out, namedCounter{"ingest.ja4plus_refused." + t.String(), &c.fingerprints[t]})
	}
	return append(out,
		namedCounter{"watch.subscribers_refused", &c.subscribersRefused},
		namedCounter{"watch.readers_stalled", &c.readersStalled},
		namedCounter{"watch.events_lost", &c.eventsLost},
		namedCounter{"feed.events_after_close", &c.eventsLate},
		namedCounter{"connections.histories_thinned", &c.historiesThinned},
		namedCounter{"calls.panics", &c.panics},
		namedCounter{"calls.internal_errors", &c.internalErrors},
	)
}

// drops lists what is not zero, in a fixed order.
func (c *counters) drops() []*whorlv1.DropCounter {
	var out []*whorlv1.DropCounter
	for _, v := range c.save() {
		out = append(out, &whorlv1.DropCounter{Where: v.where, Count: v.n})
	}
	return out
}

// save returns what is not zero, in a fixed order.
func (c *counters) save() []counterValue {
	var out []counterValue
	for _, v := range c.all() {
		if n := v.n.Load(); n > 0 {
			out = append(out, counterValue{where: v.where, n: n})
		}
	}
	return out
}

// restore sets what an earlier life has saved. Names that this program does not
// know are those of another version, and left out.
func (c *counters) restore(values []counterValue) {
	saved := make(map[string]uint64, len(values))
	for _, v := range values {
		saved[v.where] = v.n
	}
	for _, v := range c.all() {
		v.n.Store(saved[v.where])
	}
}
