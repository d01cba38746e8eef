package datadir

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/whorl-net/whorl/internal/disk"
)

// Format is the version of the layout that this program reads and writes.
const Format = 1

// maxSmallBytes bounds the files beside the folders; the meta file is about 250
// bytes.
const maxSmallBytes = 64 << 10

// Meta is what was decided when a directory was made.
type Meta struct {
	// Format is the version of the layout.
	Format int `json:"format"`
	// Epoch names the numbering of the feed: 12 hexadecimal digits.
	Epoch string `json:"epoch"`
	// TrackerEpoch is part of every connection's UID.
	TrackerEpoch uint32 `json:"tracker_epoch"`
	// Shards is the number of parts of the table, at least 1.
	Shards int `json:"shards"`
	// HashSeed chooses the shard of a connection, together with its key. Who
	// knows it can aim at one shard.
	HashSeed Seed `json:"hash_seed"`
	// Created is when the directory was made.
	Created time.Time `json:"created"`
}

// Seed is a 64-bit number that JSON holds as 16 hexadecimal digits: as a number
// many programs would round it.
type Seed uint64

// MarshalText returns 16 hexadecimal digits.
func (s Seed) MarshalText() ([]byte, error) {
	return fmt.Appendf(nil, "%016x", uint64(s)), nil
}

// UnmarshalText reads 16 hexadecimal digits.
func (s *Seed) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 16, 64)
	if err != nil || len(text) != 16 {
		return fmt.Errorf("%q is not a seed of 16 hexadecimal digits", text)
	}
	*s = Seed(n)
	return nil
}

// newMeta decides for a new directory.
func newMeta(shards int, now time.Time) Meta {
	var b [18]byte
	rand.Read(b[:])
	return Meta{
		Format: Format, Epoch: hex.EncodeToString(b[:6]), Shards: shards,
		TrackerEpoch: binary.BigEndian.Uint32(b[6:]), HashSeed: Seed(binary.BigEndian.Uint64(b[10:])),
		Created: now.UTC().Truncate(time.Second),
	}
}

// check says what is wrong with a Meta that was read.
func (m *Meta) check() error {
	switch {
	case m.Format < 1:
		return fmt.Errorf("format is %d, want 1 or more", m.Format)
	case len(m.Epoch) != 12:
		return fmt.Errorf("epoch %q is not 12 hexadecimal digits", m.Epoch)
	case m.Shards < 1:
		return fmt.Errorf("shards is %d, want 1 or more", m.Shards)
	}
	if _, err := hex.DecodeString(m.Epoch); err != nil {
		return fmt.Errorf("epoch %q is not 12 hexadecimal digits", m.Epoch)
	}
	return nil
}

// parseMeta reads a meta file. A file of a later format is read as far as its
// version, which is enough to refuse it.
func parseMeta(data []byte) (Meta, error) {
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return Meta{}, err
	}
	if version.Format > Format {
		return Meta{}, &FormatError{Found: version.Format}
	}
	var m Meta
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return Meta{}, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Meta{}, errors.New("something follows the object")
	}
	return m, m.check()
}

// readMeta reads the file at path.
func readMeta(path string) (Meta, error) {
	data, err := readSmall(path)
	if err != nil {
		return Meta{}, err
	}
	m, err := parseMeta(data)
	if err != nil {
		return Meta{}, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// writeMeta writes the file at path.
func writeMeta(path string, m Meta) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return writeSmall(path, append(data, '\n'))
}

// readSmall reads a file of at most maxSmallBytes.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSmallBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxSmallBytes {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxSmallBytes)
	}
	return data, nil
}

// writeSmall writes a file whole or not at all, and returns when it is safe.
func writeSmall(path string, data []byte) error {
	temp := path + tempSuffix
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return disk.SyncFolder(filepath.Dir(path))
}
