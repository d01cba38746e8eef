package capture

import (
	"os"

	"golang.org/x/sys/unix"
)

// mappedBytes are mapped of a file at a time.
const mappedBytes = 2 << 20

// mapping lends parts of a regular file out of the page cache: nothing is copied,
// and of a packet only what is looked at comes into the processor's caches.
// Somebody who makes the file shorter meanwhile takes away the memory under
// what was lent; see Vanished.
type mapping struct {
	file *os.File
	page int64
	data []byte // the part that is mapped, nil when none is
}

// newMapping returns a mapping of file, nil when that has nothing to map.
func newMapping(file *os.File) *mapping {
	return &mapping{file: file, page: int64(os.Getpagesize())}
}

// at maps the file from offset on, and what is before it on its page: at least n
// bytes from there, if there are as many. It returns the part, which is valid
// until the next call, where in it offset is, and whether it ends with the file.
func (m *mapping) at(offset int64, n int) (part []byte, lo int, last bool, err error) {
	if err := m.close(); err != nil {
		return nil, 0, false, err
	}
	info, err := m.file.Stat()
	if err != nil {
		return nil, 0, false, err
	}
	size := info.Size()
	if offset >= size {
		return nil, 0, true, nil
	}
	begin := offset &^ (m.page - 1)
	lo = int(offset - begin)
	length := min(size-begin, max(mappedBytes, int64(lo)+int64(n)))
	m.data, err = unix.Mmap(int(m.file.Fd()), begin, int(length), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		m.data = nil
		return nil, 0, false, err
	}
	// Both only save time: one call instead of a fault for every few pages.
	_ = unix.Madvise(m.data, unix.MADV_SEQUENTIAL)
	_ = unix.Madvise(m.data, unix.MADV_POPULATE_READ)
	return m.data, lo, begin+length == size, nil
}

func (m *mapping) close() error {
	if m.data == nil {
		return nil
	}
	data := m.data
	m.data = nil
	return unix.Munmap(data)
}
