package handshake

import (
	"crypto/tls"
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

// BenchmarkConnections: whole TLS 1.3 connections, each new, with so many
// packets of data behind the handshake; per packet.
func BenchmarkConnections(b *testing.B) {
	for _, data := range []int{0, 10, 100} {
		b.Run(fmt.Sprintf("data=%d", data), func(b *testing.B) {
			c := newConversation().open().tls(tls.VersionTLS13, 1400)
			for range data {
				c.say(server, make([]byte, 1400), 1400)
			}
			c.close()
			g := New(Config{MaxFlows: 1 << 16})
			var out Result
			b.ReportAllocs()
			n := uint32(0)
			var p decode.Packet
			for b.Loop() {
				n++
				for i := range c.packets {
					p = c.packets[i]
					end := &p.Tuple.Src
					if p.Tuple.Src != c.client.Src {
						end = &p.Tuple.Dst
					}
					end[13], end[14], end[15] = byte(n>>16), byte(n>>8), byte(n)
					p.Time += int64(n) * 1000
					g.Packet(&p, &out)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(c.packets)), "ns/packet")
		})
	}
}

// BenchmarkBody: one packet within the body of a request, of a connection that
// rests. Must stay at 0 allocs/op.
func BenchmarkBody(b *testing.B) {
	for name, head := range map[string]string{
		"http1":                         "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999\r\n\r\n",
		"http2, a frame in each packet": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x01\x01\x04\x00\x00\x00\x01\x83",
	} {
		b.Run(name, func(b *testing.B) {
			c := newConversation().open().text(client, head)
			g := New(Config{})
			var out Result
			for i := range c.packets {
				g.Packet(&c.packets[i], &out)
			}
			seq := c.seq[client]
			frame := append([]byte{0, 5, 0x6f, 0, 0, 0, 0, 0, 1}, make([]byte, 1391)...) // DATA, of a packet
			c.say(client, frame, 1400)
			p := c.packets[len(c.packets)-1]
			p.Seq = seq
			b.ReportAllocs()
			for b.Loop() {
				p.Time += 1000
				g.Packet(&p, &out)
				p.Seq += 1400
			}
			if g.quiets.live != 1 {
				b.Error("the connection is not at rest")
			}
		})
	}
}
