package handshake

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/fuzzguard"
	"github.com/whorl-net/whorl/probe/decode"
)

// script reads packets from bytes: a header of 12, then the payload.
//
//	0    bits 0–1 which connection, bit 2 direction, bit 3 UDP, bit 4 fragment, bit 5 cut short
//	1    TCP flags
//	2–5  sequence number     6–7 payload length     8–11 time since the packet before, signed, in ms
func script(b []byte, each func(p *decode.Packet)) {
	now := int64(1_700_000_000_000_000_000)
	for len(b) >= 12 {
		h := b[:12]
		b = b[12:]
		n := min(int(binary.BigEndian.Uint16(h[6:])), len(b))
		p := decode.Packet{
			Tuple: flow.Tuple{
				Src: flow.AddrFrom4([4]byte{10, 0, 0, h[0] & 3}), Dst: flow.AddrFrom4([4]byte{10, 0, 1, 1}),
				SrcPort: 40000, DstPort: 443, Protocol: flow.TCP,
			},
			TTL: 64, WireLength: uint32(54 + n), TCPFlags: h[1], Seq: binary.BigEndian.Uint32(h[2:]),
			TCPOptions: h[:8], Payload: b[:n], PayloadLength: n,
		}
		b = b[n:]
		if h[0]&8 != 0 {
			p.Tuple.Protocol = flow.UDP
			p.TCPFlags, p.Seq, p.TCPOptions = 0, 0, nil
			switch h[1] & 3 {
			case 1:
				p.Tuple.SrcPort, p.Tuple.DstPort = 68, 67
			case 2:
				p.Tuple.SrcPort, p.Tuple.DstPort = 546, 547
			}
		}
		if h[0]&4 != 0 {
			p.Tuple = p.Tuple.Reverse()
		}
		if h[0]&16 != 0 {
			p.Fragment, p.Payload, p.PayloadLength, p.TCPFlags = true, nil, 0, 0
		}
		if h[0]&32 != 0 {
			p.PayloadLength += 1000
		}
		now += int64(int32(binary.BigEndian.Uint32(h[8:]))) * 1_000_000
		p.Time = now
		each(&p)
	}
}

// unscript writes packets as script reads them.
func unscript(packets []decode.Packet) []byte {
	var b []byte
	now := packets[0].Time
	for i := range packets {
		p := &packets[i]
		which := byte(0)
		if p.Tuple != packets[0].Tuple {
			which = 4
		}
		b = append(b, which, p.TCPFlags)
		b = binary.BigEndian.AppendUint32(b, p.Seq)
		b = binary.BigEndian.AppendUint16(b, uint16(len(p.Payload)))
		b = binary.BigEndian.AppendUint32(b, uint32((p.Time-now)/1_000_000))
		b = append(b, p.Payload...)
		now = p.Time
	}
	return b
}

// Whatever packets say, the engine does not panic, charges what it holds,
// keeps to its limits, and its parts agree with each other.
func FuzzEngine(f *testing.F) {
	f.Add(unscript(newConversation().open().tls(tls.VersionTLS12, 1400).close().packets))
	f.Add(unscript(newConversation().open().tls(tls.VersionTLS13, 400).packets))
	f.Add(unscript(newConversation().open().text(client, request).text(server, "HTTP/1.1 200 OK\r\n\r\n").packets))
	f.Add(unscript(newConversation().open().text(client, "SSH-2.0-a\r\n").text(server, "SSH-2.0-b\r\n").close().packets))
	f.Add(unscript(newConversation().text(client, "CONNECT a:1 HTTP/1.1\r\n\r\n").text(server, "HTTP/1.1 200\r\n\r\n").tls(tls.VersionTLS12, 700).packets))
	f.Add(unscript(overHTTP2(3, func(i int) []string { return []string{":method GET", fmt.Sprintf("cookie a=%d", i), "x b"} }).packets))
	s := recordHTTP(tls.VersionTLS13, "http/1.1")
	keys := s.log(f)
	f.Add(unscript(s.packets(1400)))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzzguard.Watch(t)
		const maxBytes, maxFlows = 32 << 10, 3
		g := New(Config{MaxBytes: maxBytes, MaxFlows: maxFlows, SSHWindow: 3, Secrets: keys})
		var out Result
		packets := 0
		script(b, func(p *decode.Packet) {
			g.Packet(p, &out)
			packets++
			if out.Mark == nil || out.PacketNum == 0 {
				t.Fatalf("result %+v", out)
			}
			for i := range out.Events {
				if e := &out.Events[i]; i > 0 && e.Type < out.Events[i-1].Type || e.Value == "" || e.Time != p.Time {
					t.Fatalf("event %d of %+v", i, out.Events)
				}
			}
			if g.used > maxBytes || g.table.live > maxFlows {
				t.Fatalf("%d bytes, %d flows held", g.used, g.table.live)
			}
			if packets < 8 || packets%16 == 0 { // it looks at the whole table
				checkEngine(t, g)
			}
		})
		checkEngine(t, g)
		g.Finish(func(EndEvent) {})
		if g.used != 0 || g.table.live != 0 {
			t.Fatalf("%d bytes, %d flows after the end", g.used, g.table.live)
		}
	})
}

// checkEngine fails if the parts of g contradict each other.
func checkEngine(t *testing.T, g *Engine) {
	t.Helper()
	sum, conns, quiets, ssh, tables, latencies := int64(0), 0, 0, 0, 0, 0
	for _, segment := range g.table.segments {
		for i := range segment.entries {
			e := &segment.entries[i]
			switch e.flags & flagState {
			case 0:
			case flagConn:
				c := g.conns.at(e.ref)
				if c.ssh != 0 {
					t.Fatalf("a conn is SSH: %+v", c)
				}
				conns++
				sum += g.connBytes(c)
				if c.table != 0 {
					tables++
				}
			case flagQuiet:
				quiets++
				q := g.quiets.at(e.ref)
				sum += g.quietBytes(q)
				if q.table != 0 {
					tables++
				}
				if q.latency != 0 {
					latencies++
				}
			case flagSSH:
				if g.entryOf(e.ref) != e {
					t.Fatalf("SSH connection %d has another entry than %+v", e.ref, e)
				}
				ssh++
				sum += g.sshs.at(e.ref).bytes()
			default:
				t.Fatalf("entry %+v has more than one state", e)
			}
		}
	}
	if sum != g.used {
		t.Fatalf("%d bytes charged, %d held", g.used, sum)
	}
	if conns != g.conns.live || quiets != g.quiets.live || ssh != g.sshs.live {
		t.Fatalf("%d, %d, %d states in use, %d, %d, %d have an entry", g.conns.live, g.quiets.live, g.sshs.live, conns, quiets, ssh)
	}
	if tables != g.tables.live() || latencies != g.latencies.live {
		t.Fatalf("%d header tables and %d latencies in use, %d and %d have an owner", g.tables.live(), g.latencies.live, tables, latencies)
	}
	for i := range g.ssh {
		last := uint32(0)
		for ref := g.ssh[i].head; ref != 0; last, ref = ref, g.sshs.at(ref).after {
			if s := g.sshs.at(ref); s.prev != last || int(s.list) != i {
				t.Fatalf("SSH list %d is torn", i)
			}
			ssh--
		}
		if g.ssh[i].tail != last {
			t.Fatalf("SSH list %d ends elsewhere", i)
		}
	}
	if ssh != 0 {
		t.Fatalf("%d SSH connections are in no list", ssh)
	}
}
