package ja4plus

import (
	"bytes"
	"math"
	"sync"

	"golang.org/x/net/http2/hpack"
)

// blockDecoder is the scratch memory for header blocks of HPACK. It serves one
// table at a time, from begin to release.
type blockDecoder struct {
	request Request
	index   tableIndex
	// Text out of Huffman's code.
	name, value bytes.Buffer

	table  *headerTable
	rest   []byte
	status HTTPStatus // what is wrong with the block, HTTPMore when nothing
}

var blockDecoders = sync.Pool{New: func() any { return new(blockDecoder) }}

// beginBlocks lends a decoder for the next blocks of a table, which nobody else
// may change meanwhile.
func beginBlocks(t *headerTable) *blockDecoder {
	d := blockDecoders.Get().(*blockDecoder)
	d.table, d.index.made = t, false
	return d
}

func (d *blockDecoder) release() {
	d.table, d.rest = nil, nil
	d.request.shrink()
	for _, b := range []*bytes.Buffer{&d.name, &d.value} {
		if b.Cap() > maxKeptBytes {
			*b = bytes.Buffer{}
		}
	}
	if cap(d.index.starts) > maxKeptBytes/4 {
		d.index = tableIndex{}
	}
	blockDecoders.Put(d)
}

// decode reads one whole header block into d.request, and lets the table
// follow. isRequest says that it has a ":method"; status is HTTPMore unless
// the block is invalid or too large, after which the table is of no more use.
func (d *blockDecoder) decode(block []byte) (isRequest bool, status HTTPStatus) {
	d.request.Reset("", "20")
	d.rest, d.status = block, HTTPMore
	total := 0
	first := true
	for len(d.rest) > 0 && d.status == HTTPMore {
		c := d.rest[0]
		if c&0xe0 == 0x20 {
			d.resize(first)
			continue
		}
		first = false
		size, method := 0, false
		switch {
		case c&0x80 != 0:
			size, method = d.indexed()
		case c&0x40 != 0:
			size, method = d.literal(6, true)
		default: // without indexing, or never indexed
			size, method = d.literal(4, false)
		}
		isRequest = isRequest || method
		if total += size; total > MaxHTTPHeaderBytes {
			d.fail(HTTPTooLarge)
		}
	}
	return isRequest, d.status
}

func (d *blockDecoder) fail(status HTTPStatus) {
	if d.status == HTTPMore {
		d.status = status
	}
	d.rest = nil
}

// resize reads a table size update (RFC 7541 section 6.3). Behind a field it is
// an error unless the table is empty.
func (d *blockDecoder) resize(first bool) {
	size := d.integer(5)
	if d.status != HTTPMore || !d.indexMade() {
		return
	}
	if size > maxHPACKTable || !first && d.index.size > 0 {
		d.fail(HTTPInvalid)
		return
	}
	d.table.max = uint32(size)
	d.index.evict(d.table, size)
}

// indexed reads a field of a table (RFC 7541 section 6.1).
func (d *blockDecoder) indexed() (size int, isMethod bool) {
	i := d.integer(7)
	if d.status != HTTPMore {
		return 0, false
	}
	static := staticFields()
	if i > 0 && i < len(static) {
		f := &static[i]
		d.request.Add(f.Name, f.Value)
		return len(f.Name) + len(f.Value) + fieldOverhead, f.Name == ":method"
	}
	e := d.entry(i)
	if d.status != HTTPMore {
		return 0, false
	}
	e.addTo(&d.request)
	return e.size, e.role == roleMethod
}

// literal reads a field that is spelled out, with the index of its name in n
// bits (RFC 7541 section 6.2).
func (d *blockDecoder) literal(n uint, insert bool) (size int, isMethod bool) {
	i := d.integer(n)
	var name []byte
	nameHuffman := false
	switch {
	case d.status != HTTPMore:
	case i == 0:
		name, nameHuffman = d.text()
	case i < len(staticFields()):
		name = commonHeaders().static[i]
	default:
		name = d.entry(i).name
	}
	value, valueHuffman := d.text()
	name = d.plain(&d.name, name, nameHuffman)
	value = d.plain(&d.value, value, valueHuffman)
	if d.status != HTTPMore {
		return 0, false
	}
	d.request.AddBytes(name, value)
	if insert && d.indexMade() {
		d.index.insert(d.table, name, value)
	}
	return len(name) + len(value) + fieldOverhead, string(name) == ":method"
}

// entry returns the entry of the dynamic table with an index of RFC 7541
// section 2.3.3.
func (d *blockDecoder) entry(i int) (e tableEntry) {
	if !d.indexMade() {
		return e
	}
	e, ok := d.index.entry(d.table, i-len(staticFields())+1)
	if !ok {
		d.fail(HTTPInvalid)
	}
	return e
}

func (d *blockDecoder) indexMade() bool {
	if !d.index.make(d.table) {
		d.fail(HTTPInvalid)
		return false
	}
	return true
}

// integer reads an integer with a prefix of n bits (RFC 7541 section 5.1). One
// that is larger than anything means something is returned as such a one.
func (d *blockDecoder) integer(n uint) int {
	if len(d.rest) == 0 {
		d.fail(HTTPInvalid)
		return 0
	}
	limit := uint64(1)<<n - 1
	v := uint64(d.rest[0]) & limit
	d.rest = d.rest[1:]
	if v < limit {
		return int(v)
	}
	for shift := 0; shift < 63 && len(d.rest) > 0; shift += 7 {
		c := d.rest[0]
		d.rest = d.rest[1:]
		if v += uint64(c&0x7f) << shift; c&0x80 == 0 {
			return int(min(v, math.MaxInt32))
		}
	}
	d.fail(HTTPInvalid)
	return 0
}

// text reads a string as it is on the wire (RFC 7541 section 5.2).
func (d *blockDecoder) text() (b []byte, huffman bool) {
	if len(d.rest) == 0 {
		d.fail(HTTPInvalid)
		return nil, false
	}
	huffman = d.rest[0]&0x80 != 0
	switch n := d.integer(7); {
	case d.status != HTTPMore:
	case n > maxHPACKString:
		d.fail(HTTPTooLarge)
	case n > len(d.rest): // the block ends within
		d.fail(HTTPInvalid)
	default:
		b, d.rest = d.rest[:n], d.rest[n:]
	}
	return b, huffman
}

// plain returns b, out of Huffman's code if it is in it; buf is its memory.
func (d *blockDecoder) plain(buf *bytes.Buffer, b []byte, huffman bool) []byte {
	if d.status != HTTPMore || !huffman {
		return b
	}
	buf.Reset()
	if _, err := hpack.HuffmanDecode(buf, b); err != nil {
		d.fail(HTTPInvalid)
		return nil
	}
	if buf.Len() > maxHPACKString {
		d.fail(HTTPTooLarge)
	}
	return buf.Bytes()
}
