package service

import (
	"context"
	"iter"

	"github.com/whorl-net/whorl/internal/filter"
	"github.com/whorl-net/whorl/tracker"
)

// Chunks of a walk: how many connections are copied at a time. With whole
// histories a connection may be a MiB.
const (
	countChunk = 256
	fullChunk  = 16
	bareChunk  = 256
)

// walk goes through the connections that a filter selects, in chunks, in memory it
// uses again. What the filter can ask of a connection in its place is asked before
// anything is copied.
type walk struct {
	search *tracker.Search
	rest   *filter.Filter // of the filter, what only a copy can tell
	detail tracker.Detail
	page   []tracker.Snapshot
	more   bool
	err    error
}

// newWalk begins a walk at a place, with copies of at least detail d.
func newWalk(t *tracker.Tracker, f *filter.Filter, d tracker.Detail, at tracker.Cursor) *walk {
	q, rest := f.Split()
	return &walk{search: t.Search(q, at), rest: rest, detail: max(d, rest.Detail()), more: true}
}

// next copies the next chunk, of at most limit connections; false is the end, or
// w.err.
func (w *walk) next(ctx context.Context, limit int) bool {
	if !w.more {
		return false
	}
	if ctx.Err() != nil {
		w.err = context.Cause(ctx)
		return false
	}
	w.page, w.more = w.search.Page(w.detail, limit, w.page)
	return true
}

// matches yields those of the chunk that the filter selects.
func (w *walk) matches() iter.Seq[*tracker.Snapshot] {
	return func(yield func(*tracker.Snapshot) bool) {
		for i := range w.page {
			if s := &w.page[i]; w.rest.Match(s) && !yield(s) {
				return
			}
		}
	}
}

// rows calls f with each connection that the filter selects, in its place: see
// tracker.Search.Each. It ends with the first error of f. It is for filters with
// nothing that only a copy can tell.
func (w *walk) rows(ctx context.Context, f func(r *tracker.Row) error) (err error) {
	for w.more && err == nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		w.more = w.search.Each(func(r *tracker.Row) {
			if err == nil {
				err = f(r)
			}
		})
	}
	return err
}

// countMatching returns how many connections a filter selects.
func countMatching(ctx context.Context, t *tracker.Tracker, f *filter.Filter) (n uint64, err error) {
	if f.All() {
		return t.Count().Live, nil
	}
	if p, ok := f.Prints(); ok {
		if n, ok := t.CountPrints(p); ok {
			return n, nil
		}
	}
	w := newWalk(t, f, tracker.Bare, tracker.Cursor{})
	if w.rest == nil {
		err = w.rows(ctx, func(*tracker.Row) error {
			n++
			return nil
		})
		return n, err
	}
	for w.next(ctx, countChunk) {
		for range w.matches() {
			n++
		}
	}
	return n, w.err
}
