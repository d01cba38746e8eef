package ja4

import (
	"bytes"

	"github.com/whorl-net/whorl/ja4/internal/quicpacket"
	"github.com/whorl-net/whorl/ja4/internal/wire"
)

// maxAttempts bounds the key derivations of a flow that led to nothing: about
// 2 µs each.
const maxAttempts = 16

// QUICFlow finds the hellos in both directions of one QUIC connection: it
// decrypts Initial packets, whose keys follow from a connection id on the wire
// (RFC 9001 section 5.2), and puts their CRYPTO frames in order. The two ends
// are called sides 0 and 1; which one is the client, the first packet that
// opens as a client's tells. The zero QUICFlow is ready for use; it is not
// safe for concurrent use.
//
// It is done with the server's hello, unless that is a retry request. A new
// connection between the same two ends makes it begin again.
type QUICFlow struct {
	// opening is what is needed to open packets; nil before the first and
	// after the last.
	opening *quicOpening
	// original is the connection id that the keys follow from, version the
	// version they are for, server the connection id that the server chose.
	original, server connectionID
	version          uint32
	// hello is the random of the first client hello of the connection, by
	// which the hello that follows a Retry is known again.
	hello [32]byte

	client            uint8
	attempts          uint8
	begun, known      bool
	helloed, finished bool
}

// quicOpening is the part of a flow that lives until its hellos are complete.
type quicOpening struct {
	// keys and crypto are by role: 0 the client, 1 the server.
	keys   [2]*quicpacket.Keys
	crypto [2]wire.Assembly
}

// connectionID is a connection id of at most 20 bytes.
type connectionID struct {
	n  uint8
	id [quicpacket.MaxConnectionID]byte
}

func newConnectionID(b []byte) (c connectionID) {
	c.n = uint8(copy(c.id[:], b))
	return c
}

func (c *connectionID) bytes() []byte { return c.id[:c.n] }

// Datagram takes the UDP payload p that side (0 or 1) sent and calls emit for
// every hello that p completes. It does not keep p and does not change it.
//
// It returns the packets of the datagram, which it also tells after
// StatusDone. StatusInvalid says that p is no QUIC datagram and that none came
// before, or that too many packets could not be opened; StatusTooLarge that a
// hello goes beyond a bound.
func (f *QUICFlow) Datagram(side uint8, p []byte, emit func(side uint8, m Message)) (QUICPackets, Status) {
	side &= 1
	var packets QUICPackets
	var scratch []byte
	status := StatusMore
	for len(p) > 0 && packets.n < maxCoalesced {
		if p[0]&0x80 == 0 {
			// Zeros are padding after the packets (RFC 9001 has none, some
			// stacks do); the fixed bit tells a short header from them.
			if f.begun && p[0]&0x40 != 0 {
				packets.add(PacketShort)
			}
			break
		}
		l, ok := quicpacket.ParseLong(p)
		if !ok {
			break
		}
		f.begun = true
		packets.add(PacketKind(l.Kind))
		if l.Kind == quicpacket.Initial {
			var payload []byte
			if payload, scratch = f.open(side, &l, scratch); payload != nil {
				if s := f.payload(side, payload, emit); s != StatusMore {
					status = s
				}
			}
		}
		if l.All == nil {
			break
		}
		p = p[len(l.All):]
	}
	switch {
	case !f.begun || f.attempts >= maxAttempts && !f.known:
		return packets, StatusInvalid
	case status != StatusMore:
		return packets, status
	case f.finished:
		return packets, StatusDone
	}
	return packets, StatusMore
}

// Client returns the side that is the client; known is false until one of its
// Initial packets was opened.
func (f *QUICFlow) Client() (side uint8, known bool) { return f.client, f.known }

// Held returns the bytes of memory that the flow holds for hellos that are not
// complete; at most 4*MaxHandshakeBytes.
func (f *QUICFlow) Held() int {
	if f.opening == nil {
		return 0
	}
	return f.opening.crypto[0].Held() + f.opening.crypto[1].Held()
}

// open returns the payload of the Initial packet l, nil when it cannot or need
// not be read. The keys at hand come first. When they do not fit, the packet
// may be the client's first, or the first after a Retry, and its own
// connection id gives the keys.
func (f *QUICFlow) open(side uint8, l *quicpacket.Packet, scratch []byte) (payload, grown []byte) {
	role := uint8(1)
	if !f.known || side == f.client {
		role = 0
	}
	if f.known && role == 1 {
		f.server = newConnectionID(l.Src)
	}
	if f.opening != nil {
		if payload, scratch = f.openKnown(role, l, scratch); payload != nil {
			return payload, scratch
		}
	}
	if f.known {
		same := bytes.Equal(l.Dst, f.original.bytes())
		if same && l.Version == f.version || f.finished && role == 1 ||
			f.finished && (same || bytes.Equal(l.Dst, f.server.bytes())) {
			return nil, scratch
		}
	}
	if f.attempts >= maxAttempts {
		return nil, scratch
	}
	keys := newInitialKeys(l.Version, l.Dst, false)
	if payload, _, scratch = keys.Open(l, scratch); payload == nil {
		f.attempts++
		return nil, scratch
	}
	if f.known && side != f.client {
		f.helloed = false // the other end has become the client
	}
	f.known, f.client, f.finished = true, side, false
	f.original, f.version, f.server = newConnectionID(l.Dst), l.Version, connectionID{}
	f.opening = &quicOpening{keys: [2]*quicpacket.Keys{keys}}
	return payload, scratch
}

// openKnown tries the keys of the connection. A server may answer in another
// version than it was asked in (RFC 9368): the keys then follow from the same
// connection id by the rules of that version.
func (f *QUICFlow) openKnown(role uint8, l *quicpacket.Packet, scratch []byte) (payload, grown []byte) {
	o := f.opening
	keys := o.keys[role]
	if l.Version != f.version {
		keys = nil
	}
	if keys == nil {
		if f.attempts >= maxAttempts {
			return nil, scratch
		}
		keys = newInitialKeys(l.Version, f.original.bytes(), role == 1)
	}
	if payload, _, scratch = keys.Open(l, scratch); payload == nil {
		if o.keys[role] != keys {
			f.attempts++
		}
		return nil, scratch
	}
	if l.Version != f.version {
		f.version = l.Version
		o.keys = [2]*quicpacket.Keys{}
	}
	o.keys[role] = keys
	return payload, scratch
}

// payload takes the frames of a packet from side and emits the messages that
// are complete.
func (f *QUICFlow) payload(side uint8, payload []byte, emit func(uint8, Message)) Status {
	role := uint8(0)
	if side != f.client {
		role = 1
	}
	o := f.opening
	crypto := &o.crypto[role]
	quicpacket.EachFrame(payload, func(offset uint64, data []byte) {
		// What lies too far ahead is left out: a client that sends it in
		// earnest sends it again once what is before it has been lost.
		crypto.Insert(offset, data)
	}, nil)
	b := crypto.Prefix()
	used := 0
	for ; len(b)-used >= messageHeaderLen; used += messageHeaderLen + wire.Uint24(b[used+1:]) {
		m := b[used:]
		n := messageHeaderLen + wire.Uint24(m[1:])
		at := crypto.Offset() + uint64(used)
		if at+uint64(n) > MaxHandshakeBytes {
			f.opening, f.finished = nil, true
			return StatusTooLarge
		}
		if len(m) < n {
			break
		}
		f.message(side, at == 0, Message{Transport: QUIC, Type: MessageType(m[0]), Body: m[messageHeaderLen:n]}, emit)
		if f.finished {
			f.opening = nil
			return StatusDone
		}
	}
	crypto.Advance(used)
	return StatusMore
}

// message emits m, unless it is the hello that a client repeats after a Retry.
func (f *QUICFlow) message(side uint8, first bool, m Message, emit func(uint8, Message)) {
	switch {
	case m.Type == MessageClientHello && side == f.client && first && len(m.Body) >= 34:
		random := [32]byte(m.Body[2:34])
		if f.helloed && random == f.hello {
			return
		}
		f.helloed, f.hello = true, random
	case m.Type == MessageServerHello && side != f.client:
		emit(side, m)
		f.finished = f.helloed && !retryRequest(m.Body)
		return
	}
	emit(side, m)
}
