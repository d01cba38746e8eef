package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// beatPrefix begins the names of the files of all beats.
const beatPrefix = ".beat-"

// Beat finds out whether a file system takes changes, by giving an empty file of
// its own another name. Dir is where; Name tells it from other beats there. Not
// safe for concurrent use.
//
// A sync alone is not enough: ext4 whose journal is aborted because of an error
// answers a sync that was under way as if it had gone well, for some milliseconds,
// and nothing was written (Linux 6.18: 2 of 25 times, of a program that does
// nothing but write and sync; with this behind each sync never in 60). A change of
// a name is refused from the abort on. It costs some 10 µs, and no sync.
type Beat struct {
	Dir, Name string

	turn int
}

// Check returns an error when the file system takes no changes: then a sync that
// went well just before may have written nothing.
func (b *Beat) Check() error {
	names := b.files()
	from, to := names[b.turn], names[1-b.turn]
	err := os.Rename(from, to)
	if errors.Is(err, fs.ErrNotExist) { // the first time, or somebody tidied up
		var f *os.File
		if f, err = os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600); err == nil {
			err = f.Close()
		}
	}
	if err == nil {
		b.turn = 1 - b.turn
	}
	return err
}

// Remove removes what it leaves in its folder.
func (b *Beat) Remove() error {
	var errs []error
	for _, name := range b.files() {
		if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (b *Beat) files() [2]string {
	name := filepath.Join(b.Dir, beatPrefix+b.Name)
	return [2]string{name + "-0", name + "-1"}
}

// IsBeat reports whether a file of this name, without its folder, is that of a
// Beat.
func IsBeat(name string) bool { return strings.HasPrefix(name, beatPrefix) }
