package service

import (
	"sync/atomic"

	"github.com/whorl-net/whorl/ja4"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// counters say what the collector did not take or could not deliver. Every
// place that drops something adds here; GetStatus.drops shows all of it.
type counters struct {
	batchesInvalid    atomic.Uint64 // malformed: skipped for good
	batchesTooLarge   atomic.Uint64 // beyond maxBatchBytes: skipped for good
	batchesOutOfOrder atomic.Uint64 // a sequence was skipped: asked for again
	batchesMissing    atomic.Uint64 // the probe no longer had them and had no Lost record
	streamsBroken     atomic.Uint64 // ended because of an unreadable message

	probesRefused      atomic.Uint64 // beyond MaxProbes, or the id is taken
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

// drops lists what is not zero, in a fixed order.
func (c *counters) drops() []*whorlv1.DropCounter {
	var out []*whorlv1.DropCounter
	add := func(where string, n uint64) {
		if n > 0 {
			out = append(out, &whorlv1.DropCounter{Where: where, Count: n})
		}
	}
	add("ingest.batches_invalid", c.batchesInvalid.Load())
	add("ingest.batches_too_large", c.batchesTooLarge.Load())
	add("ingest.batches_out_of_order", c.batchesOutOfOrder.Load())
	add("ingest.batches_missing", c.batchesMissing.Load())
	add("ingest.streams_broken", c.streamsBroken.Load())
	add("ingest.probes_refused", c.probesRefused.Load())
	for i, r := range lostReasons {
		add("probe.packets_lost."+r, c.lostPackets[i].Load())
	}
	for t := ja4.TypeJA4; t < ja4.NumTypes; t++ {
		add("ingest.ja4plus_refused."+t.String(), c.fingerprints[t].Load())
	}
	add("watch.subscribers_refused", c.subscribersRefused.Load())
	add("watch.readers_stalled", c.readersStalled.Load())
	add("watch.events_lost", c.eventsLost.Load())
	add("feed.events_after_close", c.eventsLate.Load())
	add("connections.histories_thinned", c.historiesThinned.Load())
	add("calls.panics", c.panics.Load())
	add("calls.internal_errors", c.internalErrors.Load())
	return out
}
