package ja4plus

import (
	"bytes"
	"encoding/binary"
)

// maxCutOff is how much of a header table may be allocated and unused beyond as
// much as is used, in bytes.
const maxCutOff = 64

// A headerTable is the dynamic table of HPACK (RFC 7541 section 2.3.2) reduced
// to what a JA4H may need of it: of every entry the name and the size, which
// says when it is evicted; the value where a fingerprint or the server name
// reads it, that is of cookies, hosts, the method and the language. An entry
// takes one or two bytes, seldom three, besides the text of cookies, of hosts
// and of names that are not common.
type headerTable struct {
	// entries, oldest first, each: a byte with the number of a common form or
	// name, or 0; its size less fieldOverhead, as uvarint, unless the number
	// says it; with 0 the length of the name, as uvarint, and the name; then
	// what fieldRole.keeps says. They are never written to but behind their
	// end, so that a copy of the slice with no capacity to spare may be shared.
	entries []byte
	max     uint32 // bytes, as RFC 7541 section 4.1 counts
	// cutOff is how many bytes in front of entries are still allocated with them.
	cutOff uint32
}

// fieldRole says what of a field's value is of use.
type fieldRole uint8

const (
	roleName     fieldRole = iota // nothing
	roleMethod                    // ":method": its code
	roleHost                      // ":authority" and "host": all unless it is too long to be one
	roleLanguage                  // "accept-language": its code
	roleCookie                    // all
)

func roleOf(name []byte) fieldRole {
	switch len(name) {
	case len("cookie"):
		if equalFold(name, "cookie") {
			return roleCookie
		}
	case len("host"):
		if equalFold(name, "host") {
			return roleHost
		}
	case len("accept-language"):
		if equalFold(name, "accept-language") {
			return roleLanguage
		}
	case len(":method"):
		if string(name) == ":method" {
			return roleMethod
		}
	case len(":authority"):
		if string(name) == ":authority" {
			return roleHost
		}
	}
	return roleName
}

// keeps returns how many bytes an entry keeps of a value of n bytes.
func (r fieldRole) keeps(n int) int {
	switch r {
	case roleMethod:
		return 2
	case roleLanguage:
		return 4
	case roleCookie:
		return n
	case roleHost:
		if n <= maxHostBytes {
			return n
		}
	}
	return 0
}

// appendKept appends what an entry keeps of a value.
func (r fieldRole) appendKept(dst, value []byte) []byte {
	switch r {
	case roleMethod:
		if code := methodCode(value); code != "" {
			return append(dst, code...)
		}
		return append(dst, "00"...)
	case roleLanguage:
		code := languageCode(value)
		return append(dst, code[:]...)
	default:
		return append(dst, value[:r.keeps(len(value))]...)
	}
}

// A tableEntry is an entry as read; its bytes are those of the table.
type tableEntry struct {
	name []byte
	kept []byte
	size int // as RFC 7541 section 4.1 counts
	role fieldRole
}

// readEntry reads the entry at the beginning of b, which takes n bytes; n is 0
// when there is none.
func readEntry(b []byte) (e tableEntry, n int) {
	if len(b) == 0 {
		return e, 0
	}
	common := commonHeaders()
	number := int(b[0])
	if number >= len(common.names) {
		return e, 0
	}
	n = 1
	e.name, e.role = common.names[number], common.roles[number]
	valueLength := common.values[number]
	if number == 0 || valueLength < 0 {
		length, w := binary.Uvarint(b[n:])
		if w <= 0 || length > maxHPACKTable {
			return e, 0
		}
		n += w
		if number == 0 {
			nameLength, w := binary.Uvarint(b[n:])
			if w <= 0 || nameLength > uint64(len(b)-n-w) {
				return e, 0
			}
			n += w
			e.name = b[n : n+int(nameLength)]
			e.role = roleOf(e.name)
			n += int(nameLength)
		}
		valueLength = int(length) - len(e.name)
	}
	if valueLength < 0 {
		return e, 0
	}
	e.size = len(e.name) + valueLength + fieldOverhead
	kept := e.role.keeps(valueLength)
	if kept > len(b)-n {
		return e, 0
	}
	e.kept = b[n : n+kept]
	return e, n + kept
}

// appendEntry appends the entry of a field.
func appendEntry(dst, name, value []byte) []byte {
	number, all := commonHeaders().number(name, len(value))
	dst = append(dst, number)
	if !all {
		dst = binary.AppendUvarint(dst, uint64(len(name)+len(value)))
	}
	if number == 0 {
		dst = binary.AppendUvarint(dst, uint64(len(name)))
		dst = append(dst, name...)
	}
	return roleOf(name).appendKept(dst, value)
}

// tooLongHost stands for a host of which an entry keeps nothing.
var tooLongHost = make([]byte, maxHostBytes+1)

// addTo adds the field of the entry to a request.
func (e *tableEntry) addTo(r *Request) {
	switch {
	case e.role == roleMethod:
		if string(e.kept) != "00" {
			copy(r.method[:], e.kept)
		}
	case e.role == roleLanguage:
		if !r.spoken {
			copy(r.language[:], e.kept)
			r.spoken = true
		}
		addName(r, e.name)
	case e.role == roleHost && e.size-fieldOverhead-len(e.name) > maxHostBytes:
		r.AddBytes(e.name, tooLongHost)
	default:
		r.AddBytes(e.name, e.kept)
	}
}

// A tableIndex finds the entries of one table while header blocks are decoded.
// It is made when the first of them needs it, at the cost of one walk.
type tableIndex struct {
	starts []uint32 // of the entries, oldest first, plus cut
	first  int      // in starts: the oldest that was not evicted
	cut    uint32   // bytes that were taken off the table's beginning
	size   int      // of the table
	made   bool
}

// make reads t. It reports false when t is damaged.
func (x *tableIndex) make(t *headerTable) bool {
	if x.made {
		return true
	}
	*x = tableIndex{starts: x.starts[:0], made: true}
	for at := 0; at < len(t.entries); {
		e, n := readEntry(t.entries[at:])
		if n == 0 {
			return false
		}
		x.starts = append(x.starts, uint32(at))
		x.size += e.size
		at += n
	}
	return true
}

// entry returns the entry with an index of RFC 7541 section 2.3.3, less the
// static table: 1 is the newest.
func (x *tableIndex) entry(t *headerTable, i int) (e tableEntry, ok bool) {
	if i < 1 || i > len(x.starts)-x.first {
		return e, false
	}
	e, n := readEntry(t.entries[x.starts[len(x.starts)-i]-x.cut:])
	return e, n > 0
}

// insert adds a field, whose name may be that of an entry of t, and evicts what
// has to leave for it: all if the field is larger than t may be.
func (x *tableIndex) insert(t *headerTable, name, value []byte) {
	size := len(name) + len(value) + fieldOverhead
	x.evict(t, int(t.max)-size)
	if size > int(t.max) {
		return
	}
	x.starts = append(x.starts, uint32(len(t.entries))+x.cut)
	room := cap(t.entries)
	t.entries = appendEntry(t.entries, name, value)
	if cap(t.entries) > room { // they are in a new place
		t.cutOff = 0
	}
	x.size += size
}

// evict takes the oldest entries out of t until it has at most size bytes.
func (x *tableIndex) evict(t *headerTable, size int) {
	for x.size > size && x.first < len(x.starts) {
		e, n := readEntry(t.entries)
		t.entries = t.entries[n:]
		x.cut += uint32(n)
		t.cutOff += uint32(n)
		x.size -= e.size
		x.first++
	}
	// A few entries must not keep all the memory that a table once had.
	if int(t.cutOff) > len(t.entries)+maxCutOff {
		t.entries, t.cutOff = bytes.Clone(t.entries), 0
	}
	if x.first > 64 && x.first > len(x.starts)/2 {
		x.starts = append(x.starts[:0], x.starts[x.first:]...)
		x.first = 0
	}
}
