package hunt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/whorl-net/whorl/internal/enrich"
	"github.com/whorl-net/whorl/internal/feed"
	"github.com/whorl-net/whorl/tracker"
)

// Defaults and limits of a Hunter.
const (
	// DefaultMaxDiscoveries bounds what one hunt announces: an entry that names
	// half of all connections must not push everything else out of the feed.
	DefaultMaxDiscoveries = 10_000
	// DefaultShare is the share of one processor that a hunt takes, in percent.
	DefaultShare = 2
	// pageConnections and pageBytes bound what is copied or read between two
	// rests.
	pageConnections = 256
	pageBytes       = 256 << 10
)

// Live is the table of connections: a *tracker.Tracker.
type Live interface {
	Count() tracker.Totals
	Search(q tracker.Query, c tracker.Cursor) *tracker.Search
	GetUID(u tracker.UID, d tracker.Detail, into *tracker.Snapshot) bool
}

// Config describes a Hunter. Live and Journal are required.
type Config struct {
	Live    Live
	Journal *feed.Journal
	// Settle blocks until every connection that has left Live by the time of the
	// call is in Journal, or returns the cause of ctx's end. Nil is for those
	// where that is always so.
	Settle func(ctx context.Context) error
	// Condemns says which of matches, those of c, best first, condemns it and how
	// severe that is; false: none does, or all are allowed. It is asked about what
	// the new tables say and about what the old ones said. Nil: the first bad one
	// does, with severity high.
	Condemns func(c *tracker.Snapshot, matches []tracker.TableMatch) (best int, s tracker.Severity, ok bool)
	// Done is called, if not nil, on Run's goroutine at the end of each hunt;
	// err is nil, or why it ended early.
	Done func(r Result, err error)
	// MaxDiscoveries bounds what one hunt announces; 0 is
	// DefaultMaxDiscoveries. What is found beyond is counted.
	MaxDiscoveries int
	// Share is the share of one processor that a hunt takes, 1 to 100 percent; 0
	// is DefaultShare.
	Share int
	// Now is the clock of discoveries, in Unix nanoseconds; nil is the system's.
	Now func() int64
}

// Result is what a hunt came to.
type Result struct {
	// Entries is how many new entries were hunted for.
	Entries int
	// Live is how many connections the table had when the hunt began, Held how
	// many evictions of the feed were looked at.
	Live, Held uint64
	// Lost evictions left the feed before the hunt got to them.
	Lost uint64
	// Allowed connections match nothing but entries that the allowlist names.
	Allowed uint64
	// Found connections match others; Announced is how many of them are in the feed as
	// discoveries: fewer when MaxDiscoveries was reached.
	Found, Announced uint64
}

// Hunter runs hunts. Make one with New.
type Hunter struct {
	cfg  Config
	wake chan struct{} // has room for one

	mu      sync.Mutex // guards what follows
	pending *enrich.Change
	running bool
	total   Result
	hunts   uint64
}

// New makes a Hunter. It does nothing until Run.
func New(cfg Config) (*Hunter, error) {
	switch {
	case cfg.Live == nil || cfg.Journal == nil:
		return nil, errors.New("hunt: want live connections and a journal")
	case cfg.MaxDiscoveries < 0:
		return nil, fmt.Errorf("hunt: at most %d discoveries make no sense", cfg.MaxDiscoveries)
	case cfg.Share < 0 || cfg.Share > 100:
		return nil, fmt.Errorf("hunt: a share of %d %% makes no sense", cfg.Share)
	}
	if cfg.MaxDiscoveries == 0 {
		cfg.MaxDiscoveries = DefaultMaxDiscoveries
	}
	if cfg.Share == 0 {
		cfg.Share = DefaultShare
	}
	if cfg.Condemns == nil {
		cfg.Condemns = firstBad
	}
	if cfg.Now == nil {
		cfg.Now = func() int64 { return time.Now().UnixNano() }
	}
	return &Hunter{cfg: cfg, wake: make(chan struct{}, 1)}, nil
}

// firstBad is Config.Condemns unless there is another.
func firstBad(_ *tracker.Snapshot, matches []tracker.TableMatch) (int, tracker.Severity, bool) {
	i := slices.IndexFunc(matches, func(m tracker.TableMatch) bool { return m.Bad })
	return i, tracker.SeverityHigh, i >= 0
}

// anomaly is what a discovery is reported as, but for its time and evidence.
func anomaly(m *tracker.TableMatch, s tracker.Severity) tracker.Anomaly {
	name := m.App
	if name == "" {
		name = "something known to be bad"
	}
	return tracker.Anomaly{
		Rule: "known-bad", Severity: s,
		Description: fmt.Sprintf("shows what %s is known for (entry %s of %s, added since)", name, m.Entry, m.Source),
	}
}

// Hunt asks for a hunt after what a change of the tables added. It does not
// block. The tables of c.New must be in force already, so that connections that
// leave from now on are judged by them. While a hunt runs, one more waits, and
// further changes are added to that one.
func (h *Hunter) Hunt(c enrich.Change) {
	if len(c.NewBad) == 0 {
		return
	}
	h.mu.Lock()
	if h.pending != nil {
		c = enrich.Compare(h.pending.Old, c.New)
	}
	h.pending = &c
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default: // Run knows
	}
}

// Run runs hunts until ctx ends, and returns the cause. A hunt under way is
// given up. Call it once.
func (h *Hunter) Run(ctx context.Context) error {
	for {
		select {
		case <-h.wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		h.mu.Lock()
		c := h.pending
		h.pending = nil
		h.running = c != nil
		h.mu.Unlock()
		if c == nil {
			continue
		}
		r, err := h.hunt(ctx, *c)
		h.mu.Lock()
		h.running = false
		h.mu.Unlock()
		if h.cfg.Done != nil {
			h.cfg.Done(r, err)
		}
	}
}

// Stats are counts of a Hunter at one moment.
type Stats struct {
	// Running says that a hunt is under way.
	Running bool
	// Hunts that came to their end.
	Hunts uint64
	// Total is the sum of all hunts, the one under way included.
	Total Result
}

// Stats returns the counts of this moment.
func (h *Hunter) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Stats{Running: h.running, Hunts: h.hunts, Total: h.total}
}
