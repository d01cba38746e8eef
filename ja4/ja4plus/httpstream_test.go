package ja4plus

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/whorl-net/whorl/internal/fuzzguard"
	"github.com/whorl-net/whorl/ja4"
)

// outcome is what a stream made of its input: the raw forms of its events and
// the places and statuses at which it stopped taking.
type outcome struct {
	Raw    []string
	Marks  []string // "status@offset", switches and the end
	Status HTTPStatus
}

// feed writes input to a new stream, cut at the given offsets, and goes on
// behind each switch.
func feed(input string, cuts ...int) outcome { return feedTo(false, input, cuts...) }

// feedTo is feed, with a stream that is made anew of what it rests in behind
// each piece, if asked to.
func feedTo(rests bool, input string, cuts ...int) outcome {
	var s HTTPStream
	var o outcome
	emit := func(e ja4.Event) { o.Raw = append(o.Raw, e.Raw) }
	offset := 0
	cuts = append(cuts, len(input))
	for _, cut := range cuts {
		piece := []byte(input[offset:cut])
		for {
			lent := bytes.Clone(piece)
			n, status := s.Write(lent, emit)
			for i := range lent { // what was lent is not ours any more
				lent[i] = 0xff
			}
			o.Status = status
			switch status {
			case HTTPMore:
				if n != len(piece) {
					panic(fmt.Sprintf("HTTPMore, but %d of %d bytes taken", n, len(piece)))
				}
			case HTTPSwitch:
				offset += n
				o.Marks = append(o.Marks, fmt.Sprintf("switch@%d", offset))
				piece = piece[n:]
				continue
			default:
				o.Marks = append(o.Marks, status.String())
				return o
			}
			break
		}
		if r, ok := s.Rest(); ok && rests {
			table := slices.Clone(s.HeaderTable())
			s = HTTPStream{body: bodySkip{left: 7, broken: true}}
			s.Resume(r, table)
		}
		offset = cut
	}
	return o
}

var httpStreamTests = []struct {
	name  string
	input string
	want  outcome
}{
	{"one request", request("GET / HTTP/1.1", "A: 1"), outcome{Raw: []string{"ge11nn010000_A__"}}},
	{"nothing yet", "GET / HTTP/1.1\r\nA: 1\r\n", outcome{}},
	{"a pipeline", request("GET / HTTP/1.1", "A: 1") + request("HEAD / HTTP/1.0") + "\r\n" + request("PUT / HTTP/1.1", "B: 1"),
		outcome{Raw: []string{"ge11nn010000_A__", "he10nn000000___", "pu11nn010000_B__"}}},
	{"bare LF throughout", "GET / HTTP/1.1\nA: 1\n\nGET / HTTP/1.1\n\n", outcome{Raw: []string{"ge11nn010000_A__", "ge11nn000000___"}}},
	{"a body by length", request("POST / HTTP/1.1", "Content-Length: 18") + "GET / HTTP/1.1\r\n\r\n" + request("GET / HTTP/1.1"),
		outcome{Raw: []string{"po11nn010000_Content-Length__", "ge11nn000000___"}}},
	{"length zero", request("POST / HTTP/1.1", "Content-Length: 0") + request("GET / HTTP/1.1"),
		outcome{Raw: []string{"po11nn010000_Content-Length__", "ge11nn000000___"}}},
	{"the same length twice", request("POST / HTTP/1.1", "Content-Length: 1", "Content-Length: 1") + "x" + request("GET / HTTP/1.1"),
		outcome{Raw: []string{"po11nn020000_Content-Length,Content-Length__", "ge11nn000000___"}}},
	{"two lengths", request("POST / HTTP/1.1", "Content-Length: 1", "Content-Length: 2") + "xx",
		outcome{Raw: []string{"po11nn020000_Content-Length,Content-Length__"}, Marks: []string{"invalid"}, Status: HTTPInvalid}},
	{"a length that is none", request("POST / HTTP/1.1", "Content-Length: -1"),
		outcome{Raw: []string{"po11nn010000_Content-Length__"}, Marks: []string{"invalid"}, Status: HTTPInvalid}},
	{"a length beyond all bounds", request("POST / HTTP/1.1", "Content-Length: 99999999999999999999"),
		outcome{Raw: []string{"po11nn010000_Content-Length__"}, Marks: []string{"invalid"}, Status: HTTPInvalid}},
	{"a length that wraps round to one", request("POST / HTTP/1.1", "Content-Length: 18446744073709551617"),
		outcome{Raw: []string{"po11nn010000_Content-Length__"}, Marks: []string{"invalid"}, Status: HTTPInvalid}},
	{"chunks", request("POST / HTTP/1.1", "Transfer-Encoding: chunked") +
		"12\r\nGET / HTTP/1.1\r\n\r\n\r\nA;ext=\"x\"\r\n0123456789\r\n0\r\n\r\n" + request("GET / HTTP/1.1"),
		outcome{Raw: []string{"po11nn010000_Transfer-Encoding__", "ge11nn000000___"}}},
	{"chunks with trailers and bare LF", request("POST / HTTP/1.1", "Transfer-Encoding: gzip, Chunked", "Content-Length: 3") +
		"1\nx\n00\nA: 1\nGET / HTTP/1.1\r\n\n" + request("GET / HTTP/1.1"),
		outcome{Raw: []string{"po11nn020000_Transfer-Encoding,Content-Length__", "ge11nn000000___"}}},
	{"chunk size that is none", request("POST / HTTP/1.1", "Transfer-Encoding: chunked") + "x\r\n",
		outcome{Raw: []string{"po11nn010000_Transfer-Encoding__"}, Marks: []string{"invalid"}, Status: HTTPInvalid}},
	{"chunk size with rubbish behind", request("POST / HTTP/1.1", "Transfer-Encoding: chunked") + "1g\r\n",
		outcome{Raw: []string{"po11nn010000_Transfer-Encoding__"}, Marks: []string{"invalid"}, Status: HTTPInvalid}},
	{"chunk size of 16 digits", request("POST / HTTP/1.1", "Transfer-Encoding: chunked") + "1000000000000000\r\n",
		outcome{Raw: []string{"po11nn010000_Transfer-Encoding__"}, Marks: []string{"invalid"}, Status: HTTPInvalid}},
	{"data longer than its chunk", request("POST / HTTP/1.1", "Transfer-Encoding: chunked") + "1\r\nxy\r\n",
		outcome{Raw: []string{"po11nn010000_Transfer-Encoding__"}, Marks: []string{"invalid"}, Status: HTTPInvalid}},
	{"a coding behind chunked", request("POST / HTTP/1.1", "Transfer-Encoding: chunked, gzip") + "x",
		outcome{Raw: []string{"po11nn010000_Transfer-Encoding__"}, Marks: []string{"invalid"}, Status: HTTPInvalid}},
	{"a coding that is none", request("POST / HTTP/1.1", "Transfer-Encoding: Identity", "Content-Length: 3") + "foo" + request("GET / HTTP/1.1"),
		outcome{Raw: []string{"po11nn020000_Transfer-Encoding,Content-Length__", "ge11nn000000___"}}},
	{"connect, refused, once more, TLS", request("CONNECT a:443 HTTP/1.1", "Host: a:443") + request("CONNECT a:443 HTTP/1.1", "Host: a:443", "Content-Length: 5") + "\x16\x03\x01\x02\x00",
		outcome{Raw: []string{"co11nn010000_Host__", "co11nn020000_Host,Content-Length__"}, Marks: []string{"switch@39", "switch@97", "invalid"}, Status: HTTPInvalid}},
	{"upgrade, refused", request("GET / HTTP/1.1", "Upgrade: websocket") + request("GET / HTTP/1.1"),
		outcome{Raw: []string{"ge11nn010000_Upgrade__", "ge11nn000000___"}, Marks: []string{"switch@38"}}},
	{"upgrade with a body: what follows it may be something else", request("POST / HTTP/1.1", "Upgrade: h2c", "Content-Length: 2") + "xy\x81\x00",
		outcome{Raw: []string{"po11nn020000_Upgrade,Content-Length__"}, Marks: []string{"switch@54", "invalid"}, Status: HTTPInvalid}},
	{"TLS", "\x16\x03\x01\x02\x00\x01", outcome{Marks: []string{"invalid"}, Status: HTTPInvalid}},
	{"another protocol with words", "MAIL FROM:<a@b.example>\r\n", outcome{Marks: []string{"invalid"}, Status: HTTPInvalid}},
	{"HTTP/0.9", "GET /\r\n", outcome{Marks: []string{"invalid"}, Status: HTTPInvalid}},
	{"RTSP", request("OPTIONS rtsp://x/ RTSP/1.0", "CSeq: 1"), outcome{Marks: []string{"invalid"}, Status: HTTPInvalid}},
	{"a response", "HTTP/1.1 200 OK\r\n\r\n", outcome{Marks: []string{"invalid"}, Status: HTTPInvalid}},
	{"no target", request("GET  HTTP/1.1"), outcome{Marks: []string{"invalid"}, Status: HTTPInvalid}},
	{"rubbish behind a request", request("GET / HTTP/1.1") + "\x00\x01", outcome{Raw: []string{"ge11nn000000___"}, Marks: []string{"invalid"}, Status: HTTPInvalid}},
	{"a method that never ends", strings.Repeat("A", 33), outcome{Marks: []string{"invalid"}, Status: HTTPInvalid}},
	{"PRI that is not HTTP/2", request("PRI * HTTP/2.0") + "SN / HTTP/1.1\r\n\r\n", outcome{Raw: []string{"pr20nn000000___", "0011nn000000___"}}},
	{"PRI that is nearly HTTP/2", request("PRI * HTTP/2.0") + "SM\r\n\r\r", outcome{Raw: []string{"pr20nn000000___"}, Marks: []string{"invalid"}, Status: HTTPInvalid}},
	{"PRI with a header", request("PRI * HTTP/2.0", "A: 1") + "SM\r\n\r\n", outcome{Raw: []string{"pr20nn010000_A__"}, Marks: []string{"invalid"}, Status: HTTPInvalid}},
	{"HTTP/2 with prior knowledge", http2Preface + settings() + headers(1, flagEndHeaders, getBlock), outcome{Raw: []string{"ge20nn000000___"}}},
	{"HTTP/2 after an upgrade", request("GET / HTTP/1.1", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAA") + http2Preface + settings() + headers(1, flagEndHeaders, getBlock),
		outcome{Raw: []string{"ge11nn030000_Connection,Upgrade,HTTP2-Settings__", "ge20nn000000___"}, Marks: []string{"switch@90"}}},
	{"HTTP/2 that goes wrong", http2Preface + headers(1, flagEndHeaders, getBlock), outcome{Marks: []string{"invalid"}, Status: HTTPInvalid}},
}

// What a stream finds does not depend on how its bytes are cut: all at once,
// at every place, byte by byte, and at random.
func TestHTTPStreamAtEverySplit(t *testing.T) {
	for _, tt := range httpStreamTests {
		t.Run(tt.name, func(t *testing.T) {
			if got := feed(tt.input); !reflect.DeepEqual(got, tt.want) {
				t.Fatalf("in one piece\n got %+v\nwant %+v", got, tt.want)
			}
			all := make([]int, 0, len(tt.input))
			for i := range tt.input {
				all = append(all, i)
				if got := feed(tt.input, i); !reflect.DeepEqual(got, tt.want) {
					t.Fatalf("cut at %d\n got %+v\nwant %+v", i, got, tt.want)
				}
			}
			if got := feed(tt.input, all...); !reflect.DeepEqual(got, tt.want) {
				t.Fatalf("byte by byte\n got %+v\nwant %+v", got, tt.want)
			}
			if got := feedTo(true, tt.input, all...); !reflect.DeepEqual(got, tt.want) {
				t.Fatalf("byte by byte, with rests\n got %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

// A stream says where HTTP ended in the piece it was given.
func TestHTTPStreamConsumed(t *testing.T) {
	const get = "GET / HTTP/1.1\r\n\r\n"
	tests := []struct {
		before, piece string
		n             int
		status        HTTPStatus
	}{
		{"", get, len(get), HTTPMore},
		{"", get + "\x16\x03", len(get), HTTPInvalid},
		{"GE", "T / HTTP/1.1\r\n\r\n\x16\x03", len(get) - 2, HTTPInvalid},
		{"", "\r\n\x16\x03", 2, HTTPInvalid},
		{"GE", "\x16\x03", 0, HTTPInvalid},
		{"", "CONNECT a:1 HTTP/1.1\r\n\r\n\x16\x03", 24, HTTPSwitch},
		{"CONNECT a:1 HTTP", "/1.1\r\n\r\n\x16\x03", 8, HTTPSwitch},
		{"POST / HTTP/1.1\nContent-Length: 3\nUpgrade: x\n\n1", "23456", 2, HTTPSwitch},
		{get + "GET \x00 x\n", get, 0, HTTPInvalid},
	}
	for _, tt := range tests {
		var s HTTPStream
		s.Write([]byte(tt.before), func(ja4.Event) {})
		if n, status := s.Write([]byte(tt.piece), func(ja4.Event) {}); n != tt.n || status != tt.status {
			t.Errorf("after %q, Write(%q) = %d, %v; want %d, %v", tt.before, tt.piece, n, status, tt.n, tt.status)
		}
	}
}

// A header block without its end is given up after 64 KiB, in pieces of any
// size, and one of just 64 KiB is not.
func TestHTTPStreamHeaderBound(t *testing.T) {
	const end = "\r\n\r\n"
	head := "GET / HTTP/1.1\r\nA: "
	fits := head + strings.Repeat("x", MaxHTTPHeaderBytes-len(head)-len(end)) + end
	for _, size := range []int{1 << 20, MaxHTTPHeaderBytes, MaxHTTPHeaderBytes - 1, 1460, 7} {
		for _, tt := range []struct {
			input  string
			status HTTPStatus
			events int
		}{
			{fits, HTTPMore, 1},
			{fits[:len(fits)-len(end)] + "x" + end, HTTPTooLarge, 0},
			{strings.Repeat(fits, 3), HTTPMore, 3},
		} {
			var s HTTPStream
			events, status := 0, HTTPMore
			for rest := tt.input; rest != "" && status == HTTPMore; {
				n := min(size, len(rest))
				_, status = s.Write([]byte(rest[:n]), func(ja4.Event) { events++ })
				rest = rest[n:]
				if held := s.Held(); held > 2*MaxHTTPHeaderBytes {
					t.Fatalf("%d bytes held, want at most %d", held, 2*MaxHTTPHeaderBytes)
				}
			}
			if status != tt.status || events != tt.events || s.Held() != 0 {
				t.Errorf("%d bytes in pieces of %d: %v, %d events, %d bytes held; want %v, %d, 0",
					len(tt.input), size, status, events, s.Held(), tt.status, tt.events)
			}
		}
	}
}

// Lines between chunks are bounded too, and nothing of a body is held.
func TestHTTPStreamChunkLineBound(t *testing.T) {
	head := request("POST / HTTP/1.1", "Transfer-Encoding: chunked")
	for _, tail := range []string{
		"1;" + strings.Repeat("x", MaxHTTPHeaderBytes+1),
		"1" + strings.Repeat(" ", MaxHTTPHeaderBytes+1),
		"0\r\n" + strings.Repeat("A: 1\r\n", MaxHTTPHeaderBytes),
		"1\r\nx" + strings.Repeat("\r", MaxHTTPHeaderBytes+2),
	} {
		for _, size := range []int{1, 1000, 1 << 20} {
			var s HTTPStream
			status := HTTPMore
			for rest := head + tail; rest != "" && status == HTTPMore; {
				n := min(size, len(rest))
				_, status = s.Write([]byte(rest[:n]), func(ja4.Event) {})
				rest = rest[n:]
			}
			if status != HTTPTooLarge || s.Held() != 0 {
				t.Errorf("%.10q in pieces of %d: %v, %d bytes held; want too-large, 0", tail, size, status, s.Held())
			}
		}
	}
}

// The lines of many chunks together are no long line.
func TestHTTPStreamManyChunks(t *testing.T) {
	input := request("POST / HTTP/1.1", "Transfer-Encoding: chunked") + strings.Repeat("1\r\nx\r\n", MaxHTTPHeaderBytes) + "0\r\n\r\n" + request("GET / HTTP/1.1")
	if got := feed(input); len(got.Raw) != 2 || got.Status != HTTPMore {
		t.Errorf("%+v, want two requests", got)
	}
}

// A stopped stream ignores what it is given.
func TestHTTPStreamStays(t *testing.T) {
	var s HTTPStream
	s.Write([]byte("\x16"), func(ja4.Event) {})
	if n, status := s.Write([]byte(request("GET / HTTP/1.1")), func(ja4.Event) { t.Error("an event") }); n != 0 || status != HTTPInvalid {
		t.Errorf("Write = %d, %v; want 0, invalid", n, status)
	}
}

// With OriginalOrder each ja4h is followed by its ja4h_ro, with HTTP/2 too.
func TestHTTPStreamOriginalOrder(t *testing.T) {
	s := HTTPStream{OriginalOrder: true}
	var got []string
	s.Write([]byte(request("GET / HTTP/1.1", "Cookie: b=1; a=2")+http2Preface+settings()+headers(1, flagEndHeaders, getBlock)),
		func(e ja4.Event) { got = append(got, e.Type.String()+" "+e.Raw+e.Value) })
	want := []string{
		"ja4h ge11cn000000__a,b_a=2,b=1" + ja4h("ge11cn000000__a,b_a=2,b=1", "").Value,
		"ja4h_ro ge11cn000000__b,a_b=1,a=2",
		"ja4h ge20nn000000___ge20nn000000_000000000000_000000000000_000000000000",
		"ja4h_ro ge20nn000000___",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestLooksLikeHTTP(t *testing.T) {
	tests := []struct {
		p    string
		want ja4.Guess
	}{
		{"", ja4.NeedMore},
		{"G", ja4.NeedMore},
		{"GET", ja4.NeedMore},
		{"GET ", ja4.Yes},
		{"get /x", ja4.Yes},
		{"GET /x\r\n", ja4.No},
		{"GET /x HTTP/1.1\n", ja4.Yes},
		{"GET /x HTTP/1.1\r\nA", ja4.Yes},
		{"get key\r\n", ja4.No},
		{"M-SEARCH * HTTP/1.1\r\n", ja4.Yes},
		{"BREW ", ja4.NeedMore},
		{"BREW /pot HTTP/1.1\r\n", ja4.Yes},
		{"EHLO mail.example\r\n", ja4.No},
		{"BREW " + strings.Repeat("x", maxGuessBytes), ja4.No},
		{" GET / HTTP/1.1\r\n", ja4.No},
		{"\r\n", ja4.NeedMore},
		{"\r\nGET ", ja4.Yes},
		{"\n\n\n\nGET ", ja4.Yes},
		{"\n\n\n\n\nGET ", ja4.No},
		{"GET\t/ HTTP/1.1\r\n", ja4.No},
		{"\x16\x03\x01", ja4.No},
		{"SSH-2.0-x\r\n", ja4.No},
		{"HTTP/1.1 200 OK\r\n", ja4.No},
		{"GET / HTTP/x.1\r\n", ja4.No},
		{"GET / HTTP/1,1\r\n", ja4.No},
		{"GET /HTTP/1.1\r\n", ja4.No},
		{http2Preface, ja4.Yes},
		{strings.Repeat("A", maxMethodBytes), ja4.NeedMore},
		{strings.Repeat("A", maxMethodBytes) + " ", ja4.NeedMore},
		{strings.Repeat("A", maxMethodBytes+1), ja4.No},
	}
	for _, tt := range tests {
		if got := LooksLikeHTTP([]byte(tt.p)); got != tt.want {
			t.Errorf("LooksLikeHTTP(%.40q) = %v, want %v", tt.p, got, tt.want)
		}
	}
}

// What is known to JA4H counts, and only with the space behind it.
func TestKnownHTTPMethod(t *testing.T) {
	for p, want := range map[string]bool{
		"GET /": true, "\r\npropfind /": true, "GET": false, "BREW /": false, "fooGET /": false, " GET /": false, "": false,
	} {
		if got := KnownHTTPMethod([]byte(p)); got != want {
			t.Errorf("KnownHTTPMethod(%q) = %t", p, got)
		}
	}
}

// HTTPRequest refuses what is no complete request and gives it back.
func TestHTTPRequestErrors(t *testing.T) {
	for _, in := range []string{"", "\r\n", "GET / HTTP/1.1\r\n", "GET /\r\n\r\n", "\x16\x03", http2Preface,
		"GET / HTTP/1.1\r\n" + strings.Repeat("A: 1\r\n", 3)} {
		if e, rest, err := HTTPRequest([]byte(in)); err == nil || string(rest) != in || e != (ja4.Event{}) {
			t.Errorf("HTTPRequest(%q) = %+v, rest %q, error %v; want an error and everything back", in, e, rest, err)
		}
	}
}

// What net/http sends as a client gives the fingerprints of its header lists.
func TestHTTPStreamOfNetHTTP(t *testing.T) {
	client, server := net.Pipe()
	sent := make(chan string, 1)
	go func() {
		defer server.Close()
		var log bytes.Buffer
		r := bufio.NewReader(io.TeeReader(server, &log))
		for range 3 {
			req, err := http.ReadRequest(r)
			if err != nil {
				break
			}
			io.Copy(io.Discard, req.Body)
			io.WriteString(server, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
		sent <- log.String()
	}()
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return client, nil }}
	defer tr.CloseIdleConnections()
	for _, r := range []struct {
		method string
		body   io.Reader
		header http.Header
	}{
		{"GET", nil, http.Header{"Cookie": {"b=1; a=2"}, "Accept-Language": {"da-DK,da"}, "Referer": {"x"}}},
		{"POST", io.MultiReader(strings.NewReader("GET / HTTP/1.1\r\n\r\n")), nil}, // no length: chunked
		{"PUT", strings.NewReader("GET / HTTP/1.1\r\n\r\n"), nil},
	} {
		req, err := http.NewRequest(r.method, "http://whorl.example:8080/x", r.body)
		if err != nil {
			t.Fatal(err)
		}
		if r.header != nil {
			req.Header = r.header
		}
		res, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
	input := <-sent
	want := outcome{Raw: []string{
		"ge11cr04dadk_Host,User-Agent,Accept-Language,Accept-Encoding_a,b_a=2,b=1",
		"po11nn040000_Host,User-Agent,Transfer-Encoding,Accept-Encoding__",
		"pu11nn040000_Host,User-Agent,Content-Length,Accept-Encoding__",
	}}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var cuts []int
		for at := 0; ; {
			if at += 1 + rng.IntN(60); at >= len(input) {
				break
			}
			cuts = append(cuts, at)
		}
		if got := feed(input, cuts...); !reflect.DeepEqual(got, want) {
			t.Fatalf("cut at %v\n got %+v\nwant %+v", cuts, got, want)
		}
	}
}

// Skipping a body allocates nothing.
func TestHTTPStreamBodyDoesNotAllocate(t *testing.T) {
	for _, head := range []string{
		request("POST / HTTP/1.1", "Content-Length: 9999999999"),
		request("POST / HTTP/1.1", "Transfer-Encoding: chunked") + "FFFFFFFFFF\r\n",
	} {
		var s HTTPStream
		emit := func(ja4.Event) {}
		s.Write([]byte(head), emit)
		p := make([]byte, 1460)
		if n := testing.AllocsPerRun(100, func() { s.Write(p, emit) }); n != 0 {
			t.Errorf("%v allocations per segment, want 0", n)
		}
	}
}

// A stream rests between requests and in bodies, and nowhere else.
func TestHTTPStreamRests(t *testing.T) {
	if n := unsafe.Sizeof(HTTPRest{}); n != 16 {
		t.Errorf("an HTTPRest has %d bytes, want 16", n)
	}
	for input, want := range map[string]bool{
		"":                                   true,
		request("GET / HTTP/1.1", "Host: a"): true,
		request("GET / HTTP/1.1", "Host: a") + "GET":            false,
		request("POST / HTTP/1.1", "Content-Length: 9") + "abc": true,
		http2Preface:                                        false,
		"\x00\x00\x00":                                      false,
		http2Preface + settings():                           true,
		http2Preface + settings()[:12]:                      true,
		http2Preface + settings() + "\x00":                  false,
		http2Preface + settings() + headers(1, 0, getBlock): false,
		http2Preface + settings() + headers(1, flagEndHeaders, getBlock+"a"): false,
		http2Preface + settings() + headers(1, flagEndHeaders, getBlock):     true,
	} {
		var s HTTPStream
		s.Write([]byte(input), func(ja4.Event) {})
		if _, ok := s.Rest(); ok != want {
			t.Errorf("%q rests: %v, want %v", input, ok, want)
		}
	}
}

// What a rest can skip is what a stream would take without a word, and leads
// to the same rest.
func TestHTTPRestSkip(t *testing.T) {
	inputs := []string{string(browse(rand.New(rand.NewPCG(4, 4)), 3)) + frame(0, 0, 1, strings.Repeat("x", 300)) + headers(99, flagEndHeaders, getBlock)}
	for _, tt := range httpStreamTests {
		inputs = append(inputs, tt.input)
	}
	skips := 0
	for _, input := range inputs {
		for cut := range min(len(input), 2000) {
			var s HTTPStream
			if _, status := s.Write([]byte(input[:cut]), func(ja4.Event) {}); status != HTTPMore {
				break
			}
			rest, ok := s.Rest()
			if !ok {
				continue
			}
			for _, n := range []int{1, 2, 7, 100} {
				skipped := rest
				if cut+n > len(input) || !skipped.Skip(uint64(n)) {
					continue
				}
				skips++
				var taken HTTPStream
				taken.Resume(rest, slices.Clone(s.HeaderTable()))
				_, status := taken.Write([]byte(input[cut:cut+n]), func(e ja4.Event) { t.Errorf("%q is skipped", e.Raw) })
				if got, ok := taken.Rest(); !ok || got != skipped || status != HTTPMore {
					t.Fatalf("%q and %d more bytes skipped: %+v; taken %v: %+v, %v", input[:cut], n, skipped, status, got, ok)
				}
			}
		}
	}
	if skips < 300 {
		t.Errorf("%d skips", skips)
	}
}

// FuzzHTTPStream: whatever the bytes, two ways to cut them give the same
// events, and memory stays bounded.
func FuzzHTTPStream(f *testing.F) {
	for _, tt := range httpStreamTests {
		f.Add([]byte(tt.input), uint8(3))
	}
	f.Add(browse(rand.New(rand.NewPCG(2, 1)), 9), uint8(99))
	f.Fuzz(func(t *testing.T, input []byte, step uint8) {
		fuzzguard.Watch(t)
		whole := feed(string(input))
		var cuts []int
		for at := 1 + int(step); at < len(input); at += 1 + int(step) {
			cuts = append(cuts, at)
		}
		if got := feed(string(input), cuts...); !reflect.DeepEqual(got, whole) {
			t.Errorf("in one piece %+v\nin steps of %d %+v", whole, step+1, got)
		}
		if got := feedTo(true, string(input), cuts...); !reflect.DeepEqual(got, whole) {
			t.Errorf("in one piece %+v\nin steps of %d, with rests %+v", whole, step+1, got)
		}
		e, _, err := HTTPRequest(input)
		if err == nil && (len(e.Value) != 51 || len(whole.Raw) == 0 || whole.Raw[0] != e.Raw) {
			t.Errorf("HTTPRequest = %+v, the stream found %q", e, whole.Raw)
		}
		// A method without a code counts if its line ends within what is looked at.
		lines := emptyLines(input)
		short := lines <= maxEmptyBytes && bytes.IndexByte(input[lines:], '\n') < maxGuessBytes-maxEmptyBytes
		if LooksLikeHTTP(input) == ja4.No && err == nil && short {
			t.Errorf("a request that does not look like HTTP: %q", input)
		}
	})
}

// BenchmarkHTTPStream: a browser's request of 400 bytes in one segment.
func BenchmarkHTTPStream(b *testing.B) {
	req := []byte(request("GET /index.html HTTP/1.1", "Host: www.example.com", "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
		"Accept: text/html,application/xhtml+xml", "Accept-Language: en-US,en;q=0.5", "Accept-Encoding: gzip, deflate",
		"Referer: http://www.example.com/", "Cookie: sid=0123456789abcdef; theme=dark; a=1", "Connection: keep-alive"))
	emit := func(ja4.Event) {}
	var s HTTPStream
	b.SetBytes(int64(len(req)))
	b.ReportAllocs()
	for b.Loop() {
		if n, status := s.Write(req, emit); n != len(req) || status != HTTPMore {
			b.Fatal(n, status)
		}
	}
}
