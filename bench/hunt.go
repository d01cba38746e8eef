package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whorl-net/whorl/bench/measure"
	"github.com/whorl-net/whorl/bench/numbered"
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/enrich"
	journal "github.com/whorl-net/whorl/internal/feed"
	"github.com/whorl-net/whorl/internal/hunt"
	"github.com/whorl-net/whorl/internal/wire"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

// Of so many connections one shows what is known to be bad only later.
const oneInBad = 1000

// Tables of before and after.
const (
	tablesBefore = "version: 1\nentries: []\n"
	tablesAfter  = "version: 1\nentries:\n- {id: planted, match: {ja4: t13d1516h2_0badc0de0bad_*}}\n"
)

// hunting is a table under load whose past is searched.
type hunting struct {
	*table
	feed    *journal.Journal
	tables  string
	enrich  *enrich.Enricher
	hunter  *hunt.Hunter
	found   chan hunt.Result
	submits sync.Mutex // one entry at a time
	packets atomic.Uint64
}

// newHunting makes a table with so many live connections and a feed that holds so
// many evictions.
func newHunting(dir string, live, held int) (h *hunting, stop func() error, err error) {
	h = &hunting{tables: filepath.Join(dir, "bad.yaml"), found: make(chan hunt.Result, 1)}
	if err := os.WriteFile(h.tables, []byte(tablesBefore), 0o600); err != nil {
		return nil, nil, err
	}
	if h.enrich, err = enrich.New(enrich.Config{KnownBad: []string{h.tables}}); err != nil {
		return nil, nil, err
	}
	if h.feed, err = journal.New(journal.Config{MaxBytes: 1 << 30, MaxAge: -1}); err != nil {
		return nil, nil, err
	}
	h.table, err = newTable(tracker.Config{
		MaxConnections: live + live/5, MaxMemoryBytes: 4 << 30, Enrich: h.enrich.Snapshot, Encode: wire.AppendEviction, OnOutput: h.take,
	})
	if err != nil {
		return nil, nil, err
	}
	h.hunter, err = hunt.New(hunt.Config{
		Live: h.Tracker, Journal: h.feed, Settle: h.settle, MaxDiscoveries: live,
		Done: func(r hunt.Result, _ error) { h.found <- r },
	})
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = h.hunter.Run(ctx) }) // ends with ctx only
	stop = func() error { cancel(); wg.Wait(); return h.table.stop() }
	err = errors.Join(h.fill(live, live+held), h.wait())
	if err == nil {
		done := make(chan struct{})
		req := tracker.FlushRequest{Match: func(s *tracker.Snapshot) bool { return s.DstPort == pastPort }, Detail: tracker.Bare}
		if err = h.Flush(ctx, tracker.Entry{LogTime: numbered.Epoch}, req, func(int) { close(done) }); err == nil {
			<-done
			err = errors.Join(h.fill(0, live), h.wait())
		}
	}
	if err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	return h, stop, nil
}

// pastPort is the server's port of connections that leave before it begins.
const pastPort = 8443

// fill opens connections, each with a fingerprint, one of a thousand with one that
// will be bad. From live on they are to leave.
func (h *hunting) fill(from, to int) error {
	past := from > 0
	for from < to {
		b := new(flow.Batch)
		for ; from < to && b.Rows() < numbered.BatchRows; from++ {
			of := numbered.UDPFlow(from)
			if past {
				of.DstPort = pastPort
			}
			value := fmt.Sprintf("t13d1516h2_%012x_02713d6af862", from%997)
			if from%oneInBad == 0 {
				value = fmt.Sprintf("t13d1516h2_0badc0de0bad_%012x", from%7)
			}
			f := b.AddFlow(of)
			b.AddPacket(f, false, numbered.Epoch, 100, 0)
			b.Fingerprints = append(b.Fingerprints, flow.Fingerprint{Flow: f, Row: uint32(b.Rows()), Event: ja4.Event{Type: ja4.TypeJA4, Value: value}})
		}
		if err := h.Submit(context.Background(), tracker.Entry{LogTime: numbered.Epoch}, tracker.Origin{}, b, nil); err != nil {
			return err
		}
	}
	return nil
}

// take is the tracker's OnOutput.
func (h *hunting) take(o *tracker.Output) {
	for i := range o.Items {
		if d := o.Items[i].Departure; d != nil {
			// The journal in memory takes all that is not too large.
			_, _ = h.feed.Append(context.Background(), o.LogTime, &journal.Event{Position: o.Position, Key: &d.Key, Network: d.Network, Body: d.Body})
		}
	}
}

func (h *hunting) settle(ctx context.Context) error {
	done := make(chan struct{})
	h.submits.Lock()
	err := h.Sync(ctx, func() { close(done) })
	h.submits.Unlock()
	if err == nil {
		<-done
	}
	return err
}

// load submits batches over and over until ctx ends.
func (h *hunting) load(ctx context.Context, batches []*flow.Batch) error {
	for i := 0; ctx.Err() == nil; i++ {
		b := batches[i%len(batches)]
		h.submits.Lock()
		err := h.Submit(ctx, tracker.Entry{LogTime: numbered.Epoch}, tracker.Origin{}, b, func() { h.packets.Add(numbered.BatchRows) })
		h.submits.Unlock()
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// search swaps the tables and waits until the past is searched.
func (h *hunting) search() (hunt.Result, error) {
	for _, text := range []string{tablesBefore, tablesAfter} {
		if err := os.WriteFile(h.tables, []byte(text), 0o600); err != nil {
			return hunt.Result{}, err
		}
		change, err := h.enrich.Reload(nil, nil)
		if err != nil {
			return hunt.Result{}, err
		}
		h.hunter.Hunt(change)
	}
	return <-h.found, nil
}

// leastHunts is how many hunts there are at least: what disturbs one slice is more
// than what a hunt takes.
const leastHunts = 8

// measureHunt shows what searching the past takes from ingest: slices with a hunt and
// such without follow one another in one process, each hunt beside the rest before
// and the rest after it.
func (b *bench) measureHunt() (err error) {
	live, held := b.packets, b.packets/10
	h, stop, err := newHunting(b.dir, live, held)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ignoreEnd(stop())) }()
	t := b.table("hunt", fmt.Sprintf("What is bad only now is searched among %s live connections and %s evictions that the feed holds", millions(live), millions(held)), []measure.Column{
		{Name: "packets/s", Spread: true, More: true}, {Name: "CPU", Unit: "ns", Spread: true}, {Name: "slower", Unit: "%", Spread: true},
		{Name: "from", Unit: "%"}, {Name: "to", Unit: "%"}, {Name: "more CPU", Unit: "%", Spread: true}, {Name: "took", Unit: "ms"}, {Name: "found"},
	}, "Packets of connections chosen at random, as fast as the table takes them; CPU of the process per packet. slower, more CPU: to the mean of the slices without a hunt before and after, equally long; from, to: within them the median of slower lies with 95 %. found: exactly those that were planted, or the run fails.")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- h.load(ctx, numbered.Updates(rand.New(rand.NewPCG(1, 2)), 100*numbered.BatchRows, live, 4))
	}()
	defer func() { cancel(); err = errors.Join(err, <-ended) }()
	planted := uint64((live+oneInBad-1)/oneInBad + (held+oneInBad-1)/oneInBad)
	search := func() error {
		r, err := h.search()
		if err == nil && (r.Found != planted || r.Announced != planted || r.Held < uint64(held) || r.Live != uint64(live)) {
			err = fmt.Errorf("a hunt found %+v, planted were %d", r, planted)
		}
		return err
	}
	// The first one warms up, and says how long a slice is.
	first, err := h.pace(search)
	if err != nil {
		return err
	}
	rest := func() error { time.Sleep(first.took); return nil }
	before, _ := h.pace(rest)
	var slower measure.Series
	for range max(b.rounds, leastHunts) {
		during, err := h.pace(search)
		if err != nil {
			return err
		}
		after, _ := h.pace(rest)
		perSecond, cpu := (before.perSecond+after.perSecond)/2, (before.cpu+after.cpu)/2
		slower = append(slower, 100*(1-during.perSecond/perSecond))
		t.Add("at rest", "packets/s", perSecond)
		t.Add("at rest", "CPU", cpu)
		t.Add("while a hunt runs", "packets/s", during.perSecond)
		t.Add("while a hunt runs", "CPU", during.cpu)
		t.Add("while a hunt runs", "slower", slower[len(slower)-1])
		t.Add("while a hunt runs", "more CPU", 100*(during.cpu/cpu-1))
		t.Add("while a hunt runs", "took", float64(during.took.Milliseconds()))
		t.Add("while a hunt runs", "found", float64(planted))
		before = after
	}
	from, to := medianWithin(slower)
	t.Add("while a hunt runs", "from", from)
	t.Add("while a hunt runs", "to", to)
	return nil
}

// pace is how fast packets were applied, and what each cost in CPU of the process.
type pace struct {
	perSecond, cpu float64
	took           time.Duration
}

// pace measures while f runs.
func (h *hunting) pace(f func() error) (p pace, err error) {
	before, stop := h.packets.Load(), measure.Start()
	err = f()
	use, packets := stop(), float64(h.packets.Load()-before)
	return pace{perSecond: packets / use.Wall.Seconds(), cpu: float64(use.CPU) / packets, took: use.Wall}, err
}

// ignoreEnd leaves out that a table was told to stop.
func ignoreEnd(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
