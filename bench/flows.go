package main

import (
	"context"
	"time"

	"github.com/whorl-net/whorl/bench/baseline"
	"github.com/whorl-net/whorl/bench/numbered"
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/tracker"
)

// submit applies batches to t and returns when they are applied.
func (t *table) submit(batches []*flow.Batch) error {
	for _, b := range batches {
		if err := t.Submit(context.Background(), tracker.Entry{LogTime: numbered.Epoch}, tracker.Origin{}, b, nil); err != nil {
			return err
		}
	}
	return t.wait()
}

// feed gives the packets of batches to the baseline, one by one, as its callers
// had to.
func feed(t *baseline.Tracker, batches []*flow.Batch) {
	for _, b := range batches {
		for i, ref := range b.Flow {
			f := &b.Flows[ref>>1]
			src, dst := f.Src.Netip(), f.Dst.Netip()
			sport, dport := f.SrcPort, f.DstPort
			if ref&1 == 1 {
				src, dst, sport, dport = dst, src, dport, sport
			}
			t.Update(src, sport, dst, dport, f.Protocol, time.Unix(0, b.Time[i]), int(b.WireLength[i]))
		}
	}
}
