package datadir

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func open(t *testing.T, path string, shards int) *Dir {
	t.Helper()
	d, err := Open(path, shards)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// What was decided when a directory was made is there when it is opened again.
func TestReopenedDirectoryIsTheSame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	first := open(t, path, 8)
	if !first.Created() {
		t.Error("a new directory was not created")
	}
	m := first.Meta()
	if m.Shards != 8 || m.Format != Format || m.HashSeed == 0 || m.TrackerEpoch == 0 || m.Created.IsZero() {
		t.Errorf("meta of a new directory %+v", m)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	for _, shards := range []int{8, 0} {
		again := open(t, path, shards)
		if again.Created() || again.Meta() != m {
			t.Errorf("opened again for %d shards: created %v, meta %+v, want %+v", shards, again.Created(), again.Meta(), m)
		}
		again.Close()
	}
	if other := open(t, filepath.Join(t.TempDir(), "x"), 8).Meta(); other.Epoch == m.Epoch || other.HashSeed == m.HashSeed {
		t.Errorf("two directories share a numbering or a seed: %+v, %+v", other, m)
	}
	for _, folder := range []string{first.JetStream(), first.Checkpoints()} {
		if info, err := os.Stat(folder); err != nil || !info.IsDir() {
			t.Errorf("%s: %v", folder, err)
		}
	}
}

// A directory is open once at a time; who comes second learns who has it.
func TestSecondOpenIsRefused(t *testing.T) {
	path := t.TempDir()
	first := open(t, path, 4)
	_, err := Open(path, 4)
	var used *InUseError
	if !errors.As(err, &used) || used.PID != os.Getpid() || used.Path != path {
		t.Fatalf("second open: %v", err)
	}
	if !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Errorf("%q does not name the process", err)
	}
	first.Close()
	open(t, path, 4)
}

// Each refusal is a sentence that says what to do.
func TestRefusalsSayWhatToDo(t *testing.T) {
	make := func(t *testing.T) string {
		path := t.TempDir()
		open(t, path, 4).Close()
		return path
	}
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T) string
		shards  int
		is      func(error) bool
		says    []string
	}{
		{
			"other shards", make, 16,
			func(err error) bool { var e *ShardsError; return errors.As(err, &e) && e.Found == 4 && e.Want == 16 },
			[]string{"4 shards", "--shards 4"},
		},
		{
			"a later format", func(t *testing.T) string {
				path := make(t)
				write(t, filepath.Join(path, "meta"), `{"format": 9, "something": true}`)
				return path
			}, 4,
			func(err error) bool { var e *FormatError; return errors.As(err, &e) && e.Found == 9 },
			[]string{"format 9", "--data-dir"},
		},
		{
			"somebody else's directory", func(t *testing.T) string {
				path := t.TempDir()
				write(t, filepath.Join(path, "holiday.jpg"), "x")
				return path
			}, 4,
			func(err error) bool { var e *ForeignError; return errors.As(err, &e) && e.Found == "holiday.jpg" },
			[]string{"holiday.jpg", "--data-dir"},
		},
		{
			"a log whose meta file is gone", func(t *testing.T) string {
				path := make(t)
				os.Remove(filepath.Join(path, "meta"))
				return path
			}, 4,
			func(err error) bool { var e *ForeignError; return errors.As(err, &e) },
			[]string{"no meta file"},
		},
		{
			"a damaged meta file", func(t *testing.T) string {
				path := make(t)
				write(t, filepath.Join(path, "meta"), `{"format": 1, "epo`)
				return path
			}, 4,
			func(err error) bool { return err != nil }, []string{"meta"},
		},
		{
			"a file in its place", func(t *testing.T) string {
				path := filepath.Join(t.TempDir(), "f")
				write(t, path, "x")
				return path
			}, 4,
			func(err error) bool { return err != nil }, []string{"data directory"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := c.prepare(t)
			d, err := Open(path, c.shards)
			if d != nil {
				d.Close()
			}
			if !c.is(err) {
				t.Fatalf("open: %v", err)
			}
			for _, part := range append(c.says, path) {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
		})
	}
}

// A directory that cannot be written to is refused with the reason.
func TestUnwritableDirectoryIsRefused(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may write everywhere")
	}
	path := t.TempDir()
	os.Chmod(path, 0o500)
	_, err := Open(path, 4)
	if err == nil || !strings.Contains(err.Error(), "writable") {
		t.Errorf("open: %v", err)
	}
}

// Settings are what was saved last, also in the next life.
func TestSettingsAreKept(t *testing.T) {
	path := t.TempDir()
	d := open(t, path, 4)
	if got, err := d.Settings(); got != nil || err != nil {
		t.Errorf("settings of a new directory %q, %v", got, err)
	}
	for _, text := range []string{"a", "b"} {
		if err := d.SaveSettings([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	d.Close()
	if got, err := open(t, path, 4).Settings(); string(got) != "b" || err != nil {
		t.Errorf("settings %q, %v; want b", got, err)
	}
	if err := d.SaveSettings(make([]byte, maxSmallBytes+1)); err == nil {
		t.Error("settings without bound were taken")
	}
}

// A start that was cut short before the meta file was there begins anew.
func TestInterruptedStartBeginsAnew(t *testing.T) {
	path := t.TempDir()
	write(t, filepath.Join(path, "lock"), "")
	write(t, filepath.Join(path, "meta.tmp"), `{"for`)
	os.Mkdir(filepath.Join(path, "lost+found"), 0o700)
	if d := open(t, path, 4); !d.Created() {
		t.Error("not created")
	}
}

func TestDefaultPlace(t *testing.T) {
	env := func(pairs ...string) func(string) string {
		return func(name string) string {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] == name {
					return pairs[i+1]
				}
			}
			return ""
		}
	}
	user := func(path string) string {
		if os.Getuid() == 0 {
			return "/var/lib/whorl"
		}
		return path
	}
	for _, c := range []struct {
		getenv func(string) string
		want   string
	}{
		{env("STATE_DIRECTORY", "/var/lib/private/whorl:/var/lib/b", "HOME", "/home/a"), "/var/lib/private/whorl"},
		{env("XDG_STATE_HOME", "/s", "HOME", "/home/a"), user("/s/whorl")},
		{env("XDG_STATE_HOME", "relative", "HOME", "/home/a"), user("/home/a/.local/state/whorl")},
	} {
		if got, err := Default(c.getenv); err != nil || got != c.want {
			t.Errorf("default %q, %v; want %q", got, err, c.want)
		}
	}
	if got, err := Default(env()); err == nil && os.Getuid() != 0 {
		t.Errorf("default without a home is %q", got)
	}
}

// Whatever a meta file holds, it is either refused or makes sense.
func FuzzMeta(f *testing.F) {
	f.Add([]byte(`{"format":1,"epoch":"0123456789ab","tracker_epoch":7,"shards":64,"hash_seed":"00000000000000ff","created":"2026-01-01T00:00:00Z"}`))
	f.Add([]byte(`{"format":2}`))
	f.Add([]byte(`{"format":1,"epoch":"zz"}{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseMeta(data)
		if err == nil && (m.Shards < 1 || m.Format != Format || len(m.Epoch) != 12) {
			t.Errorf("%q was read as %+v", data, m)
		}
	})
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A start that came to nothing leaves nothing: neither the directory it made nor
// anything in one that was empty. What an earlier start made stays.
func TestDiscardedDirectoryIsGone(t *testing.T) {
	for _, c := range []struct {
		name          string
		prepare       func(t *testing.T, path string)
		stays, filled bool
	}{
		{"new", func(*testing.T, string) {}, false, false},
		{"empty before", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, true, false},
		{"used before", func(t *testing.T, path string) { open(t, path, 4).Close() }, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "data")
			c.prepare(t, path)
			d := open(t, path, 4)
			if err := os.WriteFile(filepath.Join(d.JetStream(), "message"), []byte("m"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := d.SaveSettings([]byte("{}")); err != nil {
				t.Fatal(err)
			}
			if err := d.Discard(); err != nil {
				t.Fatal(err)
			}
			entries, err := os.ReadDir(path)
			if (err == nil) != c.stays || (len(entries) > 0) != c.filled {
				t.Errorf("it holds %v, %v", entries, err)
			}
			if err := d.Discard(); err != nil {
				t.Errorf("again: %v", err)
			}
		})
	}
}
