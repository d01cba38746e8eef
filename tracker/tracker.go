package tracker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/whorl-net/whorl/flow"
)

// ErrStopped is returned after Run has ended.
var ErrStopped = errors.New("tracker has stopped")

// ErrBatch is wrapped by the errors of Submit that say what is malformed in a
// batch. Nothing of such a batch was applied.
var ErrBatch = errors.New("malformed batch")

// ErrFull is wrapped by the errors of Origin when there is no room for a label.
var ErrFull = errors.New("no room for another label")

// Tracker is the table. Submit, Tick, Flush, Observe and Origin are for one
// caller at a time, who follows the log; everything else may be called from
// any goroutine at any time, also before and after Run.
type Tracker struct {
	cfg    Config
	shards []*shard
	queues []chan *job // one for each worker
	names  atomic.Pointer[names]
	labels labels
	ending ending
	jobs   sync.Pool

	started atomic.Bool
	stopped chan struct{} // closed when Run ends

	// What follows belongs to the goroutine that submits.

	clocks   []netClock // by network
	logTime  int64      // the greatest so far
	to       []int      // scratch, as all that follows
	unsorted []keyIn
	shardAt  []uint16 // of each flow
	place    []uint32 // of each flow in job.flows<<1, plus 1 if it was turned
}

// New returns a Tracker that starts no goroutine: call Run.
func New(cfg Config) (*Tracker, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	t := &Tracker{
		cfg: cfg, stopped: make(chan struct{}),
		clocks: make([]netClock, 1),
		labels: labels{
			networks: map[string]uint16{flow.DefaultNetwork: 0}, probes: map[string]uint16{"": 0},
			pairs: map[pair]uint16{{}: 0},
		},
	}
	t.names.Store(&names{networks: []string{flow.DefaultNetwork}, probes: []string{""}, pairs: []pair{{}}})
	t.jobs.New = func() any { return new(job) }
	n := int64(cfg.Shards)
	share := cfg.MaxMemoryBytes / n
	most := int(connectionsIn(share / 2))
	for i := range cfg.Shards {
		live := cfg.MaxConnections / cfg.Shards
		if i < cfg.MaxConnections%cfg.Shards {
			live++
		}
		t.shards = append(t.shards, newShard(i, &t.cfg, min(live, most), share))
	}
	for range cfg.Workers {
		t.queues = append(t.queues, make(chan *job, cfg.QueueBatches))
	}
	return t, nil
}

// Run applies what was submitted until ctx ends, then waits for what is being
// applied, not for what is queued: that is in the log. It returns nil, once all
// its goroutines have ended. It can be called once.
func (t *Tracker) Run(ctx context.Context) error {
	if !t.started.CompareAndSwap(false, true) {
		return errors.New("tracker runs, or has run, already")
	}
	defer close(t.stopped)
	var wg sync.WaitGroup
	for i := range t.queues {
		wg.Go(func() { t.work(ctx, i) })
	}
	wg.Wait()
	return nil
}

// Submit routes b to the shards that own its connections. It returns when each
// worker concerned has accepted its part, not when it has been applied; then
// done, if not nil, is called once by a worker, after the evictions that b led
// to. The tracker reads b until done is called: do not change or reuse it
// before. An empty batch is fine.
//
// logTime is when b entered the log, in Unix nanoseconds; a smaller one than
// before counts as the greatest so far.
//
// Submit blocks while a worker's queue is full. If ctx ends first it returns
// the cause; parts already accepted are applied, done is not called, and the
// table is no longer that of the log. A malformed b is refused whole with
// ErrBatch. After Run has ended it returns ErrStopped.
func (t *Tracker) Submit(ctx context.Context, logTime int64, o Origin, b *flow.Batch, done func()) error {
	if err := checkBatch(b); err != nil {
		return err
	}
	j := t.newJob(jobBatch, logTime)
	if int(o.pair) >= len(j.names.pairs) {
		return errors.New("origin is of another tracker")
	}
	j.done = done
	t.route(j, t.logTime, o, b)
	return t.send(ctx, j)
}

// Tick says that the log has reached logTime, and evicts all that has expired.
// It blocks and fails as Submit does.
func (t *Tracker) Tick(ctx context.Context, logTime int64, done func()) error {
	j := t.newJob(jobTick, logTime)
	j.done = done
	t.readClocks(j)
	return t.send(ctx, j)
}

// FlushRequest says which connections Flush evicts: those for which each set
// field holds. The zero FlushRequest means all.
type FlushRequest struct {
	// Network and Probe are labels; empty means any. A connection that several
	// probes saw belongs to each of them.
	Network, Probe string
	// Match, if not nil, is asked about each connection left, copied as Detail
	// says and enriched; it is called by workers, concurrently. It must depend
	// on s alone, or a replay of the log would give another result, and must
	// not keep s.
	Match  func(s *Snapshot) bool
	Detail Detail
}

// Flush evicts what has expired, then what r describes, with CauseFlush. done,
// if not nil, is called once with the number of the latter. It blocks and fails
// as Submit does.
func (t *Tracker) Flush(ctx context.Context, logTime int64, r FlushRequest, done func(n int)) error {
	j := t.newJob(jobFlush, logTime)
	j.doneN = done
	j.flush = r
	j.flushNetwork, j.flushProbe = anyLabel, anyLabel
	if r.Network != "" {
		j.flushNetwork = labelNumber(t.labels.network(r.Network))
	}
	if r.Probe != "" {
		n, ok := t.labels.probes[r.Probe]
		j.flushProbe = labelNumber(n, ok)
	}
	t.readClocks(j)
	return t.send(ctx, j)
}

// anyLabel stands for all networks or probes, noLabel for one never heard of.
const (
	anyLabel = -1
	noLabel  = -2
)

func labelNumber(n uint16, known bool) int {
	if !known {
		return noLabel
	}
	return int(n)
}

// Packet is one packet for Observe.
type Packet struct {
	// Tuple goes from the sender to the receiver.
	Tuple flow.Tuple
	// Time is the capture time in Unix nanoseconds.
	Time int64
	// WireLength is in bytes, link header included.
	WireLength uint32
	// TCPFlags is 0 when the protocol is not TCP.
	TCPFlags uint8
}

// Observe submits one packet, for programs without batches. Its log time is
// the packet's time. It blocks and fails as Submit does.
func (t *Tracker) Observe(ctx context.Context, o Origin, p Packet) error {
	b := observed.Get().(*flow.Batch)
	b.Reset()
	b.AddPacket(b.AddFlow(p.Tuple), false, p.Time, p.WireLength, p.TCPFlags)
	return t.Submit(ctx, p.Time, o, b, func() { observed.Put(b) })
}

// observed keeps the batches of Observe.
var observed = sync.Pool{New: func() any { return new(flow.Batch) }}

// newJob returns a job for an entry at logTime.
func (t *Tracker) newJob(kind jobKind, logTime int64) *job {
	t.logTime = max(t.logTime, min(logTime, maxTime))
	j := t.jobs.Get().(*job)
	j.t, j.kind, j.names = t, kind, t.names.Load()
	return j
}

// readClocks moves all clocks on to now and gives them to j.
func (t *Tracker) readClocks(j *job) {
	j.clocks = resize(j.clocks, len(t.clocks))
	for i := range t.clocks {
		j.clocks[i] = t.clocks[i].reach(t.logTime)
	}
}

// send gives j to each worker concerned, at least to one, so that its done is
// called in turn.
func (t *Tracker) send(ctx context.Context, j *job) error {
	to := t.recipients(j)
	j.pending.Store(int32(len(to)))
	t.ending.add(j)
	for i, w := range to {
		if err := t.enqueue(ctx, t.queues[w], j); err != nil {
			// From here on this is not the log's table: nobody is told of j.
			j.done, j.doneN = nil, nil
			if j.pending.Add(int32(i-len(to))) == 0 {
				t.ending.finish(j, &t.jobs)
			}
			return err
		}
	}
	return nil
}

// recipients returns the workers that own a shard concerned by j. The result is
// valid until the next call.
func (t *Tracker) recipients(j *job) []int {
	t.to = t.to[:0]
	for w := range t.queues {
		if t.concerned(j, w) {
			t.to = append(t.to, w)
		}
	}
	if len(t.to) == 0 {
		t.to = append(t.to, 0)
	}
	return t.to
}

// enqueue waits for a place in q.
func (t *Tracker) enqueue(ctx context.Context, q chan *job, j *job) error {
	select {
	case <-t.stopped: // select would choose at random
		return ErrStopped
	default:
	}
	select {
	case q <- j:
		return nil
	case <-t.stopped:
		return ErrStopped
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
