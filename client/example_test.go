package client_test

import (
	"context"
	"fmt"
	"log"
	"os/signal"
	"syscall"

	"github.com/whorl-net/whorl/client"
	"github.com/whorl-net/whorl/flow"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// List all connections of known bad fingerprints.
func ExampleClient_All() {
	ctx := context.Background()
	c, err := client.Dial(ctx, client.DefaultAddr)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	for conn, err := range c.All(ctx, &whorlv1.AllRequest{Filter: "bad:true"}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(conn.GetId(), conn.GetIdentifiedApp())
	}
}

// Follow the feed from where the last run ended, and keep the place. The cursor
// is stored behind the work it stands for, so a crash repeats at most one
// eviction, which its sequence tells.
func ExampleClient_Watch() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	c, err := client.Dial(ctx, "col.example.net:4750", client.WithCA("/etc/whorl/ca.pem"))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	req := &whorlv1.WatchRequest{
		Start:  &whorlv1.WatchRequest_AfterCursor{AfterCursor: loadCursor()},
		Filter: "new:true ja4:t13d*",
	}
	for event, err := range c.Watch(ctx, req, client.WithHeartbeats()) {
		switch {
		case ctx.Err() != nil:
			return // asked to end
		case err != nil:
			log.Fatal(err)
		case event.Gap != nil:
			fmt.Println("lost:", event.Gap.GetLostCount())
		case event.Eviction != nil:
			fmt.Println(event.Eviction.GetSequence(), event.Eviction.GetConnection().GetId())
		}
		storeCursor(event.Cursor)
	}
}

func loadCursor() string   { return "7f3a9c.8811" }
func storeCursor(_ string) {}

// Report what was observed elsewhere, and wait until it is counted.
func ExampleReporter() {
	ctx := context.Background()
	c, err := client.Dial(ctx, client.DefaultAddr, client.WithLazy())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	reporter, err := c.Reporter(client.ReporterConfig{ProbeID: "edge-1", Network: "berlin", Live: true, Full: client.DropOldest})
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- reporter.Run(ctx) }()

	var b flow.Batch
	i := b.AddFlow(flow.Tuple{
		Src: flow.AddrFrom4([4]byte{10, 0, 0, 5}), Dst: flow.AddrFrom4([4]byte{93, 184, 216, 34}),
		SrcPort: 51312, DstPort: 443, Protocol: flow.TCP,
	})
	b.AddPacket(i, false, 1_792_666_801_250_000_000, 74, flow.SYN)
	if err := reporter.Report(ctx, &b); err != nil {
		log.Fatal(err)
	}
	if err := reporter.Finish(ctx, false); err != nil {
		log.Fatal(err)
	}
	fmt.Println(reporter.Stats().DurablePackets, <-ended)
}
