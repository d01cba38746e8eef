package jet

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// rewritten is how many of the newest files of a stream an append may be in: one,
// or the one that was begun for it.
const rewritten = 2

// syncBlocks makes sure that what the files of a stream hold is on the disk, after
// a sync that failed or whose answer is not known. A kernel takes what it could not
// write for written, so a second sync alone would succeed and mean nothing: the
// newest files are written again first, as they are.
//
// Only the goroutine that appends to the stream may call it. The engine may append
// to the files meanwhile, or replace them.
func (s *Server) syncBlocks(stream string) error {
	if s.cfg.NoSync {
		return nil
	}
	dir := filepath.Join(s.cfg.Dir, "jetstream", "*", "streams", stream, "msgs")
	blocks, err := filepath.Glob(filepath.Join(dir, "*.blk"))
	if err != nil {
		return err
	}
	if len(blocks) == 0 {
		return fmt.Errorf("sync stream %s: it has no files", stream)
	}
	// They are called by their number: the longer and then the greater name is newer.
	slices.SortFunc(blocks, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(b, a))
	})
	for i, name := range blocks {
		if err := syncFile(name, i < rewritten); err != nil {
			return fmt.Errorf("sync stream %s: %w", stream, err)
		}
	}
	if err := syncFile(filepath.Dir(blocks[0]), false); err != nil {
		return fmt.Errorf("sync stream %s: %w", stream, err)
	}
	return nil
}

// syncFile syncs a file, or a folder, and before it writes its bytes again when
// asked to.
func syncFile(name string, again bool) error {
	flag := os.O_RDONLY
	if again {
		flag = os.O_RDWR
	}
	f, err := os.OpenFile(name, flag, 0)
	if err != nil {
		return err
	}
	if again {
		err = rewrite(f)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// rewrite writes the bytes of f where they are.
func rewrite(f *os.File) error {
	p := make([]byte, 1<<20)
	for at := int64(0); ; {
		n, err := f.ReadAt(p, at)
		if n > 0 {
			if _, err := f.WriteAt(p[:n], at); err != nil {
				return err
			}
			at += int64(n)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
