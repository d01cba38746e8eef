package ja4plus

import "github.com/whorl-net/whorl/ja4"

// HTTP3Status says what an HTTP3Stream makes of the bytes so far.
type HTTP3Status uint8

// The statuses. All but HTTP3More are final: the stream has let go of its
// memory and ignores what it is given.
const (
	// HTTP3More: give it what comes next.
	HTTP3More HTTP3Status = iota
	// HTTP3Done: the request was found; what follows is its body.
	HTTP3Done
	// HTTP3Dynamic: the header block refers to the dynamic table of QPACK,
	// which is not followed.
	HTTP3Dynamic
	// HTTP3Invalid: this is not the request stream of an HTTP/3 client.
	HTTP3Invalid
	// HTTP3TooLarge: the header block goes beyond MaxHTTPHeaderBytes.
	HTTP3TooLarge
)

// String returns "more", "done", "dynamic", "invalid" or "too-large".
func (s HTTP3Status) String() string {
	switch s {
	case HTTP3More:
		return "more"
	case HTTP3Done:
		return "done"
	case HTTP3Dynamic:
		return "dynamic"
	case HTTP3Invalid:
		return "invalid"
	default:
		return "too-large"
	}
}

// Frame types (RFC 9114 section 7.2) up to maxReservedFrame are defined or may
// not be used; others mean nothing and are skipped.
const (
	frameHTTP3Headers = 0x1
	maxReservedFrame  = 0xd
)

// HTTP3Stream finds the request in what the client sends on one bidirectional
// stream of an HTTP/3 connection, given its bytes in order: the header block in
// the first HEADERS frame. Header blocks are read with the static table and
// literals of QPACK; a client may only use the dynamic table once it has seen
// the server's settings, and most first requests do without.
//
// The zero HTTP3Stream is ready for use. It is not safe for concurrent use.
//
// Source: RFC 9114 sections 4.1, 6.1 and 7; RFC 9204.
type HTTP3Stream struct {
	// OriginalOrder asks for a ja4h_ro event after each ja4h event. Set it
	// before the first Write.
	OriginalOrder bool

	status HTTP3Status
	// head is the beginning of a frame, two integers of up to eight bytes;
	// headers says that the frame is a header block, of which left bytes are
	// still to come behind block; otherwise left bytes are skipped.
	head    [16]byte
	held    uint8
	headers bool
	left    uint64
	block   []byte
}

// Write takes the next bytes, in pieces of any size, and calls emit when they
// complete the request. It does not keep p.
func (s *HTTP3Stream) Write(p []byte, emit func(ja4.Event)) HTTP3Status {
	for len(p) > 0 && s.status == HTTP3More {
		switch {
		case s.headers:
			p = p[s.writeBlock(p, emit):]
		case s.left > 0:
			n := min(uint64(len(p)), s.left)
			s.left -= n
			p = p[n:]
		default:
			s.head[s.held] = p[0]
			s.held++
			p = p[1:]
			s.beginFrame()
			if s.headers && s.left == 0 { // a request without fields
				s.stop(HTTP3Invalid)
			}
		}
	}
	return s.status
}

// Held returns the bytes of memory that the stream holds besides itself, at
// most twice MaxHTTPHeaderBytes.
func (s *HTTP3Stream) Held() int { return cap(s.block) }

func (s *HTTP3Stream) stop(status HTTP3Status) {
	s.status, s.headers, s.left, s.block = status, false, 0, nil
}

// beginFrame looks at the beginning of a frame, if it is complete.
func (s *HTTP3Stream) beginFrame() {
	b := s.head[:s.held]
	kind, n := varint(b)
	length, m := varint(b[n:])
	if n == 0 || m == 0 {
		return
	}
	s.held, s.left = 0, length
	switch {
	case kind == frameHTTP3Headers && length > MaxHTTPHeaderBytes:
		s.stop(HTTP3TooLarge)
	case kind == frameHTTP3Headers:
		s.headers = true
	case kind <= maxReservedFrame:
		s.stop(HTTP3Invalid) // nothing may come before the header block
	}
}

// writeBlock takes bytes of the header block. A block that is complete in p is
// read where it is.
func (s *HTTP3Stream) writeBlock(p []byte, emit func(ja4.Event)) (n int) {
	n = int(min(uint64(len(p)), s.left))
	s.left -= uint64(n)
	block := p[:n]
	if s.left > 0 || len(s.block) > 0 {
		s.block = append(s.block, block...)
		block = s.block
	}
	if s.left > 0 {
		return n
	}
	r := requestPool.Get().(*Request)
	defer releaseRequest(r)
	r.Reset("", "30")
	status := parseFieldSection(block, r)
	if status == HTTP3Done {
		emit(r.Event())
		if s.OriginalOrder {
			emit(r.OriginalOrder())
		}
	}
	s.stop(status)
	return n
}

// varint reads an integer of QUIC (RFC 9000 section 16); n is 0 when b is cut
// short.
func varint(b []byte) (v uint64, n int) {
	if len(b) == 0 {
		return 0, 0
	}
	n = 1 << (b[0] >> 6)
	if len(b) < n {
		return 0, 0
	}
	v = uint64(b[0] & 0x3f)
	for _, c := range b[1:n] {
		v = v<<8 | uint64(c)
	}
	return v, n
}
