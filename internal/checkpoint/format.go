package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/s2"
)

// Kind says what a block is. The numbers are stored: they never change.
type Kind uint8

// The kinds of blocks.
const (
	// KindHead is the state of what is before the shards: sessions, clocks,
	// names, counters.
	KindHead Kind = 1
	// KindShard is the state of the shard Index.
	KindShard Kind = 2
	// KindAnalyst is the state of what looks at the ordered output.
	KindAnalyst Kind = 3

	kindEnd Kind = 255
)

// Block is one part of a round.
type Block struct {
	Kind Kind
	// Index is the number of a shard, 0 for other kinds.
	Index uint32
	// Position is that of the log up to which Data holds everything.
	Position uint64
	Data     []byte
}

const (
	magic = "whorl-cp"
	// Format is the version of the files that are written.
	Format = 1

	maxEpochBytes    = 64
	blockHeaderBytes = 36
	// maxBlockBytes bounds the content of one block: a shard of 16 million
	// connections with short histories.
	maxBlockBytes = 4 << 30
	// maxPacking bounds what S2 makes of a byte, and so what unpacking a block
	// of a damaged file can allocate.
	maxPacking = 1024
	// leastPacked is the size from which packing is tried.
	leastPacked = 4 << 10

	packedNot = 0
	packedS2  = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// blockHeader is what stands before the content of a block.
type blockHeader struct {
	kind     Kind
	packing  uint8
	index    uint32
	position uint64
	unpacked uint64
	stored   uint64
}

func (h *blockHeader) append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, byte(h.kind), h.packing, 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, h.index)
	dst = binary.LittleEndian.AppendUint64(dst, h.position)
	dst = binary.LittleEndian.AppendUint64(dst, h.unpacked)
	dst = binary.LittleEndian.AppendUint64(dst, h.stored)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// parseBlockHeader reads a header of blockHeaderBytes.
func parseBlockHeader(p []byte) (h blockHeader, err error) {
	const sum = blockHeaderBytes - 4
	if binary.LittleEndian.Uint32(p[sum:]) != crc32.Checksum(p[:sum], castagnoli) {
		return h, errors.New("the checksum of a block's header does not match")
	}
	h = blockHeader{
		kind: Kind(p[0]), packing: p[1], index: binary.LittleEndian.Uint32(p[4:]),
		position: binary.LittleEndian.Uint64(p[8:]), unpacked: binary.LittleEndian.Uint64(p[16:]),
		stored: binary.LittleEndian.Uint64(p[24:]),
	}
	known := h.kind >= KindHead && h.kind <= KindAnalyst || h.kind == kindEnd
	switch {
	case !known || p[2] != 0 || p[3] != 0 || h.packing > packedS2:
		return h, fmt.Errorf("a block of kind %d and packing %d is not known", h.kind, h.packing)
	case h.packing == packedNot && h.stored != h.unpacked:
		return h, fmt.Errorf("a block holds %d bytes for a content of %d", h.stored, h.unpacked)
	case h.unpacked > maxBlockBytes || h.stored > maxBlockBytes:
		return h, fmt.Errorf("a block has %d bytes, at most %d", max(h.unpacked, h.stored), int64(maxBlockBytes))
	case h.unpacked > h.stored*maxPacking:
		return h, fmt.Errorf("a block of %d bytes for a content of %d", h.stored, h.unpacked)
	}
	return h, nil
}

// pack returns what is stored of data, in scratch if that is large enough.
func pack(data, scratch []byte) (stored []byte, packing uint8) {
	if len(data) < leastPacked || int64(len(data)) > maxBlockBytes {
		return data, packedNot
	}
	packed := s2.Encode(scratch[:cap(scratch)], data)
	if len(packed) > len(data)/8*7 || len(packed)*maxPacking < len(data) {
		return data, packedNot
	}
	return packed, packedS2
}

// unpack is the inverse of pack, with the lengths already compared. The result
// is in scratch if that is large enough.
func unpack(h *blockHeader, stored, scratch []byte) ([]byte, error) {
	if h.packing == packedNot {
		return stored, nil
	}
	n, err := s2.DecodedLen(stored)
	if err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	if uint64(n) != h.unpacked {
		return nil, fmt.Errorf("unpack: %d bytes, want %d", n, h.unpacked)
	}
	data, err := s2.Decode(scratch[:cap(scratch)], stored)
	if err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	return data, nil
}

// appendFileHeader appends what a round begins with.
func appendFileHeader(dst []byte, epoch string, number uint64, begun int64) []byte {
	start := len(dst)
	dst = append(dst, magic...)
	dst = binary.LittleEndian.AppendUint32(dst, Format)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(epoch)))
	dst = append(dst, epoch...)
	dst = binary.LittleEndian.AppendUint64(dst, number)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(begun))
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// readFileHeader reads what a round begins with and returns its length.
func readFileHeader(r io.Reader) (epoch string, number uint64, begun int64, n int64, err error) {
	fixed := make([]byte, len(magic)+8, len(magic)+8+maxEpochBytes+20)
	if _, err := io.ReadFull(r, fixed); err != nil {
		return "", 0, 0, 0, short(err)
	}
	if string(fixed[:len(magic)]) != magic {
		return "", 0, 0, 0, errors.New("it does not begin as a checkpoint does")
	}
	if v := binary.LittleEndian.Uint32(fixed[len(magic):]); v != Format {
		return "", 0, 0, 0, fmt.Errorf("it has format %d, this version reads %d", v, Format)
	}
	epochLen := binary.LittleEndian.Uint32(fixed[len(magic)+4:])
	if epochLen > maxEpochBytes {
		return "", 0, 0, 0, fmt.Errorf("its epoch has %d bytes, at most %d", epochLen, maxEpochBytes)
	}
	all := fixed[:len(fixed)+int(epochLen)+20]
	rest := all[len(fixed):]
	if _, err := io.ReadFull(r, rest); err != nil {
		return "", 0, 0, 0, short(err)
	}
	sum := len(all) - 4
	if binary.LittleEndian.Uint32(all[sum:]) != crc32.Checksum(all[:sum], castagnoli) {
		return "", 0, 0, 0, errors.New("the checksum of its header does not match")
	}
	epoch = string(rest[:epochLen])
	number = binary.LittleEndian.Uint64(rest[epochLen:])
	begun = int64(binary.LittleEndian.Uint64(rest[epochLen+8:]))
	return epoch, number, begun, int64(len(all)), nil
}

// short says what the end of a file in the middle of something means.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("it ends early")
	}
	return err
}
