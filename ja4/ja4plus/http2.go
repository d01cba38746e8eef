package ja4plus

import "github.com/whorl-net/whorl/ja4"

// Bounds of an HTTP/2 stream, in bytes.
const (
	// maxHPACKTable bounds the dynamic table of one direction. A client may
	// only fill it beyond 4096 bytes if the server allowed it, and announces
	// the size in its header blocks, so the server's SETTINGS need not be seen.
	maxHPACKTable = 64 << 10
	// defaultHPACKTable is what it may fill without a word (RFC 9113 section
	// 6.5.2).
	defaultHPACKTable = 4096
	// maxHPACKString bounds one name or value.
	maxHPACKString = 32 << 10
	// fieldOverhead is what a field counts besides its text (RFC 7541 section
	// 4.1), so that short references to the table are bounded too.
	fieldOverhead = 32
)

// Frame types and flags (RFC 9113 section 6).
const (
	frameHeaders      = 0x1
	frameSettings     = 0x4
	frameContinuation = 0x9

	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20

	frameHeaderBytes = 9
)

// HTTP2Stream finds the requests in what the client of one HTTP/2 connection
// sends, given its bytes in order, from the connection preface on: the header
// blocks in HEADERS and CONTINUATION frames, through one HPACK decoder. A block
// without ":method", such as trailers, is decoded and no request. The payload
// of other frames is skipped without being held.
//
// The zero HTTP2Stream is ready for use. It must not be copied after the first
// Write and is not safe for concurrent use.
//
// Source: RFC 9113 sections 3.4, 4, 6.2, 6.10 and 8.3; RFC 7541.
type HTTP2Stream struct {
	// OriginalOrder asks for a ja4h_ro event after each ja4h event. Set it
	// before the first Write.
	OriginalOrder bool

	phase    http2Phase
	status   HTTPStatus // once the stream has stopped
	settled  bool       // the first frame, SETTINGS, was seen
	kind     uint8      // of the present frame
	flags    uint8
	held     uint8 // bytes in header, or of the preface
	skip     uint8 // bytes of priority to skip before the fragment
	padding  uint32
	left     uint32 // bytes of the present frame that are still to come
	streamID uint32
	header   [frameHeaderBytes]byte

	open  uint32 // stream whose header block is not complete; 0 when none is
	block []byte // what has come of it in earlier pieces
	table headerTable
}

type http2Phase uint8

const (
	phasePreface http2Phase = iota
	phaseFrameHeader
	phasePadLength
	phasePriority
	phaseFragment
	phaseSkip
	phaseHTTP2Stopped
)

// Write takes the next bytes, in pieces of any size, and calls emit for every
// request whose header block p completes. It does not keep p. A status other
// than HTTPMore is final; HTTPSwitch is never returned.
func (s *HTTP2Stream) Write(p []byte, emit func(ja4.Event)) HTTPStatus {
	var blocks *blockDecoder // from the first complete block on
	for len(p) > 0 && s.phase != phaseHTTP2Stopped {
		var n int
		var fragment []byte
		switch s.phase {
		case phasePreface:
			n = s.writePreface(p)
		case phaseFrameHeader:
			n = copy(s.header[s.held:], p)
			s.held += uint8(n)
			if s.held == frameHeaderBytes {
				s.held = 0
				s.beginFrame()
			}
		case phasePadLength:
			n = 1
			s.left--
			s.padding = uint32(p[0])
			s.phase = phasePriority
		case phasePriority:
			n = min(len(p), int(s.skip))
			s.skip -= uint8(n)
			s.left -= uint32(n)
		case phaseFragment:
			n = min(len(p), int(s.left-s.padding))
			s.left -= uint32(n)
			fragment = p[:n]
		case phaseSkip:
			n = int(min(uint64(len(p)), uint64(s.left)))
			s.left -= uint32(n)
		}
		p = p[n:]
		if s.advance(fragment) {
			if blocks == nil {
				blocks = beginBlocks(&s.table)
			}
			s.endBlock(blocks, fragment, emit)
		}
	}
	if blocks != nil {
		blocks.release()
	}
	return s.status
}

// Held returns an upper bound of the bytes of memory that the stream holds
// besides itself: the header block in work, at most MaxHTTPHeaderBytes and what
// growing adds to it, and the table, at most twice the 64 KiB it may have.
func (s *HTTP2Stream) Held() int {
	return cap(s.block) + 2*cap(s.table.entries) + int(s.table.cutOff)
}

// skipPayload takes note that the next n bytes are missing. It reports false
// unless they all are payload that is not looked at.
func (s *HTTP2Stream) skipPayload(n uint64) bool {
	if s.phase != phaseSkip || n > uint64(s.left) {
		return false
	}
	if s.left -= uint32(n); s.left == 0 {
		s.phase = phaseFrameHeader
	}
	return true
}

func (s *HTTP2Stream) stop(status HTTPStatus) {
	s.phase, s.status, s.block, s.table = phaseHTTP2Stopped, status, nil, headerTable{}
}

func (s *HTTP2Stream) writePreface(p []byte) int {
	n := min(len(p), len(http2Preface)-int(s.held))
	if string(p[:n]) != http2Preface[s.held:int(s.held)+n] {
		s.stop(HTTPInvalid)
		return n
	}
	if s.held += uint8(n); int(s.held) == len(http2Preface) {
		s.held, s.phase = 0, phaseFrameHeader
	}
	return n
}

// beginFrame looks at a complete frame header.
func (s *HTTP2Stream) beginFrame() {
	h := &s.header
	s.left = uint32(h[0])<<16 | uint32(h[1])<<8 | uint32(h[2])
	s.kind, s.flags = h[3], h[4]
	s.streamID = uint32(h[5]&0x7f)<<24 | uint32(h[6])<<16 | uint32(h[7])<<8 | uint32(h[8])
	s.padding, s.skip = 0, 0

	if !s.settled {
		if s.kind != frameSettings || s.streamID != 0 || s.left%6 != 0 {
			s.stop(HTTPInvalid)
			return
		}
		s.settled = true
		s.table.max = defaultHPACKTable
	}
	switch {
	case s.open != 0 && (s.kind != frameContinuation || s.streamID != s.open):
		s.stop(HTTPInvalid) // nothing may come between the frames of a block
	case s.kind == frameContinuation && s.open == 0:
		s.stop(HTTPInvalid)
	case s.kind == frameContinuation:
		s.phase = phaseFragment
	case s.kind == frameHeaders:
		s.beginBlock()
	default:
		s.phase = phaseSkip
	}
}

// beginBlock gets ready for the payload of a HEADERS frame.
func (s *HTTP2Stream) beginBlock() {
	fixed := uint32(0)
	s.phase = phasePriority
	if s.flags&flagPadded != 0 {
		fixed++
		s.phase = phasePadLength
	}
	if s.flags&flagPriority != 0 {
		fixed += 5
		s.skip = 5
	}
	if s.left < fixed || s.streamID == 0 {
		s.stop(HTTPInvalid)
		return
	}
	s.open = s.streamID
}

// advance moves on through the parts of a frame that are complete, or empty.
// fragment is what this piece adds to the header block; it reports true when
// that completes the block.
func (s *HTTP2Stream) advance(fragment []byte) (complete bool) {
	if s.phase == phasePriority && s.skip == 0 {
		if s.padding > s.left {
			s.stop(HTTPInvalid)
			return false
		}
		s.phase = phaseFragment
	}
	if s.phase == phaseFragment {
		switch {
		case len(s.block)+len(fragment) > MaxHTTPHeaderBytes:
			s.stop(HTTPTooLarge)
			return false
		case s.left == s.padding && s.flags&flagEndHeaders != 0:
			complete = true
		default:
			s.block = append(s.block, fragment...)
		}
		if s.left == s.padding {
			s.phase = phaseSkip
		}
	}
	if s.phase == phaseSkip && s.left == 0 {
		s.phase = phaseFrameHeader
	}
	return complete
}

// endBlock decodes a header block that is complete with fragment.
func (s *HTTP2Stream) endBlock(d *blockDecoder, fragment []byte, emit func(ja4.Event)) {
	s.open = 0
	if len(s.block) > 0 {
		fragment = append(s.block, fragment...)
		s.block = nil
	}
	isRequest, status := d.decode(fragment)
	if status != HTTPMore {
		s.stop(status)
		return
	}
	if isRequest {
		emit(d.request.Event())
		if s.OriginalOrder {
			emit(d.request.OriginalOrder())
		}
	}
}

// resting reports whether the stream holds nothing but its table, between two
// frames or within one that is skipped.
func (s *HTTP2Stream) resting() bool {
	return s.settled && s.open == 0 && s.held == 0 && (s.phase == phaseFrameHeader || s.phase == phaseSkip)
}

// resume makes s a resting stream again.
func (s *HTTP2Stream) resume(left, tableMax uint32, entries []byte) {
	*s = HTTP2Stream{
		OriginalOrder: s.OriginalOrder, phase: phaseFrameHeader, settled: true, left: left,
		table: headerTable{entries: entries, max: tableMax},
	}
	if left > 0 {
		s.phase = phaseSkip
	}
}
