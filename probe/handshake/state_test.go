package handshake

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"

	"github.com/whorl-net/whorl/flow"
)

// What a flow may hold on the heap, its share of the table included.
const (
	maxStateDuring = 8 << 10 // while its handshake is going on
	maxStateAfter  = 256     // behind it
)

// postQuantum returns a ClientHello message as browsers send it now: 1.7 KB, so
// that it never fits one packet.
func postQuantum() []byte {
	ch, _ := hellos()
	ch = bytes.Clone(ch)
	padding := make([]byte, 1700-len(ch))
	extensions := 4 + 34 // to the extensions, whose length grows with them
	extensions += 1 + int(ch[extensions])
	extensions += 2 + int(ch[extensions])<<8 + int(ch[extensions+1])
	extensions += 1 + int(ch[extensions])
	n := int(ch[extensions])<<8 + int(ch[extensions+1]) + len(padding)
	ch[extensions], ch[extensions+1] = byte(n>>8), byte(n)
	padding[1], padding[2], padding[3] = 21, byte((len(padding)-4)>>8), byte(len(padding)-4)
	ch = append(ch, padding...)
	n = len(ch) - 4
	ch[2], ch[3] = byte(n>>8), byte(n)
	return ch
}

// protocols are conversations of every protocol, each through its handshake
// and a good way on.
func protocols() map[string]*conversation {
	all := map[string]*conversation{}
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		all[name] = newConversation().open().tls(version, 1400)
	}

	// A hello in two segments, a chain of 4.5 KB, and what is encrypted.
	_, sh := hellos()
	record := func(kind byte, body []byte) []byte {
		return append([]byte{kind, 3, 3, byte(len(body) >> 8), byte(len(body))}, body...)
	}
	ch := postQuantum()
	all["TLS 1.3, large hello"] = newConversation().open().
		say(client, record(22, ch), 1400).packet(server, flow.ACK, nil).
		say(server, append(record(22, sh), record(23, make([]byte, 5000))...), 1400).
		say(client, record(23, make([]byte, 60)), 1400).say(server, record(23, make([]byte, 60)), 1400)

	c := newConversation().open()
	for range 20 {
		c.text(client, request).packet(server, flow.ACK, nil).
			text(server, "HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n").say(server, make([]byte, 3000), 1400).
			packet(client, flow.ACK, nil)
	}
	all["HTTP/1 keep-alive"] = c

	c = newConversation().open().text(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
	for range 20 {
		c.say(client, make([]byte, 1400), 1400).packet(server, flow.ACK, nil)
	}
	all["HTTP/1 upload"] = c

	all["HTTP/2"] = overHTTP2(20, func(i int) []string {
		return []string{
			":method GET", ":scheme http", ":path /" + strconv.Itoa(i), ":authority www.example.net",
			"user-agent curl/8.11.1", "accept */*",
		}
	})
	all["HTTP/2, browser"] = overHTTP2(24, func(i int) []string {
		return []string{
			":method GET", ":authority www.example.net", ":scheme http", "sec-ch-ua-platform \"Linux\"",
			"user-agent Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
			"sec-ch-ua \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\", \"Google Chrome\";v=\"140\"", "sec-ch-ua-mobile ?0",
			"accept " + []string{"*/*", "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"}[i%2],
			"sec-fetch-site same-origin", "sec-fetch-mode no-cors", "sec-fetch-dest " + []string{"script", "image"}[i%2],
			"referer http://www.example.net/page/" + strconv.Itoa(i/8), "accept-encoding gzip, deflate",
			"accept-language en-US,en;q=0.9", "priority u=" + strconv.Itoa(i%4),
		}
	})
	all["HTTP/2, gRPC with a full table"] = overHTTP2(24, func(i int) []string {
		return []string{
			":method POST", ":scheme http", ":path /shop.v1.Cart/Add", ":authority cart.shop.internal:50051", "content-type application/grpc",
			"te trailers", "user-agent grpc-go/1.76.0", "grpc-accept-encoding gzip", "grpc-timeout " + strconv.Itoa(999-i) + "m",
			fmt.Sprintf("traceparent 00-%032x-%016x-01", i, i), fmt.Sprintf("x-request-id %036d", i),
		}
	})

	c = newConversation()
	c.client.DstPort = 22
	c.open().text(client, "SSH-2.0-OpenSSH_9.9\r\n").text(server, "SSH-2.0-OpenSSH_9.9\r\n").
		say(client, make([]byte, 1500), 1400).say(server, make([]byte, 1100), 1400)
	r := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		c.say(client, make([]byte, 36), 1400).say(server, make([]byte, 36+8*min(r.IntN(6), r.IntN(40))), 1400).packet(client, flow.ACK, nil)
	}
	all["SSH, shell"] = c

	c = newConversation().open().text(client, "SSH-2.0-OpenSSH_9.9\r\n").text(server, "SSH-2.0-OpenSSH_9.9\r\n").
		say(client, make([]byte, 1500), 1400).say(server, make([]byte, 1100), 1400).say(client, make([]byte, 100), 1400)
	for i := range 40 {
		c.say(server, make([]byte, 1400), 1400)
		if i%4 == 0 {
			c.packet(client, flow.ACK, nil)
		}
	}
	all["SSH, download"] = c

	c = newConversation().open()
	for i := range 30 {
		c.text(client, fmt.Sprintf("\x05%d SELECT %s", i, strings.Repeat("x", 100))).text(server, strings.Repeat("y", 500))
	}
	all["something else"] = c

	_, sh = hellos()
	all["QUIC"] = newConversation().
		datagram(client, quicInitial(client, ch[:1100])).datagram(client, quicInitialAt(client, 1100, ch[1100:])).
		datagram(server, quicInitial(server, sh)).datagram(server, quicHandshake(server)).
		datagram(client, quicHandshake(client)).datagram(client, []byte("\x40 short header"))

	body := ch[4:]
	session := 34 + 1 + int(body[34])
	withCookie := append(append(bytes.Clone(body[:session]), 0), body[session:]...)
	applicationData := []byte{23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0}
	all["DTLS"] = newConversation().
		datagram(client, dtlsFragment(1, 0, withCookie, 0, 1000)).datagram(client, dtlsFragment(1, 0, withCookie, 1000, len(withCookie))).
		datagram(server, dtlsRecord(2, 0, sh[4:])).
		datagram(client, applicationData).datagram(server, applicationData)

	dhcp := newConversation()
	dhcp.client.SrcPort, dhcp.client.DstPort = 68, 67
	all["DHCP"] = dhcp.datagram(client, dhcpDiscover()).datagram(client, dhcpDiscover())
	return all
}

// overHTTP2 is a connection of HTTP/2 in clear with some requests, whose fields
// are "name value". All that may be is put into the header table.
func overHTTP2(requests int, fields func(i int) []string) *conversation {
	c := newConversation().open().text(client, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for i := range requests {
		block.Reset()
		for _, f := range fields(i) {
			name, value, _ := strings.Cut(f, " ")
			encoder.WriteField(hpack.HeaderField{Name: name, Value: value})
		}
		n := block.Len()
		c.say(client, append([]byte{0, byte(n >> 8), byte(n), 1, 5, 0, 0, 0, byte(2*i + 1)}, block.Bytes()...), 1400).
			say(server, make([]byte, 3000), 1400).packet(client, flow.ACK, nil)
	}
	return c
}

// heap returns the bytes that are in use, without what waits in pools for the
// next packet of any flow: a first collection puts it aside, a second frees it.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A flow holds little while its handshake goes on and next to nothing behind
// it, counted on the heap, with everything that the engine keeps for it.
func TestStatePerFlow(t *testing.T) {
	flows := int64(28_000)
	if raced {
		flows = segmentFull // as many as one segment of the table takes
	}
	for name, c := range protocols() {
		t.Run(name, func(t *testing.T) {
			var out Result
			other := New(Config{MaxBytes: 1 << 40}) // makes what all engines share
			for i := range c.packets {
				p := c.packets[i]
				other.Packet(&p, &out)
			}
			out = Result{}
			before := heap()
			g := New(Config{MaxBytes: 1 << 40})
			var during, after int64
			for i := range c.packets {
				p := c.packets[i]
				src := p.Tuple.Src == c.client.Src
				for n := range uint32(flows) {
					q := p
					end := &q.Tuple.Dst
					if src {
						end = &q.Tuple.Src
					}
					end[13], end[14], end[15] = byte(n>>16), byte(n>>8), byte(n)
					g.Packet(&q, &out)
				}
				out = Result{}
				if i < 12 || i == len(c.packets)-1 || i%20 == 0 {
					after = (heap() - before) / flows
					during = max(during, after)
				}
			}
			s := g.Stats()
			t.Logf("%5d bytes per flow during, %4d after; charged %d after, and the table %d",
				during, after, s.Bytes/flows, int64(len(g.table.segments)*segmentEntries*64)/flows)
			if s.Flows != flows {
				t.Errorf("%d flows, want %d", s.Flows, flows)
			}
			if during > maxStateDuring || after > maxStateAfter {
				t.Errorf("%d bytes per flow during the handshake, %d after; want at most %d and %d", during, after, maxStateDuring, maxStateAfter)
			}
			runtime.KeepAlive(g)
			runtime.KeepAlive(other)
		})
	}
}
