package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/whorl-net/whorl/internal/spool"
)

const (
	// spillEvery is how often a spool is looked after while something is held.
	spillEvery = 100 * time.Millisecond
	// spoolRetry is the wait after a write that failed.
	spoolRetry = time.Second
	// loadBytes is how much is read from a spool at a time.
	loadBytes = 1 << 20
	// loadTries is how often a run is read before it is given up.
	loadTries = 5
	// spoolPatience is how long live traffic waits for a spool that works.
	spoolPatience = time.Second
)

// SpoolInfo says whose batches wait in a spool.
type SpoolInfo struct {
	ProbeID, Network string
	// Live says that they are of live traffic, not of a replay.
	Live bool
	// Bytes is what they take on disk.
	Bytes uint64
	// DamagedSegments were set aside: see ReporterStats. At most four are kept.
	DamagedSegments uint64
}

// DescribeSpool reads whose batches wait in the spool in dir, which another
// process may use. waiting is false when there is nothing to send; info says then
// what was set aside, if anything. A directory that holds other things than a
// spool is an error.
func DescribeSpool(dir string) (info SpoolInfo, waiting bool, err error) {
	files, err := spool.Look(dir)
	if err == nil {
		info.Bytes, info.DamagedSegments = uint64(files.Bytes), uint64(files.Aside)
	}
	d, err := spool.Describe(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return info, false, nil
	case err != nil:
		return SpoolInfo{}, false, err
	}
	info.ProbeID, info.Network, info.Live = d.Probe, d.Network, d.Live
	return info, true, nil
}

// SpoolInUse reports whether err says that another process has the spool.
func SpoolInUse(err error) bool {
	var inUse *spool.InUseError
	return errors.As(err, &inUse)
}

// SpoolTaken reports whether err says that the spool holds batches of another
// probe, of another network, or of the other kind of session.
func SpoolTaken(err error) bool {
	var owner *spool.OwnerError
	return errors.As(err, &owner)
}

// openSpool takes over what an earlier Reporter left.
func (r *Reporter) openSpool() error {
	sp, found, err := spool.Open(r.cfg.SpoolDir, spool.Options{
		Probe: r.cfg.ProbeID, Network: r.cfg.Network, Live: r.cfg.Live, MaxBytes: r.cfg.SpoolMaxBytes,
	})
	if err != nil {
		return err
	}
	id, next := sp.Session()
	r.spool, r.hello.SessionId = sp, id[:]
	r.tellDamage()
	for _, f := range found {
		r.ring.resume(f)
		r.stats.ResumedPackets += f.Packets
		if f.Lost() {
			r.countLostLocked(f.Last-f.First+1, f.Packets, f.Reason)
			continue
		}
		r.stats.HeldPackets += f.Packets
	}
	r.ring.next, r.ring.spooled = next, next-1
	if len(found) > 0 {
		r.log.Info("a session goes on where its spool ends", "probe", r.cfg.ProbeID, "spool", sp.Dir(),
			"packets", r.stats.HeldPackets, "next", next)
	}
	return nil
}

// Close lets go of the spool of a Reporter whose Run was never called. What is
// held stays in it as far as it is there.
func (r *Reporter) Close() error {
	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
	return r.settleSpool()
}

// spoolCapacity is what the spool may take on disk, in bytes.
func (r *Reporter) spoolCapacity() int64 {
	switch {
	case r.spool == nil:
		return 0
	case r.cfg.SpoolMaxBytes == 0:
		return DefaultSpoolMaxBytes
	}
	return r.cfg.SpoolMaxBytes
}

// spill tells the goroutine of the spool that there may be something to do.
func (r *Reporter) spill() {
	if r.spool == nil {
		return
	}
	select {
	case r.spillSoon <- struct{}{}:
	default: // it was told already
	}
}

// startSpilling runs the goroutine that writes the spool until stop is called,
// which returns when it has ended.
func (r *Reporter) startSpilling() (stop func()) {
	if r.spool == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { r.spilling(ctx) })
	return func() { cancel(); wg.Wait() }
}

func (r *Reporter) spilling(ctx context.Context) {
	for ctx.Err() == nil {
		more, err := r.spillGroup(false)
		r.spoolSays(err)
		r.tellDamage()
		wait := spillEvery
		switch {
		case err != nil:
			wait = spoolRetry
		case more:
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-r.spillWanted(err):
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// tellDamage logs what the spool found torn or damaged.
func (r *Reporter) tellDamage() {
	for _, line := range r.spool.Notes() {
		r.log.Warn("the spool is not as it was left", "probe", r.cfg.ProbeID, "cause", line)
	}
}

// spillWanted is a channel that says there is something to do; after an error
// nothing is.
func (r *Reporter) spillWanted(err error) <-chan struct{} {
	if err != nil {
		return nil
	}
	return r.spillSoon
}

// spoolSays tells who wants to know that the spool fails or works again.
func (r *Reporter) spoolSays(err error) {
	r.mu.Lock()
	before := r.spoolError
	r.spoolError = err
	if err != nil {
		r.madeRoomLocked() // nobody waits for a spool that fails
	}
	r.mu.Unlock()
	switch {
	case before == nil && err != nil:
		r.log.Error("the spool cannot be written: batches stay in memory", "probe", r.cfg.ProbeID, "err", err)
		r.cfg.OnSpool(err)
	case before != nil && err == nil:
		r.log.Info("the spool can be written again", "probe", r.cfg.ProbeID)
		r.cfg.OnSpool(nil)
	}
}

// spillGroup writes the oldest batches that should be in the spool, makes room
// there and reserves numbers; more says that it is worth calling it again at
// once. With all it writes whatever is held.
func (r *Reporter) spillGroup(all bool) (more bool, err error) {
	r.mu.Lock()
	oldest, next := r.ring.oldest(), r.ring.next
	group, size := r.groupLocked(all)
	pressed := all || r.ring.size > r.ring.maxBytes/2
	r.mu.Unlock()
	if err := r.spool.Forget(oldest); err != nil {
		r.revoke(group)
		return false, err
	}
	if !all {
		if err := r.spool.Reserve(next); err != nil {
			r.revoke(group)
			return false, err
		}
	}
	if len(group) == 0 {
		return false, nil
	}
	for !r.spool.Fits(size) {
		if !pressed { // what is in memory is safe there, unless the process is killed
			r.revoke(group)
			return false, nil
		}
		if made, err := r.dropSegment(); err != nil || !made {
			r.revoke(group)
			return false, err
		}
	}
	ranges, err := r.spool.Append(group)
	if err != nil {
		r.revoke(group)
		return false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ring.store(ranges)
	r.madeRoomLocked()
	return true, nil
}

// groupLocked takes the oldest batches that are due for the spool and marks
// them. size is what they take there.
func (r *Reporter) groupLocked(all bool) (group []spool.Record, size int) {
	// A collector that is there is waited for by who can wait.
	if !all && r.cfg.Full == Block && r.window.batches > 0 {
		return nil, 0
	}
	due, bodies := time.Now().Add(-r.cfg.SpoolAfter), 0
	over := r.ring.size - r.ring.maxBytes/2 // what should leave the memory
	r.ring.unspooled(func(h *held) bool {
		if !all && h.at.After(due) && over <= 0 || !spool.GroupFits(bodies, len(h.body)) || len(group) >= 4096 {
			return false
		}
		group = append(group, spool.Record{First: h.first, Last: h.last, Packets: h.packets, Bytes: h.bytes, Reason: h.reason, Body: h.body})
		h.writing = true
		over -= len(h.body)
		bodies += len(h.body)
		size += len(h.body) + spool.RecordOverhead
		return true
	})
	return group, size
}

// revoke takes back what groupLocked took.
func (r *Reporter) revoke(group []spool.Record) {
	if len(group) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ring.unwrite(group[0].First, group[len(group)-1].Last)
}

// dropSegment gives the oldest segment up that holds nothing a collector may
// know. It reports whether that made room.
func (r *Reporter) dropSegment() (made bool, err error) {
	if r.cfg.Full != DropOldest {
		return false, nil
	}
	r.mu.Lock()
	sent := r.ring.newestSent()
	first, last, ok := r.spool.Oldest(sent)
	if !ok {
		r.mu.Unlock()
		return false, nil
	}
	gone, records := r.ring.drop(first, last)
	for _, h := range gone {
		r.loseLocked(h, reasonSpoolFull)
	}
	r.mu.Unlock()
	return true, r.spool.Drop(first, records, sent)
}

// spillingLocked reports whether live traffic should wait for the spool instead
// of giving something up. It sets patience at first.
func (r *Reporter) spillingLocked(patience *time.Time) bool {
	if r.spool == nil || r.spoolError != nil || r.ended {
		return false
	}
	if patience.IsZero() {
		*patience = time.Now().Add(spoolPatience)
	}
	return time.Now().Before(*patience)
}

// waitSpoolLocked gives the lock up until there may be room, or until then.
func (r *Reporter) waitSpoolLocked(ctx context.Context, until time.Time) error {
	r.spill()
	timed, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	err := r.waitLocked(timed)
	if err != nil && ctx.Err() == nil && timed.Err() != nil {
		return r.openLocked() // the patience has ended, not the caller's
	}
	return err
}

// load brings the run at the head of the queue into memory, as far as it is
// sent next.
func (r *Reporter) load(ctx context.Context) error {
	r.mu.Lock()
	if len(r.ring.queued) == 0 || r.ring.queued[0].stored == nil {
		r.mu.Unlock()
		return nil
	}
	run := r.ring.queued[0].stored
	r.mu.Unlock()
	var (
		records []spool.Record
		rest    spool.Range
		err     error
	)
	for try := 1; ; try++ {
		if records, rest, err = r.spool.Read(*run, loadBytes); err == nil || try == loadTries || errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err := sleep(ctx, spoolRetry); err != nil {
			return err
		}
	}
	if err != nil {
		records, rest = []spool.Record{{First: run.First, Last: run.Last, Packets: run.Packets, Bytes: run.Bytes, Reason: spool.ReasonDamaged}},
			spool.Range{First: run.Last + 1, Last: run.Last}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	lost := r.ring.load(run, records, rest)
	for _, h := range lost {
		r.log.Error("batches in the spool cannot be read and are given up", "probe", r.cfg.ProbeID,
			"first", h.first, "last", h.last, "packets", h.packets, "err", err)
		r.stats.HeldPackets -= h.packets
		r.countLostLocked(h.last-h.first+1, h.packets, h.reason)
	}
	// What the collector knows of it already is done with.
	r.ackedLocked(0, 0)
	return nil
}

// settleSpool writes what is held to the spool and closes it. What cannot be
// written is lost, and counted.
func (r *Reporter) settleSpool() error {
	r.mu.Lock()
	settled := r.settled || r.spool == nil
	r.settled = true
	r.mu.Unlock()
	if settled {
		return nil
	}
	var err error
	for more := true; more && err == nil; {
		more, err = r.spillGroup(true)
	}
	r.mu.Lock()
	var lost []spool.Lost
	abandoned := uint64(0)
	r.ring.unspooled(func(h *held) bool {
		if !h.lost() {
			abandoned += h.packets
			r.ring.size -= len(h.body)
			r.countLostLocked(1, h.packets, reasonShutdown)
			r.stats.HeldPackets -= h.packets
			h.body, h.reason = nil, reasonShutdown
		}
		lost = append(lost, spool.Lost{First: h.first, Last: h.last, Packets: h.packets, Bytes: h.bytes, Reason: h.reason})
		return true
	})
	oldest, next := r.ring.oldest(), r.ring.next
	r.mu.Unlock()
	if abandoned > 0 {
		r.log.Error("packets could not be kept in the spool and are lost", "probe", r.cfg.ProbeID, "packets", abandoned, "err", err)
	}
	err = r.spool.Close(oldest, next, lost)
	r.tellDamage()
	if err != nil {
		return fmt.Errorf("reporter: %w", err)
	}
	return nil
}
