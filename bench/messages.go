package main

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/rpc"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// The form that a column batch is compared with: one protobuf message per
// packet on a client stream, by the generated code. As text it is what a
// program writes first; as bytes it is a batch of one row.
const (
	textMethod  = "/whorl.bench.Packets/Text"
	bytesMethod = "/whorl.bench.Packets/Bytes"
)

// packetStream describes the streams: they take messages until the client has
// no more, and answer once.
func packetStream(name string, fresh func() proto.Message) grpc.StreamDesc {
	return grpc.StreamDesc{StreamName: name, ClientStreams: true, Handler: func(_ any, g grpc.ServerStream) error {
		m := fresh()
		for {
			err := g.RecvMsg(m) // generated code resets m
			if errors.Is(err, io.EOF) {
				return g.SendMsg(&whorlv1.PushResponse{})
			}
			if err != nil {
				return err
			}
		}
	}}
}

// serveMessages is the receiving side in a process of its own.
func serveMessages() error {
	desc := grpc.ServiceDesc{
		ServiceName: "whorl.bench.Packets", HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{
			packetStream("Text", func() proto.Message { return new(whorlv1.PushedFlow) }),
			packetStream("Bytes", func() proto.Message { return new(whorlv1.Batch) }),
		},
	}
	return serve(func(s *grpc.Server) { s.RegisterService(&desc, struct{}{}) }, rpc.ServerConfig{
		Quiet: []string{textMethod, bytesMethod},
	})
}

// sendMessages sends each row of batches as a message and waits until they are
// received. It returns how many there were.
func sendMessages(addr, method string, batches []*flow.Batch) (n int, err error) {
	conn, err := grpc.NewClient(addr, rpc.DialOptions(nil)...)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	st, err := conn.NewStream(context.Background(), &grpc.StreamDesc{ClientStreams: true}, method)
	if err != nil {
		return 0, err
	}
	for _, b := range batches {
		for row, ref := range b.Flow {
			t := b.Flows[ref>>1]
			if ref&1 == 1 {
				t = t.Reverse()
			}
			var m proto.Message
			if method == textMethod {
				m = textMessage(t, b, row)
			} else {
				m = bytesMessage(t, b, row)
			}
			if err := st.SendMsg(m); err != nil {
				return n, errors.Join(err, st.RecvMsg(&whorlv1.PushResponse{}))
			}
			n++
		}
	}
	if err := st.CloseSend(); err != nil {
		return n, err
	}
	return n, st.RecvMsg(&whorlv1.PushResponse{})
}

// textMessage is a packet with addresses in words.
func textMessage(t flow.Tuple, b *flow.Batch, row int) proto.Message {
	return &whorlv1.PushedFlow{
		SrcIp: t.Src.String(), SrcPort: uint32(t.SrcPort), DstIp: t.Dst.String(), DstPort: uint32(t.DstPort),
		Protocol: t.Protocol.String(), Time: timestamppb.New(time.Unix(0, b.Time[row])),
		Packets: 1, Bytes: uint64(b.WireLength[row]), TcpFlags: uint32(b.TCPFlags[row]),
	}
}

// bytesMessage is a packet as a batch of one row, in the generated type.
func bytesMessage(t flow.Tuple, b *flow.Batch, row int) proto.Message {
	m := &whorlv1.Batch{
		BaseTime: timestamppb.New(time.Unix(0, b.Time[row])),
		Packets: &whorlv1.Packets{
			Flow: []uint32{0}, TimeDeltaNs: []int64{0}, WireLength: []uint32{b.WireLength[row]}, TcpFlags: []byte{b.TCPFlags[row]},
		},
	}
	if t.Src.Is4() && t.Dst.Is4() {
		key := append(make([]byte, 0, 13), t.Src[12:]...)
		m.Ipv4Flows = appendEnds(append(key, t.Dst[12:]...), t)
		return m
	}
	key := append(make([]byte, 0, 37), t.Src[:]...)
	m.Ipv6Flows = appendEnds(append(key, t.Dst[:]...), t)
	return m
}

func appendEnds(key []byte, t flow.Tuple) []byte {
	key = binary.BigEndian.AppendUint16(key, t.SrcPort)
	return append(binary.BigEndian.AppendUint16(key, t.DstPort), byte(t.Protocol))
}
