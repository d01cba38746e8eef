package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/filter"
	"github.com/whorl-net/whorl/internal/log"
	"github.com/whorl-net/whorl/internal/planted"
	"github.com/whorl-net/whorl/internal/wire"
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
	// forgotten is the number of fingerprints a forget made new again.
	forgotten int
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
	names    *names
	counters *counters
	pending  completions
	origins  map[originKey]tracker.Origin
	batches  *batchPool
	// knowledge forgets; nil knows nothing.
	knowledge *knowledge
	// keeps says that applied records stay in the log: checkpoints trim it.
	keeps bool

	// mu is held while a record is given to the tracker, so that whoever has it
	// finds everything between two records. It guards position and origins.
	mu sync.Mutex
	// position is that of the newest record given to the tracker.
	position log.Position

	// done is the position up to which all is applied.
	done atomic.Uint64
	// acknowledged are packets of batches that were read from the log and count;
	// replaying are those of them that are not applied yet.
	acknowledged atomic.Uint64
	replaying    atomic.Int64
}

type originKey struct {
	network, probe string
	live           bool
}

// run applies what r reads until the log is closed and everything in it was
// given to the tracker, or until ctx ends.
func (a *applier) run(ctx context.Context, r log.Reader) error {
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
	a.mu.Lock()
	defer a.mu.Unlock()
	a.position = r.Position
	t, _ := r.Note.(*ticket)
	switch r.Kind {
	case log.KindBatch:
		return a.applyBatch(ctx, r, t)
	case log.KindTick:
		c := a.begin(r, t, &applied{})
		return a.tracker.Tick(ctx, entryOf(r), func() { a.pending.end(c) })
	case log.KindFlush:
		return a.applyFlush(ctx, r, t)
	case log.KindForget:
		return a.applyForget(ctx, r, t)
	case log.KindClose:
		a.sessions.close(keyOf(r.Session))
	}
	a.skip(r, t, applied{})
	return nil
}

// entryOf returns the record's place in the log, as the tracker wants it.
func entryOf(r *log.Record) tracker.Entry {
	if planted.WallClockInApply {
		return tracker.Entry{Position: uint64(r.Position), LogTime: time.Now().UnixNano()}
	}
	return tracker.Entry{Position: uint64(r.Position), LogTime: r.LogTime}
}

// skip completes a record that does not reach the tracker, behind those that do.
func (a *applier) skip(r *log.Record, t *ticket, result applied) {
	c := a.begin(r, t, &result)
	a.pending.end(c)
}

// begin queues what is to happen once r is applied: unless checkpoints do, it
// is let go of in the log, and whoever waits for it is told.
func (a *applier) begin(r *log.Record, t *ticket, result *applied) *completion {
	position := r.Position
	c := &completion{finish: func() {
		a.replaying.Add(-int64(result.packets))
		a.done.Store(uint64(position))
		if !a.keeps || planted.TrimBeforeCheckpoint {
			// A memory log cannot fail to trim what it handed out.
			_ = a.log.Trim(position)
		}
		if t != nil {
			t.applied(*result)
		}
	}}
	a.pending.begin(c)
	return c
}

func (a *applier) applyBatch(ctx context.Context, r *log.Record, t *ticket) error {
	b, err := a.decoded(r)
	if err != nil {
		return err
	}
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
	a.acknowledged.Add(result.packets)
	a.replaying.Add(int64(result.packets))
	lost := uint64(0)
	if b.Lost != nil {
		lost = b.Lost.Packets
	}
	a.sessions.count(keyOf(r.Session), result.packets, lost, r.LogTime)
	c := a.begin(r, t, result)
	done := func() {
		a.batches.put(b)
		a.pending.end(c)
	}
	err = a.tracker.Submit(ctx, entryOf(r), origin, b, done)
	if errors.Is(err, tracker.ErrBatch) {
		// The door lets nothing through that the tracker refuses; if the two ever
		// differ, one batch is lost and counted, not the collector.
		a.counters.batchesInvalid.Add(1)
		a.acknowledged.Add(-result.packets)
		a.replaying.Add(-int64(result.packets))
		a.sessions.count(keyOf(r.Session), -result.packets, 0, r.LogTime)
		*result = applied{}
		done()
		return nil
	}
	return err
}

// decoded returns the batch of a record: the one that was decoded at the door,
// or that of its bytes when the record comes from an earlier life.
func (a *applier) decoded(r *log.Record) (*flow.Batch, error) {
	if r.Batch != nil {
		return r.Batch, nil
	}
	b := a.batches.get()
	if err := wire.DecodeBatch(r.Data, b); err != nil {
		return nil, err
	}
	return b, nil
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
	return a.sessions.admit(keyOf(s), first, last) == verdictApply || planted.NoDedupe
}

// sequences returns the numbers a batch takes in its session.
func sequences(b *flow.Batch) (first, last uint64) {
	if b.Lost != nil {
		return b.Lost.FirstSequence, b.Lost.LastSequence
	}
	return b.Sequence, b.Sequence
}

// origin interns the names of a session once. Names were admitted before, so
// the tracker has room for them; those of an earlier life are admitted here.
func (a *applier) origin(s log.Session) (tracker.Origin, error) {
	key := originKey{network: s.Network, probe: s.Probe, live: s.Live}
	if o, ok := a.origins[key]; ok {
		return o, nil
	}
	if err := a.names.admit(s.Network, s.Probe); err != nil {
		return tracker.Origin{}, err
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
	return a.tracker.Flush(ctx, entryOf(r), req, func(n int) {
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
	f, err := compileFilter(&req, filter.Source{Now: logTime, Replay: true})
	if err != nil {
		return nil, fmt.Errorf("flush request: %w", err)
	}
	return f, nil
}

// between calls f while nothing is given to the tracker, with the position of
// the newest record that was.
func (a *applier) between(f func(position log.Position) error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return f(a.position)
}

// save returns the head of a checkpoint and the position it is of.
func (a *applier) save() ([]byte, log.Position) {
	a.mu.Lock()
	defer a.mu.Unlock()
	h := &headState{
		counters: a.counters.save(), acknowledged: a.acknowledged.Load(), tracker: a.tracker.SaveHead(nil),
	}
	h.sessions, h.pushes = a.sessions.save()
	for o := range a.origins {
		h.origins = append(h.origins, o)
	}
	return h.append(nil), a.position
}

// restore sets everything as it was when data was saved, at position. The
// tracker must not run yet.
func (a *applier) restore(data []byte, position log.Position) error {
	h, err := parseHead(data)
	if err != nil {
		return err
	}
	if err := a.tracker.RestoreHead(h.tracker); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, o := range h.origins {
		if _, err := a.origin(log.Session{Network: o.network, Probe: o.probe, Live: o.live}); err != nil {
			return err
		}
	}
	a.sessions.restore(h.sessions, h.pushes)
	a.counters.restore(h.counters)
	a.acknowledged.Store(h.acknowledged)
	a.position = position
	a.done.Store(uint64(position))
	return nil
}
