package ja4plus

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"

	"github.com/whorl-net/whorl/ja4"
)

// reference finds the requests of an HTTP/2 connection with the library's
// decoder, which keeps all of every field, from the whole of its bytes.
func reference(input []byte) (o outcome) {
	var r Request
	var total int
	var isRequest bool
	decoder := hpack.NewDecoder(defaultHPACKTable, func(f hpack.HeaderField) {
		if total += len(f.Name) + len(f.Value) + fieldOverhead; total <= MaxHTTPHeaderBytes {
			isRequest = isRequest || f.Name == ":method"
			r.Add(f.Name, f.Value)
		}
	})
	decoder.SetAllowedMaxDynamicTableSize(maxHPACKTable)
	decoder.SetMaxStringLength(maxHPACKString)
	fail := func(status HTTPStatus) outcome {
		o.Status = status
		return o
	}
	if !bytes.HasPrefix(input, []byte(http2Preface)) {
		return fail(HTTPInvalid)
	}
	input = input[len(http2Preface):]
	var block []byte
	open := uint32(0)
	for n := 0; len(input) >= frameHeaderBytes; n++ {
		length := int(binary.BigEndian.Uint32(input) >> 8)
		kind, flags, stream := input[3], input[4], binary.BigEndian.Uint32(input[5:])&0x7fffffff
		payload := input[frameHeaderBytes:]
		whole := length <= len(payload)
		payload = payload[:min(length, len(payload))]
		input = input[frameHeaderBytes+len(payload):]
		if n == 0 && (kind != frameSettings || stream != 0 || length%6 != 0) ||
			open != 0 && (kind != frameContinuation || stream != open) || open == 0 && kind == frameContinuation ||
			kind == frameHeaders && stream == 0 {
			return fail(HTTPInvalid)
		}
		if kind != frameHeaders && kind != frameContinuation {
			continue
		}
		if kind == frameHeaders {
			padding, fixed := 0, 0
			if flags&flagPriority != 0 {
				fixed = 5
			}
			if flags&flagPadded != 0 {
				if length < fixed+1 {
					return fail(HTTPInvalid)
				}
				if len(payload) == 0 {
					return o
				}
				padding = int(payload[0])
				payload, length = payload[1:], length-1
			}
			if length < fixed {
				return fail(HTTPInvalid)
			}
			if len(payload) < fixed {
				return o
			}
			if payload, length = payload[fixed:], length-fixed; padding > length {
				return fail(HTTPInvalid)
			}
			whole = whole || len(payload) >= length-padding
			payload = payload[:min(len(payload), length-padding)]
			open = stream
		}
		if block = append(block, payload...); len(block) > MaxHTTPHeaderBytes {
			return fail(HTTPTooLarge)
		}
		if !whole || flags&flagEndHeaders == 0 {
			continue
		}
		r.Reset("", "20")
		total, isRequest = 0, false
		_, err := decoder.Write(block)
		switch {
		case total > MaxHTTPHeaderBytes, err == hpack.ErrStringLength:
			return fail(HTTPTooLarge)
		case err != nil, decoder.Close() != nil:
			return fail(HTTPInvalid)
		}
		if isRequest {
			e := r.Event()
			o.Raw = append(o.Raw, e.Raw+" "+e.ServerName)
		}
		block, open = nil, 0
	}
	return o
}

// sameAsLibrary compares what a stream makes of input with the reference.
func sameAsLibrary(t *testing.T, input []byte) {
	t.Helper()
	var s HTTP2Stream
	var got outcome
	got.Status = s.Write(input, func(e ja4.Event) { got.Raw = append(got.Raw, e.Raw+" "+e.ServerName) })
	want := reference(input)
	// The library refuses the second of two table sizes at the beginning of a
	// block, which RFC 7541 section 4.2 allows.
	if want.Status == HTTPInvalid && len(got.Raw) >= len(want.Raw) {
		got.Status, got.Raw = HTTPInvalid, got.Raw[:len(want.Raw):len(want.Raw)]
	}
	if len(got.Raw)+len(want.Raw) > 0 && !slices.Equal(got.Raw, want.Raw) || got.Status != want.Status {
		t.Fatalf("%q\n got %v %q\nthe library gives %v %q", input, got.Status, got.Raw, want.Status, want.Raw)
	}
}

// browse returns what a browser, or whoever is in its place, sends for some
// requests: fields that repeat, fields that change, cookies that grow.
func browse(r *rand.Rand, requests int) []byte {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	e.SetMaxDynamicTableSizeLimit(maxHPACKTable)
	out := []byte(http2Preface + settings())
	pick := func(values ...string) string { return values[r.IntN(len(values))] }
	for i := range requests {
		if r.IntN(20) == 0 {
			e.SetMaxDynamicTableSize([]uint32{0, 100, 1000, 4096, 4096, maxHPACKTable}[r.IntN(6)])
		}
		block.Reset()
		write := func(name, value string) {
			e.WriteField(hpack.HeaderField{Name: name, Value: value, Sensitive: r.IntN(20) == 0})
		}
		write(":method", pick("GET", "GET", "POST", "PROPFIND", "FROBNICATE"))
		write(pick(":authority", ":authority", "x-authority"), pick("www.example.com", "cdn.example.com:8443", strings.Repeat("h", 300)))
		write(":scheme", "https")
		write(":path", fmt.Sprintf("/%x", r.Uint64()))
		write("sec-ch-ua", `"Chromium";v="140", "Not=A?Brand";v="24"`)
		write("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)")
		write("accept", pick("*/*", "text/html", "image/avif,image/webp"))
		write("sec-fetch-site", pick("none", "same-origin", "cross-site", "elsewhere"))
		write("x-request-id", pick(strings.Repeat("1", 36), strings.Repeat("2", 35), ""))
		write("accept-language", pick("en-US,en;q=0.9", "fr", "*", "zh-Hant-TW"))
		if r.IntN(2) == 0 {
			write(pick("referer", "Referer"), fmt.Sprintf("https://www.example.com/%d", r.IntN(5)))
		}
		for range r.IntN(4) {
			write("cookie", fmt.Sprintf("c%d=%s", r.IntN(5), strings.Repeat("v", r.IntN(9)*r.IntN(9))))
		}
		if r.IntN(3) == 0 {
			write(fmt.Sprintf("x-custom-%d", r.IntN(4)), strings.Repeat("x", r.IntN(200)))
		}
		if r.IntN(9) == 0 {
			write("host", pick("other.example", strings.Repeat("o", 400)))
		}
		out = append(out, headers(uint32(2*i+1), flagEndHeaders, block.String())...)
	}
	return out
}

// What is kept of the header table is enough: requests come out as with the
// library's decoder, which keeps everything, whatever is evicted meanwhile.
func TestHeaderTableEqualsLibrary(t *testing.T) {
	for seed := range uint64(200) {
		sameAsLibrary(t, browse(rand.New(rand.NewPCG(seed, 1)), 60))
	}
}

// A stream that rests wherever it can, and is cut anywhere, yields the same.
func TestHeaderTableOverRests(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 2))
		input := browse(r, 60)
		want := feed(string(input))
		var cuts []int
		for at := r.IntN(200); at < len(input); at += 1 + r.IntN(200) {
			cuts = append(cuts, at)
		}
		if got := feedTo(true, string(input), cuts...); !reflect.DeepEqual(got, want) || len(want.Raw) != 60 {
			t.Fatalf("seed %d\n got %q\nwant %q", seed, got.Raw, want.Raw)
		}
	}
}

// Two table sizes in one block are what RFC 7541 section 4.2 asks for after the
// table was made smaller and larger again.
func TestTwoTableSizes(t *testing.T) {
	start := http2Preface + settings() + headers(1, flagEndHeaders, getBlock+"\x40\x01a\x01b")
	got := feedHTTP2(start+headers(3, flagEndHeaders, "\x3f\x09\x3f\xe1\x1f"+getBlock+"\xbe"), 1000)
	if want := []string{"ge20nn010000_a__", "ge20nn010000_a__"}; !slices.Equal(got.Raw, want) {
		t.Errorf("%+v, want %q", got, want)
	}
	if got := feedHTTP2(start+headers(3, flagEndHeaders, getBlock+"\x3f\x09"), 1000); got.Status != HTTPInvalid {
		t.Errorf("a table size behind a field: %+v", got)
	}
}

// Names of the static table and the common ones have numbers, each one.
func TestCommonHeaders(t *testing.T) {
	c := commonHeaders()
	if len(staticFields()) != 62 || len(c.static) != 62 || len(c.names) > 256 || len(c.numbers) != len(c.names)-1 {
		t.Errorf("%d static fields, %d of their names, %d names, %d numbers", len(staticFields()), len(c.static), len(c.names), len(c.numbers))
	}
	for i, name := range c.names[1:] {
		number, all := c.number(name, c.values[i+1])
		if int(number) != i+1 || all != true && c.values[i+1] >= 0 || !bytes.Equal(name, bytes.ToLower(name)) {
			t.Errorf("%q, %d has the number %d, want %d", name, c.values[i+1], number, i+1)
		}
		if c.values[i+1] >= 0 && c.numbers[fieldForm{string(name), -1}] == 0 {
			t.Errorf("%q has a number with one length of its value only", name)
		}
	}
	if f := staticFields()[61]; f.Name != "www-authenticate" {
		t.Errorf("the last static field is %v", f)
	}
}

// The table of a browser that has filled its 4 KiB takes two or three bytes per
// entry and the host's name, besides the text of its cookies.
func TestHeaderTableIsSmall(t *testing.T) {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	var s HTTPStream
	s.Write([]byte(http2Preface+settings()), nil)
	most, entries := 0, 0
	for i := range 300 {
		referer, accept, dest := fmt.Sprintf("https://www.example.com/page/%d", i/10), "*/*", "script"
		if i%3 == 0 {
			accept, dest = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", "image"
		}
		b := encode(e, &block,
			":method", "GET", ":authority", "www.example.com", ":scheme", "https",
			"sec-ch-ua-platform", `"Linux"`, "user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
			"sec-ch-ua", `"Chromium";v="140", "Not=A?Brand";v="24", "Google Chrome";v="140"`, "sec-ch-ua-mobile", "?0",
			"accept", accept, "sec-fetch-site", "same-origin", "sec-fetch-mode", "no-cors", "sec-fetch-dest", dest,
			"referer", referer, "accept-encoding", "gzip, deflate, br, zstd", "accept-language", "en-US,en;q=0.9", "priority", fmt.Sprintf("u=%d, i", i%4))
		s.Write([]byte(headers(uint32(2*i+1), flagEndHeaders, b)), func(ja4.Event) {})
		n, size := 0, 0
		for at := 0; at < len(s.HeaderTable()); n++ {
			e, length := readEntry(s.HeaderTable()[at:])
			at += length
			size += e.size
		}
		if size > defaultHPACKTable {
			t.Fatalf("a table of %d bytes, want at most %d", size, defaultHPACKTable)
		}
		most, entries = max(most, len(s.HeaderTable())), max(entries, n)
	}
	t.Logf("at most %d bytes for %d entries", most, entries)
	if want := 2*entries + len("www.example.com"); most > want || entries < 30 {
		t.Errorf("at most %d bytes for %d entries, want %d", most, entries, want)
	}
	if held := s.Held(); held > 1024 {
		t.Errorf("%d bytes held, want less than 1 KiB", held)
	}
}

// What is no header table makes a stream invalid, and no more.
func TestResumeWithRubbish(t *testing.T) {
	var s HTTPStream
	s.Write([]byte(http2Preface+settings()), nil)
	rest, ok := s.Rest()
	if !ok {
		t.Fatal("does not rest")
	}
	block := []byte(headers(1, flagEndHeaders, "\xbe\x40\x01a\x01b"))
	for _, table := range []string{"\xff", "\x00", "\x00\x80", "\x00\x05\x09", "\x01\x00", "\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", string([]byte{commonHeaders().numbers[fieldForm{"cookie", -1}], 0x7f})} {
		s.Resume(rest, []byte(table))
		if _, status := s.Write(block, func(ja4.Event) {}); status != HTTPInvalid {
			t.Errorf("%q: %v, want invalid", table, status)
		}
	}
}

// A stream leaves the table that it was resumed with as it is.
func TestResumeKeepsTable(t *testing.T) {
	var s HTTPStream
	input := browse(rand.New(rand.NewPCG(5, 4)), 20)
	s.Write(input, func(ja4.Event) {})
	rest, _ := s.Rest()
	table := slices.Clip(slices.Clone(s.HeaderTable()))
	before := slices.Clone(table)
	more := input[len(http2Preface+settings()):]
	s.Resume(rest, table)
	s.Write(more, func(ja4.Event) {})
	if !bytes.Equal(table, before) {
		t.Errorf("the table has changed: %q, was %q", table, before)
	}
	if len(table) == 0 || len(s.HeaderTable()) == 0 {
		t.Errorf("a table of %d bytes, then of %d", len(table), len(s.HeaderTable()))
	}
}
