package service

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/filter"
	"github.com/whorl-net/whorl/internal/log"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"github.com/whorl-net/whorl/tracker"
)

// errStopping says that the collector ends before something could be done.
var errStopping = errors.New("collector is stopping")

// ticket rides on a log record as its Note: whom to tell when the record is
// applied. Its funcs are called once, in log order, and must be short. duplicate
// says that the record changed nothing because an equal one came before.
type ticket struct {
	applied func(result applied)
}

// applied is what came of a record.
type applied struct {
	duplicate bool
	// evicted is the number of connections a flush evicted.
	evicted int
	// packets and bytes are those of a batch that was counted.
	packets, bytes uint64
}

// applier reads the log and applies it, in order: the only caller of the
// tracker's Submit, Tick and Flush, and the only one that changes the session
// table. It reads no clock and no random number.
type applier struct {
	log      log.Log
	tracker  *tracker.Tracker
	sessions *sessions
	counters *counters
	pending  completions
	origins  map[originKey]tracker.Origin
	batches  *batchPool
}

type originKey struct {
	network, probe string
	live           bool
}

// run applies until the log is closed and everything in it was given to the
// tracker, or until ctx ends.
func (a *applier) run(ctx context.Context) error {
	r, err := a.log.Reader(0)
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	defer r.Close()
	for {
		records, err := r.Next(ctx)
		if errors.Is(err, log.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		for i := range records {
			if err := a.apply(ctx, &records[i]); err != nil {
				return fmt.Errorf("apply log record %d, a %v: %w", records[i].Position, records[i].Kind, err)
			}
		}
	}
}

func (a *applier) apply(ctx context.Context, r *log.Record) error {
	t, _ := r.Note.(*ticket)
	switch r.Kind {
	case log.KindBatch:
		return a.applyBatch(ctx, r, t)
	case log.KindTick:
		c := a.begin(r, t, &applied{})
		return a.tracker.Tick(ctx, r.LogTime, func() { a.pending.end(c) })
	case log.KindFlush:
		return a.applyFlush(ctx, r, t)
	case log.KindClose:
		a.sessions.close(keyOf(r.Session))
	}
	a.skip(r, t, applied{})
	return nil
}

// skip completes a record that does not reach the tracker, behind those that do.
func (a *applier) skip(r *log.Record, t *ticket, result applied) {
	c := a.begin(r, t, &result)
	a.pending.end(c)
}

// begin queues what is to happen once r is applied: its memory in the log is
// let go of, and whoever waits for it is told.
func (a *applier) begin(r *log.Record, t *ticket, result *applied) *completion {
	position := r.Position
	c := &completion{finish: func() {
		// A memory log cannot fail to trim what it handed out.
		_ = a.log.Trim(position)
		if t != nil {
			t.applied(*result)
		}
	}}
	a.pending.begin(c)
	return c
}

func (a *applier) applyBatch(ctx context.Context, r *log.Record, t *ticket) error {
	b := r.Batch
	if !a.isNew(r.Session, b) {
		a.batches.put(b)
		a.skip(r, t, applied{duplicate: true})
		return nil
	}
	if b.Lost != nil {
		a.counters.lost(b.Lost.Reason, b.Lost.Packets)
	}
	origin, err := a.origin(r.Session)
	if err != nil {
		return err
	}
	result := &applied{}
	result.packets, result.bytes = b.Packets()
	c := a.begin(r, t, result)
	done := func() {
		a.batches.put(b)
		a.pending.end(c)
	}
	err = a.tracker.Submit(ctx, r.LogTime, origin, b, done)
	if errors.Is(err, tracker.ErrBatch) {
		// The door lets nothing through that the tracker refuses; if the two ever
		// differ, one batch is lost and counted, not the collector.
		a.counters.batchesInvalid.Add(1)
		*result = applied{}
		done()
		return nil
	}
	return err
}

// isNew decides whether a batch counts. Sequence 0 marks a push, whose session
// id is its idempotency key.
func (a *applier) isNew(s log.Session, b *flow.Batch) bool {
	if b.Sequence == 0 {
		return a.sessions.push(s.ID)
	}
	first, last := sequences(b)
	// Whoever appended the batch refused gaps, so a gap here is a duplicate
	// of a log that was cut: never applied twice, never out of order.
	return a.sessions.admit(keyOf(s), first, last) == verdictApply
}

// sequences returns the numbers a batch takes in its session.
func sequences(b *flow.Batch) (first, last uint64) {
	if b.Lost != nil {
		return b.Lost.FirstSequence, b.Lost.LastSequence
	}
	return b.Sequence, b.Sequence
}

// origin interns the names of a session once. Names were admitted before, so
// the tracker has room for them.
func (a *applier) origin(s log.Session) (tracker.Origin, error) {
	key := originKey{network: s.Network, probe: s.Probe, live: s.Live}
	if o, ok := a.origins[key]; ok {
		return o, nil
	}
	o, err := a.tracker.Origin(s.Network, s.Probe, s.Live)
	if err != nil {
		return o, err
	}
	a.origins[key] = o
	return o, nil
}

// applyFlush evicts what the record says: a filter in Data, a session's network
// and probe, or both; with neither, everything.
func (a *applier) applyFlush(ctx context.Context, r *log.Record, t *ticket) error {
	req := tracker.FlushRequest{Network: r.Session.Network, Probe: r.Session.Probe}
	if len(r.Data) > 0 {
		f, err := flushFilter(r.Data, r.LogTime)
		if err != nil {
			return err
		}
		req.Match, req.Detail = f.Match, f.Detail()
	}
	result := &applied{}
	c := a.begin(r, t, result)
	return a.tracker.Flush(ctx, r.LogTime, req, func(n int) {
		result.evicted = n
		a.pending.end(c)
	})
}

// flushFilter compiles the filters of an encoded FlushConnectionsRequest. It
// was compiled before it was appended, by the same rules.
func flushFilter(data []byte, logTime int64) (*filter.Filter, error) {
	var req whorlv1.FlushConnectionsRequest
	if err := proto.Unmarshal(data, &req); err != nil {
		return nil, fmt.Errorf("flush request: %w", err)
	}
	f, err := compileFilter(&req, logTime, false)
	if err != nil {
		return nil, fmt.Errorf("flush request: %w", err)
	}
	return f, nil
}
