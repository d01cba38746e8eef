package feed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/klauspost/compress/s2"
)

// A stored block is a run of events in one message of the store:
//
//	offset  bytes
//	0       4      "WFED"
//	4       1      version, 1
//	5       1      how the body is stored: 0 as it is, 1 S2
//	6       2      0
//	8       8      sequence of the first event
//	16      8      time of the first event
//	24      8      time of the last event
//	32      16     Through: log position and ordinal up to which, with this
//	               block, the feed is complete
//	48      4      number of events
//	52      4      bytes of the body before compression
//	56      4      CRC-32C of the body as stored
//	60      4      CRC-32C of bytes 0 to 59
//	64             the body
//
// All numbers are little endian. The body is the time of each event less that
// of the one before it, as varints, and then their frames. The header can be
// trusted by itself: when only the body is damaged it is known what is lost.
const (
	blockMagic   = "WFED"
	blockVersion = 1
	blockHeader  = 64

	bodyPlain = 0
	bodyS2    = 1

	// blockFull is when a block is written at once and takes no more events; one
	// has at least one event, whatever its size.
	blockFull = 1 << 20
	// maxBody bounds a body before compression.
	maxBody = blockFull + MaxEventBytes + 1<<20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errBlock is wrapped by every error about a block that cannot be read.
var errBlock = errors.New("block of the feed is damaged")

// blockInfo is what the header of a block says.
type blockInfo struct {
	first               uint64
	count, raw          int
	firstTime, lastTime int64
	through             Through
}

func (b *blockInfo) last() uint64 { return b.first + uint64(b.count) - 1 }

// span is a part of a chunk: events one behind the other.
type span struct {
	frames []byte
	times  []int64
}

// blockEncoder makes stored blocks, one at a time. It keeps its buffers.
type blockEncoder struct{ body, out []byte }

// encode returns the block of spans that follow each other, the first of which
// begins with the event first. The result is valid until the next call.
func (e *blockEncoder) encode(first uint64, through Through, spans []span) []byte {
	b := e.body[:0]
	count, before := 0, spans[0].times[0]
	for _, s := range spans {
		count += len(s.times)
		for _, at := range s.times {
			b = binary.AppendUvarint(b, uint64(at-before))
			before = at
		}
	}
	for _, s := range spans {
		b = append(b, s.frames...)
	}
	e.body = b
	if need := blockHeader + s2.MaxEncodedLen(len(b)); cap(e.out) < need {
		e.out = make([]byte, need)
	}
	out := e.out[:cap(e.out)]
	how, stored := byte(bodyS2), s2.Encode(out[blockHeader:], b)
	if len(stored) >= len(b) {
		how, stored = bodyPlain, out[blockHeader:blockHeader+copy(out[blockHeader:], b)]
	}
	out = out[:blockHeader+len(stored)]
	clear(out[:blockHeader])
	copy(out, blockMagic)
	out[4], out[5] = blockVersion, how
	le := binary.LittleEndian
	le.PutUint64(out[8:], first)
	le.PutUint64(out[16:], uint64(spans[0].times[0]))
	le.PutUint64(out[24:], uint64(before))
	le.PutUint64(out[32:], through.Position)
	le.PutUint64(out[40:], through.Ordinal)
	le.PutUint32(out[48:], uint32(count))
	le.PutUint32(out[52:], uint32(len(b)))
	le.PutUint32(out[56:], crc32.Checksum(stored, castagnoli))
	le.PutUint32(out[60:], crc32.Checksum(out[:60], castagnoli))
	return out
}

// readBlockInfo checks and reads the header of a block. Errors wrap errBlock,
// but for a block of a newer version.
func readBlockInfo(p []byte) (blockInfo, error) {
	if len(p) < blockHeader || string(p[:4]) != blockMagic {
		return blockInfo{}, fmt.Errorf("%d bytes do not begin as a block: %w", len(p), errBlock)
	}
	le := binary.LittleEndian
	if sum := crc32.Checksum(p[:60], castagnoli); sum != le.Uint32(p[60:]) {
		return blockInfo{}, fmt.Errorf("checksum of the header is %08x, want %08x: %w", sum, le.Uint32(p[60:]), errBlock)
	}
	if p[4] != blockVersion {
		return blockInfo{}, fmt.Errorf("block of the feed has version %d, this program reads %d: it was written by a newer one", p[4], blockVersion)
	}
	b := blockInfo{
		first:     le.Uint64(p[8:]),
		firstTime: int64(le.Uint64(p[16:])), lastTime: int64(le.Uint64(p[24:])),
		through: Through{Position: le.Uint64(p[32:]), Ordinal: le.Uint64(p[40:])},
		count:   int(le.Uint32(p[48:])), raw: int(le.Uint32(p[52:])),
	}
	// An event takes a byte of time, a tag and a length at least.
	if b.raw > maxBody || b.count == 0 || b.count > b.raw/3 || b.first == 0 || b.first > math.MaxUint64-uint64(b.count) {
		return blockInfo{}, fmt.Errorf("%d events from %d in %d bytes: %w", b.count, b.first, b.raw, errBlock)
	}
	return b, nil
}

// decodeBlock returns the events of a block as a chunk of their own. Errors wrap
// errBlock.
func decodeBlock(p []byte) (*chunk, error) {
	info, err := readBlockInfo(p)
	if err != nil {
		return nil, err
	}
	body := p[blockHeader:]
	if sum := crc32.Checksum(body, castagnoli); sum != binary.LittleEndian.Uint32(p[56:]) {
		return nil, fmt.Errorf("checksum of the body is %08x, want %08x: %w", sum, binary.LittleEndian.Uint32(p[56:]), errBlock)
	}
	if p[5] == bodyS2 {
		if n, err := s2.DecodedLen(body); err != nil || n != info.raw {
			return nil, fmt.Errorf("body is compressed from %d bytes (%v), want %d: %w", n, err, info.raw, errBlock)
		}
		if body, err = s2.Decode(nil, body); err != nil {
			return nil, fmt.Errorf("decompress: %w: %w", err, errBlock)
		}
	}
	if p[5] > bodyS2 || len(body) != info.raw {
		return nil, fmt.Errorf("body has %d bytes in way %d, want %d: %w", len(body), p[5], info.raw, errBlock)
	}
	// Its memory may be that of the message.
	c := &chunk{first: info.first, ends: make([]uint32, info.count), times: make([]int64, info.count), lent: true}
	at := info.firstTime
	for i := range c.times {
		delta, n := binary.Uvarint(body)
		if n <= 0 {
			return nil, fmt.Errorf("time of event %d: %w", c.first+uint64(i), errBlock)
		}
		body = body[n:]
		at += int64(delta)
		c.times[i] = at
	}
	c.data = body[:len(body):len(body)]
	end := 0
	for i := range c.ends {
		n := frameLen(c.data[end:], c.first+uint64(i))
		if n == 0 {
			return nil, fmt.Errorf("frame of event %d: %w", c.first+uint64(i), errBlock)
		}
		end += n
		c.ends[i] = uint32(end)
	}
	if end != len(c.data) || at != info.lastTime {
		return nil, fmt.Errorf("%d bytes follow the last event, of %d: %w", len(c.data)-end, at, errBlock)
	}
	return c, nil
}

// frameLen returns the length of the frame that p begins with, 0 when it is not
// one of the event sequence.
func frameLen(p []byte, sequence uint64) int {
	if len(p) == 0 || p[0] != evictionTag && p[0] != discoveryTag {
		return 0
	}
	size, n := binary.Uvarint(p[1:])
	if n <= 0 || size > uint64(len(p)-1-n) {
		return 0
	}
	event := p[1+n:][:size]
	if len(event) == 0 || event[0] != sequenceTag {
		return 0
	}
	if got, n := binary.Uvarint(event[1:]); n <= 0 || got != sequence {
		return 0
	}
	return 1 + n + int(size)
}
