package cleartext

import (
	"bytes"

	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/ja4/internal/quicpacket"
	"github.com/whorl-net/whorl/ja4/internal/wire"
)

const (
	// maxWaiting and maxWaitingBytes bound the datagrams that wait for the
	// server's hello.
	maxWaiting      = 16
	maxWaitingBytes = 32 << 10
)

// QUIC opens one QUIC connection between two addresses. The two ends are
// called sides 0 and 1; the client's first packet tells which is the client.
// It is not safe for concurrent use.
//
// Packets that do not open are passed over and counted: QUIC repeats what is
// lost. A connection that moves to other addresses is followed there only if the
// caller brings the datagrams together.
type QUIC struct {
	// Waits says that secrets which the KeyLog does not have may still come:
	// datagrams then wait for all that their connection needs, up to a bound
	// beyond which they are lost, and each Datagram looks again. It may be
	// changed between calls; once it is false, Datagram goes on with what there
	// is.
	Waits bool

	keys  *KeyLog
	flow  ja4.QUICFlow
	hello helloState
	// version is that of the last packet with a long header.
	version uint32
	// idLen is the length of the connection ids that each side chose.
	idLen [2]int

	looked  bool
	secrets secrets
	early   *quicpacket.Keys
	// By sender.
	handshake [2]*quicpacket.Keys
	traffic   [2]*trafficKeys
	crypto    [2]wire.Assembly
	streams   streams

	waiting      []waitingDatagram
	waitingBytes int
	scratch      []byte
	unopened     uint64
	err          error
}

type waitingDatagram struct {
	side uint8
	p    []byte
}

// NewQUIC returns a QUIC for one connection, which finds its secrets in keys.
func NewQUIC(keys *KeyLog) *QUIC { return &QUIC{keys: keys} }

// Datagram takes the UDP payload p that side (0 or 1) sent and calls sink for
// what it completes. It does not keep p and does not change it. Datagrams that
// come before the server's hello wait, up to a bound.
//
// It returns ja4.StatusMore, or another status once the work has ended; Err
// then says why. The hellos of a new connection between the same ends are
// still found.
func (c *QUIC) Datagram(side uint8, p []byte, sink Sink) ja4.Status {
	side &= 1
	_, status := c.flow.Datagram(side, p, func(side uint8, m ja4.Message) { c.initial(side, m, sink) })
	if c.err != nil {
		return statusOf(c.err)
	}
	if status == ja4.StatusInvalid {
		return status
	}
	c.packets(side, p, sink)
	if len(c.waiting) > 0 && !c.waits() {
		waiting := c.waiting
		c.waiting, c.waitingBytes = nil, 0
		for _, w := range waiting {
			c.packets(w.side, w.p, sink)
		}
	}
	return statusOf(c.err)
}

// Err returns why the work has ended, nil while it goes on.
func (c *QUIC) Err() error { return c.err }

// Client returns the side that is the client; known is false before a hello.
func (c *QUIC) Client() (side uint8, known bool) { return c.hello.client, c.hello.known }

// Unopened returns the number of packets that did not open with the secrets.
func (c *QUIC) Unopened() uint64 { return c.unopened }

// Held returns the bytes of memory that c holds for what is not complete.
func (c *QUIC) Held() int {
	return c.flow.Held() + c.waitingBytes + cap(c.scratch) + c.crypto[0].Held() + c.crypto[1].Held() + c.streams.held
}

// initial takes a message of the Initial packets.
func (c *QUIC) initial(side uint8, m ja4.Message, sink Sink) {
	if m.Type == ja4.MessageClientHello && c.hello.answered && len(m.Body) >= 34 &&
		!bytes.Equal(m.Body[2:34], c.hello.clientRandom[:]) {
		// Another connection between the same ends.
		*c = QUIC{Waits: c.Waits, keys: c.keys, flow: c.flow, unopened: c.unopened}
	}
	if sink.Message != nil {
		sink.Message(side, m)
	}
	c.hello.take(side, m)
}

// packets walks the packets of a datagram, those of Initial kind excepted.
func (c *QUIC) packets(side uint8, p []byte, sink Sink) {
	for datagram := p; len(p) > 0 && c.err == nil; {
		var k quicpacket.Packet
		ok := false
		if p[0]&0x80 != 0 {
			if k, ok = quicpacket.ParseLong(p); !ok || k.All == nil {
				return
			}
			c.idLen[side], c.version = len(k.Src), k.Version
		} else if k, ok = quicpacket.ParseShort(p, c.idLen[1-side]); !ok {
			return
		}
		p = p[len(k.All):]
		if k.Kind == quicpacket.Initial {
			continue
		}
		if c.waits() {
			c.wait(side, datagram)
			return
		}
		if c.ready() {
			c.packet(side, &k, sink)
		}
	}
}

// waits reports whether datagrams have to wait, for the server's hello or for
// secrets.
func (c *QUIC) waits() bool {
	if !c.hello.answered {
		return true
	}
	if !c.Waits || c.looked || !c.hello.supported {
		return false
	}
	c.secrets, _ = c.keys.lookup(c.hello.clientRandom)
	c.looked = c.secrets.complete(c.hello.version)
	return !c.looked
}

// wait keeps a copy of a datagram until it can be opened. When
// there are too many, it is lost: its sender repeats it.
func (c *QUIC) wait(side uint8, p []byte) {
	if len(c.waiting) == maxWaiting || c.waitingBytes+len(p) > maxWaitingBytes {
		c.unopened++
		return
	}
	c.waiting = append(c.waiting, waitingDatagram{side, bytes.Clone(p)})
	c.waitingBytes += len(p)
}

// ready looks up the secrets. It reports false, and why, when the connection
// cannot be opened.
func (c *QUIC) ready() bool {
	if c.looked {
		return c.err == nil
	}
	c.looked = true
	found := false
	if c.secrets, found = c.keys.lookup(c.hello.clientRandom); !found {
		c.err = ErrNoSecrets
	}
	if !c.hello.supported {
		c.err = ErrUnsupported
	}
	return c.err == nil
}

// packet opens one packet and hands over what is in it.
func (c *QUIC) packet(side uint8, k *quicpacket.Packet, sink Sink) {
	role := c.role(side)
	var payload []byte
	switch {
	case k.Kind == quicpacket.Handshake:
		payload = c.openWith(&c.handshake[side], [2]label{clientHandshake, serverHandshake}[role], k)
	case k.Kind == quicpacket.ZeroRTT && role == 0:
		payload = c.openWith(&c.early, clientEarly, k)
	case k.Kind == quicpacket.Short:
		payload = c.openTraffic(side, k)
	}
	if payload == nil {
		c.unopened++
		return
	}
	var crypto func(uint64, []byte)
	if k.Kind == quicpacket.Handshake {
		crypto = func(offset uint64, data []byte) { c.crypto[side].Insert(offset, data) }
	}
	quicpacket.EachFrame(payload, crypto, func(id, offset uint64, data []byte, end bool) {
		c.streams.take(side, id, offset, data, end, sink)
	})
	if crypto != nil {
		c.messages(side, sink)
	}
}

// role is 0 for the client and 1 for the server.
func (c *QUIC) role(side uint8) int {
	if side == c.hello.client {
		return 0
	}
	return 1
}

// openWith opens a packet with keys that are made when they are first needed.
func (c *QUIC) openWith(keys **quicpacket.Keys, l label, k *quicpacket.Packet) (payload []byte) {
	if *keys == nil {
		secret := c.secrets.get(l)
		if len(secret) != c.hello.suite.hash().Size() {
			return nil
		}
		*keys = newPacketKeys(c.hello.suite, k.Version, secret)
	}
	payload, _, c.scratch = (*keys).Open(k, c.scratch)
	return payload
}

// openTraffic opens a packet with a short header.
func (c *QUIC) openTraffic(side uint8, k *quicpacket.Packet) (payload []byte) {
	if c.traffic[side] == nil {
		secret := c.secrets.get([2]label{clientTraffic, serverTraffic}[c.role(side)])
		if len(secret) != c.hello.suite.hash().Size() {
			return nil
		}
		c.traffic[side] = newTrafficKeys(c.hello.suite, c.version, secret)
	}
	payload, c.scratch = c.traffic[side].open(k, c.scratch)
	return payload
}

// messages hands over the handshake messages of a side that are complete.
func (c *QUIC) messages(side uint8, sink Sink) {
	crypto := &c.crypto[side]
	b := crypto.Prefix()
	used := 0
	for len(b)-used >= 4 {
		m := b[used:]
		n := 4 + wire.Uint24(m[1:])
		if crypto.Offset()+uint64(used+n) > ja4.MaxHandshakeBytes {
			c.err = ErrTooLarge
			return
		}
		if len(m) < n {
			break
		}
		used += n
		if sink.Message != nil {
			sink.Message(side, ja4.Message{Transport: ja4.QUIC, Type: ja4.MessageType(m[0]), Body: m[4:n]})
		}
	}
	crypto.Advance(used)
}
