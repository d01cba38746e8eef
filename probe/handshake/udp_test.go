package handshake

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"testing"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/probe/decode"
)

var quicDCID = []byte{1, 2, 3, 4, 5, 6, 7, 8}

// quicInitial returns a datagram with one QUIC v1 Initial packet (RFC 9001
// section 5) of the connection quicDCID that carries crypto data from offset 0.
func quicInitial(from int, crypto []byte) []byte { return quicInitialAt(from, 0, crypto) }

// quicInitialAt is quicInitial from another offset.
func quicInitialAt(from, offset int, crypto []byte) []byte {
	salt, err := hex.DecodeString("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")
	check(err)
	secret, err := hkdf.Extract(sha256.New, quicDCID, salt)
	check(err)
	expand := func(secret []byte, label string, n int) []byte {
		info := append([]byte{0, byte(n), byte(6 + len(label))}, "tls13 "+label...)
		out, err := hkdf.Expand(sha256.New, secret, string(append(info, 0)), n)
		check(err)
		return out
	}
	sender, dcid := "client in", quicDCID
	if from == server {
		sender, dcid = "server in", []byte{}
	}
	secret = expand(secret, sender, 32)
	block, err := aes.NewCipher(expand(secret, "quic key", 16))
	check(err)
	aead, err := cipher.NewGCM(block)
	check(err)

	frames := binary.BigEndian.AppendUint16([]byte{6}, 0x4000|uint16(offset))
	frames = binary.BigEndian.AppendUint16(frames, 0x4000|uint16(len(crypto)))
	frames = append(frames, crypto...)
	frames = append(frames, make([]byte, max(0, 1150-len(frames)))...) // padding
	header := append([]byte{0xc1, 0, 0, 0, 1, byte(len(dcid))}, dcid...)
	header = append(header, 0, 0) // source connection id, token
	header = binary.BigEndian.AppendUint16(header, 0x4000|uint16(2+len(frames)+aead.Overhead()))
	number := len(header)
	packetNumber := byte(offset >> 8)
	header = append(header, 0, packetNumber)
	nonce := expand(secret, "quic iv", 12)
	nonce[11] ^= packetNumber
	packet := aead.Seal(header, nonce, frames, header)

	hp, err := aes.NewCipher(expand(secret, "quic hp", 16))
	check(err)
	var mask [16]byte
	hp.Encrypt(mask[:], packet[number+4:number+20])
	packet[0] ^= mask[0] & 0x0f
	packet[number] ^= mask[1]
	packet[number+1] ^= mask[2]
	return packet
}

// withDCID makes what f makes for another QUIC connection.
func withDCID(id byte, f func() *conversation) *conversation {
	old := quicDCID
	defer func() { quicDCID = old }()
	quicDCID = []byte{id, 2, 3, 4, 5, 6, 7, 8}
	return f()
}

// quicHandshake returns a datagram with a QUIC Handshake packet, whose body
// nobody can read.
func quicHandshake(from int) []byte {
	b := []byte{0xe1, 0, 0, 0, 1, 0, 0, 0x40, 100}
	return append(b, bytes.Repeat([]byte{byte(from + 1)}, 100)...)
}

// datagrams builds the packets of a UDP flow.
func (c *conversation) datagram(from int, payload []byte) *conversation {
	c.client.Protocol = flow.UDP
	c.now += 1_000_000
	c.packets = append(c.packets, decode.Packet{
		Tuple: c.tuple(from), Time: c.now, WireLength: uint32(42 + len(payload)), TTL: 60 + uint8(from),
		Payload: payload, PayloadLength: len(payload),
	})
	return c
}

// hellos returns the ClientHello and ServerHello of a TLS 1.3 connection as
// handshake messages.
func hellos() (client, server []byte) {
	flights := tlsFlights(tls.VersionTLS13)
	message := func(record []byte) []byte {
		return record[5 : 5+int(binary.BigEndian.Uint16(record[3:]))]
	}
	return message(flights[0].data), message(flights[1].data)
}

// A QUIC connection gives both hellos and both light distances, then holds
// nothing.
func TestQUIC(t *testing.T) {
	ch, sh := hellos()
	c := newConversation().
		datagram(client, quicInitial(client, ch)).datagram(server, quicInitial(server, sh)).
		datagram(server, quicHandshake(server)).datagram(server, quicHandshake(server)).
		datagram(client, quicHandshake(client))
	g := New(Config{})
	var out Result
	var events []Event
	for i := range c.packets {
		g.Packet(&c.packets[i], &out)
		events = append(events, out.Events...)
	}
	if got, want := kinds(events), "ja4 ja4s ja4ls ja4l"; got != want {
		t.Fatalf("events %s, want %s", got, want)
	}
	if events[0].Value[0] != 'q' || events[1].Value[0] != 'q' || events[2].Value != "500_61" || events[3].Value != "500_60" || events[3].PacketNum != 5 {
		t.Errorf("events %v", values(events))
	}
	if g.used != 0 {
		t.Errorf("%d bytes held when all is said", g.used)
	}
}

// The sender of a QUIC client Initial is the client, whoever spoke first.
func TestQUICDirection(t *testing.T) {
	ch, _ := hellos()
	c := newConversation().datagram(server, []byte("hello?")).datagram(client, quicInitial(client, ch))
	events, _, _ := run(Config{}, c.packets)
	if len(events) != 1 || events[0].Tuple != c.client {
		t.Errorf("events %v, want one of %v", events, c.client)
	}
}

// What only looks like QUIC is tried a few times; a QUIC connection that never
// shows the rest of its handshake is left after a while. Neither holds memory
// for ever.
func TestQUICGivesUp(t *testing.T) {
	ch, _ := hellos()
	first := quicInitial(client, ch)
	broken := bytes.Clone(first)
	broken[len(broken)-1] ^= 1
	for name, tc := range map[string]struct {
		payload []byte
		most    int
	}{"not QUIC": {broken, 20}, "no answer": {first, maxQUICDatagrams + 1}} {
		g := New(Config{})
		var out Result
		c := newConversation()
		for range tc.most {
			c.datagram(client, tc.payload)
		}
		for i := range c.packets {
			g.Packet(&c.packets[i], &out)
			if i == 0 && g.used == 0 {
				t.Errorf("%s: given up at once", name)
			}
		}
		if g.used != 0 {
			t.Errorf("%s: %d bytes held after %d datagrams", name, g.used, tc.most)
		}
	}
}

// The server's hello is found also where it was captured before the client's.
func TestQUICAnswerFirst(t *testing.T) {
	ch, sh := hellos()
	c := newConversation().datagram(server, quicInitial(server, sh)).datagram(client, quicInitial(client, ch))
	events, _, g := run(Config{Types: ja4.TypeSet(0).With(ja4.TypeJA4).With(ja4.TypeJA4S)}, c.packets)
	if got, want := kinds(events), "ja4 ja4s"; got != want {
		t.Fatalf("events %q, want %q", got, want)
	}
	if events[0].Tuple != c.client || events[1].Tuple != c.client || g.used != 0 {
		t.Errorf("events %+v of %v; %d bytes held", events, c.client, g.used)
	}
}

// QUIC connections that follow each other between the same two ports give
// their fingerprints each. What is sent again of the last one begins none, and
// what only looks like a beginning is tried a few times.
func TestQUICAgain(t *testing.T) {
	ch, sh := hellos()
	ch = bytes.Clone(ch)
	c := newConversation()
	whole := func() *conversation {
		ch[6] = quicDCID[0] // another random
		return c.datagram(client, quicInitial(client, ch)).datagram(server, quicInitial(server, sh)).
			datagram(server, quicHandshake(server)).datagram(client, quicHandshake(client))
	}
	whole()
	c.datagram(client, quicInitial(client, ch)).datagram(client, []byte("\x40 short"))
	withDCID(7, whole)
	withDCID(8, whole)
	const one = "ja4 ja4s ja4ls ja4l"
	g := New(Config{})
	var out Result
	var events []Event
	feed := func() {
		for i := range c.packets {
			g.Packet(&c.packets[i], &out)
			events = append(events, out.Events...)
		}
		c.packets = nil
	}
	feed()
	if got, want := kinds(events), one+" "+one+" "+one; got != want {
		t.Fatalf("events %s, want %s", got, want)
	}
	if g.used != 0 {
		t.Errorf("%d bytes held when all is said", g.used)
	}
	events = nil
	for i := range byte(2 * maxAgain) {
		withDCID(100+i, func() *conversation {
			b := quicInitial(client, ch)
			b[len(b)-1] ^= 1
			return c.datagram(client, b)
		})
	}
	withDCID(9, whole)
	feed()
	if len(events) != 0 {
		t.Errorf("events %s behind %d false beginnings", kinds(events), 2*maxAgain)
	}
	checkEngine(t, g)
}

// A QUIC connection that begins between the same ports before the last one was
// finished has distances of its own, from its first datagram on, however many its
// hello takes. What is sent again of it when it is done begins none.
func TestQUICAgainUnfinished(t *testing.T) {
	ch, sh := hellos()
	ch = bytes.Clone(ch)
	for _, first := range []struct {
		what   string
		events string
		add    func(c *conversation)
	}{
		{"a hello", "ja4", func(*conversation) {}},
		{"both hellos", "ja4 ja4s ja4ls", func(c *conversation) { c.datagram(server, quicInitial(server, sh)) }},
		{"both hellos and the server's handshake", "ja4 ja4s ja4ls", func(c *conversation) {
			c.datagram(server, quicInitial(server, sh)).datagram(server, quicHandshake(server))
		}},
	} {
		c := newConversation().datagram(client, quicInitial(client, ch))
		first.add(c)
		c.now += 60_000_000_000
		withDCID(7, func() *conversation {
			ch := bytes.Clone(ch)
			ch[6]++ // another random
			half := len(ch) / 2
			return c.datagram(client, quicInitialAt(client, 0, ch[:half])).datagram(client, quicInitialAt(client, half, ch[half:])).
				datagram(server, quicInitial(server, sh)).datagram(server, quicHandshake(server)).datagram(client, quicHandshake(client)).
				datagram(client, quicInitial(client, ch))
		})
		events, _, g := run(Config{}, c.packets)
		if got, want := kinds(events), first.events+" ja4 ja4s ja4ls ja4l"; got != want {
			t.Errorf("behind %s: events %s, want %s", first.what, got, want)
			continue
		}
		// Datagrams come each millisecond; distances are half the time.
		if n := len(events); events[n-2].Value != "1000_61" || events[n-1].Value != "500_60" {
			t.Errorf("behind %s: distances %s and %s, want 1000_61 and 500_60", first.what, events[n-2].Value, events[n-1].Value)
		}
		if g.used != 0 {
			t.Errorf("behind %s: %d bytes held when all is said", first.what, g.used)
		}
	}
}

// DTLS associations that follow each other between the same ports, too.
func TestDTLSAgain(t *testing.T) {
	ch, sh := hellos()
	body := ch[4:]
	session := 34 + 1 + int(body[34])
	withCookie := append(append(bytes.Clone(body[:session]), 0), body[session:]...)
	applicationData := []byte{23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0}
	c := newConversation()
	for range 2 {
		c.datagram(client, dtlsRecord(1, 0, withCookie)).datagram(server, dtlsRecord(2, 0, sh[4:])).
			datagram(client, applicationData).datagram(server, applicationData)
	}
	events, _, g := run(Config{}, c.packets)
	if got, want := kinds(events), "ja4 ja4s ja4 ja4s"; got != want || g.used != 0 {
		t.Errorf("events %q, want %q; %d bytes held", got, want, g.used)
	}
}

// dtlsRecord returns a DTLS 1.2 record with one handshake message.
func dtlsRecord(kind uint8, sequence uint8, body []byte) []byte {
	return dtlsFragment(kind, sequence, body, 0, len(body))
}

// dtlsFragment returns a DTLS 1.2 record with a part of a handshake message.
func dtlsFragment(kind uint8, sequence uint8, body []byte, start, end int) []byte {
	uint24 := func(n int) []byte { return []byte{byte(n >> 16), byte(n >> 8), byte(n)} }
	b := []byte{22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, byte(start >> 8), sequence, 0, 0}
	b = append(append(b, kind), uint24(len(body))...)
	b = append(append(append(b, 0, sequence), uint24(start)...), uint24(end-start)...)
	b = append(b, body[start:end]...)
	binary.BigEndian.PutUint16(b[11:], uint16(len(b)-13))
	return b
}

// A DTLS association gives its hellos also when something else came first on
// the same ports, as STUN does.
func TestDTLS(t *testing.T) {
	ch, sh := hellos()
	body := ch[4:]
	session := 34 + 1 + int(body[34])
	withCookie := append(append(bytes.Clone(body[:session]), 0), body[session:]...)
	stun := []byte("\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl")
	applicationData := []byte{23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0}
	c := newConversation().datagram(server, stun).datagram(client, stun).
		datagram(client, dtlsRecord(1, 0, withCookie)).datagram(server, dtlsRecord(2, 0, sh[4:])).
		datagram(client, applicationData).datagram(server, applicationData)
	g := New(Config{})
	var out Result
	var events []Event
	for i := range c.packets {
		g.Packet(&c.packets[i], &out)
		events = append(events, out.Events...)
	}
	if got, want := kinds(events), "ja4 ja4s"; got != want {
		t.Fatalf("events %q, want %q", got, want)
	}
	if events[0].Value[0] != 'd' || events[0].Tuple != c.client || events[0].ServerName != "example.net" {
		t.Errorf("events %+v", events)
	}
	if g.used != 0 {
		t.Errorf("%d bytes held when all is said", g.used)
	}
}

// Nobody defines the original-order form for DTLS.
func TestDTLSHasNoOriginalOrder(t *testing.T) {
	ch, _ := hellos()
	body := ch[4:]
	session := 34 + 1 + int(body[34])
	withCookie := append(append(bytes.Clone(body[:session]), 0), body[session:]...)
	c := newConversation().datagram(client, dtlsRecord(1, 0, withCookie))
	events, _, _ := run(Config{Types: ja4.JA4Only}, c.packets)
	if got, want := kinds(events), "ja4"; got != want {
		t.Errorf("events %q, want %q", got, want)
	}
}

// JA4 alone needs no method of JA4+.
func TestQUICJA4Only(t *testing.T) {
	ch, sh := hellos()
	c := newConversation().datagram(client, quicInitial(client, ch)).datagram(server, quicInitial(server, sh))
	events, _, g := run(Config{Types: ja4.JA4Only}, c.packets)
	if got, want := kinds(events), "ja4 ja4_o"; got != want {
		t.Errorf("events %q, want %q", got, want)
	}
	if g.used != 0 {
		t.Errorf("%d bytes held", g.used)
	}
}

func dhcpDiscover() []byte {
	b := make([]byte, 240, 300)
	b[0] = 1
	copy(b[236:], "\x63\x82\x53\x63")
	return append(b, 53, 1, 1, 55, 2, 1, 3, 255)
}
