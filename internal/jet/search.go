package jet

import (
	"context"
	"errors"
)

// Order says on which side of something looked for a message is.
type Order int8

// The answers of a judge.
const (
	// Before: the message begins before it, or holds it.
	Before Order = iota
	// Behind: the message begins behind it.
	Behind
	// Unreadable: the message does not say.
	Unreadable
)

// Search returns the number of the last message from first to last that judge
// finds Before, and first when there is none. Those that are Before come before
// those that are Behind; messages that are missing or Unreadable are passed over.
// It reads about one message for each doubling of their number.
func Search(ctx context.Context, s interface {
	Read(ctx context.Context, number uint64) (Message, error)
}, first, last uint64, judge func(m Message) Order) (uint64, error) {
	for first < last {
		mid := first + (last-first+1)/2
		order, at := Unreadable, mid
		for order == Unreadable && at <= last {
			m, err := s.Read(ctx, at)
			if errors.Is(err, ErrNone) || err == nil && m.Number > last {
				break
			}
			if err != nil {
				return 0, err
			}
			if order = judge(m); order == Unreadable {
				at = m.Number + 1
			} else {
				at = m.Number
			}
		}
		if order == Before {
			first = at
		} else {
			last = mid - 1
		}
	}
	return first, nil
}
