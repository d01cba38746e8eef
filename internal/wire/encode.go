package wire

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// Tags of the fields written by hand: number<<3 | wire type. All are below 16
// or 2,048, so one or two bytes.
const (
	varint = uint64(protowire.VarintType)
	lenPfx = uint64(protowire.BytesType)
)

func appendVarint(dst []byte, v uint64) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

// appendUint appends a scalar field, or nothing when v is 0: proto3 leaves
// zero values out.
func appendUint(dst []byte, num, v uint64) []byte {
	if v == 0 {
		return dst
	}
	dst = appendVarint(dst, num<<3|varint)
	return appendVarint(dst, v)
}

func appendBool(dst []byte, num uint64, v bool) []byte {
	if !v {
		return dst
	}
	dst = appendVarint(dst, num<<3|varint)
	return append(dst, 1)
}

// appendString appends a string or bytes field, or nothing when s is empty.
func appendString[S string | []byte](dst []byte, num uint64, s S) []byte {
	if len(s) == 0 {
		return dst
	}
	if len(s) < 0x80 && num < 16 {
		dst = append(dst, byte(num<<3|lenPfx), byte(len(s)))
		return append(dst, s...)
	}
	dst = appendVarint(dst, num<<3|lenPfx)
	dst = appendVarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// How many bytes open leaves for a length that is not known yet. Where the guess
// is wrong finish moves the message, by a byte or two.
const (
	shortRoom  = 1 // below 128 bytes
	mediumRoom = 2 // below 16 KiB
	longRoom   = 3 // below 2 MiB
)

// roomFor returns the room for a length of about n.
func roomFor(n int) int {
	switch {
	case n < 1<<7:
		return shortRoom
	case n < 1<<14:
		return mediumRoom
	}
	return longRoom
}

// open starts a length-prefixed field whose length will take room bytes, at most
// longRoom, if all goes as expected. It returns the place to give to finish.
func open(dst []byte, num uint64, room int) ([]byte, int) {
	dst = appendVarint(dst, num<<3|lenPfx)
	dst = append(dst, "\x00\x00\x00"[:room]...)
	return dst, len(dst)
}

// finish writes the length of the field that open started at start with room.
func finish(dst []byte, start, room int) []byte {
	n := len(dst) - start
	if n < 1<<7 && room == shortRoom {
		dst[start-1] = byte(n)
		return dst
	}
	size := sizeVarint(uint64(n))
	if size > room {
		dst = append(dst, make([]byte, size-room)...)
	}
	if size != room {
		copy(dst[start-room+size:], dst[start:start+n])
		dst = dst[:start-room+size+n]
	}
	putVarint(dst[start-room:], uint64(n))
	return dst
}

func sizeVarint(v uint64) int { return (bits.Len64(v|1)*9 + 64) >> 6 }

// putVarint writes v at the start of p, which has room, and returns its size.
func putVarint(p []byte, v uint64) int {
	i := 0
	for v >= 0x80 {
		p[i] = byte(v) | 0x80
		v >>= 7
		i++
	}
	p[i] = byte(v)
	return i + 1
}

// maxVarint is how many bytes a varint has at most, and how many of room
// putWide needs.
const maxVarint = 10

// putWide is putVarint for values of three bytes or more, a third faster: the
// counterpart of wideVarint. p has room for maxVarint bytes, all of which may be
// written.
func putWide(p []byte, v uint64) int {
	if v >= 1<<56 {
		return putVarint(p, v)
	}
	n := sizeVarint(v)
	x := v&0x000000000fffffff | v&0x00fffffff0000000<<4
	x = x&0x00003fff00003fff | x&0x0fffc0000fffc000<<2
	x = x&0x007f007f007f007f | x&0x3f803f803f803f80<<1
	x |= 0x8080808080808080 & (1<<(8*(n-1)) - 1)
	binary.LittleEndian.PutUint64(p, x)
	return n
}

// timeRoom is the most that appendTime writes, and scribbles on behind that.
const timeRoom = 32

// appendTime appends a google.protobuf.Timestamp field for Unix nanoseconds t.
func appendTime(dst []byte, num uint64, t int64) []byte {
	sec, nsec := split(t)
	dst = slices.Grow(dst, timeRoom)
	p := dst[len(dst) : len(dst)+timeRoom]
	n := putVarint(p, num<<3|lenPfx)
	start := n + 1
	n = start
	if sec != 0 {
		p[n] = 1<<3 | byte(varint)
		n += 1 + putAny(p[n+1:], uint64(sec))
	}
	if nsec != 0 {
		p[n] = 2<<3 | byte(varint)
		n += 1 + putAny(p[n+1:], uint64(nsec))
	}
	p[start-1] = byte(n - start)
	return dst[:len(dst)+n]
}

// putAny is putVarint where most values take three bytes or more. p has room for
// maxVarint bytes, all of which may be written.
func putAny(p []byte, v uint64) int {
	if v < 1<<14 {
		return putVarint(p, v)
	}
	return putWide(p, v)
}

// split returns t as seconds and the nanoseconds above them, 0 to 999,999,999.
func split(t int64) (sec, nsec int64) {
	sec, nsec = t/1e9, t%1e9
	if nsec < 0 {
		sec, nsec = sec-1, nsec+1e9
	}
	return sec, nsec
}

// appendPacked appends column as a packed field, or nothing when it is empty.
func appendPacked[V uint32 | uint64](dst []byte, num uint64, column []V) []byte {
	if len(column) == 0 {
		return dst
	}
	dst, start := open(dst, num, longRoom)
	// Room for the widest values, so that the loop need not ask.
	dst = slices.Grow(dst, len(column)*maxVarint)
	p, n := dst[:cap(dst)], len(dst)
	for _, v := range column {
		switch {
		case v < 0x80:
			p[n] = byte(v)
			n++
		case v < 0x4000:
			p[n], p[n+1] = byte(v)|0x80, byte(v>>7)
			n += 2
		default:
			n += putWide(p[n:], uint64(v))
		}
	}
	return finish(p[:n], start, longRoom)
}
