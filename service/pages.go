package service

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/whorl-net/whorl/internal/feed"
	"github.com/whorl-net/whorl/internal/filter"
	"github.com/whorl-net/whorl/internal/wire"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"github.com/whorl-net/whorl/tracker"
)

// Sizes of pages. A page ends at the first chunk that brings it over pageBytes.
// What would go beyond maxPageBytes, below the 4 MiB that every client takes, is
// shown with the newest event of each type only; total_count says what is
// missing.
const (
	defaultPageSize = 500
	maxPageSize     = 5000
	pageBytes       = 1 << 20
	maxPageBytes    = 3 << 20
)

// All returns one page of what matches.
func (ts *trackerService) All(ctx context.Context, req *whorlv1.AllRequest) (*whorlv1.AllResponse, error) {
	size := req.GetPageSize()
	if size > maxPageSize {
		return nil, badNumber("page_size", size, "1 to 5000, or 0 for 500")
	}
	if size == 0 {
		size = defaultPageSize
	}
	place, err := ts.tokens.open(req)
	if err != nil {
		return nil, err
	}
	if place.first {
		// Before the walk begins: what is evicted from now on is in the feed
		// behind this cursor, what is not is in the walk.
		place.feedCursor = ts.journal.Newest()
		place.now = time.Now().UnixNano()
	}
	l, err := newLister(ts, req, place.now, place.at)
	if err != nil {
		return nil, err
	}
	for l.frames.count < int(size) && len(l.frames.bytes) < pageBytes {
		if !l.next(ctx, int(size)-l.frames.count) {
			break
		}
		l.frames.expect(int(size))
	}
	if l.walk.err != nil {
		return nil, l.walk.err
	}
	resp := &whorlv1.AllResponse{
		TableSize:  ts.tracker.Count().Live,
		FeedCursor: place.feedCursor.String(),
	}
	wire.SetField1(resp, l.frames.bytes)
	if l.walk.more {
		place.at = l.walk.search.Cursor()
		resp.NextPageToken = ts.tokens.seal(req, place)
	}
	return resp, nil
}

// Export streams everything that matches, in messages of about pageBytes.
func (ts *trackerService) Export(req *whorlv1.ExportRequest, out grpc.ServerStreamingServer[whorlv1.ExportResponse]) error {
	cursor := ts.journal.Newest()
	l, err := newLister(ts, req, time.Now().UnixNano(), tracker.Cursor{})
	if err != nil {
		return err
	}
	for l.next(out.Context(), maxPageSize) {
		if len(l.frames.bytes) < pageBytes {
			continue
		}
		if err := out.SendMsg(wire.Pieces{l.frames.bytes}); err != nil {
			return err
		}
		l.frames = frames{bytes: make([]byte, 0, cap(l.frames.bytes))} // grpc has the old memory until it is sent
	}
	if l.walk.err != nil {
		return l.walk.err
	}
	last := &whorlv1.ExportResponse{FeedCursor: cursor.String()}
	wire.SetField1(last, l.frames.bytes)
	return out.SendMsg(last)
}

// lister walks the table and encodes what matches.
type lister struct {
	counters *counters
	wanted   wire.Projection
	thin     wire.Projection // wanted without histories
	chunk    int
	walk     *walk
	frames   frames
}

// frames are encoded connections, each framed as field 1.
type frames struct {
	bytes []byte
	count int
}

// expect makes room for as much as n connections take, or a page, judging by those
// there are: growing in many steps copies as much again.
func (f *frames) expect(n int) {
	if f.count > 0 {
		most := min(len(f.bytes)/f.count*n, pageBytes)
		f.bytes = slices.Grow(f.bytes, max(most+most/8-len(f.bytes), 0))
	}
}

// listed is what AllRequest and ExportRequest have in common.
type listed interface {
	filtered
	projected
	GetFingerprintTypes() []string
}

func newLister(ts *trackerService, req listed, now int64, at tracker.Cursor) (*lister, error) {
	f, err := compileFilter(req, filter.Source{Now: now, Rules: ts.knowledge.ruleIDs()})
	if err != nil {
		return nil, badFilter(err)
	}
	wanted, err := projection(req)
	if err != nil {
		return nil, err
	}
	thin, err := wire.NewProjection(whorlv1.ConnectionView_CONNECTION_VIEW_BASIC, req.GetFields(), req.GetFingerprintTypes())
	if err != nil {
		return nil, badMalformed(err)
	}
	l := &lister{
		counters: ts.counters, wanted: wanted, thin: thin,
		chunk: bareChunk, walk: newWalk(ts.tracker, f, wanted.Detail(), at),
	}
	if l.walk.detail >= tracker.Histories {
		l.chunk = fullChunk
	}
	return l, nil
}

// next copies the next chunk of at most limit connections and encodes those that
// match; false is the end of the walk, or walk.err.
func (l *lister) next(ctx context.Context, limit int) bool {
	if !l.walk.next(ctx, min(l.chunk, limit)) {
		return false
	}
	for s := range l.walk.matches() {
		l.frames.add(l.wanted, l.thin, s, l.counters)
	}
	return true
}

// add encodes s, thinner if it would not fit.
func (f *frames) add(wanted, thin wire.Projection, s *tracker.Snapshot, c *counters) {
	before := len(f.bytes)
	f.bytes = wanted.AppendConnectionFrame(f.bytes, s)
	if len(f.bytes) > maxPageBytes && before > 0 {
		f.bytes = thin.AppendConnectionFrame(f.bytes[:before], s)
		c.historiesThinned.Add(1)
	}
	f.count++
}

// place is where a walk is, and what it started from.
type place struct {
	first bool
	at    tracker.Cursor
	// feedCursor is the newest one before the walk began.
	feedCursor feed.Cursor
	// now is when it began, Unix nanoseconds: ages in the filter are counted
	// from there on every page.
	now int64
}
