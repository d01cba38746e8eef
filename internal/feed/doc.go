// Package feed keeps the journal of evicted connections: numbered without
// holes, encoded once, read by any number of subscribers.
//
// A Journal holds the newest events within a budget of bytes and age. A Reader
// is one subscriber's place in it: a slow reader costs a position, not a queue.
// A Cursor is a place as text, which outlives both. What a reader lost because
// the journal let go of it is told once, as a Gap with an exact count.
//
// The journal owns the bytes of its events and never changes them after Append;
// readers may keep slices of them for as long as they like, at the price of the
// chunk of memory they lie in. The package knows how an event is framed, not
// what it says: encoding is internal/wire's.
package feed
