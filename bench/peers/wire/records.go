package main

import (
	"context"
	"encoding/binary"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/whorl-net/whorl/bench/peers/wire/flowrecord"
	"github.com/whorl-net/whorl/flow"
)

// records receives flow records and reads each once.
type records struct {
	flowrecord.UnimplementedCollectorServer
	bytes uint64
}

func serveRecords(s *grpc.Server) error {
	flowrecord.RegisterCollectorServer(s, new(records))
	return nil
}

// Send implements flowrecord.CollectorServer. One client calls at a time.
func (r *records) Send(_ context.Context, in *flowrecord.Records) (*flowrecord.Reply, error) {
	for _, e := range in.GetEntries() {
		r.bytes += e.GetBytes() + uint64(e.GetTransport().GetSrcPort())
	}
	return &flowrecord.Reply{}, nil
}

func sendRecords(ctx context.Context, conn *grpc.ClientConn, batches []*flow.Batch) error {
	client := flowrecord.NewCollectorClient(conn)
	call := &flowrecord.Records{}
	flush := func() error {
		_, err := client.Send(ctx, call)
		call.Entries = call.Entries[:0]
		return err
	}
	for _, b := range batches {
		for row := range b.Flow {
			call.Entries = append(call.Entries, record(b, row))
			if len(call.Entries) == perCall {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	return flush()
}

func record(b *flow.Batch, row int) *flowrecord.Record {
	t := tupleOf(b, row)
	at := timestamppb.New(time.Unix(0, b.Time[row]))
	return &flowrecord.Record{
		EthProtocol: 0x800, Direction: b.Flow[row] & 1, Start: at, End: at,
		DataLink:  &flowrecord.DataLink{SrcMac: 0x020000000001, DstMac: 0x020000000002},
		Network:   &flowrecord.Network{SrcAddr: address(t.Src), DstAddr: address(t.Dst)},
		Transport: &flowrecord.Transport{SrcPort: uint32(t.SrcPort), DstPort: uint32(t.DstPort), Protocol: uint32(t.Protocol)},
		Bytes:     uint64(b.WireLength[row]), Packets: 1, Interface: "eth0",
		AgentIp: address(flow.AddrFrom4([4]byte{192, 0, 2, 1})), Flags: uint32(b.TCPFlags[row]),
	}
}

// tupleOf is the 5-tuple of a row as its packet carried it.
func tupleOf(b *flow.Batch, row int) flow.Tuple {
	t := b.Flows[b.Flow[row]>>1]
	if b.Flow[row]&1 == 1 {
		return t.Reverse()
	}
	return t
}

func address(a flow.Addr) *flowrecord.IP {
	if a.Is4() {
		return &flowrecord.IP{Family: &flowrecord.IP_Ipv4{Ipv4: binary.BigEndian.Uint32(a[12:])}}
	}
	return &flowrecord.IP{Family: &flowrecord.IP_Ipv6{Ipv6: a[:]}}
}
