package feed

import (
	"context"
	"errors"
	"fmt"

	"github.com/whorl-net/whorl/internal/jet"
)

// storedPlace is a reader's place in the store, while what it reads is no longer
// in memory.
type storedPlace struct {
	chunk *chunk // the block it is in, nil when none is
	next  uint64 // number of the message behind that block; 0 is not known
}

// holds reports whether the event sequence is in the block.
func (p *storedPlace) holds(sequence uint64) bool {
	return p.chunk != nil && sequence >= p.chunk.first && sequence-p.chunk.first < uint64(len(p.chunk.ends))
}

// fetch moves p to the block of the event want. When that event is lost it
// returns the last one that is lost with it, before the event limit, which is in
// memory; damaged says that this is not because the store dropped what is old.
func (s *store) fetch(ctx context.Context, p *storedPlace, want, limit uint64) (lostTo uint64, damaged bool, err error) {
	continues := p.chunk != nil && p.chunk.first+uint64(len(p.chunk.ends)) == want && p.next > 0
	p.chunk = nil
	number := p.next
	if !continues {
		if number, err = s.seek(ctx, want); err != nil {
			return 0, false, err
		}
	}
	for {
		m, err := s.messages.Read(ctx, number)
		if errors.Is(err, jet.ErrNone) {
			p.next = 0
			return limit - 1, true, nil
		}
		if err != nil {
			return 0, false, fmt.Errorf("read event %d of the feed: %w", want, err)
		}
		number = m.Number + 1
		info, err := readBlockInfo(m.Data)
		if errors.Is(err, errBlock) {
			continue // how much is lost shows in the next one
		}
		if err != nil {
			return 0, false, fmt.Errorf("read event %d of the feed: %w", want, err)
		}
		if info.last() < want {
			continue
		}
		if info.first > want {
			p.next = 0 // found again by the next call
			return min(info.first, limit) - 1, !s.isFirst(ctx, m.Number), nil
		}
		if p.chunk, err = decodeBlock(m.Data); err != nil {
			p.next = 0
			return min(info.last(), limit-1), true, nil
		}
		p.next = number
		return 0, false, nil
	}
}

// isFirst reports whether the store begins with the message number: what was
// before it was dropped for its age or for room.
func (s *store) isFirst(ctx context.Context, number uint64) bool {
	state, err := s.messages.State(ctx)
	return err == nil && state.First >= number
}

// seek returns the message of the block that holds the event want, or that is
// the last before it.
func (s *store) seek(ctx context.Context, want uint64) (number uint64, err error) {
	return s.search(ctx, fmt.Sprint("event ", want), func(b *blockInfo) bool { return b.first <= want })
}

// search returns the message of the last block for which before is true, and the
// first one when there is none.
func (s *store) search(ctx context.Context, what string, before func(b *blockInfo) bool) (number uint64, err error) {
	state, err := s.messages.State(ctx)
	if err == nil {
		number, err = jet.Search(ctx, s.messages, state.First, state.Last, func(m jet.Message) jet.Order {
			info, err := readBlockInfo(m.Data)
			switch {
			case err != nil:
				return jet.Unreadable
			case before(&info):
				return jet.Before
			}
			return jet.Behind
		})
	}
	if err != nil {
		return 0, fmt.Errorf("look for %s in the feed: %w", what, err)
	}
	return number, nil
}

// findSince returns the sequence before the first event stored at or after t; ok is
// false when there is none in the store.
func (s *store) findSince(ctx context.Context, t int64) (sequence uint64, ok bool, err error) {
	number, err := s.search(ctx, "a time", func(b *blockInfo) bool { return b.lastTime < t })
	if err != nil {
		return 0, false, err
	}
	for {
		m, err := s.messages.Read(ctx, number)
		if errors.Is(err, jet.ErrNone) {
			return 0, false, nil
		}
		if err != nil {
			return 0, false, fmt.Errorf("look for a time in the feed: %w", err)
		}
		number = m.Number + 1
		info, err := readBlockInfo(m.Data)
		if err != nil || info.lastTime < t {
			continue
		}
		c, err := decodeBlock(m.Data)
		if err != nil {
			return info.first - 1, true, nil // the gap comes first
		}
		return c.first + uint64(c.since(t)) - 1, true, nil
	}
}
