package disk

import (
	"os"
	"path/filepath"
	"testing"
)

func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// A beat changes a name each time, needs nothing that was there before, and
// leaves nothing when it is removed.
func TestBeat(t *testing.T) {
	dir := t.TempDir()
	b := Beat{Dir: dir, Name: "log"}
	before := ""
	for n := range 6 {
		if n == 3 {
			os.RemoveAll(dir)
			os.Mkdir(dir, 0o700)
		}
		if err := b.Check(); err != nil {
			t.Fatal(err)
		}
		names := files(t, dir)
		if len(names) != 1 || !IsBeat(names[0]) || names[0] == before {
			t.Errorf("beat %d left %q, want one file of a beat that is not %q", n, names, before)
		}
		before = names[0]
	}
	another := Beat{Dir: dir, Name: "log"} // of another life
	for range 2 {
		if err := another.Check(); err != nil {
			t.Error(err)
		}
	}
	if err := b.Remove(); err != nil || len(files(t, dir)) != 0 {
		t.Errorf("after Remove: %v, %q", err, files(t, dir))
	}
	if err := b.Remove(); err != nil {
		t.Errorf("Remove of what is not there: %v", err)
	}
	b.Dir = filepath.Join(dir, "gone")
	if b.Check() == nil || SyncFolder(b.Dir) == nil {
		t.Error("a folder that is gone took a change")
	}
	if err := SyncFolder(dir); err != nil {
		t.Error(err)
	}
}

// Beats of two names in one folder do not meet.
func TestBeatsAreApart(t *testing.T) {
	dir := t.TempDir()
	a, b := Beat{Dir: dir, Name: "log"}, Beat{Dir: dir, Name: "feed"}
	for range 3 {
		if err := a.Check(); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Check(); err != nil || len(files(t, dir)) != 2 {
		t.Errorf("%v, %q; want two files", err, files(t, dir))
	}
}
