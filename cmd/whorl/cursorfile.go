package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/whorl-net/whorl/internal/feed"
)

// maxCursorBytes bounds what is read of a cursor file.
const maxCursorBytes = 256

// cursorFile keeps the cursor behind the lines that were written, message by
// message. What was written after it was kept comes again after a crash, with
// the sequence numbers it had; nothing that could not be written is missed.
// What was written to a pipe counts as handled, whoever reads it or not.
type cursorFile struct {
	path   string // empty: keeps nothing
	cursor string
	kept   string // what the file holds
}

// openCursor reads the cursor, if the file exists.
func openCursor(path string) (*cursorFile, error) {
	k := &cursorFile{path: path}
	if path == "" {
		return k, nil
	}
	f, err := os.Open(path)
	if isMissing(err) {
		return k, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cursor file: %w", err)
	}
	defer f.Close()
	buf := make([]byte, maxCursorBytes)
	n, _ := f.Read(buf)
	k.cursor = strings.TrimSpace(string(buf[:n]))
	if _, err := feed.ParseGiven(k.cursor); err != nil {
		return nil, failf(exitUsage, "cursor file %s: it does not hold a cursor; remove it to start now", path)
	}
	k.kept = k.cursor
	return k, nil
}

// keep takes a cursor and writes it. "" is none.
func (k *cursorFile) keep(cursor string) error {
	k.cursor = cursor
	if k.path == "" || cursor == "" {
		return nil
	}
	return k.write()
}

// write replaces the file in one step: whoever reads it sees one cursor or the
// other, never half of one.
func (k *cursorFile) write() error {
	if k.cursor == k.kept {
		return nil
	}
	tmp, err := os.CreateTemp(filepath.Dir(k.path), filepath.Base(k.path)+".*")
	if err != nil {
		return fmt.Errorf("cursor file: %w", err)
	}
	_, err = tmp.WriteString(k.cursor + "\n")
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), k.path)
	}
	if err != nil {
		os.Remove(tmp.Name())
		return fmt.Errorf("cursor file: %w", err)
	}
	k.kept = k.cursor
	return nil
}
