package handshake

import (
	"bytes"
	"crypto/tls"
	"strings"
	"testing"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
)

// Whatever is given up in a flow is counted by its reason, once, and the flow
// holds little then; its packets count on.
func TestGivenUpIsCounted(t *testing.T) {
	ch, _ := hellos()
	record := func(body []byte) string {
		return string(append([]byte{22, 3, 3, byte(len(body) >> 8), byte(len(body))}, body...))
	}
	long := strings.Repeat("a", 3000)
	// A hello of 64 KiB and more in CRYPTO frames of 1,100 bytes each.
	endless := newConversation()
	for at := 0; at < 80<<10; at += 1100 {
		part := make([]byte, 1100)
		if at == 0 {
			copy(part, []byte{1, 1, 0x20, 0})
		}
		endless.datagram(client, quicInitialAt(client, at, part))
	}
	for name, tc := range map[string]struct {
		c    *conversation
		want Reason
		cfg  Config
	}{
		"a header block without an end": {
			newConversation().open().text(client, "GET / HTTP/1.1\r\nA: ").say(client, bytes.Repeat([]byte("a"), 70<<10), 1400),
			ReasonTooLarge, Config{}},
		"a message beyond 64 KiB": {
			newConversation().open().text(client, record([]byte{1, 1, 0x20, 0, 3, 3})), ReasonTooLarge, Config{}},
		"a QUIC hello beyond 64 KiB": {endless, ReasonTooLarge, Config{}},
		"a DTLS hello beyond 64 KiB": {
			newConversation().datagram(client, []byte{22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 13, 1, 1, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 1, 7}),
			ReasonTooLarge, Config{}},
		"a client hello that ends early": {
			newConversation().open().text(client, record([]byte{1, 0, 0, 4, 3, 3, 1, 2})), ReasonMalformed, Config{}},
		"a server hello that ends early": {
			newConversation().open().text(client, record(ch)).text(server, record([]byte{2, 0, 0, 4, 3, 3, 1, 2})), ReasonMalformed, Config{}},
		"a value beyond 255 bytes": {
			newConversation().open().text(client, "GET / HTTP/1.1\r\n"+long+": 1\r\n\r\n"), ReasonOversize,
			Config{Types: ja4.TypeSet(0).With(ja4.TypeJA4HRO)}},
		"holes": {
			func() *conversation {
				c := newConversation().open().text(client, record(ch)[:100])
				for range maxHoles + 2 {
					c.seq[client] += 100
					c.say(client, make([]byte, 2*maxHeldSegments+4), 2)
				}
				return c
			}(), ReasonHoles, Config{}},
		"no protocol that is known": {
			newConversation().open().say(client, bytes.Repeat([]byte("\x00junk"), 20<<10), 1400), ReasonUnrecognised, Config{}},
	} {
		t.Run(name, func(t *testing.T) {
			g := New(tc.cfg)
			var out Result
			for i := range tc.c.packets {
				g.Packet(&tc.c.packets[i], &out)
			}
			s := g.Stats()
			for reason, n := range s.GivenUp {
				if want := Reason(reason) == tc.want; want != (n > 0) || n > 1 {
					t.Errorf("%d flows given up as %v, want one, as %v", n, Reason(reason), tc.want)
				}
			}
			if out.PacketNum != uint64(len(tc.c.packets)) {
				t.Errorf("the last packet is number %d, want %d", out.PacketNum, len(tc.c.packets))
			}
			if s.Bytes > maxStateDuring/2 {
				t.Errorf("%d bytes are held", s.Bytes)
			}
			checkEngine(t, g)
		})
	}
}

// A flow is forgotten when it has been silent for too long or when there is no
// room for another, and each is counted.
func TestForgottenIsCounted(t *testing.T) {
	const flows, room = 300, 100
	g := New(Config{MaxFlows: room})
	var out Result
	c := newConversation().open().tls(tls.VersionTLS13, 1400)
	for i := range uint32(flows) {
		for _, p := range c.packets {
			end := &p.Tuple.Src
			if p.TCPFlags&flow.SYN == 0 && p.Tuple.Src != c.client.Src {
				end = &p.Tuple.Dst
			}
			end[14], end[15] = byte(i>>8), byte(i)
			g.Packet(&p, &out)
		}
	}
	s := g.Stats()
	if s.Flows > room || s.GivenUp[ReasonCapacity] != s.Opened-uint64(s.Flows) || s.Expired != 0 {
		t.Errorf("%+v, want at most %d flows, the others given up for capacity", s, room)
	}
	p := established()
	for range 30 {
		p.Time = c.now + int64(DefaultTCPIdle) + int64(DefaultTCPIdle)
		g.Packet(&p, &out)
	}
	for i := range uint32(flows) {
		q := c.packets[0]
		q.Time = p.Time
		q.Tuple.Src[14], q.Tuple.Src[15] = byte(i>>8), byte(i)
		g.Packet(&q, &out)
	}
	if got := g.Stats(); got.Expired == 0 || got.Flows > room {
		t.Errorf("%+v, want flows that expired", got)
	}
}

// A value of any length comes where it is asked for.
func TestMaxValueBytes(t *testing.T) {
	c := newConversation().open().text(client, "GET / HTTP/1.1\r\n"+strings.Repeat("a", 300)+": 1\r\n\r\n")
	types := ja4.TypeSet(0).With(ja4.TypeJA4HRO)
	for maxBytes, want := range map[int]string{0: "", 300: "", flow.MaxRawLen: "ja4h_ro"} {
		events, _, _ := run(Config{Types: types, MaxValueBytes: maxBytes}, c.packets)
		if got := kinds(events); got != want {
			t.Errorf("at most %d bytes: events %q, want %q", maxBytes, got, want)
		}
	}
}
