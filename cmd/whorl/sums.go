package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/whorl-net/whorl/client"
	"github.com/whorl-net/whorl/internal/output"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// A collector counts every packet and every connection at more than one place,
// so what it says can be checked: packets acknowledged are those applied and
// those about to be, connections opened are those live and those evicted. Its
// counters are not read at one moment: under load a sum may be off by what is
// under way. It is wrong when it is off by the same amount again and again.
const (
	sumsTries = 8
	sumsEvery = 250 * time.Millisecond
)

// sum is an equation that must hold.
type sum struct {
	check       string
	left, right func(*whorlv1.GetStatusResponse) uint64
	text        func(*whorlv1.GetStatusResponse) string
}

var sums = [...]sum{
	{
		check: "packets",
		left:  (*whorlv1.GetStatusResponse).GetPacketsAcknowledged,
		right: func(s *whorlv1.GetStatusResponse) uint64 { return s.GetPacketsApplied() + s.GetPacketsReplaying() },
		text: func(s *whorlv1.GetStatusResponse) string {
			return fmt.Sprintf("%s acknowledged, %s applied + %s to come", output.Number(s.GetPacketsAcknowledged()),
				output.Number(s.GetPacketsApplied()), output.Number(s.GetPacketsReplaying()))
		},
	},
	{
		check: "connections",
		left:  (*whorlv1.GetStatusResponse).GetConnectionsOpened,
		right: func(s *whorlv1.GetStatusResponse) uint64 { return s.GetConnections() + output.Evicted(s) },
		text: func(s *whorlv1.GetStatusResponse) string {
			return fmt.Sprintf("%s opened, %s live + %s evicted", output.Number(s.GetConnectionsOpened()),
				output.Number(s.GetConnections()), output.Number(output.Evicted(s)))
		},
	},
}

// checkSums asks until each sum has held once, or sumsTries times.
func checkSums(ctx context.Context, cl *client.Client, every time.Duration) []output.Finding {
	var scales [len(sums)]weighing
	for try := range sumsTries {
		if try > 0 {
			select {
			case <-time.After(every):
			case <-ctx.Done():
			}
		}
		status, err := cl.Status(ctx, &whorlv1.GetStatusRequest{})
		if err != nil {
			break // who asks again is told why
		}
		open := false
		for i := range sums {
			open = scales[i].add(&sums[i], status) || open
		}
		if !open {
			break
		}
	}
	var findings []output.Finding
	for i := range sums {
		findings = append(findings, scales[i].finding(&sums[i]))
	}
	return findings
}

// weighing is what came of asking for one sum.
type weighing struct {
	held  bool
	off   []int64 // left less right, each time it did not hold
	words string  // of the newest answer
}

// add judges one answer, and reports whether another is wanted.
func (t *weighing) add(s *sum, status *whorlv1.GetStatusResponse) (open bool) {
	if t.held {
		return false
	}
	t.words = s.text(status)
	off := int64(s.left(status) - s.right(status))
	t.held = off == 0
	t.off = append(t.off, off)
	return !t.held
}

func (t *weighing) finding(s *sum) output.Finding {
	f := output.Finding{Check: s.check, Result: output.OK, Detail: t.words}
	switch {
	case t.held:
	case len(t.off) == 0:
		f.Result, f.Detail = output.Warn, "the collector does not answer any more"
	case t.steady():
		f.Result = output.Fail
		f.Detail = fmt.Sprintf("%s: off by %s", t.words, output.Number(uint64(max(t.off[0], -t.off[0]))))
		f.Fix = "this is a bug: keep the data directory and report it"
	default:
		f.Result, f.Detail = output.Warn, t.words+": it changes too fast to be checked"
	}
	return f
}

// steady reports whether the sum was off by one and the same amount: then it is
// wrong, and not only in motion.
func (t *weighing) steady() bool {
	for _, off := range t.off {
		if off != t.off[0] {
			return false
		}
	}
	return true
}

// checkReported checks, for each probe that the collector remembers, gone ones
// too, that the packets given to its reporter are those acknowledged, buffered
// and lost, as it last reported. Packets that were lost since that report count
// at the collector first, so there may be more of those.
func checkReported(probes []*whorlv1.Probe) output.Finding {
	f := output.Finding{Check: "probe packets", Result: output.OK}
	var wrong []string
	var total, reporting uint64
	for _, p := range probes {
		if p.GetPacketsReported() > 0 {
			reporting++
		}
		total += p.GetPacketsReported()
		kept := p.GetPacketsAcknowledged() + p.GetPacketsBuffered()
		if n := p.GetPacketsReported(); n < kept || n > kept+p.GetPacketsLost() {
			wrong = append(wrong, fmt.Sprintf("%s: %s captured, %s acknowledged + %s buffered + %s lost", p.GetProbeId(), output.Number(n),
				output.Number(p.GetPacketsAcknowledged()), output.Number(p.GetPacketsBuffered()), output.Number(p.GetPacketsLost())))
		}
	}
	switch {
	case len(wrong) > 0:
		f.Result, f.Detail, f.Fix = output.Fail, strings.Join(wrong, "; "), "this is a bug of the probe: report it"
	case reporting == 0:
		f.Detail = "no probe has reported packets since the collector started: nothing to add up"
	default:
		f.Detail = fmt.Sprintf("of %s, in its newest session: %s captured = acknowledged + buffered + lost",
			output.Plural(reporting, "probe"), output.Plural(total, "packet"))
	}
	return f
}
