package ja4plus

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2/hpack"

	"github.com/whorl-net/whorl/internal/fuzzguard"
	"github.com/whorl-net/whorl/ja4"
)

// getBlock is ":method: GET" alone: index 2 of the static table.
const getBlock = "\x82"

// frame builds an HTTP/2 frame.
func frame(kind, flags uint8, stream uint32, payload string) string {
	n := len(payload)
	return string([]byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags,
		byte(stream >> 24), byte(stream >> 16), byte(stream >> 8), byte(stream)}) + payload
}

func settings() string { return frame(frameSettings, 0, 0, "\x00\x03\x00\x00\x00\x64") }

func headers(stream uint32, flags uint8, payload string) string {
	return frame(frameHeaders, flags, stream, payload)
}

func continuation(stream uint32, flags uint8, payload string) string {
	return frame(frameContinuation, flags, stream, payload)
}

// encode returns a header block of name, value, name, value …
func encode(e *hpack.Encoder, b *bytes.Buffer, fields ...string) string {
	b.Reset()
	for i := 0; i < len(fields); i += 2 {
		e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return b.String()
}

func feedHTTP2(input string, step int) outcome {
	var s HTTP2Stream
	var o outcome
	for rest := []byte(input); len(rest) > 0; {
		n := min(step, len(rest))
		o.Status = s.Write(rest[:n], func(e ja4.Event) { o.Raw = append(o.Raw, e.Raw) })
		rest = rest[n:]
	}
	return o
}

// The dynamic table follows every header block, also of what is no request,
// and padding, priority and continuations do not disturb it.
func TestHTTP2Stream(t *testing.T) {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	first := encode(e, &b, ":method", "GET", ":authority", "a.example", "x-one", "1", "cookie", "b=2", "cookie", "a=1")
	trailer := encode(e, &b, "x-trailer", "2")
	second := encode(e, &b, ":method", "POST", ":authority", "a.example", "x-trailer", "2", "x-one", "1", "referer", "r")
	e.SetMaxDynamicTableSize(0)
	third := encode(e, &b, ":method", "PUT", "x-one", "1")
	start := http2Preface + settings()
	const firstRaw = "ge20cn010000_x-one_a,b_a=1,b=2"
	const secondRaw = "po20nr020000_x-trailer,x-one__"
	pad := "\x03" // length
	priority := "\x80\x00\x00\x03\x10"
	tests := []struct {
		name  string
		input string
		want  outcome
	}{
		{"three requests and a trailer", start + headers(1, flagEndHeaders, first) + frame(0, 0, 1, "data") +
			headers(1, flagEndHeaders|1, trailer) + headers(3, flagEndHeaders, second) + headers(5, flagEndHeaders, third),
			outcome{Raw: []string{firstRaw, secondRaw, "pu20nn010000_x-one__"}}},
		{"continuations, one of them empty", start + headers(1, 0, first[:3]) + continuation(1, 0, first[3:9]) + continuation(1, 0, "") +
			continuation(1, flagEndHeaders, first[9:]), outcome{Raw: []string{firstRaw}}},
		{"an empty HEADERS frame before", start + headers(1, 0, "") + continuation(1, flagEndHeaders, first), outcome{Raw: []string{firstRaw}}},
		{"padding", start + headers(1, flagEndHeaders|flagPadded, pad+first+"\x00\x00\x00"), outcome{Raw: []string{firstRaw}}},
		{"priority", start + headers(1, flagEndHeaders|flagPriority, priority+first), outcome{Raw: []string{firstRaw}}},
		{"padding, priority and a continuation", start + headers(1, flagPadded|flagPriority, pad+priority+first[:5]+"\x00\x00\x00") +
			continuation(1, flagEndHeaders|flagPadded, first[5:]), outcome{Raw: []string{firstRaw}}},
		{"unknown and large frames are skipped", start + frame(0xfa, 0xff, 7, strings.Repeat("x", 70000)) + headers(1, flagEndHeaders, first),
			outcome{Raw: []string{firstRaw}}},
		{"padding longer than the frame", start + headers(1, flagEndHeaders|flagPadded, "\x05abc"), outcome{Status: HTTPInvalid}},
		{"no room for the priority", start + headers(1, flagEndHeaders|flagPriority, "\x05abc"), outcome{Status: HTTPInvalid}},
		{"no room for the pad length", start + headers(1, flagEndHeaders|flagPadded, ""), outcome{Status: HTTPInvalid}},
		{"a frame within a header block", start + headers(1, 0, first[:3]) + frame(0, 0, 1, "x"), outcome{Status: HTTPInvalid}},
		{"a continuation of another stream", start + headers(1, 0, first[:3]) + continuation(3, 0, "x"), outcome{Status: HTTPInvalid}},
		{"a continuation of nothing", start + continuation(1, flagEndHeaders, first), outcome{Status: HTTPInvalid}},
		{"headers on stream 0", start + headers(0, flagEndHeaders, first), outcome{Status: HTTPInvalid}},
		{"no settings first", http2Preface + headers(1, flagEndHeaders, first), outcome{Status: HTTPInvalid}},
		{"another frame first", http2Preface + frame(6, 0, 0, "pingpingping") + headers(1, flagEndHeaders, first), outcome{Status: HTTPInvalid}},
		{"settings of another length first", http2Preface + frame(frameSettings, 0, 0, "\x00") + headers(1, flagEndHeaders, first), outcome{Status: HTTPInvalid}},
		{"no preface", settings(), outcome{Status: HTTPInvalid}},
		{"a broken block", start + headers(1, flagEndHeaders, "\x80"), outcome{Status: HTTPInvalid}},
		{"a block that ends within a field", start + headers(1, flagEndHeaders, first[:len(first)-1]), outcome{Status: HTTPInvalid}},
		{"a table larger than the bound", start + headers(1, flagEndHeaders, "\x3f\xe2\xff\x03"+getBlock), outcome{Status: HTTPInvalid}},
		{"a table as large as the bound", start + headers(1, flagEndHeaders, "\x3f\xe1\xff\x03"+getBlock), outcome{Raw: []string{"ge20nn000000___"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, step := range []int{len(tt.input), 1, 2, 7, 50} {
				if got := feedHTTP2(tt.input, step); !reflect.DeepEqual(got, tt.want) {
					t.Errorf("in pieces of %d\n got %+v\nwant %+v", step, got, tt.want)
				}
			}
		})
	}
}

// A header block that is large on the wire or decodes to much is given up.
func TestHTTP2StreamBounds(t *testing.T) {
	start := http2Preface + settings()
	insert := "\x40\x01a\x7f\x81\x1e" + strings.Repeat("v", 0x7f+0x81-0x80+0x1e<<7) // a literal to index of 4 KiB less overhead
	tests := []struct {
		name  string
		input string
	}{
		{"one reference, many times", start + headers(1, flagEndHeaders, getBlock+insert+strings.Repeat("\xbe", 100))},
		{"many short fields", start + headers(1, flagEndHeaders, strings.Repeat(getBlock, MaxHTTPHeaderBytes/fieldOverhead))},
		{"a string beyond the bound", start + headers(1, flagEndHeaders, "\x40\x01a\x7f\x82\xff\x01"+strings.Repeat("v", 0x7f+2+0x7f<<7))},
		{"a block of nothing but table sizes", start + headers(1, flagEndHeaders, strings.Repeat("\x20", MaxHTTPHeaderBytes)+getBlock)},
		{"endless continuations", start + headers(1, 0, getBlock) + strings.Repeat(continuation(1, 0, "\x00\x01a\x7f\x80\x3f"+strings.Repeat("\x00", 0x7f+0x3f<<7)), 9)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, step := range []int{len(tt.input), 1000} {
				if got := feedHTTP2(tt.input, step); got.Status != HTTPTooLarge || got.Raw != nil {
					t.Errorf("in pieces of %d: %v, %d events; want too-large, none", step, got.Status, len(got.Raw))
				}
			}
		})
	}
}

// tee is a connection that keeps what is written to it.
type tee struct {
	net.Conn
	mu  sync.Mutex
	log bytes.Buffer
}

func (c *tee) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.log.Write(p)
	c.mu.Unlock()
	return c.Conn.Write(p)
}

func (c *tee) written() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log.String()
}

// What the HTTP/2 client of net/http sends in clear gives the fingerprints of its
// header lists, large headers and bodies included.
func TestHTTP2StreamOfRealClient(t *testing.T) {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
	}))
	server.Config.Protocols = &protocols
	server.Config.HTTP2 = &http.HTTP2Config{MaxDecoderHeaderTableSize: 16 << 10}
	server.Start()
	defer server.Close()
	var client tee
	tr := &http.Transport{
		Protocols: &protocols,
		HTTP2:     &http.HTTP2Config{MaxEncoderHeaderTableSize: 16 << 10},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", server.Listener.Addr().String())
			client.Conn = conn
			return &client, err
		},
	}
	var want []string
	for i := range 5 {
		var body io.Reader
		method, code := "GET", "ge"
		if i%2 == 1 {
			method, code = "POST", "po"
			body = io.MultiReader(strings.NewReader(strings.Repeat("x", 40000)))
		}
		req, err := http.NewRequest(method, "http://whorl.example:8080/x", body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept-Language", "fr-CH, fr;q=0.9")
		req.Header.Set("Cookie", fmt.Sprintf("n=%d; a=1", i))
		req.Header.Set("User-Agent", strings.Repeat("long", 5000)) // needs a CONTINUATION
		req.Header.Set("Accept-Encoding", "gzip")
		if body != nil {
			req.Trailer = http.Header{"X-Trailer": {"t"}}
		}
		res, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		names := "03frch_accept-encoding,accept-language,user-agent"
		if body != nil {
			names = "04frch_accept-encoding,accept-language,trailer,user-agent"
		}
		want = append(want, fmt.Sprintf("%s20cn%s_a,n_a=1,n=%d", code, names, i))
	}
	tr.CloseIdleConnections()
	input := client.written()
	for _, step := range []int{len(input), 1, 1460} {
		got := feedHTTP2(input, step)
		for i, raw := range got.Raw { // the client writes the header map in any order
			got.Raw[i] = sortNames(raw)
		}
		if !reflect.DeepEqual(got.Raw, want) || got.Status != HTTPMore {
			t.Errorf("in pieces of %d: %v\n got %q\nwant %q", step, got.Status, got.Raw, want)
		}
	}
}

// sortNames sorts the header names of a raw form without underscores in them.
func sortNames(raw string) string {
	part := strings.Split(raw, "_")
	names := strings.Split(part[1], ",")
	slices.Sort(names)
	part[1] = strings.Join(names, ",")
	return strings.Join(part, "_")
}

// Once the table is warm, skipped frames cost no allocation.
func TestHTTP2StreamDataDoesNotAllocate(t *testing.T) {
	var s HTTP2Stream
	emit := func(ja4.Event) {}
	s.Write([]byte(http2Preface+settings()+headers(1, flagEndHeaders, getBlock)), emit)
	data := []byte(frame(0, 0, 1, strings.Repeat("x", 1451)))
	if n := testing.AllocsPerRun(100, func() { s.Write(data, emit) }); n != 0 {
		t.Errorf("%v allocations per DATA frame, want 0", n)
	}
}

func FuzzHTTP2Stream(f *testing.F) {
	f.Add([]byte(settings()+headers(1, flagEndHeaders, getBlock)), uint8(1))
	f.Add([]byte(settings()+headers(1, 0x28, "\x01\x00\x00\x00\x00\x00"+getBlock+"\x00")+continuation(1, 4, "\x86")), uint8(3))
	f.Add([]byte(settings()+headers(1, 4, "\x3f\xe1\xff\x03\x40\x01a\x01b\xbe")+frame(0, 9, 1, "\x01xy")), uint8(9))
	f.Add(browse(rand.New(rand.NewPCG(1, 1)), 9)[len(http2Preface):], uint8(200))
	f.Fuzz(func(t *testing.T, input []byte, step uint8) {
		fuzzguard.Watch(t)
		in := http2Preface + string(input)
		whole, cut := feedHTTP2(in, len(in)), feedHTTP2(in, 1+int(step))
		if !reflect.DeepEqual(whole, cut) {
			t.Errorf("in one piece %+v\nin pieces of %d %+v", whole, step+1, cut)
		}
		sameAsLibrary(t, []byte(in))
	})
}

// BenchmarkHTTP2Stream: one request whose fields are in the table.
func BenchmarkHTTP2Stream(b *testing.B) {
	var buf bytes.Buffer
	e := hpack.NewEncoder(&buf)
	fields := []string{":method", "GET", ":authority", "www.example.com", ":scheme", "http", ":path", "/", "user-agent", "Mozilla/5.0",
		"accept", "text/html", "accept-language", "en-US", "cookie", "sid=0123456789abcdef", "cookie", "theme=dark"}
	emit := func(ja4.Event) {}
	var s HTTP2Stream
	s.Write([]byte(http2Preface+settings()+headers(1, flagEndHeaders, encode(e, &buf, fields...))), emit)
	again := []byte(headers(3, flagEndHeaders, encode(e, &buf, fields...)))
	b.ReportAllocs()
	for b.Loop() {
		if status := s.Write(again, emit); status != HTTPMore {
			b.Fatal(status)
		}
	}
}
