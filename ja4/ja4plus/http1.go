package ja4plus

import (
	"bytes"
	"errors"
	"math"
	"slices"

	"github.com/whorl-net/whorl/ja4"
)

// MaxHTTPHeaderBytes bounds the header block of one request, its request line
// included, and so what a stream may have to hold.
const MaxHTTPHeaderBytes = 64 << 10

// maxGuessBytes is what LooksLikeHTTP needs at most to see of a request line.
const maxGuessBytes = 2048

// maxEmptyBytes is how much of line ends may stand before what looks like a
// request.
const maxEmptyBytes = 4

// http2Preface is the connection preface of HTTP/2 (RFC 9113 section 3.4). Its
// first part is a request line that HTTP/1 servers refuse.
const http2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// ErrNoRequest is wrapped by every error of HTTPRequest.
var ErrNoRequest = errors.New("no complete HTTP request")

// HTTPRequest returns the JA4H of the HTTP/1.x request at the beginning of b,
// and what follows its header block: the body or the next request. Empty lines
// before the request are skipped.
func HTTPRequest(b []byte) (e ja4.Event, rest []byte, err error) {
	start := emptyLines(b)
	head := b[start:]
	var scan headScan
	end, kind := scan.find(head)
	if kind != headRequest {
		return ja4.Event{}, b, ErrNoRequest
	}
	r := requestPool.Get().(*Request)
	defer releaseRequest(r)
	if _, ok := parseHead(head[:end], r); !ok {
		return ja4.Event{}, b, ErrNoRequest
	}
	return r.Event(), head[end:], nil
}

// LooksLikeHTTP reports whether p begins with an HTTP/1.x request: a method, a
// space, and a line that ends with the version. A known method and the space
// are enough while the line is not complete. Two empty lines may stand before.
// The connection preface of HTTP/2 looks like a request too. It needs at most
// 2048 bytes and does not allocate.
//
// Source: RFC 9112 sections 2.2 and 3.
func LooksLikeHTTP(p []byte) ja4.Guess {
	p = p[emptyLines(p[:min(len(p), maxEmptyBytes)]):]
	method, guess := methodToken(p)
	if guess != ja4.Yes {
		return guess
	}
	if i := bytes.IndexByte(p[:min(len(p), maxGuessBytes)], '\n'); i >= 0 {
		if _, _, ok := requestLine(p[:i]); !ok {
			return ja4.No
		}
		return ja4.Yes
	}
	if methodCode(method) != "" {
		return ja4.Yes
	}
	if len(p) >= maxGuessBytes {
		return ja4.No
	}
	return ja4.NeedMore
}

// KnownHTTPMethod reports whether p begins with a method that has a code of its
// own in JA4H, and the space behind it.
func KnownHTTPMethod(p []byte) bool {
	method, guess := methodToken(p[emptyLines(p[:min(len(p), maxEmptyBytes)]):])
	return guess == ja4.Yes && methodCode(method) != ""
}

// methodToken returns the method at the beginning of p, up to the space that
// must follow.
func methodToken(p []byte) ([]byte, ja4.Guess) {
	for i, c := range p {
		if c == ' ' && i > 0 {
			return p[:i], ja4.Yes
		}
		if i == maxMethodBytes || !tokenByte(c) {
			return nil, ja4.No
		}
	}
	return nil, ja4.NeedMore
}

// tokenByte reports whether c may be part of a method (RFC 9110 section
// 5.6.2).
func tokenByte(c byte) bool {
	switch {
	case c|0x20 >= 'a' && c|0x20 <= 'z', c >= '0' && c <= '9':
		return true
	case c <= ' ' || c >= 0x7f:
		return false
	}
	return bytes.IndexByte([]byte(`"(),/:;<=>?@[\]{}`), c) < 0
}

// requestLine splits a request line without its line end: METHOD SP target SP
// HTTP/x.y. The target may hold spaces, as some clients send them.
func requestLine(line []byte) (method, version []byte, ok bool) {
	line = bytes.TrimRight(line, " \t\r\n")
	method, guess := methodToken(line)
	if guess != ja4.Yes {
		return nil, nil, false
	}
	const form = " HTTP/x.y"
	at := len(line) - len(form)
	if at <= len(method)+1 || string(line[at:at+6]) != form[:6] {
		return nil, nil, false
	}
	major, dot, minor := line[at+6], line[at+7], line[at+8]
	if major < '0' || major > '9' || dot != '.' || minor < '0' || minor > '9' {
		return nil, nil, false
	}
	return method, line[at+6:], true
}

// emptyLines returns the length of the line ends at the beginning of b, which
// a server ignores before a request (RFC 9112 section 2.2).
func emptyLines(b []byte) int {
	for i, c := range b {
		if c != '\r' && c != '\n' {
			return i
		}
	}
	return len(b)
}

// headKind is what a header block turned out to be.
type headKind uint8

const (
	headPartial headKind = iota
	headRequest
	headPreface
	headInvalid
	headTooLarge
)

// headScan finds the end of a header block that grows, without looking twice
// at the same bytes. The zero headScan is ready for use.
type headScan struct {
	at        int // no line end before this was left out
	firstLine bool
}

// find looks at b, which begins with a request line and has grown at its end
// since the last call. With headRequest, b[:end] is the header block.
func (s *headScan) find(b []byte) (end int, kind headKind) {
	if !s.firstLine {
		if _, guess := methodToken(b); guess == ja4.No {
			return 0, headInvalid
		}
	}
	for {
		i := bytes.IndexByte(b[s.at:], '\n')
		if i < 0 {
			s.at = len(b)
			return 0, headPartial
		}
		i += s.at
		if !s.firstLine {
			if _, _, ok := requestLine(b[:i]); !ok {
				return 0, headInvalid
			}
			s.firstLine = true
		}
		// An empty line follows: LF or CRLF. Which of them is open while b
		// ends here, then this line end is looked at again.
		switch {
		case i+1 < len(b) && b[i+1] == '\n':
			return ended(b, i+2)
		case i+2 < len(b) && b[i+1] == '\r' && b[i+2] == '\n':
			return ended(b, i+3)
		case i+1 == len(b), i+2 == len(b) && b[i+1] == '\r':
			s.at = i
			return 0, headPartial
		}
		s.at = i + 1
	}
}

// ended tells a request whose header block ends at end from the preface of
// HTTP/2, which begins like one. While the preface is not complete it may still
// be both; find is then called again with the same line end in view.
func ended(b []byte, end int) (int, headKind) {
	const line = len("PRI * HTTP/2.0\r\n\r\n")
	switch {
	case end != line || string(b[:line]) != http2Preface[:line]:
	case len(b) >= len(http2Preface) && string(b[line:len(http2Preface)]) == http2Preface[line:]:
		return 0, headPreface
	case len(b) < len(http2Preface) && string(b) == http2Preface[:len(b)]:
		return 0, headPartial
	}
	return end, headRequest
}

// framing says how what follows a header block is told from the next request
// (RFC 9112 section 6.3).
type framing struct {
	length   uint64 // of the body in bytes
	chunked  bool
	switches bool // what follows the request may be another protocol
	broken   bool // nobody can tell where the body ends
}

// parseHead reads a complete header block into r. It reads lines that end with
// CRLF or LF; a line without a colon is skipped with what is folded behind it, a
// folded line belongs to the field before it.
func parseHead(head []byte, r *Request) (f framing, ok bool) {
	line, rest := cutLine(head)
	method, version, ok := requestLine(line)
	if !ok {
		return f, false
	}
	r.Reset("", "")
	setMethod(r, method)
	r.version = [2]byte{version[0], version[2]}

	var lengthSeen, codings bool
	for len(rest) > 0 {
		line, rest = cutLine(rest)
		colon := bytes.IndexByte(line, ':')
		line, rest = unfold(line, rest)
		if colon < 0 {
			continue
		}
		name := bytes.TrimRight(line[:colon], " \t")
		if len(name) == 0 {
			continue
		}
		value := trimBlank(line[colon+1:])
		r.AddBytes(name, value)
		switch len(name) {
		case len("content-length"):
			if equalFold(name, "content-length") {
				n, valid := parseLength(value)
				if !valid || lengthSeen && n != f.length {
					f.broken = true
				}
				f.length, lengthSeen = n, true
			}
		case len("transfer-encoding"):
			if equalFold(name, "transfer-encoding") {
				f.chunked, codings = lastCoding(value, "chunked"), !lastCoding(value, "identity")
			}
		case len("upgrade"):
			if equalFold(name, "upgrade") {
				f.switches = true
			}
		}
	}
	switch {
	case methodCode(method) == "co":
		return framing{switches: true}, true // RFC 9110 section 9.3.6: no body
	case codings: // overrides Content-Length; identity (RFC 2616) is none
		f.length, f.broken = 0, !f.chunked
	}
	return f, true
}

// unfold returns line with the folded lines that follow it in rest, each fold
// as one space, and what is left of rest (RFC 9112 section 5.2). It allocates if
// there are any.
func unfold(line, rest []byte) (whole, left []byte) {
	for first := true; len(rest) > 0 && (rest[0] == ' ' || rest[0] == '\t'); first = false {
		var more []byte
		more, rest = cutLine(rest)
		if more = trimBlank(more); first {
			line = slices.Clip(bytes.TrimRight(line, " \t\r\n"))
		}
		line = append(append(line, ' '), more...)
	}
	return line, rest
}

// cutLine returns the first line of b with its line end, and the rest.
func cutLine(b []byte) (line, rest []byte) {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return b[:i+1], b[i+1:]
	}
	return b, nil
}

// trimBlank returns b without blanks and line ends at either end.
func trimBlank(b []byte) []byte {
	for len(b) > 0 && blank(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && blank(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

// parseLength reads a Content-Length: digits only, below 2^63.
func parseLength(b []byte) (n uint64, ok bool) {
	for _, c := range b {
		if c < '0' || c > '9' || n > (math.MaxInt64-9)/10 {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, len(b) > 0
}

// lastCoding reports whether the last transfer coding of value is name, which
// is in lower case.
func lastCoding(value []byte, name string) bool {
	coding := bytes.Trim(value[bytes.LastIndexByte(value, ',')+1:], " \t")
	return len(coding) == len(name) && equalFold(coding, name)
}
