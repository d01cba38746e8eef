package checkpoint

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"time"

	"github.com/whorl-net/whorl/internal/disk"
)

// Writer writes one round. Commit or Abort ends it. Not safe for concurrent use.
type Writer struct {
	folder *Folder
	number uint64
	file   *os.File
	out    *bufio.Writer
	bytes  int64
	pack   []byte // scratch
	head   []byte // scratch
	err    error  // the first; nothing is written behind it
}

// Begin begins a round, with the number behind the greatest there was.
func (f *Folder) Begin(now time.Time) (*Writer, error) {
	number := f.last + 1
	file, err := os.OpenFile(f.file(number)+tempSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("begin checkpoint: %w", err)
	}
	w := &Writer{folder: f, number: number, file: file, out: bufio.NewWriterSize(file, 256<<10)}
	w.write(appendFileHeader(nil, f.epoch, number, now.UnixNano()))
	return w, nil
}

// Number returns the number of the round.
func (w *Writer) Number() uint64 { return w.number }

// Bytes returns how much was written.
func (w *Writer) Bytes() int64 { return w.bytes }

// Add writes a block, packed where that helps. b.Data may be reused afterwards.
func (w *Writer) Add(b Block) error {
	if b.Kind < KindHead || b.Kind > KindAnalyst {
		return fmt.Errorf("checkpoint: %d is not a kind of block", b.Kind)
	}
	if int64(len(b.Data)) > maxBlockBytes {
		return fmt.Errorf("checkpoint: a block of %d bytes, at most %d", len(b.Data), int64(maxBlockBytes))
	}
	w.add(&b)
	return w.failed()
}

func (w *Writer) add(b *Block) {
	stored, packing := pack(b.Data, w.pack)
	if packing != packedNot {
		w.pack = stored
	}
	h := blockHeader{
		kind: b.Kind, packing: packing, index: b.Index, position: b.Position,
		unpacked: uint64(len(b.Data)), stored: uint64(len(stored)),
	}
	w.head = h.append(w.head[:0])
	w.write(w.head)
	w.write(stored)
	w.write(binary.LittleEndian.AppendUint32(w.head[:0], crc32.Checksum(stored, castagnoli)))
}

func (w *Writer) write(p []byte) {
	if w.err != nil {
		return
	}
	n, err := w.out.Write(p)
	w.bytes += int64(n)
	w.err = err
}

func (w *Writer) failed() error {
	if w.err == nil {
		return nil
	}
	return fmt.Errorf("write checkpoint %d: %w", w.number, w.err)
}

// Commit ends the round with s, whose Number and Bytes it sets. When it returns
// without an error the round is safe; then rounds older than the one before it
// are removed. After an error the round is as if it had never been begun, unless
// only the removal failed, which the error then says with the round in place.
func (w *Writer) Commit(s Summary) (Summary, error) {
	s.Number = w.number
	w.add(&Block{Kind: kindEnd, Position: s.Newest, Data: s.append(nil)})
	s.Bytes = w.bytes
	if w.err == nil {
		w.err = w.out.Flush()
	}
	if w.err == nil {
		w.err = w.file.Sync()
	}
	if err := w.file.Close(); w.err == nil {
		w.err = err
	}
	name := w.folder.file(w.number)
	if w.err == nil {
		w.err = os.Rename(name+tempSuffix, name)
	}
	if w.err != nil {
		os.Remove(name + tempSuffix)
		return s, w.failed()
	}
	if w.err = disk.SyncFolder(w.folder.path); w.err == nil {
		w.err = w.folder.believe()
	}
	if w.err != nil {
		// The name may be there after a crash or not; now it must not be, for
		// nobody will count on it.
		os.Remove(name)
		return s, w.failed()
	}
	f := w.folder
	f.rounds = append([]uint64{w.number}, f.rounds...)
	f.last = w.number
	var errs []error
	for _, old := range f.rounds[min(keptRounds, len(f.rounds)):] {
		errs = append(errs, f.Remove(old))
	}
	return s, errors.Join(errs...)
}

// Abort gives the round up. It does nothing after Commit.
func (w *Writer) Abort() {
	if w.file.Close() == nil { // closed before: committed
		os.Remove(w.folder.file(w.number) + tempSuffix)
	}
}
