package wire

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// Frame receives a message as it came over the wire. Give one to RecvMsg of a
// stream whose side uses Codec.
type Frame struct {
	// Data is the message. It is valid until the next receive into this Frame,
	// whose memory it is.
	Data []byte
}

// maxKeptFrame is the most memory that a Frame keeps for the next message.
const maxKeptFrame = 1 << 20

// Pieces is a message to send that is encoded already, in parts that lie one
// behind the other on the wire. Give one to SendMsg of a stream whose side uses
// Codec. The bytes are not copied: they must not change for as long as the
// stream lives, unless the peer has said that the message has arrived.
type Pieces [][]byte

// Codec is the "proto" codec of grpc, which also takes *Frame to receive and
// Pieces to send. Everything else goes to the generated code.
//
// Use grpc.ForceServerCodecV2(wire.Codec{}) and grpc.ForceCodecV2(wire.Codec{}).
// The zero Codec is ready for use.
type Codec struct{}

var _ encoding.CodecV2 = Codec{}

// Name returns "proto": what it writes is nothing else.
func (Codec) Name() string { return proto.Name }

// Marshal implements encoding.CodecV2.
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	pieces, ok := v.(Pieces)
	if !ok {
		return generated().Marshal(v)
	}
	out := make(mem.BufferSlice, 0, len(pieces))
	for _, p := range pieces {
		if len(p) > 0 {
			out = append(out, mem.SliceBuffer(p))
		}
	}
	return out, nil
}

// Unmarshal implements encoding.CodecV2.
//
// A Frame is a copy and not a reference to grpc's buffers: a batch comes in
// several of them and has to be joined anyway, for less than a nanosecond per
// packet, and nobody has to release anything.
func (Codec) Unmarshal(data mem.BufferSlice, v any) error {
	f, ok := v.(*Frame)
	if !ok {
		return generated().Unmarshal(data, v)
	}
	n := data.Len()
	if cap(f.Data) < n || cap(f.Data) > maxKeptFrame {
		f.Data = make([]byte, n)
	}
	f.Data = f.Data[:n]
	if got := data.CopyTo(f.Data); got != n {
		return fmt.Errorf("wire: %d of %d bytes of a message", got, n)
	}
	return nil
}

// generated is the codec that importing grpc's encoding/proto has registered.
func generated() encoding.CodecV2 { return encoding.GetCodecV2(proto.Name) }
