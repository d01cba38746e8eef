package datadir

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/whorl-net/whorl/internal/disk"
)

// Names in a data directory.
const (
	metaName        = "meta"
	lockName        = "lock"
	jetStreamName   = "jetstream"
	checkpointsName = "checkpoints"
	settingsName    = "settings"
	tempSuffix      = ".tmp"
)

// Dir is an open data directory. Make one with Open.
type Dir struct {
	path string
	meta Meta
	lock *os.File
	// created says that Open made what is in it, madeDir also the directory.
	created, madeDir bool
}

// DefaultShards is the number of shards of a directory that is made with 0.
const DefaultShards = 16

// Open opens the data directory at path, and makes it when there is nothing or
// an empty directory. shards is the number of shards wanted; 0 takes what the
// directory has, or DefaultShards when it is made. Nobody else can open it until Close. Errors are sentences for
// an operator; InUseError, FormatError, ShardsError and ForeignError tell them
// apart.
func Open(path string, shards int) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	_, missing := os.Lstat(path)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, explain(path, err)
	}
	if err := recognise(path); err != nil {
		return nil, err
	}
	lock, err := takeLock(filepath.Join(path, lockName))
	if err != nil {
		return nil, explain(path, err)
	}
	d := &Dir{path: path, lock: lock, madeDir: errors.Is(missing, fs.ErrNotExist)}
	if err := d.load(shards); err != nil {
		// What is left then is ours, and the next start takes it for that.
		_ = d.Discard()
		return nil, explain(path, err)
	}
	return d, nil
}

// recognise refuses a directory that is somebody else's. What a start that was
// cut short leaves behind is ours.
func recognise(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return explain(path, err)
	}
	ours := []string{metaName, metaName + tempSuffix, lockName, "lost+found"}
	var foreign []string
	for _, e := range entries {
		if e.Name() == metaName {
			return nil
		}
		if !slices.Contains(ours, e.Name()) {
			foreign = append(foreign, e.Name())
		}
	}
	if len(foreign) > 0 {
		return &ForeignError{Path: path, Found: foreign[0]}
	}
	return nil
}

// load reads the meta file, or writes one with the parts around it.
func (d *Dir) load(shards int) error {
	m, err := readMeta(filepath.Join(d.path, metaName))
	if errors.Is(err, fs.ErrNotExist) {
		if shards = cmp.Or(shards, DefaultShards); shards < 0 {
			return fmt.Errorf("%d shards, want 1 or more", shards)
		}
		d.created = true
		m = newMeta(shards, time.Now())
		err = writeMeta(filepath.Join(d.path, metaName), m)
	}
	if err != nil {
		return err
	}
	if shards != 0 && shards != m.Shards {
		return &ShardsError{Path: d.path, Found: m.Shards, Want: shards}
	}
	d.meta = m
	for _, name := range []string{jetStreamName, checkpointsName} {
		if err := os.MkdirAll(filepath.Join(d.path, name), 0o700); err != nil {
			return err
		}
	}
	return disk.SyncFolder(d.path)
}

// Path returns where it is, absolute.
func (d *Dir) Path() string { return d.path }

// Meta returns what was decided when it was made.
func (d *Dir) Meta() Meta { return d.meta }

// Created reports whether Open made it: then nothing is in it yet.
func (d *Dir) Created() bool { return d.created }

// JetStream returns the folder of the log and the feed.
func (d *Dir) JetStream() string { return filepath.Join(d.path, jetStreamName) }

// Checkpoints returns the folder of the checkpoints.
func (d *Dir) Checkpoints() string { return filepath.Join(d.path, checkpointsName) }

// Settings returns what SaveSettings wrote last, nil when it never did.
func (d *Dir) Settings() ([]byte, error) {
	data, err := readSmall(filepath.Join(d.path, settingsName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, explain(d.path, err)
	}
	return data, nil
}

// SaveSettings keeps data, at most 64 KiB, for the next life: whole or not at
// all, and safe when it returns.
func (d *Dir) SaveSettings(data []byte) error {
	if len(data) > maxSmallBytes {
		return fmt.Errorf("data directory: settings of %d bytes, at most %d", len(data), maxSmallBytes)
	}
	if err := writeSmall(filepath.Join(d.path, settingsName), data); err != nil {
		return explain(d.path, err)
	}
	return nil
}

// Discard closes a directory that Open made and removes what is in it, and itself
// if it was not there before: a start that failed leaves nothing behind. A
// directory that was there before is only closed.
func (d *Dir) Discard() error {
	if d.lock == nil || !d.created {
		return d.Close()
	}
	var errs []error
	for _, name := range []string{jetStreamName, checkpointsName, settingsName, settingsName + tempSuffix, metaName, metaName + tempSuffix, lockName} {
		errs = append(errs, os.RemoveAll(filepath.Join(d.path, name)))
	}
	errs = append(errs, d.Close())
	if d.madeDir {
		errs = append(errs, os.Remove(d.path))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove what a start left behind: %w", err)
	}
	return nil
}

// Close lets others open the directory. It may be called more than once.
func (d *Dir) Close() error {
	if d.lock == nil {
		return nil
	}
	err := d.lock.Close() // which lets go of the lock
	d.lock = nil
	return err
}

// InUseError says that another process has the directory open.
type InUseError struct {
	Path string
	// PID is that of the other process, 0 when it is not known.
	PID int
}

func (e *InUseError) Error() string {
	who := "another process"
	if e.PID > 0 {
		who = "process " + strconv.Itoa(e.PID)
	}
	return fmt.Sprintf("data directory %s is in use by %s: stop that one, or give this one another with --data-dir", e.Path, who)
}

// FormatError says that a later version of the program made the directory.
type FormatError struct {
	Path  string
	Found int
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("data directory %s has format %d, this version reads up to %d: install the version that wrote it, or give this one another directory with --data-dir", e.Path, e.Found, Format)
}

// ShardsError says that the directory was made for another number of shards.
type ShardsError struct {
	Path        string
	Found, Want int
}

func (e *ShardsError) Error() string {
	return fmt.Sprintf("data directory %s was made with %d shards and cannot be opened with %d: start with --shards %d, or with an empty --data-dir", e.Path, e.Found, e.Want, e.Found)
}

// ForeignError says that the directory holds something else.
type ForeignError struct {
	Path string
	// Found is the name of something that does not belong.
	Found string
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("%s is not a data directory: it holds %q and no meta file; give an empty or a new directory with --data-dir", e.Path, e.Found)
}

// explain makes a sentence of what went wrong with the directory at path.
func explain(path string, err error) error {
	var format *FormatError
	var shards *ShardsError
	var used *InUseError
	switch {
	case errors.As(err, &format):
		format.Path = path
		return format
	case errors.As(err, &used):
		used.Path = path
		return used
	case errors.As(err, &shards):
		return shards
	case errors.Is(err, fs.ErrPermission), errors.Is(err, errReadOnly):
		return fmt.Errorf("data directory %s: %w: it must be writable by user %d; change its owner, or give another with --data-dir", path, err, os.Getuid())
	}
	return fmt.Errorf("data directory %s: %w", path, err)
}

// Default returns where a collector keeps its data unless told otherwise: the
// state directory of its systemd unit, else /var/lib/whorl for root, else whorl
// in the user's state directory. getenv is os.Getenv.
func Default(getenv func(string) string) (string, error) {
	if state, _, _ := strings.Cut(getenv("STATE_DIRECTORY"), ":"); state != "" {
		return state, nil
	}
	if os.Getuid() == 0 {
		return "/var/lib/whorl", nil
	}
	if state := getenv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "whorl"), nil
	}
	home := getenv("HOME")
	if !filepath.IsAbs(home) {
		return "", errors.New("no home directory is known ($HOME): say where data goes with --data-dir")
	}
	return filepath.Join(home, ".local", "state", "whorl"), nil
}
