package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/whorl-net/whorl/bench/baseline"
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

// epoch is when all packets are seen, batchRows how many are in a batch.
const (
	epoch     = int64(1_767_225_600_000_000_000)
	batchRows = 1500
)

// prints are the fingerprints of a connection that has some: three types, each
// with a raw form.
var prints = []ja4.Type{ja4.TypeJA4, ja4.TypeJA4S, ja4.TypeJA4H}

// distinct is how many values of each type there are: few clients make most
// connections.
const distinct = 1000

// texts are all values, and their raw forms, by type: about as long as real ones.
// They are made once, so that garbage is no part of what a table weighs.
type texts struct{ values, raws [][]string }

func makeTexts() (t texts) {
	for _, typ := range prints {
		values, raws := make([]string, distinct), make([]string, distinct)
		for n := range values {
			values[n] = fmt.Sprintf("%s_t13d1516h2_%012x_%012x", typ, n*7919, n*104729)
			raws[n] = values[n] + strings.Repeat(",002f,0035,009c", 10)
		}
		t.values, t.raws = append(t.values, values), append(t.raws, raws)
	}
	return t
}

// udpFlow is flow number n; no two of 2^32 are equal.
func udpFlow(n int) flow.Tuple {
	x := uint32(n) * 0x9e3779b1
	return flow.Tuple{
		Src: flow.AddrFrom4([4]byte{byte(x >> 24), byte(x >> 16), byte(x >> 8), byte(x)}), SrcPort: uint16(1024 + n%60000),
		Dst: flow.AddrFrom4([4]byte{198, 18, 0, 1}), DstPort: 443, Protocol: flow.UDP,
	}
}

// fillOurs returns a running Tracker with n connections, with room for a fifth
// more.
func fillOurs(n int, withPrints bool) (any, error) {
	t, err := tracker.New(tracker.Config{MaxConnections: n + n/5})
	if err != nil {
		return nil, err
	}
	go t.Run(context.Background()) // as long as the process
	applied := make(chan struct{})
	var all texts
	if withPrints {
		all = makeTexts()
	}
	b := new(flow.Batch)
	for i := 0; i < n; {
		b.Reset()
		for ; i < n && b.Rows() < batchRows; i++ {
			b.AddPacket(b.AddFlow(udpFlow(i)), false, epoch, 100, 0)
			if withPrints {
				all.add(b, i)
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

// add adds the fingerprints of the newest row of b, of flow n.
func (t *texts) add(b *flow.Batch, n int) {
	for i, typ := range prints {
		b.Fingerprints = append(b.Fingerprints, flow.Fingerprint{
			Flow: uint32(len(b.Flows) - 1), Row: uint32(b.Rows()),
			Event: ja4.Event{Type: typ, Value: t.values[i][n%distinct], Raw: t.raws[i][n%distinct]},
		})
	}
}

// fillBaseline returns a baseline with n connections. Texts come to it as they come
// out of a message: each a string of its own.
func fillBaseline(n int, withPrints bool) (any, error) {
	t := baseline.New(n+n/5, time.Minute, nil)
	var all texts
	if withPrints {
		all = makeTexts()
	}
	for i := range n {
		f := udpFlow(i)
		at := time.Unix(0, epoch)
		key := t.Update(f.Src.Netip(), f.SrcPort, f.Dst.Netip(), f.DstPort, f.Protocol, at, 100)
		if !withPrints {
			continue
		}
		for k, typ := range prints {
			t.AddFingerprint(key, typ.String(), strings.Clone(all.values[k][i%distinct]), strings.Clone(all.raws[k][i%distinct]), at)
		}
	}
	return t, nil
}
