package jet

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

// appendedIn is how many of the newest files of a stream an append may be in: one,
// or the one that was begun for it.
const appendedIn = 2

// syncBlocks makes sure that what the files of a stream hold is on the disk, after
// a sync that failed or whose answer is not known. A kernel takes what it could not
// write for written, so a second sync alone would succeed and mean nothing: the
// newest files, rewritten of them, are written again first, as they are.
//
// Only the goroutine that appends to the stream may call it. The engine may append
// to the files meanwhile, or replace them.
func (s *Server) syncBlocks(stream string, rewritten int) error {
	if s.cfg.NoSync {
		return nil
	}
	dir := s.folder(stream)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("sync stream %s: %w", stream, err)
	}
	var blocks []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".blk") {
			blocks = append(blocks, filepath.Join(dir, e.Name()))
		}
	}
	if len(blocks) == 0 {
		return fmt.Errorf("sync stream %s: it has no files", stream)
	}
	// They are called by their number: the longer and then the greater name is newer.
	slices.SortFunc(blocks, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(b, a))
	})
	for i, name := range blocks {
		err := syncFile(name, i < rewritten)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the engine let go of it: nothing in it is held any more
		}
		if err != nil {
			return fmt.Errorf("sync stream %s: %w", stream, err)
		}
	}
	if err := syncFile(dir, false); err != nil {
		return fmt.Errorf("sync stream %s: %w", stream, err)
	}
	return nil
}

// folder is where the engine keeps the messages of a stream.
func (s *Server) folder(stream string) string {
	return filepath.Join(s.cfg.Dir, "jetstream", server.DEFAULT_GLOBAL_ACCOUNT, "streams", stream, "msgs")
}

// dropIndexes removes what an engine whose write failed believed of its streams,
// when it has ended: it counts messages that are in no file, and the next engine
// would take their numbers for used, with nothing to be read there. That one
// looks into the files instead, as it does after a crash.
func (s *Server) dropIndexes() error {
	streams, err := os.ReadDir(filepath.Dir(filepath.Dir(s.folder("any"))))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, stream := range streams {
		err := os.Remove(filepath.Join(s.folder(stream.Name()), "index.db"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
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
