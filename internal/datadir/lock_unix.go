//go:build unix

package datadir

import (
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// errReadOnly is that of a file system that takes no writes.
var errReadOnly error = syscall.EROFS

// takeLock opens the file and locks it for as long as it is open. The kernel
// lets go of the lock when the process ends, however it does.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, &InUseError{PID: holder(f)}
		}
		return nil, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	// For people and for InUseError; the lock itself is the kernel's.
	if err := f.Truncate(0); err != nil {
		f.Close()
		return nil, err
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// holder reads the process that holds the lock, 0 when it cannot be read.
func holder(f *os.File) int {
	var b [32]byte
	n, err := f.ReadAt(b[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil {
		return 0
	}
	return pid
}
