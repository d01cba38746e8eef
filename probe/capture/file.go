package capture

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
)

// Limits of a file. What goes beyond them is ErrMalformed; a packet cut at
// MaxCaptured by its writer is fine.
const (
	// MaxCaptured is the greatest captured length of a packet, in bytes; the
	// greatest snap length of tcpdump.
	MaxCaptured = 262144

	maxBlock      = 16 << 20 // a pcapng block
	maxOptions    = 64 << 10 // the options of a pcapng block
	maxInterfaces = 65536    // of a pcapng section
)

// SecretsTLSKeyLog is the kind of secrets that are lines of an NSS key log.
const SecretsTLSKeyLog uint32 = 0x544c534b

// File is a Source that reads a capture file: classic pcap of either byte
// order with micro- or nanoseconds (also with the longer records of the
// "modified" format), pcapng with any number of sections and interfaces, and
// either of them in gzip. They are told apart by their first bytes.
//
// A packet that claims to have been shorter on the wire than what was captured
// of it counts as long as what was captured. The snap length of a file is not
// believed. A simple pcapng packet has no time and gets that of the packet
// before it.
//
// Memory grows with the bytes that came, not with those that are announced: to
// a megabyte, and to 16 where OnSecrets wants a block of that size. What is in
// gzip is unpacked as it is read, so a small archive of a giant file costs time
// only.
type File struct {
	// OnSecrets, when set before the first Next, is called from Next for every
	// Decryption Secrets Block. data is lent for the call.
	OnSecrets func(kind uint32, data []byte)

	path   string
	close  io.Closer // nil when somebody else closes
	size   int64
	read   *meter
	packed bool // in gzip

	w     window
	next  func(*File, *Packet) error
	more  func(*File, []Packet) int // packets that lie in w as a whole
	at    int64                     // where the record or block that is next begins
	err   error                     // sticky
	stats Stats

	swapped bool // big-endian
	pcap    pcapState
	ng      ngState
}

// Open opens the file at path, "-" being standard input. Errors are
// *FileError. The caller closes the file; standard input stays open.
func Open(path string) (*File, error) {
	if path == "-" {
		return newFile("stdin", os.Stdin, nil, 0)
	}
	osf, err := os.Open(path)
	if err != nil {
		return nil, &FileError{Path: path, Err: rootCause(err)}
	}
	var size int64
	switch info, err := osf.Stat(); {
	case err != nil:
	case info.IsDir():
		osf.Close()
		return nil, &FileError{Path: path, Err: errors.New("it is a directory")}
	case info.Mode().IsRegular():
		size = info.Size()
	}
	f, err := newFile(path, osf, osf, size)
	if err != nil {
		osf.Close()
		return nil, err
	}
	return f, nil
}

// Read reads a capture from r, which stays the caller's to close. name is for
// errors. It reads no further ahead than r is willing to give at once, so it
// can follow a pipe.
func Read(name string, r io.Reader) (*File, error) {
	return newFile(name, r, nil, 0)
}

func newFile(path string, r io.Reader, closer io.Closer, size int64) (*File, error) {
	f := &File{path: path, close: closer, size: size, read: &meter{r: r}}
	raw := bufio.NewReaderSize(f.read, 16<<10)
	magic, _ := raw.Peek(2)
	f.w.r = raw
	if len(magic) == 2 && magic[0] == 0x1f && magic[1] == 0x8b {
		unpacked, err := gzip.NewReader(raw)
		if err != nil {
			return nil, f.fault(f.readError(err, "gzip header"))
		}
		f.w.r, f.packed = unpacked, true
	}
	if err := f.open(); err != nil {
		return nil, f.fault(err)
	}
	return f, nil
}

// open tells the format by the first bytes and reads the file header.
func (f *File) open() error {
	b, err := f.w.peek(4)
	if err != nil && !ended(err) {
		return f.readError(err, "file header")
	}
	if len(b) == 0 {
		if err == io.EOF {
			return fmt.Errorf("%w: it is empty", ErrNotCapture)
		}
		return f.readError(err, "file header")
	}
	switch {
	case len(b) < 4: // too little to know
	case string(b) == "\x0a\x0d\x0d\x0a":
		return f.openNG()
	case f.openPcapMagic(b):
		return f.openPcap()
	}
	return notCapture(b, f.packed)
}

// Next implements Source.
func (f *File) Next(p *Packet) error {
	if f.err != nil {
		return f.err
	}
	if err := f.next(f, p); err != nil {
		if err != io.EOF {
			err = f.fault(err)
		}
		f.err = err
		return err
	}
	f.stats.Packets++
	f.stats.WireBytes += uint64(p.WireLength)
	f.stats.CapturedBytes += uint64(len(p.Data))
	return nil
}

// NextBlock implements BlockSource. A block ends where bytes have to be read, and
// before whatever is no packet, such as secrets.
func (f *File) NextBlock(ps []Packet) (int, error) {
	if err := f.Next(&ps[0]); err != nil {
		return 0, err
	}
	n := 1 + f.more(f, ps[1:])
	for i := range ps[1:n] {
		p := &ps[1+i]
		f.stats.Packets++
		f.stats.WireBytes += uint64(p.WireLength)
		f.stats.CapturedBytes += uint64(len(p.Data))
	}
	return n, nil
}

// Close implements Source.
func (f *File) Close() error {
	if f.err == nil {
		f.err = fs.ErrClosed
	}
	if f.close == nil {
		return nil
	}
	return f.close.Close()
}

// Stats returns what was lent so far. Like Next it belongs to one goroutine.
func (f *File) Stats() Stats { return f.stats }

// Size returns the size of the file in bytes, 0 when it is not known, as of a
// pipe.
func (f *File) Size() int64 { return f.size }

// Offset returns how many bytes of the file were read, to be compared with
// Size: packed bytes, when it is in gzip, and up to a megabyte ahead of the
// packets. Safe for concurrent use.
func (f *File) Offset() int64 { return f.read.n.Load() }

// fault makes a FileError of err, located at the record or block that is next.
func (f *File) fault(err error) error {
	e := &FileError{Path: f.path, Offset: f.at, Err: err}
	if f.next != nil {
		e.Packet = f.stats.Packets + 1
	}
	return e
}

// readError says in our words what the operating system or gzip said while
// what was read.
func (f *File) readError(err error, what string) error {
	var corrupt flate.CorruptInputError
	switch {
	case ended(err) && f.packed, errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: the gzip stream ends inside a member", ErrTruncated)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: it ends inside the %s", ErrTruncated, what)
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum), errors.As(err, &corrupt):
		return fmt.Errorf("%w: after %s unpacked bytes: %w", ErrMalformed, commas(f.w.base+int64(f.w.hi)), err)
	}
	return fmt.Errorf("read %s: %w", what, rootCause(err))
}

// lacking is the error for what was announced and of which only have bytes came.
func (f *File) lacking(err error, what, announces string, have int) error {
	if !ended(err) {
		return f.readError(err, what)
	}
	left := commas(have) + " are left"
	if have == 1 {
		left = "1 is left"
	}
	return fmt.Errorf("%w: %s at byte %s announces %s, %s", ErrTruncated, what, commas(f.at), announces, left)
}

// malformed is the error for something in the record or block that is next.
func (f *File) malformed(what, format string, args ...any) error {
	return fmt.Errorf("%w: %s at byte %s %s", ErrMalformed, what, commas(f.at), fmt.Sprintf(format, args...))
}

// packetName names the packet that is next.
func (f *File) packetName() string { return "packet " + commas(f.stats.Packets+1) }

// rootCause drops what the FileError says already.
func rootCause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// meter counts what was read, for progress.
type meter struct {
	r io.Reader
	n atomic.Int64
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.n.Add(int64(n))
	return n, err
}
