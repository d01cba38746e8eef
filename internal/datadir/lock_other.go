//go:build !unix

package datadir

import (
	"errors"
	"os"
)

// errReadOnly is that of a file system that takes no writes.
var errReadOnly = errors.New("read-only file system")

// takeLock refuses: without a lock that dies with its process two collectors
// could write to one directory.
func takeLock(string) (*os.File, error) {
	return nil, errors.New("data directories need a Unix: start with --durability=memory")
}
