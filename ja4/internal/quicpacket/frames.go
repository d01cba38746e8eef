package quicpacket

import "github.com/whorl-net/whorl/ja4/internal/wire"

// Frame types (RFC 9000 section 19, RFC 9221).
const (
	framePadding            = 0x00
	framePing               = 0x01
	frameAck                = 0x02
	frameAckECN             = 0x03
	frameResetStream        = 0x04
	frameStopSending        = 0x05
	frameCrypto             = 0x06
	frameNewToken           = 0x07
	frameStream             = 0x08 // to 0x0f: bits for offset, length and end
	frameMaxData            = 0x10
	frameMaxStreamData      = 0x11
	frameMaxStreamsBidi     = 0x12
	frameMaxStreamsUni      = 0x13
	frameDataBlocked        = 0x14
	frameStreamDataBlocked  = 0x15
	frameStreamsBlockedBidi = 0x16
	frameStreamsBlockedUni  = 0x17
	frameNewConnectionID    = 0x18
	frameRetireConnectionID = 0x19
	framePathChallenge      = 0x1a
	framePathResponse       = 0x1b
	frameConnectionClose    = 0x1c
	frameApplicationClose   = 0x1d
	frameHandshakeDone      = 0x1e
	frameDatagram           = 0x30
	frameDatagramLength     = 0x31
)

const (
	streamOffset = 0x04
	streamLength = 0x02
	streamEnd    = 0x01
)

// EachFrame walks the frames in the payload of a packet, up to the first that
// cannot be read. It calls crypto for CRYPTO frames and stream for STREAM
// frames; either may be nil. The data alias payload.
func EachFrame(payload []byte, crypto func(offset uint64, data []byte), stream func(id, offset uint64, data []byte, end bool)) {
	r := wire.Reader{Rest: payload}
	for len(r.Rest) > 0 {
		if r.Rest[0] == framePadding || r.Rest[0] == framePing {
			r.Rest = r.Rest[1:]
			continue
		}
		kind := r.Varint()
		switch {
		case kind == frameCrypto:
			offset := r.Varint()
			data := sized(&r)
			if !r.Short && crypto != nil {
				crypto(offset, data)
			}
		case kind >= frameStream && kind < frameMaxData:
			id := r.Varint()
			var offset uint64
			if kind&streamOffset != 0 {
				offset = r.Varint()
			}
			var data []byte
			if kind&streamLength != 0 {
				data = sized(&r)
			} else {
				data = r.Take(len(r.Rest))
			}
			if !r.Short && stream != nil {
				stream(id, offset, data, kind&streamEnd != 0)
			}
		case !skipFrame(&r, kind):
			return
		}
	}
}

// sized takes bytes that follow their length.
func sized(r *wire.Reader) []byte {
	n := r.Varint()
	if n > uint64(len(r.Rest)) {
		r.Rest, r.Short = nil, true
		return nil
	}
	return r.Take(int(n))
}

// skipFrame passes over a frame that holds nothing of interest. It reports
// false when it does not know the kind.
func skipFrame(r *wire.Reader, kind uint64) bool {
	numbers := 0
	switch kind {
	case frameHandshakeDone:
	case frameMaxData, frameMaxStreamsBidi, frameMaxStreamsUni, frameDataBlocked,
		frameStreamsBlockedBidi, frameStreamsBlockedUni, frameRetireConnectionID:
		numbers = 1
	case frameStopSending, frameMaxStreamData, frameStreamDataBlocked:
		numbers = 2
	case frameResetStream:
		numbers = 3
	case frameNewToken, frameDatagramLength:
		sized(r)
	case frameDatagram:
		r.Skip(len(r.Rest))
	case framePathChallenge, framePathResponse:
		r.Skip(8)
	case frameNewConnectionID:
		r.Varint() // sequence
		r.Varint() // retire before
		r.Vector8()
		r.Skip(16) // reset token
	case frameConnectionClose:
		r.Varint() // error
		r.Varint() // frame type
		sized(r)
	case frameApplicationClose:
		r.Varint()
		sized(r)
	case frameAck, frameAckECN:
		r.Varint() // largest
		r.Varint() // delay
		ranges := r.Varint()
		r.Varint() // first range
		for ; ranges > 0 && !r.Short; ranges-- {
			r.Varint() // gap
			r.Varint() // length
		}
		if kind == frameAckECN {
			numbers = 3
		}
	default:
		return false
	}
	for range numbers {
		r.Varint()
	}
	return true
}
