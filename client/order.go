package client

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// feedOrder checks that a feed keeps its promise: without a filter each
// sequence is one more than the one before, or than the last of a gap; with a
// filter it is greater. It knows that a cursor is "epoch.sequence"; a cursor of
// another form is passed on unread, and then only evictions are compared.
type feedOrder struct {
	filtered bool
	epoch    string
	last     uint64
	known    bool // last is set
}

func newFeedOrder(req *whorlv1.WatchRequest) feedOrder {
	o := feedOrder{filtered: req.GetFilter() != "" || len(req.GetInclude()) > 0 || len(req.GetExclude()) > 0}
	o.epoch, o.last, o.known = splitCursor(req.GetAfterCursor())
	return o
}

// splitCursor takes a cursor apart.
func splitCursor(cursor string) (epoch string, sequence uint64, ok bool) {
	epoch, text, ok := strings.Cut(cursor, ".")
	if !ok || epoch == "" {
		return "", 0, false
	}
	sequence, err := strconv.ParseUint(text, 10, 64)
	return epoch, sequence, err == nil
}

// at returns the cursor behind sequence, in the epoch of a message's cursor,
// or "" when that cannot be told.
func at(sequence uint64, messageCursor string) string {
	epoch, _, ok := splitCursor(messageCursor)
	if !ok {
		return ""
	}
	return epoch + "." + strconv.FormatUint(sequence, 10)
}

// event takes the next sequence, of an eviction or a discovery, and returns the
// cursor behind it.
func (o *feedOrder) event(sequence uint64, messageCursor string) (string, error) {
	if err := o.sameEpoch(messageCursor); err != nil {
		return "", err
	}
	if o.known && (sequence <= o.last || !o.filtered && sequence != o.last+1) {
		return "", &SequenceError{Previous: o.last, Got: sequence, Filtered: o.filtered}
	}
	o.last, o.known = sequence, true
	return at(sequence, messageCursor), nil
}

// gap takes a gap and returns the cursor behind it. resp is the message it came
// with.
func (o *feedOrder) gap(g *whorlv1.Gap, resp *whorlv1.WatchResponse) (string, error) {
	if g.GetCause() == whorlv1.GapCause_GAP_CAUSE_NEW_EPOCH {
		o.epoch, _, _ = splitCursor(resp.GetCursor())
		o.known = false
		first := uint64(math.MaxUint64)
		if evictions := resp.GetEvictions(); len(evictions) > 0 {
			first = evictions[0].GetSequence()
		}
		if discoveries := resp.GetDiscoveries(); len(discoveries) > 0 {
			first = min(first, discoveries[0].GetSequence())
		}
		if first == math.MaxUint64 {
			return resp.GetCursor(), nil
		}
		return at(first-1, resp.GetCursor()), nil
	}
	if err := o.sameEpoch(resp.GetCursor()); err != nil {
		return "", err
	}
	first, last := g.GetFirstLostSequence(), g.GetLastLostSequence()
	if o.known && (first <= o.last || !o.filtered && first != o.last+1) || last < first {
		return "", &SequenceError{Previous: o.last, Got: first, Filtered: o.filtered}
	}
	o.last, o.known = last, true
	return at(last, resp.GetCursor()), nil
}

// end takes the cursor of a whole message: it lies at or behind the events of
// the message, and without a filter nothing lies between.
func (o *feedOrder) end(cursor string) error {
	_, sequence, ok := splitCursor(cursor)
	if !ok {
		return nil
	}
	if err := o.sameEpoch(cursor); err != nil {
		return err
	}
	if o.known && (sequence < o.last || !o.filtered && sequence != o.last) {
		return &SequenceError{Previous: o.last, Got: sequence, Filtered: o.filtered}
	}
	o.last, o.known = sequence, true
	return nil
}

// sameEpoch refuses a new epoch that no gap announced.
func (o *feedOrder) sameEpoch(cursor string) error {
	epoch, _, ok := splitCursor(cursor)
	switch {
	case !ok:
		return nil
	case o.epoch != "" && o.epoch != epoch:
		return fmt.Errorf("feed: the epoch changed from %s to %s without a gap: %w", o.epoch, epoch, &SequenceError{Previous: o.last, Filtered: o.filtered})
	}
	o.epoch = epoch
	return nil
}
