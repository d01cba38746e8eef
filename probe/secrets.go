package probe

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/whorl-net/whorl/ja4/cleartext"
	"github.com/whorl-net/whorl/probe/capture"
)

const (
	// keyFileEvery is how often a live capture looks whether its KeyFile grew.
	keyFileEvery = time.Second
	// secretsWait is how long connections of a live capture wait for their
	// secrets: until the next look, and for who writes them a little late.
	secretsWait = 3 * time.Second
)

// TakeSecrets makes f put the TLS secrets that it carries, in Decryption
// Secrets Blocks, into keys. Call it before the first Next.
func TakeSecrets(f *capture.File, keys *cleartext.KeyLog) {
	f.OnSecrets = func(kind uint32, data []byte) {
		if kind == capture.SecretsTLSKeyLog {
			keys.Add(data)
		}
	}
}

// A KeyFile is a file of TLS secrets in the format of SSLKEYLOGFILE, which may
// grow. It belongs to one goroutine.
type KeyFile struct {
	// OnError, if not nil, is told when the file cannot be read any more: once,
	// until it can be read again.
	OnError func(error)

	name   string
	keys   *cleartext.KeyLog
	offset int64 // of the first line that is not complete
	size   int64 // when it was last read
	fixed  bool  // no regular file: it has been read once
	failed bool
}

// OpenKeyFile puts the secrets in the file of that name into keys. The file is
// not kept open.
func OpenKeyFile(name string, keys *cleartext.KeyLog) (*KeyFile, error) {
	f := &KeyFile{name: name, keys: keys}
	if err := f.read(); err != nil {
		return nil, err
	}
	return f, nil
}

// refresh reads what was added to the file, if its size has changed. One that
// is shorter than before is a new one.
func (f *KeyFile) refresh() {
	if f.fixed {
		return
	}
	err := f.read()
	if errors.Is(err, os.ErrNotExist) {
		err = nil // it may come back, as a new one
		f.offset, f.size = 0, 0
	}
	if err != nil && !f.failed && f.OnError != nil {
		f.OnError(err)
	}
	f.failed = err != nil
}

func (f *KeyFile) read() error {
	info, err := os.Stat(f.name)
	if err != nil {
		return fmt.Errorf("read secrets: %w", err)
	}
	if f.fixed = !info.Mode().IsRegular(); !f.fixed {
		if info.Size() == f.size {
			return nil
		}
		if info.Size() < f.offset {
			f.offset = 0
		}
	}
	file, err := os.Open(f.name)
	if err != nil {
		return fmt.Errorf("read secrets: %w", err)
	}
	defer file.Close()
	if !f.fixed {
		if _, err := file.Seek(f.offset, io.SeekStart); err != nil {
			return fmt.Errorf("read secrets: %w", err)
		}
	}
	f.size = info.Size()
	if err := f.lines(file); err != nil {
		return fmt.Errorf("read secrets: %s: %w", f.name, err)
	}
	return nil
}

// lines takes lines up to the end. The last one counts also without its end,
// and is read again when there is more.
func (f *KeyFile) lines(r io.Reader) error {
	lines := bufio.NewReaderSize(r, 64<<10)
	long := false // the beginning of this line did not fit
	for {
		line, err := lines.ReadSlice('\n')
		if !long {
			f.keys.Add(line)
		}
		long = errors.Is(err, bufio.ErrBufferFull)
		if err == nil || long {
			f.offset += int64(len(line))
			continue
		}
		if err == io.EOF {
			return nil
		}
		return err
	}
}
