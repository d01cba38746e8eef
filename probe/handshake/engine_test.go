package handshake

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/ja4/ja4plus"
	"github.com/whorl-net/whorl/probe/decode"
)

const request = "GET / HTTP/1.1\r\nHost: example.net\r\nAccept-Language: da\r\n\r\n"

// A whole connection gives each fingerprint at the packet that completes it.
func TestConnection(t *testing.T) {
	c := newConversation().open().tls(tls.VersionTLS12, 1400).close()
	events, ended, g := run(Config{}, c.packets)
	if got, want := kinds(events), "ja4t ja4ts ja4l ja4ls ja4 ja4s ja4x ja4x ja4ls ja4l"; got != want {
		t.Fatalf("events %s, want %s", got, want)
	}
	for i, want := range []uint64{1, 2, 3, 3, 4, 5, 5, 5, 5, 6} {
		e := &events[i]
		if e.PacketNum != want || e.Time != c.packets[want-1].Time || e.Tuple != c.client {
			t.Errorf("%v: packet %d of %v at %d; want packet %d of %v", e.Type, e.PacketNum, e.Tuple, e.Time, want, c.client)
		}
	}
	if events[4].ServerName != "example.net" {
		t.Errorf("server name %q", events[4].ServerName)
	}
	if len(ended) != 0 || g.used != 0 || g.Stats().Bytes != 0 {
		t.Errorf("%d events at the end, %d bytes held; want none", len(ended), g.used)
	}
}

// A flow that has given all it can holds nothing but its entry, long before
// it ends.
func TestNothingIsHeldAfterTheHandshake(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		c := newConversation().open().tls(version, 500)
		g := New(Config{})
		var out Result
		for i := range c.packets {
			g.Packet(&c.packets[i], &out)
		}
		if s := g.Stats(); s.Bytes != 0 || s.Flows != 1 || g.conns.live+g.quiets.live != 0 {
			t.Errorf("TLS %x: %d bytes held for %d flows, %d and %d states", version, s.Bytes, s.Flows, g.conns.live, g.quiets.live)
		}
	}
}

// The events of one packet come in the order of their types whatever found
// them first.
func TestOrderWithinPacket(t *testing.T) {
	// The request is the client's first packet after the SYN-ACK: point C of
	// the latency, found before its payload is looked at.
	c := newConversation()
	c.packet(client, flow.SYN, nil).packet(server, flow.SYN|flow.ACK, nil).text(client, request)
	events, _, _ := run(Config{Types: ja4.AllTypes.With(ja4.TypeJA4HRO)}, c.packets)
	if got, want := kinds(events), "ja4t ja4ts ja4h ja4l ja4ls ja4h_ro"; got != want {
		t.Errorf("events %s, want %s", got, want)
	}
}

// Types chooses, and what is not wanted is not looked for.
func TestTypes(t *testing.T) {
	c := newConversation().open().tls(tls.VersionTLS12, 1400).close()
	for types, want := range map[ja4.TypeSet]string{
		ja4.JA4Only.Without(ja4.TypeJA4O):                         "ja4",
		ja4.JA4Only:                                               "ja4 ja4_o",
		ja4.TypeSet(0).With(ja4.TypeJA4T):                         "ja4t",
		ja4.TypeSet(0).With(ja4.TypeJA4LS):                        "ja4ls ja4ls",
		ja4.TypeSet(0).With(ja4.TypeJA4S):                         "ja4s",
		ja4.TypeSet(0).With(ja4.TypeJA4X):                         "ja4x ja4x",
		ja4.TypeSet(0).With(ja4.TypeJA4D):                         "",
		ja4.TypeSet(0).With(ja4.TypeJA4TS):                        "ja4ts",
		ja4.AllTypes.Without(ja4.TypeJA4L).Without(ja4.TypeJA4LS): "ja4t ja4ts ja4 ja4s ja4x ja4x",
	} {
		events, _, g := run(Config{Types: types}, c.packets)
		if got := kinds(events); got != want {
			t.Errorf("types %b: events %q, want %q", types, got, want)
		}
		if g.used != 0 {
			t.Errorf("types %b: %d bytes held", types, g.used)
		}
	}
}

// The client is the sender of the first SYN, else the receiver of a SYN-ACK,
// else the sender of a ClientHello or request, else of the first packet.
func TestDirection(t *testing.T) {
	hello := tlsFlights(tls.VersionTLS12)[0].data
	for _, tc := range []struct {
		name  string
		build func(c *conversation)
		want  int
	}{
		{"SYN", func(c *conversation) { c.packet(server, flow.SYN, nil) }, server},
		{"SYN behind the SYN-ACK", func(c *conversation) {
			c.open()
			c.packets = []decode.Packet{c.packets[1], c.packets[0]}
		}, client},
		{"SYN-ACK", func(c *conversation) { c.packet(server, flow.SYN|flow.ACK, nil) }, client},
		{"SYN-ACK before a hello of the other side", func(c *conversation) {
			c.packet(server, flow.SYN|flow.ACK, nil).say(server, hello, 1400)
		}, client},
		{"hello of the second sender", func(c *conversation) { c.text(server, "220 hi\r\n").say(client, hello, 1400) }, client},
		{"request of the second sender", func(c *conversation) { c.text(server, "HTTP/1.1 200 OK\r\n\r\n").text(client, request) }, client},
		{"SYN of both sides at once", func(c *conversation) {
			c.packet(client, flow.SYN, nil).packet(server, flow.SYN, nil)
		}, client},
		{"first packet", func(c *conversation) { c.packet(server, flow.ACK, nil).text(client, "what") }, server},
		{"late SYN of a stream that begins with it", func(c *conversation) {
			c.packet(client, flow.SYN, nil).say(client, hello, 1400)
			c.packets = []decode.Packet{c.packets[1], c.packets[0]}
		}, client},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newConversation()
			tc.build(c)
			g := New(Config{})
			var out Result
			for i := range c.packets {
				g.Packet(&c.packets[i], &out)
			}
			last := c.packets[len(c.packets)-1].Tuple
			if want := last == c.tuple(tc.want); want != out.FromClient {
				t.Errorf("the last packet is said to come from the client: %v, want %v", out.FromClient, want)
			}
			if n := g.Stats().Opened; n != 1 {
				t.Errorf("%d connections, want 1", n)
			}
		})
	}
}

// A SYN with another sequence number begins a new connection with the same
// 5-tuple; the same SYN again does not.
func TestSYNBeginsAnew(t *testing.T) {
	c := newConversation().open().tls(tls.VersionTLS12, 1400)
	again := c.packets[0]
	again.Time = c.now
	first := len(c.packets)
	c.packets = append(c.packets, again)
	c.seq = [2]uint32{77, 88}
	c.open().tls(tls.VersionTLS12, 1400)

	events, _, g := run(Config{}, c.packets)
	if n := g.Stats().Opened; n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
	one := "ja4t ja4ts ja4l ja4ls ja4 ja4s ja4x ja4x ja4ls ja4l"
	if got, want := kinds(events), one+" ja4t "+one; got != want {
		t.Fatalf("events %s, want %s", got, want)
	}
	if e := events[10]; e.PacketNum != uint64(first+1) {
		t.Errorf("the SYN sent again is packet %d, want %d", e.PacketNum, first+1)
	}
	if e := events[11]; e.PacketNum != 1 {
		t.Errorf("the new SYN is packet %d, want 1", e.PacketNum)
	}
}

// Silence beyond the timeout begins a new connection, silence up to it does
// not, and time that runs backwards is no silence.
func TestIdle(t *testing.T) {
	for _, tc := range []struct {
		wait time.Duration
		want uint64
	}{{DefaultTCPIdle - time.Second, 1}, {DefaultTCPIdle + time.Second, 2}, {-2 * DefaultTCPIdle, 1}} {
		c := newConversation().open().wait(tc.wait).text(client, "x")
		_, _, g := run(Config{}, c.packets)
		if got := g.Stats().Opened; got != tc.want {
			t.Errorf("a packet after %v: %d connections, want %d", tc.wait, got, tc.want)
		}
	}
}

// The sweep forgets silent flows without their help.
func TestSweep(t *testing.T) {
	g := New(Config{})
	var out Result
	for i := range uint32(5000) {
		p := established()
		setFlow(&p, i)
		g.Packet(&p, &out)
	}
	p := established()
	for range 400 {
		p.Time += int64(time.Second)
		g.Packet(&p, &out)
	}
	if s := g.Stats(); s.Flows != 1 || s.Bytes > 2*connBytes || s.Expired != s.Opened-1 {
		t.Errorf("%d flows, %d bytes after 400 s; want the one that speaks", s.Flows, s.Bytes)
	}
}

// TLS is found where another protocol hands over to it.
func TestHandover(t *testing.T) {
	for name, build := range map[string]func(c *conversation){
		"CONNECT": func(c *conversation) {
			c.text(client, "CONNECT example.net:443 HTTP/1.1\r\nHost: example.net\r\n\r\n").
				text(server, "HTTP/1.1 200 Connection established\r\n\r\n")
		},
		"requests before CONNECT": func(c *conversation) {
			for range 20 {
				c.text(client, request).text(server, "HTTP/1.1 407 No\r\nContent-Length: 8000\r\n\r\n"+strings.Repeat("x", 8000))
			}
			c.text(client, "CONNECT example.net:443 HTTP/1.1\r\n\r\n").text(server, "HTTP/1.1 200 OK\r\n\r\n")
		},
		"HTTP that ends in the middle": func(c *conversation) {
			c.text(client, request).text(server, "HTTP/1.1 200 OK\r\n\r\n").text(client, "\x00\x00 no request")
		},
		"SOCKS4": func(c *conversation) {
			c.text(client, "\x04\x01\x01\xbb\x5d\xb8\xd8\x22me\x00").text(server, "\x00\x5a\x00\x00\x00\x00\x00\x00")
		},
		"SOCKS5": func(c *conversation) {
			c.text(client, "\x05\x01\x00").text(server, "\x05\x00").
				text(client, "\x05\x01\x00\x01\x5d\xb8\xd8\x22\x01\xbb").text(server, "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
		},
		"SMTP": func(c *conversation) {
			c.text(server, "220 mx ESMTP\r\n").text(client, "EHLO me\r\n").text(server, "250-mx\r\n250 STARTTLS\r\n").
				text(client, "STARTTLS\r\n").text(server, "220 go ahead\r\n")
		},
		"IMAP": func(c *conversation) {
			c.text(server, "* OK ready\r\n").text(client, "a STARTTLS\r\n").text(server, "a OK begin\r\n")
		},
		"POP3": func(c *conversation) { c.text(server, "+OK\r\n").text(client, "STLS\r\n").text(server, "+OK\r\n") },
		"FTP": func(c *conversation) {
			c.text(server, "220 ftp\r\n").text(client, "AUTH TLS\r\n").text(server, "234 ok\r\n")
		},
		"XMPP": func(c *conversation) {
			c.text(client, "<?xml version='1.0'?><stream:stream to='x'>").text(server, "<stream:features><starttls/></stream:features>").
				text(client, "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").text(server, "<proceed/>")
		},
		"LDAP": func(c *conversation) {
			c.text(client, "\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037").text(server, "\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00")
		},
		"PostgreSQL": func(c *conversation) { c.text(client, "\x00\x00\x00\x08\x04\xd2\x16\x2f").text(server, "S") },
		"MySQL": func(c *conversation) {
			c.text(server, "\x4a\x00\x00\x00\x0a8.0.33\x00\x08\x00\x00\x00abcdefgh\x00\xff\xff\xff\x02\x00\xff\xdf").
				text(client, "\x20\x00\x00\x01\x85\xae\xff\x19\x00\x00\x00\x01\x2d"+strings.Repeat("\x00", 23))
		},
	} {
		t.Run(name, func(t *testing.T) {
			plain := newConversation().open().tls(tls.VersionTLS12, 700)
			want, _, _ := run(Config{}, plain.packets)
			without := []ja4.Type{ja4.TypeJA4H, ja4.TypeJA4L, ja4.TypeJA4LS}
			for _, mss := range []int{700, 1, 3} {
				c := newConversation().open()
				build(c)
				c.tls(tls.VersionTLS12, mss)
				got, _, _ := run(Config{}, c.packets)
				diff(t, values(got, without...), values(want, without...))
			}
		})
	}
}

// A second request of a connection, and one that follows an answer to CONNECT
// that refuses, is found.
func TestRequestsOfOneConnection(t *testing.T) {
	c := newConversation().open().
		text(client, "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde").text(server, "HTTP/1.1 200 OK\r\n\r\n").
		text(client, "CONNECT b:443 HTTP/1.1\r\nHost: b\r\n\r\n").text(server, "HTTP/1.1 403 No\r\n\r\n").
		text(client, request+request)
	events, _, _ := run(Config{Types: ja4.TypeSet(0).With(ja4.TypeJA4H)}, c.packets)
	var got []string
	for _, e := range events {
		got = append(got, e.Value[:2]+" "+e.ServerName)
	}
	diff(t, got, []string{"po a", "co b", "ge example.net", "ge example.net"})
}

// An SSH connection reports a window for each 200 packets and the rest when it
// has been closed for a moment, trailing ACKs included.
func TestSSH(t *testing.T) {
	c := newConversation()
	c.client.DstPort = 22
	c.open().text(client, "SSH-2.0-a\r\n").packet(server, flow.ACK, nil).text(server, "SSH-2.0-b\r\n").packet(client, flow.ACK, nil)
	for range 150 {
		c.text(client, strings.Repeat("x", 36)).text(server, strings.Repeat("y", 52)).packet(client, flow.ACK, nil)
	}
	sentAgain := c.packets[len(c.packets)-2]
	c.packets = append(c.packets, sentAgain)
	c.close().packet(server, flow.ACK, nil)
	n := len(c.packets)

	types := ja4.TypeSet(0).With(ja4.TypeJA4SSH)
	events, ended, _ := run(Config{Types: types}, c.packets)
	if len(events) != 1 || events[0].Value != "c36s52_c100s100_c100s1" {
		t.Fatalf("windows %v, want one c36s52_c100s100_c100s1", values(events))
	}
	if len(ended) != 1 || ended[0].Value != "c36s52_c51s51_c53s1" {
		t.Fatalf("open window %v, want c36s52_c51s51_c53s1", ended)
	}
	if e := ended[0]; e.PacketNum != uint64(n) || e.Time != c.packets[n-1].Time || e.Tuple != c.client {
		t.Errorf("open window at packet %d, %d of %v; want %d, %d of %v", e.PacketNum, e.Time, e.Tuple, n, c.packets[n-1].Time, c.client)
	}

	// The same, reported by a packet of another flow once the linger is over.
	g := New(Config{Types: types})
	var out Result
	for i := range c.packets {
		g.Packet(&c.packets[i], &out)
	}
	other := established()
	for _, tc := range []struct {
		after time.Duration
		want  int
	}{{DefaultSSHLinger, 0}, {DefaultSSHLinger + 1, 1}, {time.Hour, 0}} {
		other.Time = c.packets[n-1].Time + int64(tc.after)
		g.Packet(&other, &out)
		if len(out.Ended) != tc.want {
			t.Errorf("%v after the last packet: %d windows, want %d", tc.after, len(out.Ended), tc.want)
		}
	}
	if g.Stats().Bytes > 2*connBytes {
		t.Errorf("%d bytes held after the end", g.Stats().Bytes)
	}
}

// A silent SSH connection reports its open window and stays SSH.
func TestSSHSilence(t *testing.T) {
	c := newConversation().open().text(client, "SSH-2.0-a\r\n").text(server, "SSH-2.0-b\r\n").
		wait(DefaultSSHIdle+time.Second).text(client, "hello").text(server, "hi")
	events, ended, g := run(Config{Types: ja4.TypeSet(0).With(ja4.TypeJA4SSH)}, c.packets)
	if len(events) != 0 || len(ended) != 2 || ended[0].Value != "c11s11_c1s1_c1s0" || ended[1].Value != "c5s2_c1s1_c0s0" {
		t.Errorf("windows %v %v", values(events), ended)
	}
	if n := g.Stats().Opened; n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// Without a SYN, the side with port 22 is the server of an SSH connection.
func TestSSHDirectionByPort(t *testing.T) {
	c := newConversation()
	c.client.DstPort = 22
	c.packet(server, flow.ACK, nil).text(server, "SSH-2.0-b\r\n").text(client, "SSH-2.0-abc\r\n")
	_, ended, _ := run(Config{}, c.packets)
	if len(ended) != 1 || ended[0].Value != "c13s11_c1s1_c0s1" || ended[0].Tuple != c.client {
		t.Errorf("window %v, want c13s11_c1s1_c0s1 of %v", ended, c.client)
	}
}

// Open windows come last, in the order of the last packets of their connections.
func TestFinishOrder(t *testing.T) {
	g := New(Config{})
	var out Result
	feed := func(packets []decode.Packet) {
		for i := range packets {
			g.Packet(&packets[i], &out)
		}
	}
	// Another connection holds the first state, and gives it back midway.
	other := newConversation().open().tls(tls.VersionTLS12, 1400)
	feed(other.packets[:3])
	for i := range 50 {
		c := newConversation()
		c.client.SrcPort = uint16(30000 - i)
		feed(c.text(client, "SSH-2.0-a\r\n").packets)
		if i == 25 {
			feed(other.packets[3:])
		}
	}
	// A late packet of the first makes it the last.
	late := newConversation()
	late.client.SrcPort = 30000
	late.now += 1_000_000_000
	feed(late.packet(server, flow.ACK, nil).packets)
	order := []uint16{}
	for i := range uint16(49) {
		order = append(order, 29999-i)
	}
	order = append(order, 30000)
	want := uint16(30000)
	g.Finish(func(e EndEvent) {
		if w := order[30000-want]; e.Tuple.SrcPort != w {
			t.Fatalf("window of port %d, want %d", e.Tuple.SrcPort, w)
		}
		want--
	})
	if want != 29950 {
		t.Errorf("%d windows, want 50", 30000-want)
	}
	if g.Stats().Flows != 0 || g.Stats().Bytes != 0 {
		t.Errorf("the engine still holds %d flows and %d bytes", g.Stats().Flows, g.Stats().Bytes)
	}
	opened := g.Stats().Opened
	if feed(other.packets[:1]); g.Stats().Opened != opened+1 {
		t.Error("the engine remembers a connection")
	}
}

// Where segments overlap, the bytes that came first count, also when they had
// to wait.
func TestFirstBytesWin(t *testing.T) {
	c := newConversation().open()
	seq := c.seq[client]
	c.text(client, request)
	whole := &c.packets[len(c.packets)-1]
	half := *whole
	half.Payload, half.Seq = whole.Payload[10:], seq+10
	half.PayloadLength -= 10
	whole.Payload = []byte(request[:20] + strings.Repeat("#", len(request)-20))
	c.packets = append(c.packets[:3], half, *whole)
	events, _, _ := run(Config{Types: ja4.TypeSet(0).With(ja4.TypeJA4H)}, c.packets)
	if len(events) != 1 || events[0].ServerName != "example.net" {
		t.Errorf("events %v, want a request to example.net", events)
	}
}

// A SYN may carry data (TCP Fast Open, RFC 7413).
func TestDataInSYN(t *testing.T) {
	c := newConversation().packet(client, flow.SYN, []byte(request[:30]))
	c.packet(server, flow.SYN|flow.ACK, nil).text(client, request[30:])
	events, _, _ := run(Config{}, c.packets)
	if got, want := kinds(events), "ja4t ja4ts ja4h ja4l ja4ls"; got != want {
		t.Errorf("events %s, want %s", got, want)
	}
}

// Events and their order are a function of the packets: not of the seed of the
// table, nor of the order in which the sweep meets what has ended.
func TestDeterministic(t *testing.T) {
	var packets []decode.Packet
	for i := range 300 {
		c := newConversation()
		c.client.SrcPort = uint16(i)
		c.now += int64(i) * int64(3*time.Second)
		c.open()
		switch i % 3 {
		case 0:
			c.text(client, "SSH-2.0-a\r\n").text(server, "SSH-2.0-b\r\n")
		case 1:
			c.tls(tls.VersionTLS12, 1400)
		}
		if i%2 == 0 {
			c.close()
		}
		packets = append(packets, c.packets...)
	}
	slices.SortStableFunc(packets, func(a, b decode.Packet) int { return cmp.Compare(a.Time, b.Time) })
	events, ended, _ := run(Config{}, packets)
	for range 5 {
		again, endedAgain, _ := run(Config{}, packets)
		if !slices.Equal(again, events) {
			t.Fatal("other events")
		}
		if fmt.Sprint(endedAgain) != fmt.Sprint(ended) || len(ended) != 100 {
			t.Fatalf("other events at the end: %d and %d, want 100", len(ended), len(endedAgain))
		}
	}
}

// A capture with a short snap length gives what is in the captured bytes, and
// the holes do not keep memory.
func TestSnapLength(t *testing.T) {
	c := newConversation().open()
	for range 100 {
		c.text(client, request+strings.Repeat("x", 1000)).text(server, strings.Repeat("y", 1400))
	}
	for i := range c.packets {
		p := &c.packets[i]
		p.Payload = p.Payload[:min(len(p.Payload), 100)]
	}
	events, _, g := run(Config{Types: ja4.TypeSet(0).With(ja4.TypeJA4H)}, c.packets)
	if len(events) != 100 || g.used != 0 {
		t.Errorf("%d requests, want 100; %d bytes held", len(events), g.used)
	}
	if s := g.Stats(); s.HolesSkipped != 100 || s.GivenUp != [NumReasons]uint64{} {
		t.Errorf("%d holes, want 100; given up %v, want nothing", s.HolesSkipped, s.GivenUp)
	}
}

// A lost segment costs what was in it, not the rest of the connection.
func TestHole(t *testing.T) {
	c := newConversation().open().text(client, request).text(client, request)
	lost := len(c.packets)
	c.text(client, request)
	for range 300 {
		c.text(client, request)
	}
	c.packets = append(c.packets[:lost], c.packets[lost+1:]...)
	events, _, g := run(Config{Types: ja4.TypeSet(0).With(ja4.TypeJA4H)}, c.packets)
	if len(events) != 302 {
		t.Errorf("%d requests, want 302", len(events))
	}
	if n := g.Stats().HolesSkipped; n != 1 {
		t.Errorf("%d holes, want 1", n)
	}
}

// What is no protocol of ours is looked at for 64 KiB per direction.
func TestUnrecognised(t *testing.T) {
	c := newConversation().open()
	for range 60 {
		c.text(client, strings.Repeat("?", 1400)).text(server, strings.Repeat("!", 1400))
	}
	g := New(Config{})
	var out Result
	for i := range c.packets {
		g.Packet(&c.packets[i], &out)
	}
	if s := g.Stats(); s.GivenUp[ReasonUnrecognised] != 2 || s.Bytes != 0 {
		t.Errorf("directions given up %v, %d bytes held; want 2 unrecognised and 0", s.GivenUp, s.Bytes)
	}
}

// MaxBytes holds under a flood of connections that each hold all they can,
// and every flow given up is counted.
func TestMaxBytes(t *testing.T) {
	const limit = 1 << 20
	g := New(Config{MaxBytes: limit})
	var out Result
	junk := []byte(strings.Repeat("z", 1000))
	for flowNumber := range uint16(300) {
		c := newConversation()
		c.client.SrcPort = flowNumber
		c.open()
		c.seq[client]++ // a hole
		for range 60 {
			c.say(client, junk, 1000)
		}
		for i := range c.packets {
			g.Packet(&c.packets[i], &out)
			if g.used > limit+4096 {
				t.Fatalf("%d bytes held, limit %d", g.used, limit)
			}
		}
	}
	if g.Stats().GivenUp[ReasonMemory] == 0 {
		t.Error("nothing was given up")
	}
	// Who was given up stays so, and is counted once.
	before, held := g.Stats().GivenUp, g.used
	c := newConversation()
	c.client.SrcPort = 200
	c.say(client, junk, 1000)
	g.Packet(&c.packets[0], &out)
	if got := g.Stats().GivenUp; got != before || g.used != held {
		t.Errorf("one more packet of a flow given up: %v, %d bytes; before %v, %d bytes", got, g.used, before, held)
	}
	checkEngine(t, g)
}

// A flood of SYNs takes the place of other half-open connections, not of
// those that speak.
func TestSYNFloodSparesConversations(t *testing.T) {
	g := New(Config{MaxBytes: 1 << 19, MaxFlows: 10000})
	var out Result
	c := newConversation().open().text(client, "GET / HTTP/1.1\r\nHost: ")
	for i := range c.packets {
		g.Packet(&c.packets[i], &out)
	}
	for i := range uint32(100_000) {
		p := established()
		setFlow(&p, i)
		p.TCPFlags, p.Payload, p.PayloadLength = flow.SYN, nil, 0
		p.Time = c.now + int64(i)*1000
		g.Packet(&p, &out)
	}
	c.now += 100_000_000
	c.text(client, "example.net\r\n\r\n")
	g.Packet(&c.packets[len(c.packets)-1], &out)
	if got := kinds(out.Events); got != "ja4h" {
		t.Errorf("after the flood the request gives %q, want ja4h", got)
	}
	s := g.Stats()
	if s.Flows > 10000 || s.Bytes > 1<<19 || s.GivenUp[ReasonCapacity] == 0 || s.GivenUp[ReasonMemory] == 0 {
		t.Errorf("stats %+v", s)
	}
}

// A connection whose opening was not seen has no latency to wait for: it holds
// nothing once its protocol is done.
func TestMidStreamHoldsNothing(t *testing.T) {
	c := newConversation().tls(tls.VersionTLS12, 1400)
	g := New(Config{})
	var out Result
	for i := range c.packets {
		g.Packet(&c.packets[i], &out)
	}
	if g.used != 0 {
		t.Errorf("%d bytes held", g.used)
	}
}

// Bytes that may still become a protocol are kept up to a bound.
func TestUndecidedIsBounded(t *testing.T) {
	c := newConversation().open().text(client, "GET /").say(client, bytes.Repeat([]byte("a"), 10*maxPrefixBytes), 1000)
	g := New(Config{})
	var out Result
	for i := range c.packets {
		g.Packet(&c.packets[i], &out)
		if limit := connBytes + streamBytes + 2*maxPrefixBytes + ja4plus.MaxHTTPHeaderBytes; g.used > limit {
			t.Fatalf("%d bytes held after packet %d, limit %d", g.used, i+1, limit)
		}
	}
}

// Fragments that bring no payload, and those that a packet brings along, count
// as packets of their connection.
func TestFragmentsCount(t *testing.T) {
	c := newConversation().open().text(client, request)
	c.packets[3].Held = make([]decode.HeldFragment, 2)
	fragment := decode.Packet{Tuple: c.client, Fragment: true, Time: c.now}
	packets := append(c.packets[:3:3], fragment, c.packets[3])
	events, _, _ := run(Config{Types: ja4.TypeSet(0).With(ja4.TypeJA4H)}, packets)
	if len(events) != 1 || events[0].PacketNum != 7 {
		t.Errorf("events %v; want a request at packet 7", events)
	}
}

// A Mark stays with its flow and is zero when the flow is new.
func TestMark(t *testing.T) {
	g := New(Config{})
	var out Result
	for round := range 3 {
		for i := range uint32(4000) {
			p := established()
			setFlow(&p, i)
			g.Packet(&p, &out)
			if want := uint32(round) * (i + 1); out.Mark.Index != want {
				t.Fatalf("round %d: flow %d has mark %d, want %d", round, i, out.Mark.Index, want)
			}
			out.Mark.Index = uint32(round+1) * (i + 1)
		}
	}
}

// DHCP messages give an event each, on their own 5-tuple.
func TestDHCP(t *testing.T) {
	discover := dhcpDiscover()
	p := decode.Packet{
		Tuple: flow.Tuple{
			Src: flow.AddrFrom4([4]byte{}), Dst: flow.AddrFrom4([4]byte{255, 255, 255, 255}),
			SrcPort: 68, DstPort: 67, Protocol: flow.UDP,
		},
		Payload: discover, PayloadLength: len(discover),
	}
	events, _, _ := run(Config{}, []decode.Packet{p, p})
	if got, want := kinds(events), "ja4d ja4d"; got != want {
		t.Fatalf("events %q, want %q", got, want)
	}
	if want, err := ja4plus.DHCP(discover); err != nil || events[0].Value != want.Value || events[1].PacketNum != 2 {
		t.Errorf("events %v, want %v %v", events, want, err)
	}
}

// A packet of a flow that has given all it can does not allocate.
func TestEstablishedDoesNotAllocate(t *testing.T) {
	c := newConversation().open().tls(tls.VersionTLS13, 1400)
	g := New(Config{})
	var out Result
	for i := range c.packets {
		g.Packet(&c.packets[i], &out)
	}
	c.text(client, strings.Repeat("x", 1400))
	p := c.packets[len(c.packets)-1]
	n := testing.AllocsPerRun(1000, func() {
		p.Time += 1_000_000
		p.Seq += 1400
		g.Packet(&p, &out)
	})
	if n != 0 {
		t.Errorf("%v allocations per packet, want 0", n)
	}
}

// Nor does a packet within the body of a request, which wakes what rests.
func TestBodyDoesNotAllocate(t *testing.T) {
	for name, c := range map[string]*conversation{
		"HTTP/1": newConversation().open().text(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n"),
		"HTTP/2": overHTTP2(30, func(i int) []string {
			return []string{":method POST", ":authority www.example", fmt.Sprintf("x-n %d", i), "cookie c=" + strings.Repeat("1", i)}
		}).text(client, "\x00\xff\xff\x00\x00\x00\x00\x00\x01"),
	} {
		g := New(Config{})
		var out Result
		for i := range c.packets {
			g.Packet(&c.packets[i], &out)
		}
		seq := c.seq[client]
		c.text(client, strings.Repeat("x", 600))
		p := c.packets[len(c.packets)-1]
		p.Seq = seq
		n := testing.AllocsPerRun(100, func() {
			p.Time += 1_000_000
			g.Packet(&p, &out)
			p.Seq += 600
		})
		if n != 0 || g.quiets.live != 1 {
			t.Errorf("%s: %v allocations per packet, want 0; %d connections at rest", name, n, g.quiets.live)
		}
	}
}

// Nor does a packet of an SSH connection inside its window.
func TestSSHDoesNotAllocate(t *testing.T) {
	c := newConversation().open().text(client, "SSH-2.0-a\r\n").text(server, strings.Repeat("x", 36))
	g := New(Config{SSHWindow: 4000})
	var out Result
	for i := range c.packets {
		g.Packet(&c.packets[i], &out)
	}
	p := c.packets[len(c.packets)-1]
	n := testing.AllocsPerRun(1000, func() {
		p.Time += 1_000_000
		p.Seq += 36
		g.Packet(&p, &out)
	})
	if n != 0 {
		t.Errorf("%v allocations per packet, want 0", n)
	}
}

// Requests that stand behind what is not quite HTTP: empty lines, and bodies
// whose length nobody can tell.
func TestRequestsBehindOddBytes(t *testing.T) {
	get := "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	for name, said := range map[string][]string{
		"an empty line":          {"\r\n" + get},
		"an empty line alone":    {"\r\n", get},
		"a PROXY header alone":   {"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", get},
		"a body of two lengths":  {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 3\r\n\r\nfoo", get},
		"the middle of a body":   {"foo", get},
		"a method in two halves": {"GE", get[2:]},
	} {
		c := newConversation().open()
		for _, s := range said {
			c.text(client, s)
		}
		events, _, _ := run(Config{Types: ja4.TypeSet(0).With(ja4.TypeJA4H)}, c.packets)
		if len(events) == 0 || !strings.HasPrefix(events[len(events)-1].Value, "ge11nn010000_") {
			t.Errorf("%s: %+v, want the request last", name, events)
		}
	}
}

// The client's answer to a SYN-ACK may be captured before it.
func TestAnswerBeforeSYNACK(t *testing.T) {
	for _, said := range []string{"", request} {
		for _, types := range []ja4.TypeSet{ja4.TypeSet(0).With(ja4.TypeJA4TS), ja4.AllTypes} {
			c := newConversation().packet(client, flow.SYN, nil).packet(server, flow.SYN|flow.ACK, nil).packet(client, flow.ACK, nil)
			if said != "" {
				c.text(client, said)
			}
			c.text(server, "hello").text(client, request).close()
			n := len(c.packets)
			c.packets = append(append(slices.Clone(c.packets[:1]), c.packets[2], c.packets[1]), c.packets[3:n]...)
			if said != "" { // the data, too
				c.packets[2], c.packets[3] = c.packets[3], c.packets[2]
			}
			events, _, _ := run(Config{Types: types}, c.packets)
			if got := strings.Count(kinds(events)+" ", "ja4ts "); got != 1 && (said == "" || types == ja4.AllTypes) {
				t.Errorf("saying %q, types %v: %s", said, types, kinds(events))
			}
		}
	}
}

// Segments of an SSH connection count wherever they are captured, also those
// that come before the banner that they follow.
func TestSSHSegmentsBeforeBanner(t *testing.T) {
	talk := func() *conversation {
		return newConversation().open().
			text(client, "SSH-2.0-a\r\n").say(client, make([]byte, 700), 700).
			text(server, "SSH-2.0-bc\r\n").say(server, make([]byte, 300), 300).
			text(client, "x").text(server, "y").close()
	}
	window := func(packets []decode.Packet) string {
		_, ended, _ := run(Config{}, packets)
		if len(ended) != 1 {
			t.Fatalf("%d windows", len(ended))
		}
		return ended[0].Value
	}
	want := window(talk().packets)
	if want != "c1s1_c3s3_c2s0" {
		t.Fatalf("in order: %s", want)
	}
	for i := 3; i < 8; i++ {
		for j := i + 1; j < 9; j++ {
			p := talk().packets
			p[i], p[j] = p[j], p[i]
			if got := window(p); got != want {
				t.Errorf("packets %d and %d exchanged: %s, want %s", i, j, got, want)
			}
		}
	}
}

// What a proxy puts before a hello, and a warning before the server's, hide
// neither, also where they share a segment, whatever else is looked for.
func TestPreamblesInOneSegment(t *testing.T) {
	plain := newConversation().open().tls(tls.VersionTLS12, 1400)
	tlsOnly := ja4.TypeSet(0).With(ja4.TypeJA4).With(ja4.TypeJA4S).With(ja4.TypeJA4X)
	want, _, _ := run(Config{Types: tlsOnly}, plain.packets)
	version2 := "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + "\x0a\x00\x00\x01\x0a\x00\x00\x02\x9c\x40\x01\xbb"
	for name, before := range map[string][2]string{
		"PROXY 1":               {"PROXY TCP4 10.0.0.1 10.0.0.2 40000 443\r\n", ""},
		"PROXY 2":               {version2, ""},
		"CONNECT":               {"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", ""},
		"a warning":             {"", "\x15\x03\x01\x00\x02\x01\x70"},
		"a warning of a client": {"\x15\x03\x01\x00\x02\x01\x70", ""},
	} {
		for _, types := range []ja4.TypeSet{tlsOnly, tlsOnly.With(ja4.TypeJA4H)} {
			for _, split := range []bool{false, true} {
				c := newConversation().open().tls(tls.VersionTLS12, 1400)
				var packets []decode.Packet
				var said [2]bool
				for _, p := range c.packets {
					from, text := server, ""
					if p.Tuple == c.client {
						from = client
					}
					if said[from] {
						p.Seq += uint32(len(before[from]))
					} else if p.PayloadLength > 0 {
						said[from], text = true, before[from]
					}
					if text != "" && split { // each byte in a segment of its own, the hello's too
						whole := text + string(p.Payload[:6])
						rest := p
						rest.Payload = p.Payload[6:]
						for i := range len(whole) {
							p.Payload, p.PayloadLength = []byte(whole[i:i+1]), 1
							packets = append(packets, p)
							p.Seq++
						}
						rest.Seq, rest.PayloadLength = p.Seq, len(rest.Payload)
						p = rest
					} else if text != "" {
						p.Payload = append([]byte(text), p.Payload...)
						p.PayloadLength = len(p.Payload)
					}
					packets = append(packets, p)
				}
				got, _, _ := run(Config{Types: types}, packets)
				t.Run(fmt.Sprintf("%s, %v, %t", name, types, split), func(t *testing.T) {
					diff(t, values(got, ja4.TypeJA4H), values(want))
				})
			}
		}
	}

	for _, header := range []string{"PROXY UNKNOWN\r\n", version2} {
		events, _, _ := run(Config{Types: ja4.TypeSet(0).With(ja4.TypeJA4H)}, newConversation().open().text(client, header+request).packets)
		if kinds(events) != "ja4h" {
			t.Errorf("behind %q: %s, want ja4h", header, kinds(events))
		}
	}
}

// A line that only begins as a PROXY header is what it is, and who sends such
// headers without an end is given up as anybody else.
func TestPreamblesAreBounded(t *testing.T) {
	types := ja4.TypeSet(0).With(ja4.TypeJA4H)
	events, _, _ := run(Config{Types: types}, newConversation().open().text(client, "PROXY /a HTTP/1.1\r\nHost: a\r\n\r\n").packets)
	if kinds(events) != "ja4h" {
		t.Errorf("a request of method PROXY gives %q, want ja4h", kinds(events))
	}
	c := newConversation().open()
	for range 1 + maxLookedBytes/15 {
		c.text(client, "PROXY UNKNOWN\r\n")
	}
	if _, _, g := run(Config{Types: types}, c.packets); g.Stats().GivenUp[ReasonUnrecognised] != 1 {
		t.Errorf("given up: %v, want one for being unrecognised", g.Stats().GivenUp)
	}
}
