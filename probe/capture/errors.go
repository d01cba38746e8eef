package capture

import (
	"errors"
	"strconv"
)

// What can be wrong with a file; every FileError that is not an error of the
// operating system wraps one of them.
var (
	// ErrTruncated: the file ends in the middle of something. The packets
	// before it were lent.
	ErrTruncated = errors.New("truncated")
	// ErrMalformed: the file contradicts its format or our limits. The packets
	// before it were lent.
	ErrMalformed = errors.New("malformed")
	// ErrNotCapture: the first bytes are those of no capture file.
	ErrNotCapture = errors.New("not a capture file")
	// ErrUnsupported: the format is known, but not read here.
	ErrUnsupported = errors.New("not supported")
)

// FileError says what is wrong with a capture file and where.
type FileError struct {
	// Path is the name the file was opened by, "stdin" for "-".
	Path string
	// Offset is where the record or block in question begins, in bytes from
	// the start; of the unpacked bytes when the file is in gzip.
	Offset int64
	// Packet is the number of the packet that could not be read, from 1; all
	// packets before it were lent. 0 when the error is about no packet.
	Packet uint64
	// Err says what is wrong.
	Err error
}

// Error returns one line such as
// "cut.pcap: truncated: packet 8 at byte 2,931 announces 66 bytes, 53 are left".
func (e *FileError) Error() string { return e.Path + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *FileError) Unwrap() error { return e.Err }

// commas writes n with a comma between thousands.
func commas[N int | int64 | uint32 | uint64](n N) string {
	s := strconv.FormatInt(int64(n), 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
