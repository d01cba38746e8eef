package ja4

import (
	"encoding/binary"

	"github.com/whorl-net/whorl/ja4/internal/wire"
)

// TLS record types (RFC 8446 section 5.1; heartbeat is RFC 6520).
const (
	recordChangeCipherSpec = 20
	recordAlert            = 21
	recordHandshake        = 22
	recordApplicationData  = 23
	recordHeartbeat        = 24
)

const (
	recordHeaderLen  = 5
	messageHeaderLen = 4
	// maxRecordLen is the longest record of any version: 2^14 bytes and what
	// compression and encryption may add (RFC 5246 section 6.2.3).
	maxRecordLen = 1<<14 + 2048
	// maxEarlyBytes bounds the early data that a stream skips while a second
	// client hello may still follow it.
	maxEarlyBytes = 64 << 10
)

// TLSStream finds the handshake messages in one direction of a TLS connection,
// given its bytes in order. The zero TLSStream is ready for use; it is not
// safe for concurrent use.
//
// It is done when what follows is encrypted: at application data, at a record
// after the change of cipher spec that is no hello, at the end of a plain
// flight, at a fatal alert. A hello that follows a change of cipher spec, as
// in the middlebox mode of TLS 1.3, is found; an encrypted Finished is not
// taken for a message.
type TLSStream struct {
	// buf is the beginning of a message that is not complete; after a change
	// of cipher spec, of a record.
	buf []byte
	// taken counts handshake bytes, early the bytes of early data that may
	// still be skipped.
	taken, early int32
	// rest is what is still to come of the record in header.
	rest      int32
	header    [recordHeaderLen]byte
	headerLen uint8
	status    Status
	// changed: a change of cipher spec was seen. begun: a record was.
	changed, begun bool
}

// Write takes the next bytes of the direction, in pieces of any size, and
// calls emit for every handshake message that p completes. It does not keep p.
// A message that p holds whole is lent to emit without a copy.
func (s *TLSStream) Write(p []byte, emit func(Message)) Status {
	for len(p) > 0 && s.status == StatusMore {
		if s.rest == 0 {
			n := copy(s.header[s.headerLen:], p)
			s.headerLen += uint8(n)
			p = p[n:]
			s.startRecord()
			continue
		}
		n := min(len(p), int(s.rest))
		s.rest -= int32(n)
		s.record(p[:n], emit)
		p = p[n:]
	}
	if s.status != StatusMore {
		s.buf = nil
	}
	return s.status
}

// Held returns the bytes of memory that the stream holds for messages that are
// not complete; at most 2*MaxHandshakeBytes.
func (s *TLSStream) Held() int { return cap(s.buf) }

// startRecord reads the header as far as it is there.
func (s *TLSStream) startRecord() {
	h := s.header[:s.headerLen]
	if !plausibleRecord(h) || h[0] == recordHeartbeat && !s.begun {
		s.status = StatusInvalid
		return
	}
	if len(h) < recordHeaderLen {
		return
	}
	s.headerLen, s.begun = 0, true
	length := int(binary.BigEndian.Uint16(h[3:]))
	s.rest = int32(length)
	switch h[0] {
	case recordChangeCipherSpec:
		if length != 1 {
			s.status = StatusInvalid
		}
		s.changed = true
		s.buf = s.buf[:0]
	case recordAlert:
		if s.changed || length != 2 { // encrypted
			s.status = StatusDone
		}
	case recordApplicationData:
		if s.early -= int32(length); s.early < 0 {
			s.status = StatusDone
		}
	}
}

// record takes the next bytes of the body of the current record.
func (s *TLSStream) record(p []byte, emit func(Message)) {
	switch {
	case s.header[0] == recordAlert:
		// The level comes first: 2 is fatal.
		if s.rest == 1 && p[0] == 2 || s.rest == 0 && len(p) == 2 && p[0] == 2 {
			s.status = StatusDone
		}
	case s.header[0] != recordHandshake:
	case s.changed:
		s.changedRecord(p, emit)
	default:
		s.messages(p, emit)
	}
}

// messages cuts p, the next bytes of the handshake layer, into messages.
func (s *TLSStream) messages(p []byte, emit func(Message)) {
	for len(p) > 0 && s.status == StatusMore {
		if len(s.buf) == 0 && len(p) >= messageHeaderLen {
			if n := messageHeaderLen + wire.Uint24(p[1:]); n <= len(p) {
				s.message(p[:n], emit)
				p = p[n:]
				continue
			}
		}
		// Fill the header first, since it tells the length.
		want := messageHeaderLen
		if len(s.buf) >= messageHeaderLen {
			want += wire.Uint24(s.buf[1:])
			s.reserve(want)
		}
		n := min(want-len(s.buf), len(p))
		s.buf = append(s.buf, p[:n]...)
		p = p[n:]
		if !plausibleMessage(MessageType(s.buf[0])) {
			s.status = StatusInvalid
			return
		}
		if len(s.buf) < messageHeaderLen {
			return
		}
		switch want = messageHeaderLen + wire.Uint24(s.buf[1:]); {
		case want > s.room():
			s.status = StatusTooLarge
		case want == len(s.buf):
			s.message(s.buf, emit)
			s.buf = s.buf[:0]
		}
	}
}

// reserve makes room for a message of want bytes, but not for what is only
// announced: beyond a usual message the buffer grows with what arrives.
func (s *TLSStream) reserve(want int) {
	const usual = 4 << 10
	if want = min(want, usual); want > cap(s.buf) {
		s.buf = append(make([]byte, 0, want), s.buf...)
	}
}

// room returns how many handshake bytes may still be taken.
func (s *TLSStream) room() int { return MaxHandshakeBytes - int(s.taken) }

// message emits one whole message, header included.
func (s *TLSStream) message(m []byte, emit func(Message)) {
	kind, body := MessageType(m[0]), m[messageHeaderLen:]
	switch {
	case !plausibleMessage(kind):
		s.status = StatusInvalid
		return
	case len(m) > s.room():
		s.status = StatusTooLarge
		return
	}
	s.taken += int32(len(m))
	emit(Message{Transport: TLS, Type: kind, Body: body})
	switch kind {
	case MessageClientHello:
		s.early = 0
		if h, err := ClientHello(TLS, body); err == nil && h.hasEarlyData {
			// The server may answer with a retry request, and the second
			// hello then follows the early data.
			s.early = maxEarlyBytes
		}
	case MessageServerHello:
		if lastClearHello(body) {
			s.status = StatusDone
		}
	case MessageServerHelloDone, MessageClientKeyExchange:
		s.status = StatusDone
	}
}

// changedRecord takes the next bytes of a handshake record that follows a
// change of cipher spec. Only a record whose body is exactly one hello with
// the legacy version of TLS 1.3 is in clear.
func (s *TLSStream) changedRecord(p []byte, emit func(Message)) {
	length := int(binary.BigEndian.Uint16(s.header[3:]))
	if s.rest > 0 || len(s.buf) > 0 {
		s.buf = append(s.buf, p...)
		p = s.buf
	}
	if !maybeHelloRecord(p, length) {
		s.status = StatusDone
		return
	}
	if s.rest > 0 {
		return
	}
	s.message(p, emit)
	s.buf = s.buf[:0]
}

// maybeHelloRecord reports whether a record body of the given length that
// begins with p can be exactly one hello.
func maybeHelloRecord(p []byte, length int) bool {
	const least = messageHeaderLen + 2
	if length < least {
		return false
	}
	if t := MessageType(p[0]); t != MessageClientHello && t != MessageServerHello {
		return false
	}
	if len(p) >= messageHeaderLen && wire.Uint24(p[1:]) != length-messageHeaderLen {
		return false
	}
	return len(p) < least || p[4] == 3 && p[5] == 3
}

// plausibleRecord reports whether h can be (the beginning of) a record header.
func plausibleRecord(h []byte) bool {
	if len(h) > 0 && (h[0] < recordChangeCipherSpec || h[0] > recordHeartbeat) {
		return false
	}
	if len(h) > 1 && h[1] != 3 || len(h) > 2 && h[2] > 0x0f {
		return false
	}
	return len(h) < recordHeaderLen || binary.BigEndian.Uint16(h[3:]) <= maxRecordLen
}

// plausibleMessage reports whether t is a handshake type that occurs in clear
// or that IANA lists, other than those of DTLS.
func plausibleMessage(t MessageType) bool {
	return t <= 2 || t == 4 || t == 5 || t >= 8 && t <= 25 || t == 67 || t == 254
}

// retryRandom is the random of a server hello that is a retry request
// (RFC 8446 section 4.1.3).
const retryRandom = "\xcf\x21\xad\x74\xe5\x9a\x61\x11\xbe\x1d\x8c\x02\x1e\x65\xb8\x91" +
	"\xc2\xa2\x11\x16\x7a\xbb\x8c\x5e\x07\x9e\x09\xe2\xc8\xa8\x33\x9c"

// retryRequest reports whether body is a server hello that asks for another
// client hello.
func retryRequest(body []byte) bool {
	return len(body) >= 34 && string(body[2:34]) == retryRandom
}

// lastClearHello reports whether body is a server hello of TLS 1.3 that is not
// a retry request: all that follows it is encrypted.
func lastClearHello(body []byte) bool {
	if retryRequest(body) {
		return false
	}
	r := wire.Reader{Rest: body}
	r.Skip(2 + 32)
	r.Vector8() // session id
	r.Skip(3)   // cipher suite, compression method
	r = wire.Reader{Rest: r.Clipped16()}
	for len(r.Rest) > 0 {
		kind, ext := r.Uint16(), r.Vector16()
		if kind == extSupportedVersions && len(ext) == 2 {
			v := binary.BigEndian.Uint16(ext)
			return v == 0x0304 || v == 0xfefc
		}
	}
	return false
}

// LooksLikeTLS reports whether p begins with a TLS record that begins with a
// client or server hello, or with a warning and such a record: a server may
// warn that it does not know the name it was asked for. It decides on the first
// 6 bytes behind the warning, and says NeedMore when there are fewer and those
// do not rule it out.
func LooksLikeTLS(p []byte) Guess {
	if len(p) > 0 && p[0] == recordAlert {
		const length, warning = "\x00\x02", 1
		rest := p[min(3, len(p)):]
		if !plausibleRecord(p[:min(len(p), recordHeaderLen)]) || len(rest) >= 2 && string(rest[:2]) != length ||
			len(rest) >= 3 && rest[2] != warning {
			return No
		}
		p = p[min(recordHeaderLen+2, len(p)):]
		if len(p) == 0 {
			return NeedMore
		}
	}
	h := p[:min(len(p), recordHeaderLen)]
	if !plausibleRecord(h) || len(h) > 0 && h[0] != recordHandshake {
		return No
	}
	if len(h) == recordHeaderLen {
		if n := binary.BigEndian.Uint16(h[3:]); n == 0 || n > 1<<14 {
			return No
		}
	}
	if len(p) <= recordHeaderLen {
		return NeedMore
	}
	if t := MessageType(p[recordHeaderLen]); t != MessageClientHello && t != MessageServerHello {
		return No
	}
	return Yes
}
