package handshake

import (
	"testing"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/probe/decode"
)

// swap exchanges packets i and j, which keep their times' order.
func (c *conversation) swap(i, j int) *conversation {
	a, b := &c.packets[i], &c.packets[j]
	*a, *b = *b, *a
	a.Time, b.Time = b.Time, a.Time
	return c
}

// fragmented puts n fragments before packet i, of which nothing but the tuple
// is known, as the decoder hands them over.
func (c *conversation) fragmented(i, n int) *conversation {
	f := decode.Packet{Tuple: c.packets[i].Tuple, Time: c.packets[i].Time, TTL: 64, WireLength: 60, Fragment: true}
	packets := append([]decode.Packet{}, c.packets[:i]...)
	for range n {
		packets = append(packets, f)
	}
	c.packets = append(packets, c.packets[i:]...)
	return c
}

// How connections begin in captures that are not in order, not whole, or of
// clients that do odd things: what each gives, and how many connections the
// 5-tuple had.
func TestOpenings(t *testing.T) {
	const (
		tcpOnly = "ja4t ja4ts ja4l ja4ls"
		both    = tcpOnly + " " + tcpOnly
	)
	again := func(c *conversation, seq [2]uint32) *conversation {
		c.seq = seq
		return c
	}
	for name, tc := range map[string]struct {
		c     *conversation
		want  string
		conns uint64
	}{
		"in order":              {newConversation().open(), tcpOnly, 1},
		"SYN in two fragments":  {newConversation().open().fragmented(0, 1), tcpOnly, 1},
		"SYN in four fragments": {newConversation().open().fragmented(0, 3), tcpOnly, 1},
		"SYN-ACK in fragments":  {newConversation().open().fragmented(1, 2), tcpOnly, 1},
		"SYN-ACK before SYN":    {newConversation().open().swap(0, 1), "ja4ts ja4t ja4l", 1},
		"the SYN twice": {
			func() *conversation {
				c := newConversation().packet(client, flow.SYN, nil)
				c.seq[client]--
				return c.open()
			}(), "ja4t " + tcpOnly, 1},
		"the SYN again with other options": {
			func() *conversation {
				c := newConversation().packet(client, flow.SYN, nil)
				c.packets[0].TCPOptions = nil
				c.seq[client]--
				return c.open()
			}(), "ja4t " + tcpOnly, 1},
		"SYN not captured whole": {
			func() *conversation {
				c := newConversation().open()
				c.packets[0].TCPOptions, c.packets[0].TCPCut = nil, true
				return c
			}(), "ja4ts ja4l ja4ls", 1},
		"SYN-ACK not captured whole": {
			func() *conversation {
				c := newConversation().open()
				c.packets[1].TCPOptions, c.packets[1].TCPCut = nil, true
				return c
			}(), "ja4t ja4l ja4ls", 1},
		"port used again":              {again(newConversation().open(), [2]uint32{5, 6}).open(), both, 2},
		"port used again, no SYN seen": {again(newConversation().open(), [2]uint32{5, 6}).packet(client, flow.SYN, nil).packet(server, flow.SYN|flow.ACK, nil), tcpOnly + " ja4t ja4ts", 2},
		"answers only, twice": {
			func() *conversation {
				c := newConversation()
				for range 2 {
					c.seq[client]++
					c.packet(server, flow.SYN|flow.ACK, nil).text(server, "hello").packet(server, flow.FIN|flow.ACK, nil)
					c.seq = [2]uint32{c.seq[0] + 99999, c.seq[1] + 77777}
				}
				return c
			}(), "ja4ts ja4ts", 2},
		"the SYN-ACK of a SYN with data": {
			func() *conversation {
				c := newConversation().packet(client, flow.SYN, []byte("data"))
				return c.packet(server, flow.SYN|flow.ACK, nil).packet(client, flow.ACK, nil)
			}(), tcpOnly, 1},
		"an ACK before the SYN-ACK": {
			func() *conversation {
				c := newConversation()
				c.seq[client]++
				return c.packet(server, flow.SYN|flow.ACK, nil).packet(client, flow.ACK, nil).swap(0, 1)
			}(), "ja4ts", 1},
		"what is left of another connection before the SYN-ACK": {
			func() *conversation {
				c := newConversation().text(server, "bye").packet(client, flow.ACK, nil)
				c.seq = [2]uint32{1, 2}
				return c.packet(server, flow.SYN|flow.ACK, nil)
			}(), "ja4ts", 2},
		"both ends at once": {
			func() *conversation {
				c := newConversation().packet(client, flow.SYN, nil).packet(server, flow.SYN, nil)
				c.seq[client]--
				c.seq[server]--
				return c.packet(client, flow.SYN|flow.ACK, nil).packet(server, flow.SYN|flow.ACK, nil).packet(client, flow.ACK, nil)
			}(), "ja4t ja4t ja4ts ja4l ja4ls", 1},
	} {
		t.Run(name, func(t *testing.T) {
			events, _, g := run(Config{}, tc.c.packets)
			if got := kinds(events); got != tc.want {
				t.Errorf("events %q, want %q", got, tc.want)
			}
			if n := g.Stats().Opened; n != tc.conns {
				t.Errorf("%d connections, want %d", n, tc.conns)
			}
			for _, e := range events {
				if e.Tuple != tc.c.client {
					t.Errorf("%v of %v, want of %v", e.Type, e.Tuple, tc.c.client)
				}
			}
		})
	}
}

// Fragments count, also those before the SYN that they are parts of.
func TestFragmentsBeforeTheSYNCount(t *testing.T) {
	c := newConversation().open().fragmented(0, 2)
	events, _, _ := run(Config{Types: ja4.TypeSet(0).With(ja4.TypeJA4T)}, c.packets)
	if len(events) != 1 || events[0].PacketNum != 3 {
		t.Errorf("%d events, the first at packet %d, want one at 3", len(events), events[0].PacketNum)
	}
}
