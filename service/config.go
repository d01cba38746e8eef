package service

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"time"

	"github.com/whorl-net/whorl/internal/log"
	"github.com/whorl-net/whorl/internal/rpc"
	"github.com/whorl-net/whorl/tracker"
)

// Defaults of a Config.
const (
	DefaultListen         = "127.0.0.1:4750"
	DefaultMaxProbes      = 1000
	DefaultMaxSubscribers = 256
	// DefaultFeedMaxBytes is that of a feed in memory, DefaultFeedDiskBytes that
	// of one in a data directory.
	DefaultFeedMaxBytes  = 256 << 20
	DefaultFeedDiskBytes = 8 << 30
	DefaultFeedMaxAge    = 168 * time.Hour
	// DefaultLogMaxBytes bounds the log in a data directory.
	DefaultLogMaxBytes = 4 << 30
	// DefaultCheckpointEvery and DefaultCheckpointLogBytes say when a checkpoint
	// is written while the log grows: whichever comes first.
	DefaultCheckpointEvery    = time.Minute
	DefaultCheckpointLogBytes = 64 << 20
	DefaultDrainTimeout       = 10 * time.Second
)

// Config describes a collector. The zero Config works: it listens on loopback
// and keeps everything in memory.
type Config struct {
	// Listen holds the addresses to listen on; empty is DefaultListen alone.
	Listen []string
	// Listeners, when not empty, are served instead of Listen. The collector
	// closes them. Whether they may be reached from outside is their owner's
	// business.
	Listeners []net.Listener
	// TLS names the certificate files; they are followed when they change.
	TLS rpc.ServerTLSFiles
	// Insecure allows addresses beyond loopback without TLS.
	Insecure bool
	// Reflection says whether grpc.reflection is served.
	Reflection Reflection

	// Tracker describes the table. OnEvict, OnOutput, Encode, Enrich and
	// Annotate belong to the collector and must be nil. With DataDir HashSeed and
	// Epoch are those of the directory, and so are Shards when 0.
	Tracker tracker.Config
	// Knowledge names tables of fingerprints and rules for anomalies.
	Knowledge Knowledge
	// DataDir is the directory of what survives the process: log, checkpoints and
	// feed. It is made when it does not exist. Empty keeps everything in memory.
	DataDir string
	// LogMaxBytes bounds the log on disk; while it is full nothing is taken in.
	// 0 is the default, or a quarter of the free disk if that is less.
	LogMaxBytes int64
	// CheckpointEvery and CheckpointLogBytes say how soon a checkpoint follows
	// the one before, while the log grows: after this time, or this much of the
	// log. Less means a faster start after a crash and more to write. 0 is the
	// default.
	CheckpointEvery    time.Duration
	CheckpointLogBytes int64

	// FeedMaxBytes and FeedMaxAge bound what the feed keeps for subscribers
	// that resume, in memory or, with a data directory, on disk. 0 is the
	// default.
	FeedMaxBytes int64
	FeedMaxAge   time.Duration

	// MaxProbes and MaxSubscribers bound what is connected at a time; one more
	// is refused with RESOURCE_EXHAUSTED. 0 is the default.
	MaxProbes      int
	MaxSubscribers int
	// NoJA4Plus refuses fingerprints of the methods under the FoxIO License:
	// they are taken out of batches before the log, and counted by type.
	NoJA4Plus bool

	// ID names this collector to probes; empty is the host name.
	ID string
	// Version is shown in GetStatus.
	Version string
	// DrainTimeout bounds the whole shutdown. 0 is the default.
	DrainTimeout time.Duration
	// Logger gets what the operator should know. nil discards.
	Logger *slog.Logger

	// keepLog leaves the log untrimmed, so that a test can apply all of it again.
	keepLog bool
	// tap stands between the collector and the streams of its log and its feed,
	// in tests that have publishes fail.
	tap func(m log.Messages) log.Messages
}

// Reflection says whether grpc.reflection is served.
type Reflection uint8

const (
	// ReflectionAuto serves it when every address is loopback.
	ReflectionAuto Reflection = iota
	ReflectionOn
	ReflectionOff
)

// withDefaults fills in what is zero.
func (c Config) withDefaults() Config {
	if len(c.Listen) == 0 {
		c.Listen = []string{DefaultListen}
	}
	if c.FeedMaxBytes == 0 {
		c.FeedMaxBytes = DefaultFeedMaxBytes
		if c.DataDir != "" {
			c.FeedMaxBytes = DefaultFeedDiskBytes
		}
	}
	if c.LogMaxBytes == 0 {
		c.LogMaxBytes = DefaultLogMaxBytes
	}
	if c.CheckpointEvery == 0 {
		c.CheckpointEvery = DefaultCheckpointEvery
	}
	if c.CheckpointLogBytes == 0 {
		c.CheckpointLogBytes = DefaultCheckpointLogBytes
	}
	if c.FeedMaxAge == 0 {
		c.FeedMaxAge = DefaultFeedMaxAge
	}
	if c.MaxProbes == 0 {
		c.MaxProbes = DefaultMaxProbes
	}
	if c.MaxSubscribers == 0 {
		c.MaxSubscribers = DefaultMaxSubscribers
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = DefaultDrainTimeout
	}
	if c.Tracker.MaxNetworks == 0 {
		c.Tracker.MaxNetworks = defaultMaxNetworks
	}
	if c.Tracker.MaxProbes == 0 {
		c.Tracker.MaxProbes = defaultMaxProbeIDs
	}
	// A data directory has its own; without one nothing outlives this process, so
	// the place of a key may differ next time.
	if c.Tracker.HashSeed == 0 {
		c.Tracker.HashSeed = rand.Uint64()
	}
	if c.Tracker.Epoch == 0 {
		c.Tracker.Epoch = uint32(time.Now().Unix())
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Version == "" {
		c.Version = "unknown"
	}
	if c.ID == "" {
		if name, err := os.Hostname(); err == nil {
			c.ID = name
		} else {
			c.ID = "collector"
		}
	}
	return c
}

// check refuses settings that contradict each other or make no sense.
func (c Config) check() error {
	switch {
	case c.FeedMaxBytes < 0:
		return fmt.Errorf("feed: max bytes is %d, want 0 or more", c.FeedMaxBytes)
	case c.LogMaxBytes < 0:
		return fmt.Errorf("log: max bytes is %d, want 0 or more", c.LogMaxBytes)
	case c.CheckpointEvery < 0 || c.CheckpointLogBytes < 0:
		return fmt.Errorf("checkpoints: every %v and %d bytes, want 0 or more", c.CheckpointEvery, c.CheckpointLogBytes)
	case c.FeedMaxAge < 0:
		return fmt.Errorf("feed: max age is %v, want 0 or more", c.FeedMaxAge)
	case c.MaxProbes < 0:
		return fmt.Errorf("max probes is %d, want 0 or more", c.MaxProbes)
	case c.MaxSubscribers < 0:
		return fmt.Errorf("max subscribers is %d, want 0 or more", c.MaxSubscribers)
	case c.DrainTimeout < 0:
		return fmt.Errorf("drain timeout is %v, want 0 or more", c.DrainTimeout)
	case c.Reflection > ReflectionOff:
		return fmt.Errorf("reflection is %d, want auto, on or off", c.Reflection)
	case c.Tracker.OnEvict != nil || c.Tracker.OnOutput != nil || c.Tracker.Encode != nil ||
		c.Tracker.Enrich != nil || c.Tracker.Annotate != nil:
		return errors.New("tracker: OnEvict, OnOutput, Encode, Enrich and Annotate belong to the collector")
	case c.DataDir != "" && (c.Tracker.HashSeed != 0 || c.Tracker.Epoch != 0):
		return errors.New("tracker: HashSeed and Epoch are those of the data directory")
	}
	if len(c.Listeners) > 0 {
		return nil
	}
	for _, addr := range c.Listen {
		if err := rpc.CheckListen(addr, !c.TLS.Empty(), c.Insecure); err != nil {
			return err
		}
	}
	return nil
}
