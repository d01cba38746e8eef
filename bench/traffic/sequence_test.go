package traffic

import (
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/probe/capture"
	"github.com/whorl-net/whorl/probe/decode"
)

// checkSequences follows each side of each TCP connection of src, and the IPv4
// header checksums.
func checkSequences(t *testing.T, src capture.Source) {
	t.Helper()
	d := decode.New(decode.Config{})
	next := map[flow.Tuple]uint32{}
	var in capture.Packet
	var out decode.Packet
	segments := 0
	for {
		err := src.Next(&in)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if in.Data[12] == 0x08 && sum(in.Data[14:34]) != 0xffff {
			t.Fatalf("IPv4 header checksum of % x", in.Data[14:34])
		}
		if d.Decode(&in, &out) != decode.Tracked || out.Tuple.Protocol != flow.TCP {
			continue
		}
		segments++
		if want, ok := next[out.Tuple]; ok && out.Seq != want && int32(out.Seq-want) > 0 {
			t.Fatalf("%v: sequence %d, want %d", out.Tuple, out.Seq, want)
		}
		if back, ok := next[out.Tuple.Reverse()]; ok && out.TCPFlags&flow.ACK != 0 && int32(out.Ack-back) > 0 {
			t.Fatalf("%v acknowledges %d, of which the other side has sent up to %d", out.Tuple, out.Ack, back)
		}
		end := out.Seq + uint32(out.PayloadLength)
		if out.TCPFlags&(flow.SYN|flow.FIN) != 0 {
			end++
		}
		next[out.Tuple] = end
	}
	if segments == 0 {
		t.Fatal("no TCP")
	}
}

func sum(h []byte) uint32 {
	var s uint32
	for i := 0; i < len(h); i += 2 {
		s += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	s = s>>16 + s&0xffff
	return s>>16 + s&0xffff
}
