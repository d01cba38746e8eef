package handshake

import (
	"encoding/binary"
	"unsafe"

	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/ja4/cleartext"
	"github.com/whorl-net/whorl/ja4/ja4plus"
)

const (
	// maxRequestStreams bounds the request streams that are open at once.
	maxRequestStreams = 256
	// maxUnopened is how many packets may fail to open between two that bring
	// something.
	maxUnopened = 64
)

// An openedQUIC looks inside a QUIC connection with its secrets, beside the
// flow that finds its hellos.
type openedQUIC struct {
	quic *cleartext.QUIC
	// requests are the open streams of the client, each nil once its request
	// was found. It is nil when the protocol is another than HTTP/3.
	requests map[uint64]*ja4plus.HTTP3Stream
	held     int   // bytes, by requests
	until    int64 // packet time until which it waits for secrets
	finished [2]bool
	failed   uint64 // packets that had not opened when one brought something
	over     bool   // nothing more is wanted
}

const (
	openedQUICBytes        = int64(unsafe.Sizeof(openedQUIC{})+unsafe.Sizeof(cleartext.QUIC{})) + 2*keyBytes
	http3Bytes             = int64(unsafe.Sizeof(ja4plus.HTTP3Stream{})) + 48
	typeALPN        uint16 = 0x0010
)

func (o *openedQUIC) bytes() int64 {
	return openedQUICBytes + int64(o.quic.Held()+o.held) + http3Bytes*int64(len(o.requests))
}

func (g *Engine) newOpenedQUIC() *openedQUIC {
	if !g.inside() {
		return nil
	}
	return &openedQUIC{
		quic:     cleartext.NewQUIC(g.cfg.Secrets),
		requests: make(map[uint64]*ja4plus.HTTP3Stream),
		until:    g.p.Time + int64(g.cfg.SecretsWait),
	}
}

// openQUIC gives a datagram to what looks inside q.
func (g *Engine) openQUIC(q *quicFlow, b []byte) {
	o := q.opened
	client, known := q.flow.Client()
	if known && g.side != client && b[0]&0x80 == 0 {
		return // the server's data, which may be long
	}
	o.quic.Waits = g.p.Time < o.until
	switch status := o.quic.Datagram(g.side, b, g.inQUIC); {
	case status != ja4.StatusMore:
		if err := o.quic.Err(); err != nil {
			g.stats.GivenUp[reasonOf(err)]++
		}
		o.over = true
	case o.quic.Unopened()-o.failed > maxUnopened:
		g.stats.GivenUp[ReasonUnopened]++
		o.over = true
	case (!g.want.http || o.requests == nil) && o.finished[0] && o.finished[1]:
		o.over = true // there are no more certificates, and no requests
	}
	if o.over {
		q.opened = nil
	}
}

// openedQUICMessage takes a handshake message of the QUIC connection of the
// packet in work.
func (g *Engine) openedQUICMessage(side uint8, m ja4.Message) {
	o := g.c.quic.opened
	switch m.Type {
	case ja4.MessageClientHello:
		// The first, or that of a new connection.
		o.requests = make(map[uint64]*ja4plus.HTTP3Stream)
		o.held, o.finished = 0, [2]bool{}
		return
	case ja4.MessageServerHello:
		return
	case ja4.MessageEncryptedExtensions:
		if p := chosenProtocol(m.Body); p != "" && p != "h3" {
			o.requests, o.held = nil, 0
		}
	case ja4.MessageCertificate:
		g.certificates13(m.Body)
	case ja4.MessageCompressedCertificate:
		g.compressedCertificates(m.Body)
	case ja4.MessageFinished:
		o.finished[side] = true
	}
	o.failed = o.quic.Unopened()
}

// openedStream takes data of a stream of the QUIC connection of the packet in
// work.
func (g *Engine) openedStream(side uint8, id uint64, p []byte, end bool) {
	o := g.c.quic.opened
	o.failed = o.quic.Unopened()
	client, known := o.quic.Client()
	const clientBidirectional = 0 // the lower two bits of a stream id
	if !known || side != client || id&3 != clientBidirectional || !g.want.http || o.requests == nil || o.over {
		return
	}
	s, open := o.requests[id]
	if !open {
		if len(o.requests) == maxRequestStreams {
			g.stats.GivenUp[ReasonTooLarge]++
			o.over = true
			return
		}
		s = &ja4plus.HTTP3Stream{OriginalOrder: g.types.Has(ja4.TypeJA4HRO)}
	}
	if s != nil {
		before := s.Held()
		status := g.requestStream(side, s, p)
		o.held += s.Held() - before
		if status != ja4plus.HTTP3More {
			s = nil
		}
		o.over = status == ja4plus.HTTP3Invalid
	}
	if end {
		if s != nil {
			o.held -= s.Held()
		}
		delete(o.requests, id)
		return
	}
	o.requests[id] = s
}

// requestStream gives p to a stream of the client, which is on side.
func (g *Engine) requestStream(side uint8, s *ja4plus.HTTP3Stream, p []byte) ja4plus.HTTP3Status {
	packetSide := g.side
	g.side = side
	status := s.Write(p, g.onHTTP)
	g.side = packetSide
	switch status {
	case ja4plus.HTTP3Dynamic:
		g.stats.GivenUp[ReasonUnsupported]++
	case ja4plus.HTTP3TooLarge:
		g.stats.GivenUp[ReasonTooLarge]++
	case ja4plus.HTTP3Invalid:
		g.stats.GivenUp[ReasonUnrecognised]++
	}
	return status
}

// chosenProtocol returns the protocol that the server chose, from the body of
// its EncryptedExtensions; "" when it does not say.
func chosenProtocol(body []byte) string {
	if len(body) < 2 {
		return ""
	}
	for b := body[2:]; len(b) >= 4; {
		kind, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if b = b[4:]; n > len(b) {
			return ""
		}
		if ext := b[:n]; kind == typeALPN && n > 3 && int(ext[2]) == n-3 {
			return string(ext[3:])
		}
		b = b[n:]
	}
	return ""
}
