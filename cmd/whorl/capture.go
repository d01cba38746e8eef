package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/whorl-net/whorl/client"
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/output"
	"github.com/whorl-net/whorl/internal/units"
	"github.com/whorl-net/whorl/probe"
	"github.com/whorl-net/whorl/probe/bpf"
	"github.com/whorl-net/whorl/probe/capture"
)

// captureFlags are those of probe and run: what to read and what to make of it.
type captureFlags struct {
	Filter  []string `arg:"" optional:"" placeholder:"FILTER" help:"Capture filter: host, net, port, portrange, ip, tcp, vlan …, joined by and, or, not."`
	BPFFile string   `group:"capture" name:"bpf-file" placeholder:"FILE" help:"A filter made by tcpdump -ddd for the same interface or file."`

	Interface      []string `group:"capture" short:"i" placeholder:"NAME" xor:"source" help:"Capture an interface; repeat for several."`
	ListInterfaces bool     `group:"capture" short:"D" help:"List the interfaces, then exit."`
	Read           []string `group:"capture" short:"r" placeholder:"FILE" xor:"source" help:"Read a capture file; repeat for several, in order; - is standard input."`
	Count          uint64   `group:"capture" short:"c" placeholder:"N" help:"Stop after N packets (default 0: never)."`
	Snaplen        uint32   `group:"capture" default:"262144" placeholder:"N" help:"Bytes kept per packet (default ${default}); lengths count whole. Below some 2000 handshakes are cut."`
	Ring           size     `group:"capture" default:"32MiB" placeholder:"SIZE" help:"Kernel ring per queue (default ${default})."`
	Fanout         int      `group:"capture" default:"1" placeholder:"N" help:"Queues per interface (default ${default})."`
	Outer          bool     `group:"capture" help:"The outer addresses of tunnelled packets instead of the innermost."`
	Keylog         string   `group:"capture" placeholder:"FILE" help:"TLS secrets (SSLKEYLOGFILE format), to fingerprint what is inside."`
	Speed          speed    `group:"capture" default:"max" placeholder:"SPEED" help:"With -r: max, or a multiple of capture speed such as 1x or 10x (default ${default})."`
	Retime         bool     `group:"capture" help:"With -r: shift times so that the first packet is now."`
	typeFlags

	Network  string            `group:"report" default:"default" placeholder:"NAME" help:"Scope of addresses and of new (default ${default})."`
	ProbeID  string            `group:"report" placeholder:"NAME" help:"Name of this probe (default: host name; with -r host name and -replay)."`
	Label    map[string]string `group:"report" placeholder:"K=V" mapsep:"," help:"Label shown by whorl probes; repeat."`
	Coalesce time.Duration     `group:"report" default:"0s" placeholder:"DURATION" help:"Merge packets of one flow and direction for this long (default 0: never)."`
	Flush    bool              `group:"report" help:"With -r: at the end evict this session's connections, cause flush."`
	Buffer   size              `group:"report" default:"64MiB" placeholder:"SIZE" help:"Batches held in memory while the collector is away (default ${default})."`

	send sendFlags // of a probe; run has none
	// toSpool says that files are read without a collector, into the spool.
	toSpool bool
}

// minSnaplen holds the headers of a packet in a tunnel.
const minSnaplen = 96

func (f *captureFlags) check() error {
	if f.ListInterfaces {
		return nil
	}
	switch {
	case len(f.Interface) == 0 && len(f.Read) == 0:
		return f.nothingToRead()
	case f.BPFFile != "" && len(f.Filter) > 0:
		return errors.New("both a filter and --bpf-file: give one of them")
	case f.live() && (f.Speed != 0 || f.Retime || f.Flush):
		return errors.New("--speed, --retime and --flush are for -r")
	case f.Fanout < 1 || f.Fanout > 64:
		return errors.New("--fanout: want 1 to 64")
	case f.Buffer < client.MinBufferBytes:
		return fmt.Errorf("--buffer: want at least %v", size(client.MinBufferBytes))
	case f.Snaplen < minSnaplen || f.Snaplen > capture.MaxCaptured:
		return fmt.Errorf("--snaplen: want %d to %d", minSnaplen, capture.MaxCaptured)
	case f.Coalesce < 0:
		return errors.New("--coalesce: want 0 or more")
	}
	if err := flow.CheckNetwork(f.Network); err != nil {
		return err
	}
	if _, err := f.set(); err != nil {
		return err
	}
	return bpf.Check(f.words())
}

var errNothingToRead = errors.New("nothing to read: give -i INTERFACE or -r FILE")

// nothingToRead says how to name a source, which may have been named as if it
// were a filter.
func (f *captureFlags) nothingToRead() error {
	for _, word := range f.Filter {
		if info, err := os.Stat(word); err == nil && !info.IsDir() {
			return fmt.Errorf("%s is a file, not a filter: give -r %[1]s", word)
		}
	}
	return errNothingToRead
}

func (f *captureFlags) live() bool { return len(f.Interface) > 0 }

func (f *captureFlags) words() string { return strings.Join(f.Filter, " ") }

// speed is a multiple of capture speed; 0 is as fast as possible.
type speed float64

// UnmarshalText reads "max" or "10x".
func (s *speed) UnmarshalText(text []byte) error {
	if string(text) == "max" {
		*s = 0
		return nil
	}
	number, isMultiple := strings.CutSuffix(string(text), "x")
	v, err := strconv.ParseFloat(number, 64)
	if !isMultiple || err != nil || !(v > 0 && v <= 1e6) {
		return fmt.Errorf("%q is not max or a multiple such as 1x or 10x", text)
	}
	*s = speed(v)
	return nil
}

// String is the form UnmarshalText reads.
func (s speed) String() string {
	if s == 0 {
		return "max"
	}
	return fmt.Sprintf("%gx", float64(s))
}

// probeConfig is what to make of packets.
func (f *captureFlags) probeConfig(c *console, src *sources) (probe.Config, error) {
	set, err := f.set()
	c.remarkSecrets(f.Keylog, src.secrets, f.live())
	if src.keyFile != nil {
		src.keyFile.OnError = func(err error) { c.logger.Warn("no new secrets for now", "cause", err) }
	}
	return probe.Config{
		Types: set, Outer: f.Outer, Count: f.Count, Speed: float64(f.Speed), Retime: f.Retime,
		Coalesce: f.Coalesce, Live: f.live(),
		Secrets: src.secrets, KeyFile: src.keyFile,
		OnPanic: func(in *capture.Packet, cause any, stack []byte) {
			c.logger.Error("a packet hit a bug of ours and was skipped", "cause", cause, "bytes", len(in.Data), "stack", string(stack))
		},
	}, err
}

// reporterConfig is how to report.
func (f *captureFlags) reporterConfig(c *console, counters func() client.Counters) client.ReporterConfig {
	full := client.Block
	if f.live() {
		full = client.DropOldest
	}
	id := f.probeID()
	return client.ReporterConfig{
		ProbeID: id, Network: f.Network, Live: f.live() || f.Retime, Version: thisBuild().Version,
		Interfaces: f.Interface, Labels: f.Label, BufferBytes: int(f.Buffer), Full: full,
		MustConnect: !f.live() && !f.toSpool, ConnectWithin: f.send.Wait, Counters: counters, Logger: c.logger,
		OnWait: func(err error, patience time.Duration) {
			c.say("%s: waiting up to %s for it (--wait); Ctrl-C gives up", c.explain(err).text, units.Duration(patience.Round(time.Second)))
		},
		OnRefused: func(types []string) { c.remarkRefused(f, types) },
		OnTaken: func(patience time.Duration) {
			c.say("probe id %s is connected elsewhere: waiting up to %s; another: --probe-id NAME", id, units.Duration(patience))
		},
		OnBack: func(away time.Duration) {
			c.say("connected to the collector, after %s", output.Elapsed(away))
		},
		Compress: f.send.Compress == "zstd", SpoolDir: f.send.Spool, SpoolMaxBytes: int64(f.send.SpoolMax),
		OnSpool: func(err error) {
			if err == nil {
				c.say("the spool works again")
				return
			}
			c.say("%v: batches stay in memory, up to %v (--buffer)", err, f.Buffer)
		},
	}
}

// probeName is the name that the probe will have.
func (f *captureFlags) probeName() string {
	if id := f.probeID(); id != "" {
		return id
	}
	host, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return host
}

// probeID names the probe. A replay beside the live probe of a host has a name
// of its own: two sessions cannot share one.
func (f *captureFlags) probeID() string {
	if f.ProbeID != "" || f.live() {
		return f.ProbeID // empty is the host name
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return host + "-replay"
}
