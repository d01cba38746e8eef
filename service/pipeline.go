package service

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/whorl-net/whorl/internal/feed"
	"github.com/whorl-net/whorl/internal/wire"
	"github.com/whorl-net/whorl/tracker"
)

// pipeline takes what the tracker puts out, in the order of the log, on the
// tracker's merging goroutine: evictions go into the feed, and the journal is
// told how much of the log is in it. What looks at connections across shards
// and keeps a state of its own belongs into take, in front of the feed.
type pipeline struct {
	journal   *feed.Journal
	counters  *counters
	knowledge *knowledge // nil knows nothing
	// ctx ends when the collector does: then nothing waits for the journal.
	ctx context.Context
	// failed says that an Output was not taken whole: none is any more.
	failed atomic.Bool
	events []feed.Event // memory of take
}

func newPipeline(j *feed.Journal, c *counters, k *knowledge) *pipeline {
	return &pipeline{journal: j, counters: c, knowledge: k, ctx: context.Background()}
}

// encode is the tracker's Encode: each eviction is encoded once for all
// subscribers.
func (p *pipeline) encode(dst []byte, e *tracker.Eviction) []byte {
	p.knowledge.evicted(e)
	return wire.AppendEviction(dst, e)
}

// take is the tracker's OnOutput. It blocks while the journal does.
func (p *pipeline) take(o *tracker.Output) {
	if p.failed.Load() {
		return
	}
	p.knowledge.take(o)
	if !p.append(o) {
		// What is not in the feed now comes again when the log is replayed.
		p.failed.Store(true)
		return
	}
	if o.Last {
		p.journal.Mark(o.Position)
	}
}

// append puts the evictions of o into the feed. false says that the collector
// ends.
func (p *pipeline) append(o *tracker.Output) bool {
	p.events = p.events[:0]
	for i := range o.Items {
		if d := o.Items[i].Departure; d != nil {
			p.events = append(p.events, feed.Event{Position: o.Position, Key: &d.Key, Network: d.Network, Body: d.Body})
		}
	}
	n, err := p.journal.AppendAll(p.ctx, o.LogTime, p.events)
	late := uint64(len(p.events) - n)
	clear(p.events) // they refer to the memory of o
	switch {
	case err == nil:
		return true
	case errors.Is(err, feed.ErrClosed): // the shutdown ran out of time
		p.counters.eventsLate.Add(late)
		return true
	default:
		return false
	}
}

// save returns the state of what looks at the output, and where the feed is, when
// all output up to position was taken: the newest record may have had none. It is
// for the merging goroutine, between two entries.
func (p *pipeline) save(position uint64) (state []byte, at feed.Place) {
	if !p.failed.Load() {
		p.journal.Mark(position)
	}
	return p.knowledge.save(nil), p.journal.Place()
}

// restore sets what save returned, and where the feed is known to have been. The
// tracker must not run yet.
func (p *pipeline) restore(state []byte, at feed.Place) error {
	if err := p.knowledge.restore(state); err != nil {
		return err
	}
	return p.journal.Resume(at)
}
