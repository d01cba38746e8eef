package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/whorl-net/whorl/bench/baseline"
	"github.com/whorl-net/whorl/bench/numbered"
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/tracker"
)

// fillOurs returns a running Tracker with n connections, with room for a fifth
// more.
func fillOurs(n int, withPrints bool) (any, error) {
	t, err := tracker.New(tracker.Config{MaxConnections: n + n/5})
	if err != nil {
		return nil, err
	}
	go t.Run(context.Background()) // as long as the process
	applied := make(chan struct{})
	var prints numbered.Prints
	if withPrints {
		prints = numbered.NewPrints()
	}
	b := new(flow.Batch)
	for i := 0; i < n; {
		b.Reset()
		for ; i < n && b.Rows() < numbered.BatchRows; i++ {
			b.AddPacket(b.AddFlow(numbered.UDPFlow(i)), false, numbered.Epoch, 100, 0)
			if withPrints {
				prints.Add(b, i)
			}
		}
		err := t.Submit(context.Background(), tracker.Entry{}, tracker.Origin{}, b, func() { applied <- struct{}{} })
		if err != nil {
			return nil, err
		}
		<-applied
	}
	if c := t.Count(); int(c.Live) != n || c.FingerprintsNoRoom > 0 {
		return nil, fmt.Errorf("%d connections, %d fingerprints without room; want %d, 0", c.Live, c.FingerprintsNoRoom, n)
	}
	return t, nil
}

// fillBaseline returns a baseline with n connections. Texts come to it as they come
// out of a message: each a string of its own.
func fillBaseline(n int, withPrints bool) (any, error) {
	t := baseline.New(n+n/5, time.Minute, nil)
	var prints numbered.Prints
	if withPrints {
		prints = numbered.NewPrints()
	}
	at := time.Unix(0, numbered.Epoch)
	for i := range n {
		f := numbered.UDPFlow(i)
		key := t.Update(f.Src.Netip(), f.SrcPort, f.Dst.Netip(), f.DstPort, f.Protocol, at, 100)
		if !withPrints {
			continue
		}
		for _, e := range prints.Of(i) {
			t.AddFingerprint(key, e.Type.String(), strings.Clone(e.Value), strings.Clone(e.Raw), at)
		}
	}
	return t, nil
}
