//go:build e2e

package clients

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

const (
	fin, syn, rst, ack = 0x01, 0x02, 0x04, 0x10
)

// conversation is one TCP or UDP 5-tuple of a recording, seen from its client:
// who sent the first SYN, or the first datagram.
type conversation struct {
	client, server netip.AddrPort
	tcp            bool
	events         []event

	// JA4L and JA4LS over TCP: the times of SYN, SYN-ACK, ACK, and of the first
	// payloads after it that answer each other. 0: not yet.
	a, b, c, d, e, f     int64
	clientTTL, serverTTL int

	// JA4L and JA4LS over QUIC: the first Initial of each side, the last
	// Handshake packet of the server before the client's first.
	initial, answered, serverHandshake, clientHandshake int64

	ssh     bool
	lengths [2]map[int]int // of payloads: client, server
	acks    [2]int
}

func (c *conversation) add(kind, value string) {
	c.events = append(c.events, event{kind: kind, value: value})
}

// tcpShape is the part JA4T and JA4TS have in common.
func tcpShape(t testing.TB, f *frame) string {
	or00 := func(n *node) string {
		if n.Name == "" || n.number(t) == 0 {
			return "00"
		}
		return fmt.Sprintf("%02d", n.number(t))
	}
	var kinds []string
	for _, k := range f.first("tcp").every("tcp.option_kind") {
		kinds = append(kinds, k.Show)
	}
	options := strings.Join(kinds, "-")
	if options == "" {
		options = "00"
	}
	scale := f.first("tcp.options.wscale.shift")
	s := "00"
	if scale.Name != "" && scale.number(t) != 0 {
		s = scale.Show
	}
	return parts(f.first("tcp.window_size_value").Show, options, or00(f.first("tcp.options.mss_val")), s)
}

// packet takes one packet of TCP into account.
func (c *conversation) packet(t testing.TB, f *frame) {
	flags := f.first("tcp.flags").number(t)
	length := f.first("tcp.len").number(t)
	fromClient := f.src == c.client
	switch {
	case flags&(syn|ack|rst) == syn:
		c.add("ja4t", tcpShape(t, f))
		if c.a == 0 {
			c.a, c.clientTTL = f.us, f.ttl
		}
		return
	case flags&(syn|ack|rst|fin) == syn|ack:
		c.add("ja4ts", tcpShape(t, f))
		if c.b == 0 {
			c.b, c.serverTTL = f.us, f.ttl
		}
		return
	}
	// Light distance: each step waits for the one before.
	if c.a != 0 && c.b != 0 {
		switch {
		case c.c == 0:
			if fromClient && flags&ack != 0 {
				c.c = f.us
				c.add("ja4l", fmt.Sprintf("%d_%d", (c.c-c.b)/2, c.clientTTL))
				c.add("ja4ls", fmt.Sprintf("%d_%d", (c.b-c.a)/2, c.serverTTL))
			}
		case length == 0:
		case c.d == 0:
			if fromClient {
				c.d = f.us
			}
		case c.e == 0:
			if !fromClient {
				c.e = f.us
				c.add("ja4ls", fmt.Sprintf("%d_%d_%d", (c.b-c.a)/2, c.serverTTL, (c.e-c.d)/2))
			}
		case c.f == 0:
			if fromClient {
				c.f = f.us
				c.add("ja4l", fmt.Sprintf("%d_%d_%d", (c.c-c.b)/2, c.clientTTL, (c.f-c.e)/2))
			}
		}
	}
	side := 1
	if fromClient {
		side = 0
	}
	if length == 0 {
		if flags == ack {
			c.acks[side]++
		}
		return
	}
	if f.has("tcp.analysis.retransmission") { // what was said already is not said again
		return
	}
	c.ssh = c.ssh || strings.HasPrefix(f.first("tcp.payload").Value, "5353482d") // SSH-
	if c.lengths[side] == nil {
		c.lengths[side] = map[int]int{}
	}
	c.lengths[side][length]++
	if c.ssh && count(c.lengths[0])+count(c.lengths[1]) == 200 {
		c.window()
	}
}

func count(lengths map[int]int) (n int) {
	for _, k := range lengths {
		n += k
	}
	return n
}

// mode is the most frequent length; of several the smallest, of none 0.
func mode(lengths map[int]int) (best int) {
	for l, n := range lengths {
		if m := lengths[best]; n > m || n == m && l < best {
			best = l
		}
	}
	return best
}

// window ends a window of JA4SSH.
func (c *conversation) window() {
	c.add("ja4ssh", fmt.Sprintf("c%ds%d_c%ds%d_c%ds%d",
		mode(c.lengths[0]), mode(c.lengths[1]), count(c.lengths[0]), count(c.lengths[1]), c.acks[0], c.acks[1]))
	c.lengths, c.acks = [2]map[int]int{}, [2]int{}
}

// finish ends the conversation with the recording.
func (c *conversation) finish() {
	if c.ssh && count(c.lengths[0])+count(c.lengths[1]) > 0 {
		c.window()
	}
}

// quic takes one datagram of QUIC into account: each packet in it counts.
func (c *conversation) quic(f *frame) {
	fromClient := f.src == c.client
	for _, p := range f.every("quic") {
		initial, handshake := "0", "2"
		if p.first("quic.version").Show == "0x6b3343cf" {
			initial, handshake = "1", "3"
		}
		// tshark names the type of version 2 in a field of its own.
		kind := p.first("quic.long.packet_type").Show
		if v2 := p.first("quic.long.packet_type_v2"); v2.Name != "" {
			kind = v2.Show
		}
		switch {
		case kind == initial && fromClient && c.initial == 0:
			c.initial, c.clientTTL = f.us, f.ttl
		case kind == initial && !fromClient && c.answered == 0:
			c.answered, c.serverTTL = f.us, f.ttl
			c.add("ja4ls", fmt.Sprintf("%d_%d", (c.answered-c.initial)/2, c.serverTTL))
		case kind == handshake && !fromClient && c.clientHandshake == 0:
			c.serverHandshake = f.us
		case kind == handshake && fromClient && c.clientHandshake == 0:
			c.clientHandshake = f.us
			c.add("ja4l", fmt.Sprintf("%d_%d", (c.clientHandshake-c.serverHandshake)/2, c.clientTTL))
		}
	}
}
