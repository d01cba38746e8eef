package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"sync"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/spool"
	"github.com/whorl-net/whorl/internal/wire"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// Defaults of a ReporterConfig.
const (
	DefaultBufferBytes    = 64 << 20
	DefaultSpoolMaxBytes  = spool.DefaultMaxBytes
	DefaultSpoolAfter     = time.Second
	DefaultReportInterval = 5 * time.Second
)

// MinBufferBytes holds a few of the largest batches a probe cuts, MinSpoolBytes
// a few segments.
const (
	MinBufferBytes = 256 << 10
	MinSpoolBytes  = spool.MinMaxBytes
)

// FullPolicy says what Report does when the buffer is full.
type FullPolicy uint8

const (
	// Block makes Report wait for room: nothing is lost, and whoever reads the
	// packets waits. For files. A spool is then written only while the
	// collector is away.
	Block FullPolicy = iota
	// DropOldest replaces the oldest whole batches that were never sent by one
	// Lost record, which takes their numbers and says how many packets and
	// bytes they held. For live traffic, which does not wait; for a spool that
	// works it waits up to a second.
	DropOldest
)

// ReporterConfig describes a probe to its collector. The zero ReporterConfig
// works: a replay named after this host, in the network "default".
type ReporterConfig struct {
	// ProbeID names the probe; empty is the host name. Where the collector asks
	// for certificates it must be a name of the certificate.
	ProbeID string
	// Network is the scope of addresses, see flow.CheckNetwork; empty is
	// flow.DefaultNetwork.
	Network string
	// Live says that times are of a clock that runs now; otherwise the session
	// is a replay, whose times are taken as they are.
	Live bool
	// Version, Hostname, Interfaces and Labels are shown with the probe. An
	// empty Hostname is the host name.
	Version    string
	Hostname   string
	Interfaces []string
	Labels     map[string]string

	// BufferBytes bounds the encoded batches held until they are durable; 0 is
	// 64 MiB, less than 256 KiB is refused. Full says what happens beyond.
	BufferBytes int
	Full        FullPolicy
	// SpoolDir, when not empty, keeps what cannot be acknowledged soon in this
	// directory, one for each probe: when the buffer is half full, what is older
	// than SpoolAfter, and all that is held when Run ends. It is written
	// in groups with one fsync each. A Reporter made later on the same
	// directory, after a crash too, goes on with the session and sends it.
	// A healthy collector acknowledges sooner and then nothing is written but
	// how far the numbering has come.
	SpoolDir string
	// SpoolMaxBytes bounds the directory; 0 is 1 GiB, less than 1 MiB is
	// refused. Beyond, Full says what happens: Block waits, DropOldest gives the
	// oldest segment (up to 4 MiB of batches) up as one Lost record.
	SpoolMaxBytes int64
	// SpoolAfter is the age at which a batch is written; 0 is 1 s. It bounds
	// what is lost when the process is killed.
	SpoolAfter time.Duration
	// Compress sends messages compressed by zstd, for slow links: a third
	// less of mixed traffic for some 0.2 µs of CPU per packet, most of it here.
	Compress bool
	// MustConnect makes Run fail when it has not connected for the first time
	// within ConnectWithin, instead of trying for as long as it takes. An attempt
	// is not cut short by it, so 0 is one attempt. What waiting does not mend
	// fails at once: a host name that does not exist, a certificate that one side
	// does not accept, somebody else at the address.
	MustConnect   bool
	ConnectWithin time.Duration
	// ReportInterval is the time between two ProbeReports; 0 is 5 s. A
	// collector takes a probe for gone after 15 s of silence.
	ReportInterval time.Duration
	// Counters, when not nil, gives the counters of the capture for a
	// ProbeReport. It is called from Run's goroutines and must not block.
	Counters func() Counters
	// OnWait, when not nil, is called when MustConnect is set and Run goes on
	// trying to connect for the first time, up to patience; err is why it has to.
	// OnTaken, when not nil, is called when another session is found to hold
	// the probe id: Run waits up to patience for it. OnRefused is called once, with
	// the types of fingerprints that the collector says it does not keep. OnBack is called when the
	// collector welcomes this probe after an attempt failed or a stream was cut,
	// with the time since. OnSpool is called when the spool cannot be written
	// (err is why: batches stay in memory, what is full loses its oldest) and,
	// with nil, when it can be again. All are called from Run and must not block.
	OnWait    func(err error, patience time.Duration)
	OnTaken   func(patience time.Duration)
	OnRefused func(types []string)
	OnBack    func(away time.Duration)
	OnSpool   func(err error)
	// Logger takes the place of the client's.
	Logger *slog.Logger
}

// Counters are what a capture counted since it began.
type Counters struct {
	// Received is every packet read; the others are those of it, or beside it,
	// that the kernel, the interface or the probe dropped.
	Received, DroppedKernel, DroppedInterface, DroppedProbe uint64
	// Undecodable packets were malformed; Untracked belong to no connection.
	Undecodable, Untracked uint64
}

// ReporterStats says what became of the batches given to Report. At any time
// Packets + ResumedPackets = DurablePackets + HeldPackets + LostPackets +
// RejectedPackets + ForgottenPackets.
type ReporterStats struct {
	// Batches, Packets and Bytes (as captured) were given to Report.
	Batches, Packets, Bytes uint64
	// ResumedPackets were found in the spool when the Reporter was made, those
	// that an earlier one had given up included.
	ResumedPackets uint64
	// SentPackets this Reporter has sent, each once however often it was sent.
	// What an earlier one had sent, and the collector knew, is not among them.
	SentPackets uint64
	// DurablePackets the collector has acknowledged as durable.
	DurablePackets uint64
	// HeldBatches, HeldPackets and HeldBytes (encoded) wait for that.
	HeldBatches, HeldPackets, HeldBytes uint64
	// SpooledPackets are those of HeldPackets that are in the spool, and
	// SpoolBytes what it takes on disk.
	SpooledPackets, SpoolBytes uint64
	// DamagedSegments of the spool were kept beside it, under another name.
	DamagedSegments uint64
	// LostBatches and LostPackets were given up. LostByReason are the packets
	// by the reason that their Lost records say: "ring-full", "spool-full",
	// "spool-damaged", "shutdown"; "crash" records count no packets, for nobody
	// knows what was in memory. Nil when nothing was lost.
	LostBatches, LostPackets uint64
	LostByReason             map[string]uint64
	// RejectedBatches and RejectedPackets the collector refused for good.
	RejectedBatches, RejectedPackets uint64
	// ForgottenPackets were acknowledged as durable by a collector that came
	// back in a new epoch: its memory is gone and they with it, but for what had
	// reached the feed's readers. They cannot be sent again.
	ForgottenPackets uint64
	// Connects counts streams the collector welcomed; Connected says that one
	// stands now.
	Connects  uint64
	Connected bool
	// Away says that the newest attempt failed, or that the stream was cut, and
	// that none stands since.
	Away bool
	// Waiting says that a call of Report waits for room, which only an
	// acknowledgement can make.
	Waiting bool
	// Applied and Durable are the newest acknowledged sequences.
	Applied, Durable uint64
}

// ErrFinished is what Report returns after Finish was called or Run has ended.
var ErrFinished = errors.New("the reporter is finished")

// Reporter gives batches to a collector. It numbers them from 1, encodes each
// once, holds them until the collector says that they are durable, and sends
// them again after a reconnect, so that each is counted exactly once. Use
// Client.Reporter to make one; Run must run while it is used.
type Reporter struct {
	client *Client
	cfg    ReporterConfig
	hello  *whorlv1.Hello // all but what changes from stream to stream
	log    *slog.Logger
	wake   chan struct{} // capacity 1: there may be something to send
	done   chan struct{} // closed when Run has ended

	mu      sync.Mutex // guards what follows
	ring    ring
	room    chan struct{} // closed, and made anew, when room appears
	stats   ReporterStats
	finish  *whorlv1.Finish // not nil once Finish was called
	ended   bool            // Run has ended
	failure error           // why Run ended, if not complete
	away    time.Time       // when the collector was found away; zero while it is there
	epoch   string          // of the collector that was heard last, "" before
	refused bool            // OnRefused was called
	window  window          // what the stream of now may have under way
	rhythm  rhythm          // of the stream of now
	sentTo  uint64          // the newest sequence that was sent, by this Reporter
	drain   time.Time       // when not zero: end the stream when all is acknowledged, or then
	scratch []byte          // encoding buffer of Report
	waiting int             // calls of Report that wait for room

	spool      *spool.Spool  // nil without one
	spillSoon  chan struct{} // capacity 1: there may be something to write to the spool
	spoolError error         // why it could not be written last, nil when it could; guarded by mu
	settled    bool          // the spool is closed; guarded by mu
}

// Reporter makes a Reporter that reports through c, which should be dialled
// WithLazy unless the collector must be there. The caller keeps c and closes it
// after Run has returned. With a spool it fails when that cannot be used, see
// SpoolInUse, and holds it until Run has returned, or Close if Run is never
// called.
func (c *Client) Reporter(cfg ReporterConfig) (*Reporter, error) {
	if err := cfg.setDefaults(c); err != nil {
		return nil, fmt.Errorf("reporter: %w", err)
	}
	kind := whorlv1.SessionKind_SESSION_KIND_REPLAY
	if cfg.Live {
		kind = whorlv1.SessionKind_SESSION_KIND_LIVE
	}
	r := &Reporter{
		client: c, cfg: cfg, log: cfg.Logger,
		hello: &whorlv1.Hello{
			ProbeId: cfg.ProbeID, ProbeVersion: cfg.Version, Hostname: cfg.Hostname,
			Interfaces: cfg.Interfaces, Labels: cfg.Labels, Network: cfg.Network, Kind: kind, SchemaVersion: 1,
		},
		wake:      make(chan struct{}, 1),
		spillSoon: make(chan struct{}, 1),
		done:      make(chan struct{}),
		room:      make(chan struct{}),
		ring:      ring{maxBytes: cfg.BufferBytes, next: 1},
	}
	if cfg.SpoolDir != "" {
		if err := r.openSpool(); err != nil {
			return nil, fmt.Errorf("reporter: %w", err)
		}
		return r, nil
	}
	r.hello.SessionId = make([]byte, 16)
	rand.Read(r.hello.SessionId) // never fails
	return r, nil
}

func (cfg *ReporterConfig) setDefaults(c *Client) error {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	if cfg.Hostname == "" {
		cfg.Hostname = host
	}
	if cfg.ProbeID == "" {
		cfg.ProbeID = host
	}
	if cfg.Network == "" {
		cfg.Network = flow.DefaultNetwork
	}
	if cfg.BufferBytes == 0 {
		cfg.BufferBytes = DefaultBufferBytes
	}
	if cfg.ReportInterval == 0 {
		cfg.ReportInterval = DefaultReportInterval
	}
	if cfg.Counters == nil {
		cfg.Counters = func() Counters { return Counters{} }
	}
	if cfg.OnTaken == nil {
		cfg.OnTaken = func(time.Duration) {}
	}
	if cfg.OnRefused == nil {
		cfg.OnRefused = func([]string) {}
	}
	if cfg.OnSpool == nil {
		cfg.OnSpool = func(error) {}
	}
	if cfg.SpoolAfter == 0 {
		cfg.SpoolAfter = DefaultSpoolAfter
	}
	if cfg.OnBack == nil {
		cfg.OnBack = func(time.Duration) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = c.opts.logger
	}
	if cfg.SpoolAfter < 0 {
		return fmt.Errorf("a spool that is written after %v: want more than 0", cfg.SpoolAfter)
	}
	if cfg.BufferBytes < MinBufferBytes {
		return fmt.Errorf("a buffer of %d bytes is too small, want at least %d", cfg.BufferBytes, MinBufferBytes)
	}
	return flow.CheckNetwork(cfg.Network)
}

// Report takes what b holds, sets b.Sequence, and returns; it does not wait for
// the collector. It keeps nothing of b, so the caller may fill b again at once.
//
// When the buffer is full it does what ReporterConfig.Full says; blocked, it
// returns the cause of ctx if that ends first, and then took nothing of b.
// After Finish, or after Run has ended, it returns ErrFinished (joined with why
// Run ended). Calls one after another keep their order; concurrent calls are
// safe and come in any order.
func (r *Reporter) Report(ctx context.Context, b *flow.Batch) error {
	packets, bytes := b.Packets()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.openLocked(); err != nil {
		return err
	}
	b.Sequence = 0 // it is written in front, once it is known
	body := wire.AppendBatch(r.scratch[:0], b)
	r.scratch = body[:0]
	var patience time.Time
	for size := len(body) + frameBytes; !r.ring.fits(size); {
		if r.cfg.Full == DropOldest {
			if r.spillingLocked(&patience) {
				r.scratch = nil // ours while we wait
				if err := r.waitSpoolLocked(ctx, patience); err != nil {
					return err
				}
				continue
			}
			gone, ok := r.ring.giveUp()
			if !ok {
				break // what is held is on its way: give up this one
			}
			r.loseLocked(gone, reasonRingFull)
			continue
		}
		r.spill()
		r.scratch = nil // ours while we wait
		r.waiting++
		r.signal()
		err := r.waitLocked(ctx)
		r.waiting--
		if err != nil {
			return err
		}
	}
	h := held{first: r.ring.next, last: r.ring.next, packets: packets, bytes: bytes, at: time.Now()}
	b.Sequence = h.first
	r.stats.Batches++
	r.stats.Packets += packets
	r.stats.Bytes += bytes
	if r.ring.fits(len(body) + frameBytes) {
		h.body, h.ours = ingestRequest(r.ring.spareBody(), h.first, body), true
		r.ring.push(h)
		r.stats.HeldPackets += packets
	} else {
		r.ring.pushLost(h, reasonRingFull)
		r.stats.HeldPackets += packets
		r.loseLocked(h, reasonRingFull)
	}
	if !r.rhythm.resting || r.muchLocked() {
		r.signal()
	}
	r.spill()
	return nil
}

func (r *Reporter) openLocked() error {
	switch {
	case r.ended:
		return errors.Join(ErrFinished, r.failure)
	case r.finish != nil:
		return ErrFinished
	}
	return nil
}

// waitLocked gives the lock up until there may be room.
func (r *Reporter) waitLocked(ctx context.Context) error {
	room := r.room
	r.mu.Unlock()
	var err error
	select {
	case <-room:
	case <-r.done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	r.mu.Lock()
	return errors.Join(err, r.openLocked())
}

// loseLocked counts what was held and is not any more.
func (r *Reporter) loseLocked(gone held, reason string) {
	if r.stats.LostBatches == 0 {
		r.log.Warn("batches are given up and counted", "probe", r.cfg.ProbeID, "reason", reason, "bytes", r.cfg.BufferBytes)
	}
	n := uint64(1)
	if gone.stored != nil {
		n = gone.stored.Batches
	}
	r.countLostLocked(n, gone.packets, reason)
	r.stats.HeldPackets -= gone.packets
}

// countLostLocked notes batches that were given up.
func (r *Reporter) countLostLocked(batches, packets uint64, reason string) {
	r.stats.LostBatches += batches
	r.stats.LostPackets += packets
	if packets == 0 {
		return
	}
	if r.stats.LostByReason == nil {
		r.stats.LostByReason = make(map[string]uint64)
	}
	r.stats.LostByReason[reason] += packets
}

// signal tells the stream that there may be something to send.
func (r *Reporter) signal() {
	select {
	case r.wake <- struct{}{}:
	default: // it was told already
	}
}

// Finish says that nothing more will come, and waits until the collector has
// acknowledged everything as applied and durable; Run then returns nil. With
// flush the collector also evicts the connections of this session, cause flush.
// It returns the cause of ctx if that ends first (Stats says what is still
// held), and the error of Run if that ended without.
func (r *Reporter) Finish(ctx context.Context, flush bool) error {
	r.mu.Lock()
	if r.finish == nil {
		r.finish = &whorlv1.Finish{Flush: flush}
	}
	r.mu.Unlock()
	r.signal()
	select {
	case <-r.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failure
}

// Stats returns the counters as they are now.
func (r *Reporter) Stats() ReporterStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.HeldBatches = r.ring.batches()
	s.HeldBytes = uint64(r.ring.size) + r.ring.storedBytes
	s.LostByReason = maps.Clone(s.LostByReason)
	s.Away, s.Waiting = !r.away.IsZero(), r.waiting > 0
	if r.spool != nil {
		s.SpooledPackets = r.ring.onDisk()
		s.SpoolBytes = uint64(r.spool.Size())
		s.DamagedSegments = uint64(r.spool.Aside())
	}
	return s
}

// ProbeID returns the name under which the probe reports.
func (r *Reporter) ProbeID() string { return r.cfg.ProbeID }
