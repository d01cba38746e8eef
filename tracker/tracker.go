package tracker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
)

// ErrStopped is returned after Run has ended.
var ErrStopped = errors.New("tracker has stopped")

// ErrBatch is wrapped by the errors of Submit that say what is malformed in a
// batch. Nothing of such a batch was applied.
var ErrBatch = errors.New("malformed batch")

// ErrFull is wrapped by the errors of Origin when there is no room for a label.
var ErrFull = errors.New("no room for another label")

// Tracker is the table. Submit, Tick, Flush, Observe, Origin, Sync, SaveHead,
// SaveShard and Position are for one caller at a time, who follows the log;
// everything else may be called from any goroutine at any time, also before and
// after Run, but for queries while something is restored.
type Tracker struct {
	cfg     Config
	shards  []*shard
	workers []*worker
	names   atomic.Pointer[names]
	labels  labels
	secret  secret // of the indexes; of this process, decides nothing that can be seen
	jobs    sync.Pool
	images  images
	// eventTypes is a ja4.TypeSet. It only grows.
	eventTypes atomic.Uint32
	// restoring guards the labels while shards are restored.
	restoring sync.Mutex
	// underWay holds a token for each job from Submit to the end of its done, so
	// that no queue behind it is ever full; submitted are the jobs in order.
	underWay  chan struct{}
	submitted chan *job

	started atomic.Bool
	stopped chan struct{} // closed when Run ends

	// What follows belongs to the goroutine that submits.

	clocks   []netClock // by network
	logTime  int64      // the greatest so far
	position uint64     // the newest
	// headNames is what the newest SaveHead knew.
	headNames nameCounts
}

// New returns a Tracker that starts no goroutine: call Run.
func New(cfg Config) (*Tracker, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	t := &Tracker{
		cfg: cfg, stopped: make(chan struct{}),
		underWay: make(chan struct{}, cfg.QueueBatches), submitted: make(chan *job, cfg.QueueBatches),
		clocks: make([]netClock, 1),
		labels: labels{
			networks: map[string]uint16{flow.DefaultNetwork: 0}, probes: map[string]uint16{"": 0},
			pairs: map[pair]uint16{{}: 0},
		},
	}
	t.names.Store(&names{networks: []string{flow.DefaultNetwork}, probes: []string{""}, pairs: []pair{{}}})
	t.headNames = t.names.Load().counts()
	t.secret = newSecret(rand.Uint64())
	t.jobs.New = func() any { return new(job) }
	t.AddEventTypes(cfg.EventTypes)
	n := int64(cfg.Shards)
	share := cfg.MaxMemoryBytes / n
	most := int(connectionsIn(share / 2))
	for i := range cfg.Shards {
		live := cfg.MaxConnections / cfg.Shards
		if i < cfg.MaxConnections%cfg.Shards {
			live++
		}
		t.shards = append(t.shards, newShard(i, &t.cfg, &t.secret, min(live, most), share))
	}
	for i := range cfg.Workers {
		w := newWorker(t, uint16(i))
		w.shards = t.shards[i*cfg.Shards/cfg.Workers : (i+1)*cfg.Shards/cfg.Workers]
		for _, s := range w.shards {
			s.worker = w
		}
		t.workers = append(t.workers, w)
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
	for _, w := range t.workers {
		wg.Go(func() { w.run(ctx) })
	}
	wg.Go(func() { newMerger(t).run(ctx) })
	wg.Wait()
	return nil
}

// Submit gives b to the shards that own its connections. It returns when b has
// been queued, not when it has been applied; then done, if not nil, is called
// once by the merging goroutine, after OnEvict and OnOutput have had all that b
// led to. The tracker reads b until done is called: do not change or reuse it
// before. An empty batch is fine. Like OnOutput, done must not call Submit.
//
// Submit blocks while Config.QueueBatches entries are under way. If ctx ends
// first it returns the cause; a malformed b is refused with ErrBatch; after Run
// has ended it returns ErrStopped; an e that does not come behind the entry
// before it is an error. In each case nothing was changed and done is not called.
func (t *Tracker) Submit(ctx context.Context, e Entry, o Origin, b *flow.Batch, done func()) error {
	if err := checkBatch(b); err != nil {
		return err
	}
	if int(o.pair) >= len(t.names.Load().pairs) {
		return errors.New("origin is of another tracker")
	}
	j, err := t.begin(ctx, jobBatch, e)
	if err != nil {
		return err
	}
	j.done = done
	t.route(j, t.logTime, o, b)
	t.send(j)
	return nil
}

// AddEventTypes makes fingerprints of more types Events, in all entries that are
// submitted from now on and perhaps in some before. It changes nothing else, and
// nothing takes a type out again, so who asks for a type before it matters sees all
// of it. It is safe for concurrent use.
func (t *Tracker) AddEventTypes(types ja4.TypeSet) { t.eventTypes.Or(uint32(types)) }

// Tick says that the log has reached e.LogTime, and evicts all that has expired.
// It blocks and fails as Submit does.
func (t *Tracker) Tick(ctx context.Context, e Entry, done func()) error {
	j, err := t.begin(ctx, jobTick, e)
	if err != nil {
		return err
	}
	j.done = done
	t.readClocks(j)
	t.send(j)
	return nil
}

// Sync calls done, by the merging goroutine, once all that was submitted before
// is applied and has had its OnOutput, and before those of what is submitted
// behind. It is no entry of the log. It blocks and fails as Submit does.
func (t *Tracker) Sync(ctx context.Context, done func()) error {
	if err := t.enter(ctx); err != nil {
		return err
	}
	j := t.newJob(jobSync)
	j.done = done
	t.send(j)
	return nil
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
func (t *Tracker) Flush(ctx context.Context, e Entry, r FlushRequest, done func(n int)) error {
	j, err := t.begin(ctx, jobFlush, e)
	if err != nil {
		return err
	}
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
	t.send(j)
	return nil
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
	return t.Submit(ctx, Entry{LogTime: p.Time}, o, b, func() { observed.Put(b) })
}

// observed keeps the batches of Observe.
var observed = sync.Pool{New: func() any { return new(flow.Batch) }}

// begin waits for a place and returns a job for an entry of the log.
func (t *Tracker) begin(ctx context.Context, kind jobKind, e Entry) (*job, error) {
	if e.Position == 0 {
		e.Position = t.position + 1
	}
	if e.Position <= t.position {
		return nil, fmt.Errorf("entry %d of the log comes behind entry %d", e.Position, t.position)
	}
	if err := t.enter(ctx); err != nil {
		return nil, err
	}
	t.position = e.Position
	t.logTime = max(t.logTime, min(e.LogTime, maxTime))
	return t.newJob(kind), nil
}

// enter waits for a place for one job more.
func (t *Tracker) enter(ctx context.Context) error {
	select {
	case <-t.stopped: // select would choose at random
		return ErrStopped
	default:
	}
	select {
	case t.underWay <- struct{}{}:
		return nil
	case <-t.stopped:
		return ErrStopped
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// newJob returns a job for the newest entry.
func (t *Tracker) newJob(kind jobKind) *job {
	j := t.jobs.Get().(*job)
	j.t, j.kind, j.names = t, kind, t.names.Load()
	j.entry = Entry{Position: t.position, LogTime: t.logTime}
	j.eventTypes = ja4.TypeSet(t.eventTypes.Load())
	j.to = j.to[:0]
	return j
}

// readClocks moves all clocks on to now and gives them to j.
func (t *Tracker) readClocks(j *job) {
	j.clocks = resize(j.clocks, len(t.clocks))
	for i := range t.clocks {
		j.clocks[i] = t.clocks[i].reach(t.logTime)
	}
}

// send gives j to each worker concerned. Whoever entered finds room everywhere.
func (t *Tracker) send(j *job) {
	for i, w := range t.workers {
		if w.concerned(j) {
			j.to = append(j.to, i)
		}
	}
	t.submitted <- j
	for _, w := range j.to {
		t.workers[w].in <- j
	}
}

// concerned reports whether a shard of the worker has anything to do for j.
func (w *worker) concerned(j *job) bool {
	switch j.kind {
	case jobBatch:
		if len(j.t.workers) == 1 {
			return len(j.b.Flows) > 0
		}
		return len(j.flowAt[w.id]) > 0
	case jobTick, jobFlush:
		return true
	case jobSave:
		return j.t.shards[j.image.shard.id].worker == w
	}
	return false
}
