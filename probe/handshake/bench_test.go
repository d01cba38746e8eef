package handshake

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/probe/decode"
)

// setFlow makes p a packet of flow i.
func setFlow(p *decode.Packet, i uint32) {
	p.Tuple.Src[13], p.Tuple.Src[14], p.Tuple.Src[15] = byte(i>>16), byte(i>>8), byte(i)
	p.Tuple.SrcPort = 1024 + uint16(i*31)
}

func established() decode.Packet {
	return decode.Packet{
		Tuple: flow.Tuple{
			Src: flow.AddrFrom4([4]byte{10, 0, 0, 0}), Dst: flow.AddrFrom4([4]byte{192, 0, 2, 1}),
			DstPort: 443, Protocol: flow.TCP,
		},
		TCPFlags: flow.ACK, PayloadLength: 100, Payload: make([]byte, 100), TTL: 64,
	}
}

// BenchmarkEstablished: one packet of a flow that has given all its
// fingerprints, flows picked at random, so that every packet misses the cache
// once when there are many; real traffic comes in trains and does not. Must
// stay at 0 allocs/op.
func BenchmarkEstablished(b *testing.B) {
	for _, flows := range []int{1 << 10, 1 << 20} {
		for _, train := range []int{1, 8} {
			b.Run(fmt.Sprintf("flows=%d/train=%d", flows, train), func(b *testing.B) {
				g := New(Config{MaxFlows: 2 << 20})
				var out Result
				p := established()
				for i := range flows {
					setFlow(&p, uint32(i))
					p.Time += 1000
					g.Packet(&p, &out)
					var k key
					k.set(&p.Tuple)
					e := g.table.find(&k, g.table.hash(&k))
					g.end(e)
					e.flags |= flagDone | flagSent0 | flagSent1
				}
				r := rand.New(rand.NewPCG(3, 4))
				order := make([]uint32, 1<<20)
				for i := range order {
					order[i] = uint32(r.IntN(flows))
				}
				b.ReportAllocs()
				b.ResetTimer()
				i := 0
				for b.Loop() {
					setFlow(&p, order[i/train&(len(order)-1)])
					p.Time += 100
					g.Packet(&p, &out)
					i++
				}
			})
		}
	}
}
