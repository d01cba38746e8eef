package ja4

import (
	"encoding/binary"
	"slices"

	"github.com/whorl-net/whorl/ja4/internal/wire"
)

const (
	dtlsRecordHeaderLen  = 13
	dtlsMessageHeaderLen = 12
	// maxPartial bounds the messages of a DTLSStream that are incomplete at
	// the same time; a flight has up to seven, in order but for loss.
	maxPartial = 4
	// maxSeen is how many messages a DTLSStream knows again.
	maxSeen = 16
)

// DTLSStream finds the handshake messages in one direction of a DTLS
// association, version 1.0 to 1.3. The zero DTLSStream is ready for use; it is
// not safe for concurrent use.
//
// Messages are emitted as they become complete, not in the order of their
// numbers, so one that is lost holds up none. It is done at the first record
// that is encrypted.
type DTLSStream struct {
	partial []dtlsPartial
	// seen are hashes of the last messages, oldest overwritten first.
	seen     [maxSeen]uint64
	seenNext uint8
	begun    bool
	status   Status
	taken    int
}

// dtlsPartial is a message of which fragments are missing.
type dtlsPartial struct {
	number uint16
	kind   MessageType
	length int
	body   wire.Assembly
}

// Datagram takes the next datagram of the direction and calls emit for every
// handshake message that it completes. A message that is repeated is emitted
// once; the hello that answers a HelloVerifyRequest is another message. It
// does not keep p. A datagram that is not DTLS gives StatusInvalid if it is
// the first, and is passed over later.
func (s *DTLSStream) Datagram(p []byte, emit func(Message)) Status {
	for s.status == StatusMore && len(p) > 0 {
		if p[0]&0xe0 == 0x20 && s.begun { // unified header of DTLS 1.3, encrypted
			s.status = StatusDone
			break
		}
		kind, epoch, body, rest, ok := dtlsRecord(p)
		if !ok {
			break
		}
		p = rest
		s.begun = true
		switch {
		case epoch > 0 || kind == recordApplicationData:
			s.status = StatusDone
		case kind == recordHandshake:
			s.fragments(body, emit)
		}
	}
	if s.status != StatusMore {
		s.partial = nil
	} else if !s.begun {
		return StatusInvalid
	}
	return s.status
}

// Held returns the bytes of memory that the stream holds for messages that are
// not complete; at most 2*MaxHandshakeBytes.
func (s *DTLSStream) Held() int {
	n := 0
	for i := range s.partial {
		n += s.partial[i].body.Held()
	}
	return n
}

// dtlsRecord reads the first record of p (RFC 6347 section 4.1).
func dtlsRecord(p []byte) (kind uint8, epoch uint16, body, rest []byte, ok bool) {
	if len(p) < dtlsRecordHeaderLen || p[0] < recordChangeCipherSpec || p[0] > 25 || p[1] != 0xfe {
		return 0, 0, nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(p[11:]))
	if n > maxRecordLen || n > len(p)-dtlsRecordHeaderLen {
		return 0, 0, nil, nil, false
	}
	body = p[dtlsRecordHeaderLen:]
	return p[0], binary.BigEndian.Uint16(p[3:]), body[:n], body[n:], true
}

// dtlsFragment is the header of a handshake fragment (RFC 6347 section 4.2.2).
type dtlsFragment struct {
	kind           MessageType
	number         uint16
	length, offset int
	data           []byte
}

// nextFragment reads the first fragment of p.
func nextFragment(p []byte) (f dtlsFragment, rest []byte, ok bool) {
	r := wire.Reader{Rest: p}
	f.kind = MessageType(r.Uint8())
	f.length = r.Uint24()
	f.number = r.Uint16()
	f.offset = r.Uint24()
	f.data = r.Take(r.Uint24())
	if r.Short || f.offset+len(f.data) > f.length {
		return f, nil, false
	}
	return f, r.Rest, true
}

func (s *DTLSStream) fragments(p []byte, emit func(Message)) {
	for len(p) > 0 && s.status == StatusMore {
		f, rest, ok := nextFragment(p)
		if !ok {
			return
		}
		p = rest
		switch {
		case f.length > MaxHandshakeBytes:
			s.status = StatusTooLarge
		case len(f.data) == f.length:
			s.message(&f, f.data, emit)
		default:
			s.hold(&f, emit)
		}
	}
}

// hold adds a fragment to its message and emits that when it is complete. When
// there are too many messages the one with the lowest number gives way: it is
// the one that has waited longest.
func (s *DTLSStream) hold(f *dtlsFragment, emit func(Message)) {
	i := slices.IndexFunc(s.partial, func(p dtlsPartial) bool {
		return p.number == f.number && p.kind == f.kind && p.length == f.length
	})
	if i < 0 {
		if len(s.partial) == maxPartial {
			s.partial = slices.Delete(s.partial, 0, 1)
		}
		i = len(s.partial)
		s.partial = append(s.partial, dtlsPartial{number: f.number, kind: f.kind, length: f.length})
	}
	m := &s.partial[i]
	m.body.Insert(uint64(f.offset), f.data)
	if s.Held() > 2*MaxHandshakeBytes {
		s.status = StatusTooLarge
		return
	}
	if body := m.body.Prefix(); len(body) == m.length {
		s.partial[i].body = wire.Assembly{}
		s.partial = slices.Delete(s.partial, i, i+1)
		s.message(f, body, emit)
	}
}

// message emits a complete message that was not there before.
func (s *DTLSStream) message(f *dtlsFragment, body []byte, emit func(Message)) {
	if s.taken += f.length; s.taken > 4*MaxHandshakeBytes {
		s.status = StatusTooLarge // whoever repeats so much will not stop
		return
	}
	hash := messageHash(f, body)
	if slices.Contains(s.seen[:], hash) {
		return
	}
	s.seen[s.seenNext%maxSeen] = hash
	s.seenNext++
	emit(Message{Transport: DTLS, Type: f.kind, Body: body})
}

// messageHash is FNV-1a over the message; 0 is not used.
func messageHash(f *dtlsFragment, body []byte) uint64 {
	const prime = 1099511628211
	h := uint64(14695981039346656037)
	h = (h ^ uint64(f.kind)) * prime
	h = (h ^ uint64(f.number)) * prime
	for _, c := range body {
		h = (h ^ uint64(c)) * prime
	}
	return max(h, 1)
}

// LooksLikeDTLS reports whether p begins with a DTLS record in clear that
// holds (a fragment of) a hello.
func LooksLikeDTLS(p []byte) bool {
	kind, epoch, body, _, ok := dtlsRecord(p)
	if !ok || kind != recordHandshake || epoch != 0 || p[2] < 0xfc {
		return false
	}
	f, _, ok := nextFragment(body)
	return ok && f.kind >= MessageClientHello && f.kind <= MessageHelloVerifyRequest
}
