package service

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

const (
	// takeoverSilence is how long a live session must have been silent before
	// another session of the same probe id takes its place.
	takeoverSilence = 15 * time.Second
	// laggingAfter is how far behind its probe a live session may be.
	laggingAfter = 10 * time.Second
	// gonePerProbe bounds the probes that are remembered after they left, as a
	// multiple of MaxProbes; who left first is forgotten first.
	gonePerProbe = 4
)

// registry knows the probes: which are connected, and those that were. It
// decides which stream may speak for a probe id.
type registry struct {
	maxProbes int
	counters  *counters

	mu        sync.Mutex // guards all below and the fields of probes
	probes    map[string]*probe
	connected int
	draining  bool
}

// probe is what the collector knows of one probe id.
type probe struct {
	id     string
	stream *stream // nil when gone
	hello  *whorlv1.Hello
	report *whorlv1.ProbeReport // newest, nil before the first

	connectedAt, lastHeard time.Time
	// finished says that the session's last stream ended with an acknowledged
	// Finish: the probe holds nothing back, whatever its last report says.
	finished bool
	// clockOffset is the probe's clock less ours, when it last told.
	clockOffset time.Duration
	// What follows is of the session of hello, over all of its streams: like the
	// counters of a report. watermark is the newest of applied batches, on the
	// probe's clock.
	watermark      int64
	applied        uint64
	packetsApplied uint64
	packetsLost    uint64
}

func newRegistry(maxProbes int, c *counters) *registry {
	return &registry{maxProbes: maxProbes, counters: c, probes: make(map[string]*probe)}
}

// remember lists the sessions of an earlier life of the collector as gone, of
// each probe the one that was heard last. Nobody knows more of a probe than its
// batches say until it comes back, and a checkpoint not when it was heard: among
// sessions that only it knows, the one taken is a guess. It is called before the
// first stream.
func (r *registry) remember(earlier []session) {
	slices.SortStableFunc(earlier, func(a, b session) int { return cmp.Compare(b.heard, a.heard) })
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range earlier {
		s := &earlier[i]
		if r.probes[s.key.probe] != nil {
			continue
		}
		if len(r.probes) >= r.maxProbes*gonePerProbe {
			return
		}
		p := &probe{
			id:      s.key.probe,
			hello:   &whorlv1.Hello{ProbeId: s.key.probe, SessionId: bytes.Clone(s.key.id[:]), Network: s.key.network},
			applied: s.last, packetsApplied: s.packets, packetsLost: s.lost,
		}
		if s.heard != 0 {
			p.lastHeard = time.Unix(0, s.heard)
		}
		r.probes[p.id] = p
	}
}

// claim makes s the stream of its probe id. A stream of the same session is
// ended first, and claim waits until all it admitted is applied. A live stream
// of another session keeps its place: ALREADY_EXISTS.
func (r *registry) claim(ctx context.Context, s *stream, hello *whorlv1.Hello) error {
	for {
		old, err := r.tryClaim(s, hello)
		if old == nil {
			return err
		}
		old.end(failure(codes.Aborted, ReasonSuperseded, "a newer stream of this probe session took over"))
		select {
		case <-old.left:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// tryClaim returns the stream that has to leave first, nil when s took the
// place or may not have it.
func (r *registry) tryClaim(s *stream, hello *whorlv1.Hello) (*stream, error) {
	now := time.Now()
	id := hello.GetProbeId()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.draining {
		return nil, errDraining()
	}
	p := r.probes[id]
	if p != nil && p.stream != nil {
		old := p.stream
		silent := now.Sub(p.lastHeard)
		if (old.session.ID != s.session.ID || old.session.Network != s.session.Network) && (silent < takeoverSilence || old.busy.Load()) {
			r.counters.probesRefused.Add(1)
			return nil, retryLater(codes.AlreadyExists, ReasonProbeTaken, max(takeoverSilence-silent, retryDelay),
				fmt.Sprintf("probe_id %s has a live session, last heard %v ago: give this probe another id, or wait until that one has been silent for %v",
					quote(id), silent.Round(time.Millisecond), takeoverSilence),
				"probe_id", clip(id))
		}
		return old, nil
	}
	if r.connected >= r.maxProbes {
		r.counters.probesRefused.Add(1)
		return nil, retryLater(codes.ResourceExhausted, ReasonTooManyProbes, takeoverSilence,
			fmt.Sprintf("%d probes are connected, the most this collector takes", r.maxProbes),
			"limit", strconv.Itoa(r.maxProbes))
	}
	if p == nil {
		r.forgetLocked()
		p = &probe{id: id}
		r.probes[id] = p
	} else if !bytes.Equal(p.hello.GetSessionId(), hello.GetSessionId()) {
		*p = probe{id: id} // nothing of one session is said of another
	}
	p.stream, p.hello, p.finished = s, hello, false
	p.connectedAt, p.lastHeard = now, now
	p.clockOffset = offset(hello.GetProbeTime(), now)
	r.connected++
	s.probe = p
	return nil, nil
}

// forgetLocked makes room for one more probe that may be gone some day.
func (r *registry) forgetLocked() {
	if len(r.probes) < r.maxProbes*(1+gonePerProbe) {
		return
	}
	var oldest *probe
	for _, p := range r.probes {
		if p.stream == nil && (oldest == nil || p.lastHeard.Before(oldest.lastHeard)) {
			oldest = p
		}
	}
	if oldest != nil {
		delete(r.probes, oldest.id)
	}
}

// leave gives the place of s back. All it admitted must be applied.
func (r *registry) leave(s *stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.probe != nil && s.probe.stream == s {
		s.probe.stream, s.probe.finished = nil, s.finished
		r.connected--
	}
	close(s.left)
}

// resumed notes where the session of s stands, and what was counted of it in all:
// by an earlier life of the collector, too.
func (r *registry) resumed(s *stream, packets, lost uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := s.probe
	p.applied = max(p.applied, s.applied.Load())
	p.packetsApplied = max(p.packetsApplied, packets)
	p.packetsLost = max(p.packetsLost, lost)
}

// heard notes a message of s.
func (r *registry) heard(s *stream) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	s.probe.lastHeard = now
}

// reported notes the counters a probe sent.
func (r *registry) reported(s *stream, report *whorlv1.ProbeReport) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	s.probe.report = report
	if report.GetProbeTime() != nil {
		s.probe.clockOffset = offset(report.GetProbeTime(), now)
	}
}

// counted notes a batch that was applied.
func (r *registry) counted(s *stream, sequence uint64, watermark int64, packets, lost uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := s.probe
	p.applied = max(p.applied, sequence)
	p.watermark = max(p.watermark, watermark)
	p.packetsApplied += packets
	p.packetsLost += lost
}

// drain refuses new streams from now on and returns those there are.
func (r *registry) drain() []*stream {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining = true
	return r.streamsLocked()
}

// streams returns those there are.
func (r *registry) streams() []*stream {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.streamsLocked()
}

func (r *registry) streamsLocked() []*stream {
	var streams []*stream
	for _, p := range r.probes {
		if p.stream != nil {
			streams = append(streams, p.stream)
		}
	}
	return streams
}

// refuses returns why nothing new is taken, nil while something is.
func (r *registry) refuses() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.draining {
		return errDraining()
	}
	return nil
}

// count returns the number of connected probes.
func (r *registry) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.connected
}

// list describes the probes, by id.
func (r *registry) list(includeGone bool) []*whorlv1.Probe {
	now := time.Now()
	r.mu.Lock()
	out := make([]*whorlv1.Probe, 0, len(r.probes))
	for _, p := range r.probes {
		if p.stream != nil || includeGone {
			out = append(out, p.describeLocked(now))
		}
	}
	r.mu.Unlock()
	slices.SortFunc(out, func(a, b *whorlv1.Probe) int { return cmp.Compare(a.GetProbeId(), b.GetProbeId()) })
	return out
}

func (p *probe) describeLocked(now time.Time) *whorlv1.Probe {
	lag := p.lagLocked(now)
	state := whorlv1.ProbeState_PROBE_STATE_CONNECTED
	switch {
	case p.stream == nil:
		state = whorlv1.ProbeState_PROBE_STATE_GONE
	case lag > laggingAfter:
		state = whorlv1.ProbeState_PROBE_STATE_LAGGING
	}
	rep := p.report
	spool := rep.GetSpoolBatches()
	if p.finished {
		spool = 0
	}
	return &whorlv1.Probe{
		ProbeId: p.id, Hostname: p.hello.GetHostname(), Version: p.hello.GetProbeVersion(),
		Labels: p.hello.GetLabels(), Network: networkOf(p.hello.GetNetwork()), State: state,
		ConnectedAt: knownTime(p.connectedAt), LastHeard: knownTime(p.lastHeard),
		AppliedSequence: p.applied,
		// A report is seconds old, or yet to come: what was applied was received.
		PacketsReceived: max(rep.GetPacketsReceived(), p.packetsApplied),
		PacketsDropped:  rep.GetPacketsDroppedKernel() + rep.GetPacketsDroppedInterface() + rep.GetPacketsDroppedProbe(),
		SpoolBatches:    spool,
		ClockOffset:     durationpb.New(p.clockOffset), Lag: durationpb.New(lag),
		PacketsApplied: p.packetsApplied, PacketsLost: max(p.packetsLost, reportedLost(rep)),
		PacketsReported: rep.GetPacketsReported(), PacketsAcknowledged: rep.GetPacketsAcknowledged(),
		PacketsBuffered: rep.GetPacketsBuffered(),
	}
}

// knownTime is t, nil when nobody knows it.
func knownTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// reportedLost is what a probe says it gave up: it knows before the Lost record
// is here, and of what was lost before this collector started.
func reportedLost(rep *whorlv1.ProbeReport) uint64 {
	n := uint64(0)
	for _, lost := range rep.GetPacketsLost() {
		n += lost
	}
	return n
}

// lagLocked returns how far what is applied is behind what a live probe has
// seen: the age of the newest watermark on the probe's clock, while the probe
// says that it holds batches back. A replay and a quiet probe do not lag.
func (p *probe) lagLocked(now time.Time) time.Duration {
	if p.stream == nil || p.hello.GetKind() == whorlv1.SessionKind_SESSION_KIND_REPLAY ||
		p.watermark == 0 || p.report.GetSpoolBatches() == 0 {
		return 0
	}
	return max(now.Add(p.clockOffset).Sub(time.Unix(0, p.watermark)), 0)
}

// offset returns a probe's clock less ours; 0 when it told no usable time.
func offset(probeTime *timestamppb.Timestamp, now time.Time) time.Duration {
	if probeTime == nil || probeTime.CheckValid() != nil {
		return 0
	}
	return probeTime.AsTime().Sub(now)
}
