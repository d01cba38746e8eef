package checkpoint

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// ErrDamaged is wrapped by the errors of a round that is not what was written.
var ErrDamaged = errors.New("damaged checkpoint")

// Verify reads a whole round and checks every checksum. A round that it accepts
// can be given to Load.
func (f *Folder) Verify(number uint64) (Summary, error) {
	return f.read(number, func(*blockHeader, []byte) error { return nil })
}

// Load gives every block of a round to take, in the order they were written.
// Block.Data is valid during the call only. It stops at the first error of take
// and returns it. What take was given before Load met something damaged was in
// order.
func (f *Folder) Load(number uint64, take func(b Block) error) (Summary, error) {
	var scratch []byte
	return f.read(number, func(h *blockHeader, stored []byte) error {
		data, err := unpack(h, stored, scratch)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if h.packing != packedNot {
			scratch = data
		}
		return take(Block{Kind: h.kind, Index: h.index, Position: h.position, Data: data})
	})
}

// read reads a round and gives every block but the last to take.
func (f *Folder) read(number uint64, take func(h *blockHeader, stored []byte) error) (Summary, error) {
	path := f.file(number)
	file, err := os.Open(path)
	if err != nil {
		return Summary{}, fmt.Errorf("read checkpoint: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return Summary{}, fmt.Errorf("read checkpoint: %w", err)
	}
	r := &reader{in: bufio.NewReaderSize(file, 256<<10), size: info.Size()}
	s, err := r.round(f.epoch, number, take)
	if err != nil {
		return Summary{}, fmt.Errorf("read checkpoint %s at byte %d: %w", path, r.at, err)
	}
	s.Bytes = info.Size()
	return s, nil
}

// reader reads one round.
type reader struct {
	in     io.Reader
	at     int64 // where the part being read starts
	size   int64 // of the file
	stored []byte
}

func damaged(err error) error { return fmt.Errorf("%w: %w", ErrDamaged, err) }

// round reads all of it.
func (r *reader) round(epoch string, number uint64, take func(h *blockHeader, stored []byte) error) (Summary, error) {
	gotEpoch, gotNumber, _, n, err := readFileHeader(r.in)
	switch {
	case err != nil:
		return Summary{}, damaged(err)
	case gotEpoch != epoch:
		return Summary{}, damaged(fmt.Errorf("it is of epoch %q, this data directory is %q", gotEpoch, epoch))
	case gotNumber != number:
		return Summary{}, damaged(fmt.Errorf("it is round %d under another name", gotNumber))
	}
	r.at = n
	oldest, newest, blocks := ^uint64(0), uint64(0), 0
	for {
		h, stored, err := r.block()
		if err != nil {
			return Summary{}, damaged(err)
		}
		if h.kind != kindEnd {
			oldest, newest = min(oldest, h.position), max(newest, h.position)
			blocks++
			if err := take(&h, stored); err != nil {
				return Summary{}, err
			}
			r.at += blockHeaderBytes + int64(h.stored) + 4
			continue
		}
		s, err := parseSummary(stored)
		switch {
		case err != nil:
			return Summary{}, damaged(err)
		case blocks == 0 || s.Oldest != oldest || s.Newest != newest:
			return Summary{}, damaged(errors.New("the end block does not fit the blocks before it"))
		case r.at+blockHeaderBytes+int64(h.stored)+4 != r.size:
			return Summary{}, damaged(errors.New("something follows the end block"))
		}
		s.Number = number
		return s, nil
	}
}

// block reads a block; stored is valid until the next call.
func (r *reader) block() (blockHeader, []byte, error) {
	var head [blockHeaderBytes]byte
	if _, err := io.ReadFull(r.in, head[:]); err != nil {
		return blockHeader{}, nil, short(err)
	}
	h, err := parseBlockHeader(head[:])
	if err != nil {
		return h, nil, err
	}
	// Nothing is allocated that the file cannot fill.
	if rest := r.size - r.at - blockHeaderBytes - 4; int64(h.stored) > rest {
		return h, nil, errors.New("it ends early")
	}
	n := int(h.stored) + 4
	if cap(r.stored) < n {
		r.stored = make([]byte, n)
	}
	p := r.stored[:n]
	if _, err := io.ReadFull(r.in, p); err != nil {
		return h, nil, short(err)
	}
	stored := p[:h.stored]
	if binary.LittleEndian.Uint32(p[h.stored:]) != crc32.Checksum(stored, castagnoli) {
		return h, nil, errors.New("the checksum of a block does not match")
	}
	return h, stored, nil
}
