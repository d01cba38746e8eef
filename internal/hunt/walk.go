package hunt

import (
	"context"
	"fmt"
	"time"

	"github.com/whorl-net/whorl/internal/enrich"
	"github.com/whorl-net/whorl/internal/wire"
	"github.com/whorl-net/whorl/tracker"
)

// search is one hunt.
type search struct {
	h        *Hunter
	old, all *enrich.Tables // of before, and those in force
	bad      *enrich.Tables // what condemns newly, alone
	result   Result
	found    []tracker.TableMatch
	best     int // of found, what condemns
	severity tracker.Severity
	was      []tracker.TableMatch
	full     tracker.Snapshot
	body     []byte
}

// hunt looks for what c.NewBad condemns, first in the table and then in the feed:
// a connection that leaves meanwhile is seen in one of them, and not announced in
// both, since an eviction that is judged by the new tables says so itself.
func (h *Hunter) hunt(ctx context.Context, c enrich.Change) (Result, error) {
	bad, err := enrich.Compile(c.NewBad)
	if err != nil {
		return Result{}, fmt.Errorf("hunt: %w", err)
	}
	s := &search{h: h, old: c.Old, all: c.New, bad: bad, result: Result{Entries: len(c.NewBad)}}
	h.add(Result{Entries: len(c.NewBad)})
	if err := s.live(ctx); err != nil {
		return s.result, err
	}
	if h.cfg.Settle != nil {
		if err := h.cfg.Settle(ctx); err != nil {
			return s.result, fmt.Errorf("hunt: wait for the feed: %w", err)
		}
	}
	if err := s.held(ctx); err != nil {
		return s.result, err
	}
	h.mu.Lock()
	h.hunts++
	h.mu.Unlock()
	return s.result, nil
}

// add adds to the totals.
func (h *Hunter) add(r Result) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := &h.total
	t.Entries += r.Entries
	t.Live += r.Live
	t.Held += r.Held
	t.Lost += r.Lost
	t.Allowed += r.Allowed
	t.Found += r.Found
	t.Announced += r.Announced
}

// live searches the table. It asks the table for the connections that show a
// fingerprint of those that matter, which it finds without copying the others,
// and looks at these closely.
func (s *search) live(ctx context.Context) error {
	s.result.Live = s.h.cfg.Live.Count().Live
	s.h.add(Result{Live: s.result.Live})
	typ, match := s.bad.Needed()
	walk := s.h.cfg.Live.Search(tracker.Query{
		Match:  func(r *tracker.Row) bool { return r.Shows(0) },
		Prints: []tracker.PrintSet{{Type: typ, Match: match}}, Needs: []int{0},
	}, tracker.Cursor{})
	var page []tracker.Snapshot
	for more := true; more; {
		start, before := time.Now(), s.result
		page, more = walk.Page(tracker.Histories, pageConnections, page)
		for i := range page {
			c := &page[i]
			if !s.condemned(c) {
				continue
			}
			if s.h.cfg.Live.GetUID(c.UID, tracker.Full, &s.full) {
				c = &s.full // with its raw forms
			}
			if err := s.announce(ctx, c, 0); err != nil {
				return err
			}
		}
		if err := s.rest(ctx, start, before); err != nil {
			return err
		}
	}
	return nil
}

// held walks the evictions that are in the feed by now, those that are yet to be
// stored included.
func (s *search) held(ctx context.Context) error {
	var e tracker.Eviction
	end := s.h.cfg.Journal.Place().Sequence
	r := s.h.cfg.Journal.ReadOldest()
	for r.Cursor().Sequence < end {
		start, before := time.Now(), s.result
		b, err := r.Next(ctx, pageConnections, pageBytes)
		if err != nil {
			return fmt.Errorf("hunt: read the feed at %s: %w", r.Cursor(), err)
		}
		if b.Len() == 0 && b.Gap == nil {
			if err := r.Wait(ctx); err != nil {
				return fmt.Errorf("hunt: wait for the feed: %w", err)
			}
			continue
		}
		if b.Gap != nil {
			s.result.Lost += b.Gap.Count
		}
		for i := range b.Len() {
			sequence := b.First + uint64(i)
			if b.Discovery(i) || sequence > end {
				continue
			}
			if _, err := wire.DecodeEviction(b.Event(i), tracker.Histories, &e); err != nil {
				return fmt.Errorf("hunt: decode event %d of the feed: %w", sequence, err)
			}
			s.result.Held++
			if s.saidSo(&e.Connection) || !s.condemned(&e.Connection) {
				continue // its eviction said so, or there is nothing to say
			}
			if _, err := wire.DecodeEviction(b.Event(i), tracker.Full, &e); err != nil {
				return fmt.Errorf("hunt: decode event %d of the feed: %w", sequence, err)
			}
			if err := s.announce(ctx, &e.Connection, sequence); err != nil {
				return err
			}
		}
		if err := s.rest(ctx, start, before); err != nil {
			return err
		}
	}
	return nil
}

// saidSo reports whether an eviction has told that it is known to be bad: one
// whose entries are all allowed has not.
func (s *search) saidSo(c *tracker.Snapshot) bool {
	if !c.KnownBad {
		return false
	}
	_, _, ok := s.h.cfg.Condemns(c, c.TableMatches)
	return ok
}

// condemned reports whether c matches a new entry and was not condemned before;
// s.found and s.best then say by what.
func (s *search) condemned(c *tracker.Snapshot) bool {
	s.found = s.bad.Match(c, s.found[:0])
	if len(s.found) == 0 {
		return false
	}
	var ok bool
	if s.best, s.severity, ok = s.h.cfg.Condemns(c, s.found); !ok {
		s.result.Allowed++
		return false
	}
	s.was = s.old.Match(c, s.was[:0])
	if _, _, before := s.h.cfg.Condemns(c, s.was); before {
		return false
	}
	s.result.Found++
	return s.result.Announced < uint64(s.h.cfg.MaxDiscoveries)
}

// announce appends a discovery about c, which is condemned. eviction is the
// sequence of its eviction, 0 while it is live.
func (s *search) announce(ctx context.Context, c *tracker.Snapshot, eviction uint64) error {
	m := &s.found[s.best]
	now := s.h.cfg.Now()
	d := wire.Discovery{DiscoveredAt: now, Anomaly: anomaly(m, s.severity), EvictionSequence: eviction}
	d.Anomaly.Evidence = m.Evidence
	for _, e := range m.Evidence {
		// A combination is complete with its newest part.
		if e.SeenAt >= d.Anomaly.RaisedAt {
			d.Anomaly.RaisedAt, d.Anomaly.PacketNum = e.SeenAt, e.PacketNum
		}
	}
	s.all.Apply(c)
	d.Connection = *c
	s.body = wire.AppendDiscovery(s.body[:0], &d)
	if _, err := s.h.cfg.Journal.AppendDiscovery(ctx, now, s.body); err != nil {
		return fmt.Errorf("hunt: announce %s: %w", c.ID(), err)
	}
	s.result.Announced++
	return nil
}

// rest counts what was done since before, and sleeps so long that the hunt stays
// within its share.
func (s *search) rest(ctx context.Context, start time.Time, before Result) error {
	s.h.add(Result{
		Held: s.result.Held - before.Held, Lost: s.result.Lost - before.Lost,
		Allowed: s.result.Allowed - before.Allowed, Found: s.result.Found - before.Found, Announced: s.result.Announced - before.Announced,
	})
	share := time.Duration(s.h.cfg.Share)
	pause := time.Since(start) * (100 - share) / share
	select {
	case <-time.After(min(pause, time.Second)):
		return nil
	case <-ctx.Done():
		return fmt.Errorf("hunt: %w", context.Cause(ctx))
	}
}
