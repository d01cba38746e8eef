package service

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"google.golang.org/grpc/codes"

	"github.com/whorl-net/whorl/internal/feed"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// subscribers are the watches there are now, at most max.
type subscribers struct {
	max      int
	counters *counters

	mu      sync.Mutex // guards what follows and the fields of subscribers
	present map[*subscriber]struct{}
	empty   chan struct{} // closed when nobody is left; nil while nobody asks
}

// subscriber is one watch, for GetStatus.
type subscriber struct {
	all    *subscribers
	name   string
	peer   string
	cursor feed.Cursor
	lost   uint64
}

func newSubscribers(most int, c *counters) *subscribers {
	return &subscribers{max: most, counters: c, present: make(map[*subscriber]struct{})}
}

// join adds the caller of ctx, or says that there are too many.
func (s *subscribers) join(ctx context.Context, name string, at feed.Cursor) (*subscriber, error) {
	sub := &subscriber{all: s, name: name, peer: peerOf(ctx), cursor: at}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.present) >= s.max {
		s.counters.subscribersRefused.Add(1)
		return nil, retryLater(codes.ResourceExhausted, ReasonTooManyReaders, retryDelay,
			fmt.Sprintf("%d subscribers are connected, the most this collector serves", s.max),
			"limit", strconv.Itoa(s.max))
	}
	s.present[sub] = struct{}{}
	return sub, nil
}

func (s *subscribers) leave(sub *subscriber) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.present, sub)
	if len(s.present) == 0 && s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
}

// tell notes what a subscriber was sent.
func (sub *subscriber) tell(at feed.Cursor, gap *feed.Gap) {
	sub.all.mu.Lock()
	defer sub.all.mu.Unlock()
	sub.cursor = at
	if gap != nil {
		sub.lost += gap.Count
	}
}

// none returns a channel that is closed when nobody is left.
func (s *subscribers) none() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.present) == 0 {
		return alreadyClosed
	}
	if s.empty == nil {
		s.empty = make(chan struct{})
	}
	return s.empty
}

// list describes them, by name and peer.
func (s *subscribers) list(newest feed.Cursor) []*whorlv1.SubscriberStatus {
	s.mu.Lock()
	out := make([]*whorlv1.SubscriberStatus, 0, len(s.present))
	for sub := range s.present {
		out = append(out, &whorlv1.SubscriberStatus{
			Subscriber: sub.name, Peer: sub.peer, Cursor: sub.cursor.String(), Lost: sub.lost,
			// newest was read before the lock: nobody is ahead of the feed.
			Backlog: newest.Sequence - min(newest.Sequence, sub.cursor.Sequence),
		})
	}
	s.mu.Unlock()
	slices.SortFunc(out, func(a, b *whorlv1.SubscriberStatus) int {
		return cmp.Or(cmp.Compare(a.GetSubscriber(), b.GetSubscriber()), cmp.Compare(a.GetPeer(), b.GetPeer()))
	})
	return out
}
