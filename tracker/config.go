package tracker

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/whorl-net/whorl/ja4"
)

// Limits that no Config can raise.
const (
	// MaxShards bounds Config.Shards.
	MaxShards = 4096
	// MaxObservers is how many probes are kept per connection. Packets of
	// further probes keep the connection alive and are counted in
	// Totals.ObserversCapped, but belong to no Observer.
	MaxObservers = 4
	// MaxHistory is how many events of one type are kept per connection: the
	// first 100 and the newest 900.
	MaxHistory   = historyFirst + historyNewest
	historyFirst = 100
	// historyNewest is the length of the ring behind the first events.
	historyNewest = 900
	// maxShardSlots bounds the connections of one shard, and maxShardCells
	// its cells: both are referred to in fewer than 32 bits.
	maxShardSlots = 1 << 28
	maxShardCells = 1 << 28
)

// Config says what a Tracker may use and do. A zero Config works.
type Config struct {
	// Shards is the number of parts the table has, 1 to MaxShards. 0 is 16, or
	// fewer when MaxConnections is under 16 times 1,024, so that no shard is
	// tiny. Each interns values for itself: with 64 shards a thousand clients
	// take four times the memory. It decides where a connection lies and must not change for a log
	// that is to be replayed.
	Shards int
	// Workers is the number of goroutines that Run starts; each owns the
	// next ones of the shards, as many as the others. 0 is half of GOMAXPROCS,
	// since whoever makes the batches is as busy; a single one needs the least
	// processor time, for nothing passes between caches. More than Shards is
	// refused. It has no effect on results.
	Workers int

	// MaxConnections bounds the live connections; 0 is 1,000,000. A shard
	// keeps its equal part of them, so eviction for capacity begins when the
	// fullest shard is full: at about 99 % of the whole with 16 shards.
	MaxConnections int
	// MaxMemoryBytes bounds the slabs of the table: index, connections,
	// histories, interned values; 0 is 2 GiB. Connections may take up half of
	// it, so it also bounds their number. At least 256 KiB for each shard. The
	// wheels of a network, up to 7 KiB in each shard, are counted but never
	// refused.
	MaxMemoryBytes int64
	// Timeouts says after how much silence a connection leaves.
	Timeouts Timeouts
	// LiveHold is how much log time may pass without a newer packet before
	// log time begins to move the clock of a network whose newest packet came
	// from a live session; 0 is 300 ms. A probe holds packets for up to 250 ms;
	// those that take longer to the log are overtaken, so they come late by as
	// much, which matters only to a connection that is due in that moment.
	// ReplayHold is the same for a replay, which may be slower than what it
	// replays; 0 is 1 min.
	LiveHold, ReplayHold time.Duration

	// HashSeed and the network label choose the shard of a key. It must be
	// equal after a restart and on every collector of a cluster, and should be
	// secret: who knows it can aim at one shard. The zero seed is one, too.
	HashSeed uint64
	// Epoch is part of every UID. It changes when a tracker starts anew
	// instead of from a log.
	Epoch uint32
	// MaxNetworks and MaxProbes bound the labels that Origin takes: 0 is 256
	// and 4,096, at most 65,535 each. They are never forgotten.
	MaxNetworks, MaxProbes int
	// QueueBatches is how many entries of the log may be under way, from Submit
	// to the end of its done; 0 is 16. A batch takes about 90 bytes per row,
	// beside MaxMemoryBytes.
	QueueBatches int

	// OnEvict is called for each connection that leaves, on the goroutine of
	// the worker that owns the shard, with no lock held; calls of one shard
	// follow one another in the order of Eviction.Number, those of different
	// shards in any order and concurrently: see OnOutput for one order of all. e
	// is valid during the call only: Clone what shall stay. While it runs the
	// worker applies nothing. Nil is allowed.
	OnEvict func(shard int, e *Eviction)
	// OnOutput is called with all that the entries of the log led to, in the
	// order of the log, by one goroutine of Run; see Output for the order within
	// an entry. It may block: then workers wait, and in the end Submit. It must
	// not call Submit, Tick, Flush or Observe. Nil is allowed.
	OnOutput func(o *Output)
	// Encode appends e in the form that Departure.Body is to have to dst and
	// returns it; it is called for OnOutput only, by workers, concurrently, with
	// no lock held, after Enrich. It must not keep e nor dst. Nil leaves bodies
	// empty.
	Encode func(dst []byte, e *Eviction) []byte
	// Events makes an Output have Events. Without it they cost nothing.
	Events bool
	// EventTypes are the types of fingerprints that make Events; 0 is all of
	// them. AddEventTypes adds more while the tracker runs.
	EventTypes ja4.TypeSet
	// Enrich fills the enrichment fields of s from the others, and from nothing
	// that the log does not decide: evictions and FlushRequest.Match see the
	// result, too. It is called on copies, with no lock held, from any goroutine,
	// also concurrently. It must not keep s. Nil is allowed.
	Enrich func(s *Snapshot)
	// Annotate is called after Enrich on what queries return, and on nothing
	// else: it may add what is known at this moment. The rules of Enrich hold
	// for it. Nil is allowed.
	Annotate func(s *Snapshot)
}

// Timeouts are the silences after which a connection leaves. In each field 0
// is the default and a negative value means never; less than 1 ms is refused.
type Timeouts struct {
	TCPHalfOpen time.Duration // default 30 s
	TCP         time.Duration // established; default 300 s
	TCPClosed   time.Duration // after FIN of both sides or RST; default 10 s
	UDPOneWay   time.Duration // default 30 s
	UDP         time.Duration // both directions seen; default 120 s
	Other       time.Duration // neither TCP nor UDP; default 30 s
}

// Never, in a field of Timeouts, keeps a connection until there is no room.
const Never time.Duration = -1

const (
	defaultShards       = 16
	defaultConnections  = 1_000_000
	defaultMemoryBytes  = 2 << 30
	defaultNetworks     = 256
	defaultProbes       = 4096
	defaultQueueBatches = 16
	minShardConnections = 1024
	minShardMemoryBytes = 256 << 10
	maxTimeout          = 365 * 24 * time.Hour
)

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// withDefaults fills in what is zero.
func (c Config) withDefaults() Config {
	orDefault(&c.MaxConnections, defaultConnections)
	orDefault(&c.MaxMemoryBytes, defaultMemoryBytes)
	if c.Shards == 0 {
		c.Shards = min(defaultShards, max(1, c.MaxConnections/minShardConnections))
		c.Shards = min(c.Shards, max(1, int(c.MaxMemoryBytes/(4*minShardMemoryBytes))))
	}
	if c.Workers == 0 {
		c.Workers = min((runtime.GOMAXPROCS(0)+1)/2, max(1, c.Shards))
	}
	orDefault(&c.LiveHold, 300*time.Millisecond)
	orDefault(&c.ReplayHold, time.Minute)
	orDefault(&c.MaxNetworks, defaultNetworks)
	orDefault(&c.MaxProbes, defaultProbes)
	orDefault(&c.QueueBatches, defaultQueueBatches)
	orDefault(&c.EventTypes, ^ja4.NoTypes)
	t := &c.Timeouts
	orDefault(&t.TCPHalfOpen, 30*time.Second)
	orDefault(&t.TCP, 300*time.Second)
	orDefault(&t.TCPClosed, 10*time.Second)
	orDefault(&t.UDPOneWay, 30*time.Second)
	orDefault(&t.UDP, 120*time.Second)
	orDefault(&t.Other, 30*time.Second)
	return c
}

// check says what is wrong with c, one sentence each.
func (c Config) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	inRange := func(name string, v, least, most int) {
		if v < least || v > most {
			bad("%s is %d, want %d to %d", name, v, least, most)
		}
	}
	inRange("Shards", c.Shards, 1, MaxShards)
	inRange("Workers", c.Workers, 1, max(1, c.Shards))
	inRange("MaxConnections", c.MaxConnections, max(1, c.Shards), maxShardSlots)
	inRange("MaxNetworks", c.MaxNetworks, 1, 65535)
	inRange("MaxProbes", c.MaxProbes, 1, 65535)
	inRange("QueueBatches", c.QueueBatches, 1, 65536)
	if least := int64(c.Shards) * minShardMemoryBytes; c.MaxMemoryBytes < least {
		bad("MaxMemoryBytes is %d, want at least %d for %d shards", c.MaxMemoryBytes, least, c.Shards)
	}
	for _, h := range []struct {
		name string
		d    time.Duration
	}{{"LiveHold", c.LiveHold}, {"ReplayHold", c.ReplayHold}} {
		if h.d < 0 || h.d > maxTimeout {
			bad("%s is %v, want 0 to 1 year", h.name, h.d)
		}
	}
	for _, t := range []struct {
		name string
		d    time.Duration
	}{
		{"TCPHalfOpen", c.Timeouts.TCPHalfOpen}, {"TCP", c.Timeouts.TCP}, {"TCPClosed", c.Timeouts.TCPClosed},
		{"UDPOneWay", c.Timeouts.UDPOneWay}, {"UDP", c.Timeouts.UDP}, {"Other", c.Timeouts.Other},
	} {
		if t.d >= 0 && (t.d < time.Millisecond || t.d > maxTimeout) {
			bad("Timeouts.%s is %v, want 1 ms to 1 year, or negative for never", t.name, t.d)
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("tracker config: %w", errors.Join(errs...))
	}
	return nil
}
