package checkpoint

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/whorl-net/whorl/internal/disk"
)

// keptRounds is how many rounds a Folder keeps.
const keptRounds = 2

const (
	suffix     = ".whorl"
	tempSuffix = ".tmp"
	// asideSuffix is behind the name of a round that was set aside.
	asideSuffix = ".damaged"
)

// Folder is where rounds lie. Not safe for concurrent use.
type Folder struct {
	path, epoch string
	rounds      []uint64 // numbers, newest first
	last        uint64   // greatest number ever seen here
	// believe says whether syncs that went well are to be believed.
	believe func() error
}

// Open opens a folder, which must exist, and removes what an interrupted round
// left. Rounds of another epoch are refused when they are read.
func Open(path, epoch string) (*Folder, error) {
	if epoch == "" || len(epoch) > maxEpochBytes {
		return nil, fmt.Errorf("checkpoints: epoch %q is not 1 to %d bytes", epoch, maxEpochBytes)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("checkpoints: %w", err)
	}
	f := &Folder{path: path, epoch: epoch, believe: (&disk.Beat{Dir: path, Name: "checkpoints"}).Check}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), tempSuffix) {
			if err := os.Remove(filepath.Join(path, e.Name())); err != nil {
				return nil, fmt.Errorf("checkpoints: remove what an interrupted round left: %w", err)
			}
			continue
		}
		name, aside := strings.CutSuffix(e.Name(), asideSuffix)
		n, ok := numberOf(name)
		if !ok {
			continue
		}
		f.last = max(f.last, n)
		if !aside {
			f.rounds = append(f.rounds, n)
		}
	}
	slices.SortFunc(f.rounds, func(a, b uint64) int { return cmp.Compare(b, a) })
	return f, nil
}

// Rounds returns the numbers of the rounds there are, newest first.
func (f *Folder) Rounds() []uint64 { return slices.Clone(f.rounds) }

// Remove removes a round that is of no use.
func (f *Folder) Remove(number uint64) error {
	f.rounds = slices.DeleteFunc(f.rounds, func(n uint64) bool { return n == number })
	if err := os.Remove(f.file(number)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove checkpoint: %w", err)
	}
	return nil
}

// SetAside takes a round that is damaged out of the way: its file gets another
// name, under which nobody looks at it again.
func (f *Folder) SetAside(number uint64) error {
	name := f.file(number)
	if err := os.Rename(name, name+asideSuffix); err != nil {
		return fmt.Errorf("set checkpoint aside: %w", err)
	}
	f.rounds = slices.DeleteFunc(f.rounds, func(n uint64) bool { return n == number })
	f.last = max(f.last, number)
	return nil
}

// file returns the path of a round.
func (f *Folder) file(number uint64) string {
	return filepath.Join(f.path, fmt.Sprintf("%08d%s", number, suffix))
}

func numberOf(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok || len(digits) < 8 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil
}
