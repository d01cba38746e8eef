package handshake

import (
	"crypto/tls"
	"slices"
	"testing"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/probe/decode"
)

// without takes packet i out.
func (c *conversation) without(i int) *conversation {
	c.packets = slices.Delete(c.packets, i, i+1)
	return c
}

// lossy is a connection with three requests, of which the first was not
// captured.
func lossy() *conversation {
	return newConversation().open().text(client, request).without(3).
		text(client, request).packet(server, flow.ACK, nil).text(server, "HTTP/1.1 200 OK\r\n\r\n").text(client, request)
}

// What was sent behind a packet that was not captured is found: at the end of
// the capture, with the times at which it came.
func TestLossAtTheEnd(t *testing.T) {
	c := lossy()
	events, ended, g := run(Config{Types: ja4.TypeSet(0).With(ja4.TypeJA4H)}, c.packets)
	if len(events) != 0 || len(ended) != 2 {
		t.Fatalf("%d events and %d in the end, want two in the end", len(events), len(ended))
	}
	for i, at := range []int{3, 6} {
		e, p := ended[i], c.packets[at]
		if e.Type != ja4.TypeJA4H || e.Time != p.Time || e.PacketNum != uint64(at+1) || e.Tuple != c.client || e.ServerName != "example.net" {
			t.Errorf("event %d is %+v, want a ja4h at packet %d, %d", i, e, at+1, p.Time)
		}
	}
	if s := g.Stats(); s.HolesSkipped != 1 || s.Bytes != 0 {
		t.Errorf("stats %+v", s)
	}
}

// Missing bytes that the other end has acknowledged are waited for a second,
// others half a minute, unless the connection is closed.
func TestLossIsWaitedFor(t *testing.T) {
	other := established()
	for name, tc := range map[string]struct {
		c     *conversation
		after time.Duration
	}{
		"acknowledged":     {lossy(), lateAcknowledgedAfter},
		"not acknowledged": {newConversation().open().text(client, request).without(3).text(client, request), lateWaitingAfter},
		"closed":           {newConversation().open().text(client, request).without(3).text(client, request).packet(client, flow.RST, nil), lateAcknowledgedAfter},
	} {
		t.Run(name, func(t *testing.T) {
			g := New(Config{Types: ja4.TypeSet(0).With(ja4.TypeJA4H)})
			var out Result
			for i := range tc.c.packets {
				g.Packet(&tc.c.packets[i], &out)
				out.Mark.Index = 7
				if len(out.Events)+len(out.Ended) > 0 {
					t.Fatalf("events at once: %+v %+v", out.Events, out.Ended)
				}
			}
			for _, step := range []struct {
				wait time.Duration
				want bool
			}{{-10 * time.Millisecond, false}, {time.Second, true}, {time.Hour, false}} {
				other.Time = tc.c.now + int64(tc.after+step.wait)
				g.Packet(&other, &out)
				if got := len(out.Ended) > 0; got != step.want {
					t.Errorf("%v after the last packet: events %v, want %v", tc.after+step.wait, got, step.want)
				}
				if step.want && len(out.Ended) > 0 && out.Ended[0].Mark.Index != 7 {
					t.Errorf("mark %+v, want that of the flow", out.Ended[0].Mark)
				}
				checkEngine(t, g)
			}
		})
	}
}

// What is sent again in time is as if it had never been missing.
func TestLossThatIsSentAgain(t *testing.T) {
	c := newConversation().open().text(client, request).text(client, request).packet(server, 0, nil)
	lost := c.packets[3]
	c.without(3)
	lost.Time = c.now + int64(20*time.Second)
	c.packets = append(c.packets, lost)
	events, ended, g := run(Config{Types: ja4.TypeSet(0).With(ja4.TypeJA4H)}, c.packets)
	if len(events) != 2 || len(ended) != 0 || g.Stats().HolesSkipped != 0 {
		t.Errorf("%d events, %d in the end, %d holes; want two events alone", len(events), len(ended), g.Stats().HolesSkipped)
	}
}

// A packet that cannot belong to the connection, by its sequence number, does
// not keep what does from being found.
func TestForeignSegment(t *testing.T) {
	c := newConversation().open().text(client, request).text(server, "HTTP/1.1 200 OK\r\n\r\n")
	seq := c.seq
	c.seq[client] += 1 << 28
	c.text(client, "injected")
	c.seq = seq
	c.wait(time.Minute).text(client, request).wait(time.Minute).text(client, request)
	events, ended, _ := run(Config{Types: ja4.TypeSet(0).With(ja4.TypeJA4H)}, c.packets)
	if got := kinds(events); got != "ja4h ja4h ja4h" || len(ended) != 0 {
		t.Errorf("events %q, %d in the end; want three requests", got, len(ended))
	}
}

// TLS behind a loss: what comes behind the missing hello of the client is
// found, the server's side is whole.
func TestLossBeforeTLS(t *testing.T) {
	c := newConversation().open().text(client, "CONNECT a:1 HTTP/1.1\r\n\r\n").text(server, "HTTP/1.1 200 OK\r\n\r\n")
	n := len(c.packets)
	c.tls(tls.VersionTLS12, 1400).without(3)
	events, ended, _ := run(Config{Types: ja4.TypeSet(0).With(ja4.TypeJA4).With(ja4.TypeJA4S)}, c.packets)
	if kinds(events) != "ja4s" || len(ended) != 1 || ended[0].Type != ja4.TypeJA4 || ended[0].PacketNum != uint64(n) {
		t.Errorf("events %v, in the end %v", values(events), ended)
	}
}

// An SSH connection is known as one also when its first bytes are missing.
func TestLossBeforeSSH(t *testing.T) {
	c := newConversation().open().text(client, "SSH-2.0-a\r\n").without(3).text(client, "SSH-2.0-a\r\n").packet(server, flow.ACK, nil)
	late := established()
	late.Time = c.now + int64(2*time.Second)
	c.packets = append(c.packets, late)
	_, ended, _ := run(Config{Types: ja4.TypeSet(0).With(ja4.TypeJA4SSH)}, c.packets)
	if len(ended) != 1 || ended[0].Value != "c11s0_c1s0_c1s1" {
		t.Errorf("windows %v", ended)
	}
}

// A body of known length with packets missing does not keep the requests
// behind it from being found.
func TestLossInABody(t *testing.T) {
	for name, head := range map[string]string{
		"length":  "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 14000\r\n\r\n",
		"chunked": "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n36b0\r\n",
	} {
		for _, cut := range []bool{false, true} {
			c := newConversation().open().text(client, head).say(client, make([]byte, 14000), 1000)
			if name == "chunked" {
				c.text(client, "\r\n0\r\n\r\n")
			}
			c.text(client, request).packet(server, flow.ACK, nil)
			c.packets = append(c.packets, func() decode.Packet { p := established(); p.Time = c.now + int64(5*time.Second); return p }())
			if cut { // by a short snap length
				for i := range c.packets {
					if p := &c.packets[i]; len(p.Payload) == 1000 {
						p.Payload = p.Payload[:100]
					}
				}
			} else {
				c.without(7).without(9)
			}
			events, ended, _ := run(Config{Types: ja4.TypeSet(0).With(ja4.TypeJA4H)}, c.packets)
			n := len(events)
			for _, e := range ended {
				events = append(events, e.Event)
			}
			if got := kinds(events); got != "ja4h ja4h" || events[1].ServerName != "example.net" {
				t.Errorf("%s, cut %v: events %q (%d at once), want two requests", name, cut, got, n)
			}
		}
	}
}

// Whatever packets are missing, what was given up is accounted for.
func TestLossKeepsAccounts(t *testing.T) {
	base := newConversation().open().tls(tls.VersionTLS12, 300).close()
	for i := range base.packets {
		g := New(Config{})
		var out Result
		for j := range base.packets {
			if j != i {
				g.Packet(&base.packets[j], &out)
				checkEngine(t, g)
			}
		}
		g.Finish(func(EndEvent) {})
		if g.used != 0 {
			t.Errorf("without packet %d: %d bytes are held in the end", i, g.used)
		}
	}
}
