// Package tracker keeps the live connections of many networks in memory.
//
// A Tracker spreads connections over shards by flow.Key and network. Batches
// enter in the order of a log through Submit; what leaves is an Eviction, with
// its Cause; what is asked for is a Snapshot, which is always a copy.
//
// # Order and time
//
// A Tracker is a function of what was submitted: it reads no wall clock, no map
// order and no random number that could change which connection is evicted.
// Each network has a clock: its newest packet time, and, when the log goes on
// without newer packets, the log time that passed since (see Config.LiveHold).
// The clock never goes back. A connection has expired when its network's clock
// is beyond its last activity plus the timeout of its state; the last activity
// is the time of its newest packet or, if that came late, the clock then. A
// packet that comes after a longer gap than the timeout also finds its
// connection expired. Whether a packet comes upon an expired connection or a
// Tick sweeps it away first makes no difference to what is evicted and what its
// EvictedAt says, so neither the cut of batches nor the rhythm of ticks nor the
// number of shards can be seen in the evictions. Only the limits
// (Config.MaxConnections, Config.MaxMemoryBytes) are kept per shard and choose
// by what the shard knows.
//
// # Output
//
// What the entries of the log led to, connections opened, fingerprinted and
// gone, comes out of Config.OnOutput in the order of the log and, within a batch,
// of its rows: so all that is derived from it is a function of the log, too. Each
// worker says what its shards did; one merging goroutine puts that together. It
// is a bounded stream: who does not take it holds up the workers and then Submit.
//
// # Ownership and locks
//
// A shard is changed by one worker only. All shards of a worker share one lock,
// which the worker holds while it applies (at most 256 rows at a time) and which
// queries take in slices of at most 50 µs. A lock was measured 10 to 15 %
// cheaper than asking the worker through a channel, and answers Get at half load
// in some 10 µs instead of 100 µs at the 99th percentile, since a query then waits
// for a slice and not for a queue. Between two slices the worker stands back for
// queries that wait. Callbacks run with no lock held.
//
// # Memory
//
// Everything that grows with traffic lies in slabs without pointers, so the
// garbage collector has nothing to look at: connections in chunks of 512,
// all that is variable (fingerprint histories, their interned values, server
// names, further observers) in 24-byte cells. Chunks are added one at a time
// and slots never move, so growing stops nobody for longer than one chunk's
// allocation; the index of a shard has its full size from the start and is
// touched on demand, so it never rehashes. Slabs do not shrink.
//
// The package knows nothing of gRPC, files or how a fingerprint is computed.
package tracker
