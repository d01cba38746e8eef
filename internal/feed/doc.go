// Package feed keeps the journal of evicted connections: numbered without
// holes, encoded once, read by any number of subscribers.
//
// A Journal holds the newest events within a budget of bytes and age, in memory
// alone or with a store behind it that outlives the process. A Reader is one
// subscriber's place in it: a slow reader costs a position, not a queue, and one
// that is far behind reads the store for itself, block by block. A Cursor is a
// place as text, which outlives both. What a reader lost is told once, as a Gap
// with an exact count: whether the journal let go of it, or the disk did.
//
// With a store readers get an event once it is stored. Events carry the log
// position that led to them, and the store knows how much of the log it has: a
// collector that replays its log appends the same events in the same order, and
// those that are stored are left out.
//
// The journal owns the bytes of its events and never changes them after Append;
// readers may keep slices of them for as long as they like, at the price of the
// chunk of memory they lie in. The package knows how an event is framed and who
// the connection was, not what else it says: encoding is internal/wire's.
package feed
