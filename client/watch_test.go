package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// script is a FeedService whose streams do what a test says.
type script struct {
	whorlv1.UnimplementedFeedServiceServer

	newest  string     // cursor that GetStatus tells; "" refuses to and sends no header early
	mu      sync.Mutex // guards requests
	seen    []*whorlv1.WatchRequest
	streams []func(send func(*whorlv1.WatchResponse), ctx context.Context) error
}

func (s *script) register(srv *grpc.Server) {
	whorlv1.RegisterFeedServiceServer(srv, s)
	if s.newest != "" {
		whorlv1.RegisterStatusServiceServer(srv, newestStatus{newest: s.newest})
	}
}

// newestStatus knows the newest cursor and nothing else.
type newestStatus struct {
	whorlv1.UnimplementedStatusServiceServer
	newest string
}

func (n newestStatus) GetStatus(context.Context, *whorlv1.GetStatusRequest) (*whorlv1.GetStatusResponse, error) {
	return &whorlv1.GetStatusResponse{Feed: &whorlv1.FeedStatus{NewestCursor: n.newest}}, nil
}

func (s *script) Watch(req *whorlv1.WatchRequest, st grpc.ServerStreamingServer[whorlv1.WatchResponse]) error {
	s.mu.Lock()
	n := len(s.seen)
	s.seen = append(s.seen, req)
	s.mu.Unlock()
	if s.newest != "" {
		_ = st.SendHeader(nil)
	}
	if n >= len(s.streams) {
		return status.Error(codes.FailedPrecondition, "the script is over")
	}
	return s.streams[n](func(r *whorlv1.WatchResponse) { _ = st.Send(r) }, st.Context())
}

func (s *script) requests() []*whorlv1.WatchRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

// says returns a stream of these messages that ends with err.
func says(err error, messages ...*whorlv1.WatchResponse) func(func(*whorlv1.WatchResponse), context.Context) error {
	return func(send func(*whorlv1.WatchResponse), _ context.Context) error {
		for _, m := range messages {
			send(m)
		}
		return err
	}
}

// evictions is a message with evictions first to last.
func evictions(first, last uint64) *whorlv1.WatchResponse {
	r := &whorlv1.WatchResponse{Cursor: fmt.Sprintf("e.%d", last)}
	for n := first; n <= last; n++ {
		r.Evictions = append(r.Evictions, &whorlv1.Eviction{Sequence: n})
	}
	return r
}

func beat(cursor string) *whorlv1.WatchResponse { return &whorlv1.WatchResponse{Cursor: cursor} }

func gapped(first, last uint64, r *whorlv1.WatchResponse) *whorlv1.WatchResponse {
	r.Gap = &whorlv1.Gap{Cause: whorlv1.GapCause_GAP_CAUSE_SLOW_READER, LostCount: last - first + 1, FirstLostSequence: first, LastLostSequence: last}
	return r
}

// collect watches to the end and returns what was seen, in words: a number is
// an eviction, "gap 3-5" a gap, "beat" a heartbeat, each with its cursor.
func collect(ctx context.Context, c *Client, req *whorlv1.WatchRequest, opts ...WatchOption) (words []string, err error) {
	for e, err := range c.Watch(ctx, req, opts...) {
		switch {
		case err != nil:
			return words, err
		case e.Eviction != nil:
			words = append(words, fmt.Sprintf("%d@%s", e.Eviction.GetSequence(), e.Cursor))
		case e.Gap != nil:
			words = append(words, fmt.Sprintf("gap %d-%d@%s", e.Gap.GetFirstLostSequence(), e.Gap.GetLastLostSequence(), e.Cursor))
		default:
			words = append(words, "beat@"+e.Cursor)
		}
	}
	return words, nil
}

var cutStream = status.Error(codes.Unavailable, "cut")

// A watch that is cut goes on behind what it delivered last: nothing twice,
// nothing missing, and each event has the cursor behind itself.
func TestWatchResumesBehindTheLastEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		s.streams = append(s.streams,
			says(cutStream, beat("e.4"), evictions(5, 7)),
			says(status.Error(codes.ResourceExhausted, "slow"), evictions(8, 8)),
			says(nil, evictions(9, 9)), // an orderly end that nobody asked for
			says(cutStream),
			says(cutStream, gapped(10, 12, evictions(13, 14))),
			says(status.Error(codes.PermissionDenied, "no more")))
		var notices []time.Duration
		got, err := collect(t.Context(), serve(t, s.register), &whorlv1.WatchRequest{Start: &whorlv1.WatchRequest_AfterCursor{AfterCursor: "e.4"}},
			WithResumeNotice(func(_ error, wait time.Duration) { notices = append(notices, wait) }))
		want := []string{"5@e.5", "6@e.6", "7@e.7", "8@e.8", "9@e.9", "gap 10-12@e.12", "13@e.13", "14@e.14"}
		if !slices.Equal(got, want) || status.Code(err) != codes.PermissionDenied {
			t.Errorf("watch gave %v, %v\nwant %v and PermissionDenied", got, err, want)
		}
		var cursors []string
		for _, r := range s.requests() {
			cursors = append(cursors, r.GetAfterCursor())
		}
		if want := []string{"e.4", "e.7", "e.8", "e.9", "e.9", "e.14"}; !slices.Equal(cursors, want) {
			t.Errorf("resumed at %v, want %v", cursors, want)
		}
		if len(notices) != 5 || slices.Max(notices) > maxBackoff {
			t.Errorf("notices %v, want 5 of at most %v", notices, maxBackoff)
		}
	})
}

// Before the collector was heard, an error ends the watch.
func TestWatchFailsWhenItCannotBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		s.streams = append(s.streams, says(cutStream))
		_, err := collect(t.Context(), serve(t, s.register), &whorlv1.WatchRequest{})
		if status.Code(err) != codes.Unavailable || len(s.requests()) != 1 {
			t.Errorf("%v after %d streams, want Unavailable after 1", err, len(s.requests()))
		}
	})
}

// A watch that was accepted survives a cut before its first message, and goes
// on from where the feed was when it began.
func TestWatchOfAQuietFeedResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{newest: "e.4"}
		s.streams = append(s.streams, says(cutStream), says(nil, evictions(5, 5)))
		got, err := collect(t.Context(), serve(t, s.register), &whorlv1.WatchRequest{Limit: 1})
		if want := []string{"5@e.5"}; !slices.Equal(got, want) || err != nil {
			t.Errorf("watch gave %v, %v; want %v", got, err, want)
		}
		for i, r := range s.requests() {
			if r.GetAfterCursor() != "e.4" {
				t.Errorf("stream %d began at %q, want e.4", i+1, r.GetAfterCursor())
			}
		}
	})
}

// A feed that falls silent for two heartbeats and the time of a call is taken
// for dead, and resumed.
func TestWatchResumesAfterSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		s.streams = append(s.streams,
			func(send func(*whorlv1.WatchResponse), ctx context.Context) error {
				send(evictions(1, 1))
				<-ctx.Done()
				return ctx.Err()
			},
			says(nil, evictions(2, 2)))
		begin := time.Now()
		var resumed time.Duration
		got, err := collect(t.Context(), serve(t, s.register), &whorlv1.WatchRequest{Limit: 2},
			WithResumeNotice(func(error, time.Duration) { resumed = time.Since(begin) }))
		if want := []string{"1@e.1", "2@e.2"}; !slices.Equal(got, want) || err != nil {
			t.Errorf("watch gave %v, %v; want %v", got, err, want)
		}
		if resumed != 30*time.Second {
			t.Errorf("resumed after %v of silence, want 30s: two heartbeats of 10s and 10s", resumed)
		}
	})
}

// A slow caller is not silence of the feed.
func TestWatchPatienceDoesNotCountTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		s.streams = append(s.streams, says(nil, evictions(1, 1), evictions(2, 2)))
		var got []uint64
		for e, err := range serve(t, s.register).Watch(t.Context(), &whorlv1.WatchRequest{Limit: 2}) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e.Eviction.GetSequence())
			time.Sleep(time.Hour)
		}
		if !slices.Equal(got, []uint64{1, 2}) || len(s.requests()) != 1 {
			t.Errorf("got %v over %d streams, want 1 and 2 over 1", got, len(s.requests()))
		}
	})
}

// The sequence is checked: each of these feeds breaks the promise.
func TestWatchChecksTheSequence(t *testing.T) {
	from := func(cursor string) *whorlv1.WatchRequest {
		return &whorlv1.WatchRequest{Start: &whorlv1.WatchRequest_AfterCursor{AfterCursor: cursor}}
	}
	filtered := from("e.4")
	filtered.Filter = "proto:tcp"
	for _, tc := range []struct {
		name     string
		req      *whorlv1.WatchRequest
		messages []*whorlv1.WatchResponse
	}{
		{"a hole after the start", from("e.4"), []*whorlv1.WatchResponse{evictions(6, 6)}},
		{"a hole between messages", from("e.4"), []*whorlv1.WatchResponse{evictions(5, 6), evictions(8, 8)}},
		{"a repeat", from("e.4"), []*whorlv1.WatchResponse{evictions(5, 6), evictions(6, 7)}},
		{"a hole inside a message", &whorlv1.WatchRequest{}, []*whorlv1.WatchResponse{{Cursor: "e.3", Evictions: []*whorlv1.Eviction{{Sequence: 1}, {Sequence: 3}}}}},
		{"a cursor that skips", from("e.4"), []*whorlv1.WatchResponse{evictions(5, 6), beat("e.7")}},
		{"a gap that does not follow", from("e.4"), []*whorlv1.WatchResponse{gapped(6, 8, evictions(9, 9))}},
		{"a gap that does not reach", from("e.4"), []*whorlv1.WatchResponse{gapped(5, 8, evictions(10, 10))}},
		{"a gap that ends before it begins", from("e.4"), []*whorlv1.WatchResponse{gapped(5, 3, evictions(5, 5))}},
		{"going back behind a filter", filtered, []*whorlv1.WatchResponse{evictions(9, 9), evictions(9, 9)}},
		{"a new epoch without a gap", from("e.4"), []*whorlv1.WatchResponse{beat("f.4")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &script{}
			s.streams = append(s.streams, says(nil, tc.messages...))
			got, err := collect(t.Context(), serve(t, s.register), tc.req)
			var broken *SequenceError
			if !errors.As(err, &broken) {
				t.Errorf("watch gave %v, %v; want a SequenceError", got, err)
			}
			if n := len(s.requests()); n != 1 {
				t.Errorf("%d streams, want 1: resuming does not mend a broken feed", n)
			}
		})
	}
}

// With a filter the sequence rises, with holes, and heartbeats move the cursor
// past what was left out.
func TestFilteredWatchMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		message := &whorlv1.WatchResponse{Cursor: "e.20", Evictions: []*whorlv1.Eviction{{Sequence: 7}, {Sequence: 11}}}
		s.streams = append(s.streams, says(cutStream, message, beat("e.31")), says(nil, evictions(33, 33)))
		got, err := collect(t.Context(), serve(t, s.register), &whorlv1.WatchRequest{
			Filter: "proto:tcp", Limit: 3, Start: &whorlv1.WatchRequest_AfterCursor{AfterCursor: "e.2"}}, WithHeartbeats())
		want := []string{"7@e.7", "11@e.20", "beat@e.31", "33@e.33"}
		if !slices.Equal(got, want) || err != nil {
			t.Errorf("watch gave %v, %v; want %v", got, err, want)
		}
		if r := s.requests(); len(r) != 2 || r[1].GetAfterCursor() != "e.31" || r[1].GetLimit() != 1 {
			t.Errorf("resumed with %v, want after e.31 with a limit of 1", r)
		}
	})
}

// A collector that came back without its journal says so, once, and the watch
// goes on in the new epoch.
func TestWatchGoesOnInANewEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		restart := &whorlv1.WatchResponse{Cursor: "f.2", Evictions: []*whorlv1.Eviction{{Sequence: 1}, {Sequence: 2}},
			Gap: &whorlv1.Gap{Cause: whorlv1.GapCause_GAP_CAUSE_NEW_EPOCH}}
		s.streams = append(s.streams, says(cutStream, evictions(5, 5)), says(nil, restart))
		got, err := collect(t.Context(), serve(t, s.register), &whorlv1.WatchRequest{Limit: 3})
		if want := []string{"5@e.5", "gap 0-0@f.0", "1@f.1", "2@f.2"}; !slices.Equal(got, want) || err != nil {
			t.Errorf("watch gave %v, %v; want %v", got, err, want)
		}
	})
}

// Where a watch ends: at its limit, caught up, with its context, when the
// caller stops, and when it must not resume.
func TestWatchEnds(t *testing.T) {
	t.Run("no follow", func(t *testing.T) {
		s := &script{}
		s.streams = append(s.streams, says(nil, evictions(1, 2)))
		got, err := collect(t.Context(), serve(t, s.register), &whorlv1.WatchRequest{NoFollow: true})
		if len(got) != 2 || err != nil {
			t.Errorf("watch gave %v, %v; want 2 evictions", got, err)
		}
	})
	t.Run("limit", func(t *testing.T) {
		s := &script{}
		s.streams = append(s.streams, says(cutStream, evictions(1, 2))) // cut before the collector ended it
		req := &whorlv1.WatchRequest{Limit: 2}
		got, err := collect(t.Context(), serve(t, s.register), req)
		if len(got) != 2 || err != nil || !proto.Equal(req, &whorlv1.WatchRequest{Limit: 2}) {
			t.Errorf("watch gave %v, %v and left %v; want 2 evictions and the request as it was", got, err, req)
		}
	})
	t.Run("context", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &script{}
			s.streams = append(s.streams, func(send func(*whorlv1.WatchResponse), ctx context.Context) error {
				send(evictions(1, 1))
				<-ctx.Done()
				return ctx.Err()
			})
			why := errors.New("enough")
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Second, func() { cancel(why) })
			if got, err := collect(ctx, serve(t, s.register), &whorlv1.WatchRequest{}); len(got) != 1 || !errors.Is(err, why) {
				t.Errorf("watch gave %v, %v; want 1 eviction and the cause", got, err)
			}
		})
	})
	t.Run("caller", func(t *testing.T) {
		s := &script{}
		s.streams = append(s.streams, says(cutStream, evictions(1, 5)))
		n := 0
		for range serve(t, s.register).Watch(t.Context(), &whorlv1.WatchRequest{}) {
			if n++; n == 2 {
				break
			}
		}
		if n != 2 || len(s.requests()) != 1 {
			t.Errorf("%d events over %d streams, want 2 over 1", n, len(s.requests()))
		}
	})
	t.Run("without resume", func(t *testing.T) {
		s := &script{}
		s.streams = append(s.streams, says(cutStream, evictions(1, 1)), says(nil, evictions(2, 2)))
		got, err := collect(t.Context(), serve(t, s.register), &whorlv1.WatchRequest{}, WithoutResume())
		if len(got) != 1 || status.Code(err) != codes.Unavailable {
			t.Errorf("watch gave %v, %v; want 1 eviction and Unavailable", got, err)
		}
	})
}
