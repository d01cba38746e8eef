package tracker

import (
	"encoding/binary"
	"fmt"
)

// source reads the data of a checkpoint. The first thing that is wrong stays in
// err; from then on all reads give zero. Nothing it returns is larger than what
// is left of the data.
type source struct {
	p   []byte
	n   int // length of all data
	err error
}

func newSource(p []byte) *source { return &source{p: p, n: len(p)} }

// fail notes what is wrong here.
func (d *source) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: byte %d of %d: %s", ErrCheckpoint, d.n-len(d.p), d.n, fmt.Sprintf(format, args...))
	}
	d.p = nil
}

// want fails unless ok.
func (d *source) want(ok bool, format string, args ...any) {
	if !ok {
		d.fail(format, args...)
	}
}

func (d *source) byte() byte {
	if len(d.p) == 0 {
		d.fail("data ends")
		return 0
	}
	b := d.p[0]
	d.p = d.p[1:]
	return b
}

func (d *source) bool() bool {
	b := d.byte()
	d.want(b < 2, "%d is neither yes nor no", b)
	return b == 1
}

// bytes returns the next n, which are part of the data.
func (d *source) bytes(n int) []byte {
	if n > len(d.p) {
		d.fail("data ends")
		return nil
	}
	b := d.p[:n]
	d.p = d.p[n:]
	return b
}

func (d *source) uvarint() uint64 {
	if len(d.p) > 0 && d.p[0] < 0x80 {
		v := d.p[0]
		d.p = d.p[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(d.p)
	if n <= 0 {
		d.fail("no number")
		return 0
	}
	d.p = d.p[n:]
	return v
}

func (d *source) varint() int64 {
	v := d.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

// upTo reads a number of at most most; what says of what.
func (d *source) upTo(most uint64, what string) uint64 {
	v := d.uvarint()
	if v > most {
		d.fail("%s is %d, want at most %d", what, v, most)
		return 0
	}
	return v
}

// count reads how many things follow that take at least one byte each.
func (d *source) count(what string) int {
	return int(d.upTo(uint64(len(d.p)), "number of "+what))
}

// time reads a time, as the difference to another.
func (d *source) time(from int64, what string) int64 {
	v := from + d.varint()
	if v < 0 || v > maxTime {
		d.fail("%s is %d, want 0 to %d", what, v, int64(maxTime))
		return 0
	}
	return v
}

// before reads a time, as how far it is before another.
func (d *source) before(from int64, what string) int64 {
	v := from - d.varint()
	if v < 0 || v > maxTime {
		d.fail("%s is %d, want 0 to %d", what, v, int64(maxTime))
		return 0
	}
	return v
}

// text reads a text of at least and at most so many bytes, as part of the data.
func (d *source) text(least, most int, what string) string {
	n := d.upTo(uint64(most), "length of a "+what)
	d.want(int(n) >= least, "a %s of %d bytes", what, n)
	return string(d.bytes(int(n)))
}

// mark reads what the data begins with.
func (d *source) mark(want byte, what string) {
	mark, version := d.byte(), d.byte()
	d.want(mark == want, "this is not a %s", what)
	d.want(version == checkpointVersion, "version %d, want %d", version, checkpointVersion)
}

// end says whether all was read and understood.
func (d *source) end() error {
	d.want(len(d.p) == 0, "%d bytes too many", len(d.p))
	return d.err
}
