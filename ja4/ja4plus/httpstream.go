package ja4plus

import (
	"math"

	"github.com/whorl-net/whorl/ja4"
)

// HTTPStatus says what a stream makes of the bytes so far.
type HTTPStatus uint8

// The statuses.
const (
	// HTTPMore: everything was taken; give it what comes next.
	HTTPMore HTTPStatus = iota
	// HTTPSwitch: a CONNECT request or one with an Upgrade field has just
	// ended. What follows may be another protocol, or HTTP again when the
	// server refused. The stream stands at the beginning of a request: go on
	// with Write if what follows looks like HTTP, else leave it.
	HTTPSwitch
	// HTTPInvalid: what follows is not HTTP. The stream has let go of its
	// memory and ignores what it is given.
	HTTPInvalid
	// HTTPTooLarge: a header block goes beyond MaxHTTPHeaderBytes or another
	// bound of the stream, which has given up, let go of its memory and ignores
	// what it is given.
	HTTPTooLarge
)

// String returns "more", "switch", "invalid" or "too-large".
func (s HTTPStatus) String() string {
	switch s {
	case HTTPMore:
		return "more"
	case HTTPSwitch:
		return "switch"
	case HTTPInvalid:
		return "invalid"
	default:
		return "too-large"
	}
}

// HTTPStream finds the requests in what the client of one connection sends,
// given its bytes in order: HTTP/1.x with bodies and pipelines, and HTTP/2 from
// its connection preface on, be it the first thing sent (prior knowledge) or
// after an upgrade. Bodies are skipped without being held.
//
// The zero HTTPStream is ready for use. It must not be copied after the first
// Write and is not safe for concurrent use.
type HTTPStream struct {
	// OriginalOrder asks for a ja4h_ro event after each ja4h event. Set it
	// before the first Write.
	OriginalOrder bool

	phase  httpPhase
	status HTTPStatus // once the stream has stopped
	scan   headScan
	body   bodySkip
	after  bool   // the request of this body may switch protocols
	head   []byte // a header block that is not complete
	http2  HTTP2Stream
}

type httpPhase uint8

const (
	phaseHead httpPhase = iota
	phaseBody
	phaseHTTP2
	phaseStopped
)

// Write takes the next bytes, in pieces of any size, and calls emit for every
// request whose header block p completes. It does not keep p.
//
// n is the number of bytes of p that belong to HTTP: all with HTTPMore; with
// HTTPSwitch those up to the end of the request, so that p[n:] may be another
// protocol; with HTTPInvalid and HTTPTooLarge those up to the end of the last
// request, 0 if that lies in an earlier piece.
//
// A piece without the beginning of a request costs no allocation.
func (s *HTTPStream) Write(p []byte, emit func(ja4.Event)) (n int, status HTTPStatus) {
	for {
		switch s.phase {
		case phaseHead:
			used, kind := s.writeHead(p[n:], emit)
			n += used
			switch kind {
			case headPartial:
				return len(p), HTTPMore
			case headPreface:
				s.phase = phaseHTTP2
			case headInvalid:
				return n, s.stop(HTTPInvalid)
			case headTooLarge:
				return n, s.stop(HTTPTooLarge)
			}
		case phaseBody:
			used, status := s.body.skip(p[n:])
			n += used
			switch {
			case status == bodyMore:
				return n, HTTPMore
			case status == bodyInvalid:
				return n, s.stop(HTTPInvalid)
			case status == bodyTooLarge:
				return n, s.stop(HTTPTooLarge)
			}
			s.phase = phaseHead
			if s.after {
				return n, HTTPSwitch
			}
		case phaseHTTP2:
			status := s.http2.Write(p[n:], emit)
			if status != HTTPMore {
				return n, s.stop(status)
			}
			return len(p), HTTPMore
		default:
			return 0, s.status
		}
	}
}

// Skip takes note that the next n bytes are missing, when nothing is lost by
// it: they are all within a body or chunk of known length, or within a frame
// of HTTP/2 that is not looked at. Else it reports false and does nothing; what
// follows then has to be given to another stream.
func (s *HTTPStream) Skip(n uint64) bool {
	switch {
	case s.phase == phaseHTTP2:
		return s.http2.skipPayload(n)
	case s.phase != phaseBody || s.body.broken || n > s.body.left:
		return false
	case !s.body.chunked:
		s.body.left -= n
		return true
	case s.body.phase != chunkData:
		return false
	}
	if s.body.left -= n; s.body.left == 0 {
		s.body.phase = chunkDataEnd
	}
	return true
}

// Held returns the bytes of memory that the stream holds besides itself: at
// most twice MaxHTTPHeaderBytes with HTTP/1, and what HTTP2Stream says.
func (s *HTTPStream) Held() int {
	return cap(s.head) + s.http2.Held()
}

// An HTTPRest is what there is to know of an HTTPStream between two requests or
// within a body, besides the header table of HTTP/2. It has 16 bytes and no
// references, so it is the form to keep of a connection that is silent.
type HTTPRest struct {
	left   uint64 // HTTP/2: of the frame, and from bit 32 on the size of the table
	line   uint32
	digits uint8
	phases uint8 // of the stream, and of the body from bit 2 on
	flags  uint8
}

const (
	restChunked uint8 = 1 << iota
	restBroken
	restAfter
	restOriginalOrder
)

// Skip takes note of the next n bytes without a stream, when they are not
// looked at and nothing begins behind them: they are within a body or chunk of
// known length, or within a frame of HTTP/2 that is passed over, and do not
// complete it. Else it reports false and does nothing.
func (r *HTTPRest) Skip(n uint64) bool {
	left := r.left
	switch httpPhase(r.phases & 3) {
	case phaseHTTP2:
		left &= math.MaxUint32
	case phaseBody:
		if r.flags&restBroken != 0 || r.flags&restChunked != 0 && chunkPhase(r.phases>>2) != chunkData {
			return false
		}
	default:
		return false
	}
	if n >= left {
		return false
	}
	r.left -= n
	return true
}

// Rest returns what s is to be made of again by Resume, together with its
// HeaderTable. ok is false when s has more to remember: a header block or the
// header of a frame that is not complete, or the end.
func (s *HTTPStream) Rest() (r HTTPRest, ok bool) {
	if !s.Resting() {
		return r, false
	}
	b := &s.body
	r = HTTPRest{left: b.left, line: uint32(b.line), digits: b.digits, phases: uint8(s.phase) | uint8(b.phase)<<2}
	if s.phase == phaseHTTP2 {
		r = HTTPRest{left: uint64(s.http2.left) | uint64(s.http2.table.max)<<32, phases: uint8(s.phase)}
	}
	for i, set := range [...]bool{b.chunked, b.broken, s.after, s.OriginalOrder} {
		if set {
			r.flags |= 1 << i
		}
	}
	return r, true
}

// Resting reports whether Rest is possible.
func (s *HTTPStream) Resting() bool {
	return s.phase <= phaseBody && len(s.head) == 0 || s.phase == phaseHTTP2 && s.http2.resting()
}

// HeaderTable returns what s remembers of the header fields that the client of
// an HTTP/2 connection may refer to, in a form of its own; it is empty with
// HTTP/1. s goes on using its memory.
func (s *HTTPStream) HeaderTable() []byte { return s.http2.table.entries }

// Resume makes s, which may be any, the stream that r and headerTable were
// taken of. s keeps headerTable and never changes it, but may write behind it
// as far as its capacity goes. What is no header table leads to HTTPInvalid.
func (s *HTTPStream) Resume(r HTTPRest, headerTable []byte) {
	*s = HTTPStream{OriginalOrder: r.flags&restOriginalOrder != 0, phase: httpPhase(r.phases & 3), after: r.flags&restAfter != 0}
	if s.phase == phaseHTTP2 {
		s.http2.OriginalOrder = s.OriginalOrder
		s.http2.resume(uint32(r.left), uint32(r.left>>32), headerTable)
		return
	}
	s.body = bodySkip{
		left: r.left, line: int(r.line), digits: r.digits, phase: chunkPhase(r.phases >> 2),
		chunked: r.flags&restChunked != 0, broken: r.flags&restBroken != 0,
	}
}

func (s *HTTPStream) stop(status HTTPStatus) HTTPStatus {
	s.phase, s.status = phaseStopped, status
	s.head, s.http2 = nil, HTTP2Stream{}
	return status
}

// writeHead takes bytes from the beginning of a request or from within its
// header block. A block that is complete in b is read where it is.
func (s *HTTPStream) writeHead(b []byte, emit func(ja4.Event)) (n int, kind headKind) {
	if len(s.head) == 0 {
		start := emptyLines(b)
		if start == len(b) {
			return start, headPartial
		}
		s.scan = headScan{}
		block := b[start:]
		end, kind := s.scan.find(block[:min(len(block), MaxHTTPHeaderBytes)])
		switch {
		case kind == headRequest:
			return start + end, s.request(block[:end], emit)
		case kind == headPartial && len(block) >= MaxHTTPHeaderBytes:
			return 0, headTooLarge
		case kind == headPartial:
			s.head = append(s.head, block...)
		case kind == headPreface:
			s.http2 = HTTP2Stream{OriginalOrder: s.OriginalOrder}
		}
		return start, kind
	}

	held := len(s.head)
	s.head = append(s.head, b[:min(len(b), MaxHTTPHeaderBytes-held)]...)
	end, kind := s.scan.find(s.head)
	switch {
	case kind == headRequest:
		kind = s.request(s.head[:end], emit)
		if end < held { // what seemed to be the preface of HTTP/2 was not
			s.head, s.scan = append([]byte(nil), s.head[end:held]...), headScan{}
			return 0, kind
		}
		s.head = nil
		return end - held, kind
	case kind == headPartial && len(s.head) >= MaxHTTPHeaderBytes:
		return 0, headTooLarge
	case kind == headPreface:
		s.http2 = HTTP2Stream{OriginalOrder: s.OriginalOrder}
		s.http2.Write(s.head[:held], emit) // a part of the preface: cannot fail
		s.head = nil
		return 0, kind
	}
	return 0, kind
}

// request reads one complete header block and gets ready for its body.
func (s *HTTPStream) request(block []byte, emit func(ja4.Event)) headKind {
	r := requestPool.Get().(*Request)
	defer releaseRequest(r)
	f, ok := parseHead(block, r)
	if !ok {
		return headInvalid
	}
	emit(r.Event())
	if s.OriginalOrder {
		emit(r.OriginalOrder())
	}
	s.phase, s.after = phaseBody, f.switches
	s.body = bodySkip{left: f.length, chunked: f.chunked, broken: f.broken}
	return headRequest
}
