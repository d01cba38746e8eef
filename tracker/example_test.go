package tracker_test

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/tracker"
)

// A program that has packets one at a time uses Observe. Time is packet time:
// the last packet, a minute later, is what makes the first connection leave.
func Example() {
	t, err := tracker.New(tracker.Config{
		MaxConnections: 10_000,
		OnEvict: func(_ int, e *tracker.Eviction) {
			c := &e.Connection
			fmt.Println(c.ID(), e.Cause, "after", c.PacketCount, "packets")
		},
	})
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- t.Run(ctx) }()

	start := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	query := flow.Tuple{
		Src: flow.AddrFrom(netip.MustParseAddr("10.0.0.5")), SrcPort: 5353,
		Dst: flow.AddrFrom(netip.MustParseAddr("192.0.2.53")), DstPort: 53, Protocol: flow.UDP,
	}
	other := query
	other.SrcPort = 5354
	for _, p := range []tracker.Packet{
		{Tuple: query, Time: start.UnixNano(), WireLength: 74},
		{Tuple: query, Time: start.Add(time.Second).UnixNano(), WireLength: 74},
		{Tuple: other, Time: start.Add(time.Minute).UnixNano(), WireLength: 74},
	} {
		if err := t.Observe(ctx, tracker.Origin{}, p); err != nil {
			panic(err)
		}
	}
	applied := make(chan struct{})
	if err := t.Tick(ctx, tracker.Entry{LogTime: start.Add(time.Minute).UnixNano()}, func() { close(applied) }); err != nil {
		panic(err)
	}
	<-applied

	var s tracker.Snapshot
	key, _ := other.Key()
	fmt.Println(t.Get(key, "", tracker.Full, &s), s.ByteCount, "bytes")
	stop()
	<-ended
	// Output:
	// udp/10.0.0.5:5353-192.0.2.53:53 idle after 2 packets
	// true 74 bytes
}
