package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/whorl-net/whorl/internal/datadir"
	"github.com/whorl-net/whorl/internal/output"
	"github.com/whorl-net/whorl/internal/rpc"
	"github.com/whorl-net/whorl/service"
	"github.com/whorl-net/whorl/tracker"
)

// collectorCmd is a collector.
type collectorCmd struct {
	collectorFlags
	Durability string `group:"keep" enum:"disk,memory" default:"disk" placeholder:"MODE" help:"disk: what was acknowledged survives crashes and power cuts; memory: nothing survives a restart (default ${default})."`
	ja4plusFlag
}

func (*collectorCmd) examples() []string {
	return []string{
		"whorl collector",
		"whorl collector --listen 0.0.0.0:4750 --tls-cert col.pem --tls-key col.key --tls-client-ca ca.pem",
	}
}

// leastShardMemory is what a shard needs, see tracker.Config.MaxMemoryBytes.
const leastShardMemory = 256 << 10

// collectorFlags are those of collector and run.
type collectorFlags struct {
	Listen      []string `group:"listen" default:"127.0.0.1:4750" placeholder:"ADDR" help:"Addresses for gRPC (default ${default}). Beyond loopback it needs TLS, or --insecure."`
	TLSCert     string   `group:"listen" name:"tls-cert" placeholder:"FILE" help:"Certificate; re-read on change."`
	TLSKey      string   `group:"listen" name:"tls-key" placeholder:"FILE" help:"Its key; re-read on change."`
	TLSClientCA string   `group:"listen" name:"tls-client-ca" placeholder:"FILE" help:"Ask clients for a certificate signed by these; re-read on change."`
	AdminListen string   `group:"listen" default:"127.0.0.1:9750" placeholder:"ADDR" help:"Address for /metrics, /healthz and /readyz over HTTP; off disables it (default ${default})."`
	Pprof       bool     `group:"listen" help:"Serve profiles on the admin address."`
	Insecure    bool     `group:"listen" help:"Allow addresses beyond loopback without TLS: whoever reaches them may read and report."`
	Reflection  string   `group:"listen" enum:"auto,on,off" default:"auto" placeholder:"WHEN" help:"gRPC reflection: auto (on loopback), on or off (default ${default})."`

	DataDir         string        `group:"keep" placeholder:"DIR" help:"Log, checkpoints and feed (default: systemd's state directory, else /var/lib/whorl for root, else ~/.local/state/whorl)."`
	LogMaxBytes     size          `group:"keep" default:"4GiB" placeholder:"SIZE" help:"Disk for the log; while it is full nothing is taken in (default ${default}, at most a quarter of what is free)."`
	CheckpointEvery time.Duration `group:"keep" default:"1m" placeholder:"DURATION" help:"Write the state of the table after this much time, or 64MiB of log; less means a faster start after a crash (default ${default})."`

	Shards         int  `group:"table" default:"0" placeholder:"N" help:"Parts of the table; fixed when the data directory is made (default 0: what the directory has, 16 in a new one)."`
	MaxConnections int  `group:"table" default:"1000000" placeholder:"N" help:"Then connections leave, cause capacity (default ${default})."`
	MaxMemory      size `group:"table" default:"2GiB" placeholder:"SIZE" help:"Memory of the table, histories included (default ${default})."`

	IdleTimeoutTCPHalfOpen time.Duration `group:"table" name:"idle-timeout-tcp-half-open" default:"30s" placeholder:"DURATION" help:"Evict a TCP connection that was not answered after this much silence (default ${default}; 0 never)."`
	IdleTimeoutTCP         time.Duration `group:"table" name:"idle-timeout-tcp" default:"5m" placeholder:"DURATION" help:"Evict an established TCP connection after this much silence (default ${default}; 0 never)."`
	IdleTimeoutTCPClosed   time.Duration `group:"table" name:"idle-timeout-tcp-closed" default:"10s" placeholder:"DURATION" help:"Evict a closed TCP connection after this much silence (default ${default}; 0 never)."`
	IdleTimeoutUDPOneWay   time.Duration `group:"table" name:"idle-timeout-udp-one-way" default:"30s" placeholder:"DURATION" help:"Evict UDP that was not answered after this much silence (default ${default}; 0 never)."`
	IdleTimeoutUDP         time.Duration `group:"table" name:"idle-timeout-udp" default:"2m" placeholder:"DURATION" help:"Evict UDP after this much silence (default ${default}; 0 never)."`
	IdleTimeoutOther       time.Duration `group:"table" name:"idle-timeout-other" default:"30s" placeholder:"DURATION" help:"Evict anything else after this much silence (default ${default}; 0 never)."`

	FeedMaxAge     time.Duration `group:"table" default:"168h" placeholder:"DURATION" help:"How long the feed keeps evictions (default ${default})."`
	FeedMaxBytes   size          `group:"table" placeholder:"SIZE" help:"How much the feed keeps (default 8GiB on disk, 256MiB in memory)."`
	MaxProbes      int           `group:"table" default:"1000" placeholder:"N" help:"Probes connected at a time (default ${default})."`
	MaxSubscribers int           `group:"table" default:"256" placeholder:"N" help:"Subscribers at a time (default ${default})."`

	knowledgeFlags
}

func (cmd *collectorCmd) check() error { return cmd.collectorFlags.check(cmd.Durability) }

// check refuses flags that contradict one another.
func (f *collectorFlags) check(durability string) error {
	switch {
	case durability == "memory" && f.DataDir != "":
		return errors.New("--data-dir is for --durability=disk")
	case f.CheckpointEvery <= 0:
		return errors.New("--checkpoint-every: want more than 0")
	case f.LogMaxBytes <= 0:
		return errors.New("--log-max-bytes: want more than 0")
	case (f.TLSCert == "") != (f.TLSKey == ""):
		return errors.New("--tls-cert and --tls-key go together")
	case f.TLSClientCA != "" && f.TLSCert == "":
		return errors.New("--tls-client-ca needs --tls-cert and --tls-key")
	case f.Shards < 0:
		return errors.New("--shards: want 0 or more")
	case f.MaxConnections < 1:
		return errors.New("--max-connections: want 1 or more")
	case f.MaxProbes < 1 || f.MaxSubscribers < 1:
		return errors.New("--max-probes and --max-subscribers: want 1 or more")
	case int64(f.MaxMemory) < int64(f.leastShards())*leastShardMemory:
		n := f.leastShards()
		return fmt.Errorf("--max-memory: want at least %v for %s (--shards)", size(int64(n)*leastShardMemory), output.Plural(uint64(n), "shard"))
	case f.FeedMaxAge <= 0:
		return errors.New("--feed-max-age: want more than 0")
	}
	if err := f.checkKnowledge(); err != nil {
		return err
	}
	if err := checkAdmin(f.AdminListen, f.Insecure); err != nil {
		return err
	}
	for _, addr := range f.Listen {
		if !listenable(addr) {
			return fmt.Errorf("--listen %s: want HOST:PORT with a port 0..65535", addr)
		}
		if err := rpc.CheckListen(addr, f.TLSCert != "", f.Insecure); err != nil {
			return err
		}
	}
	return nil
}

// listenable reports whether addr is HOST:PORT with a port in figures. An empty
// host is every address.
func listenable(addr string) bool {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

// leastShards is how many shards there will be at least: a data directory may
// have more.
func (f *collectorFlags) leastShards() int {
	return min(cmp.Or(f.Shards, datadir.DefaultShards), f.MaxConnections)
}

// shards is the number to ask for; 0 leaves it to the data directory. A table
// has no more parts than connections.
func (f *collectorFlags) shards() int {
	if f.Shards == 0 && f.MaxConnections >= datadir.DefaultShards {
		return 0
	}
	return f.leastShards()
}

// never is what a timeout of 0 means to the tracker.
func never(d time.Duration) time.Duration {
	if d == 0 {
		return tracker.Never
	}
	return d
}

// config is what the flags say.
func (f *collectorFlags) config(c *console, durability string, noPlus bool) (service.Config, error) {
	dir := ""
	if durability == "disk" {
		dir = f.DataDir
	}
	if durability == "disk" && dir == "" {
		var err error
		if dir, err = datadir.Default(c.getenv); err != nil {
			return service.Config{}, failf(exitUsage, "%v", err)
		}
	}
	reflection := map[string]service.Reflection{
		"auto": service.ReflectionAuto, "on": service.ReflectionOn, "off": service.ReflectionOff,
	}[f.Reflection]
	return service.Config{
		Listen: f.Listen, Insecure: f.Insecure, Reflection: reflection,
		TLS: rpc.ServerTLSFiles{Cert: f.TLSCert, Key: f.TLSKey, ClientCA: f.TLSClientCA},
		Tracker: tracker.Config{
			Shards: f.shards(), MaxConnections: f.MaxConnections, MaxMemoryBytes: int64(f.MaxMemory),
			Timeouts: tracker.Timeouts{
				TCPHalfOpen: never(f.IdleTimeoutTCPHalfOpen), TCP: never(f.IdleTimeoutTCP), TCPClosed: never(f.IdleTimeoutTCPClosed),
				UDPOneWay: never(f.IdleTimeoutUDPOneWay), UDP: never(f.IdleTimeoutUDP), Other: never(f.IdleTimeoutOther),
			},
		},
		Knowledge: f.knowledge(),
		DataDir:   dir, LogMaxBytes: int64(f.LogMaxBytes), CheckpointEvery: f.CheckpointEvery,
		FeedMaxBytes: int64(f.FeedMaxBytes), FeedMaxAge: f.FeedMaxAge,
		MaxProbes: f.MaxProbes, MaxSubscribers: f.MaxSubscribers,
		NoJA4Plus: noPlus, Version: thisBuild().Version, Logger: c.logger,
	}, nil
}

// defaults are where data goes and how much the feed keeps, which depend on the
// durability, and on who runs it.
func (f *collectorFlags) defaults(c *console, durability string) map[string]string {
	if durability == "memory" {
		return map[string]string{"data-dir": "", "feed-max-bytes": size(service.DefaultFeedMaxBytes).String()}
	}
	found := map[string]string{"feed-max-bytes": size(service.DefaultFeedDiskBytes).String()}
	if dir, err := datadir.Default(c.getenv); err == nil {
		found["data-dir"] = dir
	}
	return found
}

func (cmd *collectorCmd) defaults(c *console) map[string]string {
	return cmd.collectorFlags.defaults(c, cmd.Durability)
}

// newCollector builds a collector; what it cannot be built from is a matter of
// flags, files or permissions.
func newCollector(cfg service.Config) (*service.Collector, error) {
	col, err := service.New(cfg)
	var (
		used *datadir.InUseError
		path *fs.PathError
	)
	switch {
	case err == nil:
		return col, nil
	case errors.Is(err, fs.ErrPermission):
		return nil, failf(exitForbidden, "%v", err)
	case errors.As(err, &used), errors.As(err, &path):
		return nil, failf(exitFailed, "%v", err)
	}
	return nil, failf(exitUsage, "%v", err)
}

// kept is what a line about a collector says of its memory.
func kept(cfg *service.Config, col *service.Collector) string {
	if cfg.DataDir == "" {
		return "memory only, nothing survives a restart"
	}
	return fmt.Sprintf("durable in %s, %s", cfg.DataDir, output.Plural(uint64(len(col.Status(true).GetShards())), "shard"))
}

// Run serves until it is told to end.
func (cmd *collectorCmd) Run(ctx context.Context, c *console) error {
	cfg, err := cmd.config(c, cmd.Durability, !cmd.JA4Plus)
	if err != nil {
		return err
	}
	col, err := newCollector(cfg)
	if err != nil {
		return err
	}
	defer col.Close()
	if err := col.Listen(); err != nil {
		return err
	}
	admin, err := cmd.admin(c)
	if err != nil {
		return err
	}
	defer reloadOnHangup(c, col)()
	ended := make(chan struct{})
	var saying sync.WaitGroup
	saying.Go(func() {
		select {
		case <-col.Ready():
			c.say("collector on %s (gRPC)%s; %s", addresses(col.Addrs()), admin.about(), kept(&cfg, col))
			c.tellSystemd(nowReady)
		case <-ended:
			return
		}
		select {
		case <-ctx.Done():
			c.tellSystemd(nowStopping)
		case <-ended:
		}
	})
	err = admin.during(ctx, col)
	close(ended)
	saying.Wait()
	return err
}

func addresses(addrs []net.Addr) string {
	text := ""
	for i, a := range addrs {
		if i > 0 {
			text += ", "
		}
		text += a.String()
	}
	return text
}
