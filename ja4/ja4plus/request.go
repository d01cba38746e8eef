package ja4plus

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/ja4/internal/notation"
)

// Limits of what an HTTP event carries besides its value, in bytes. A longer
// raw form or name is left out, never cut: a part of it would be another one.
const (
	MaxRawBytes        = 8192
	MaxServerNameBytes = 255
)

// Request collects the parts of one HTTP request for its JA4H. It is how
// HTTP/1, HTTP/2, HTTP/3 and decrypted requests come to the same fingerprint.
// The zero Request is ready for Reset; it keeps its memory between requests,
// holds what it is given (bounding that is up to the caller) and is not safe
// for concurrent use.
//
// Source: FoxIO's JA4H.md and sheet; RFC 9110 section 5, RFC 6265 section 4.2
// and RFC 9113 section 8.2.3 (a cookie may be spread over several fields).
type Request struct {
	method   [2]byte
	version  [2]byte
	language [4]byte
	cookie   bool
	referer  bool
	spoken   bool // language is set
	named    bool // host is from :authority
	fields   int
	names    []byte // of the fields that count, joined by commas
	host     []byte
	cookies  []byte // values of the Cookie fields, one after another
	crumbs   []crumb
	scratch  []byte
}

// crumb is one cookie: cookies[start:end], of which the name ends at nameEnd.
type crumb struct{ start, nameEnd, end uint32 }

// Reset begins a request. method is as on the wire, "" if ":method" comes with
// Add; version is "10", "11", "20" or "30".
func (r *Request) Reset(method, version string) {
	*r = Request{
		method:   [2]byte{'0', '0'},
		language: [4]byte{'0', '0', '0', '0'},
		names:    r.names[:0],
		host:     r.host[:0],
		cookies:  r.cookies[:0],
		crumbs:   r.crumbs[:0],
		scratch:  r.scratch[:0],
	}
	copy(r.version[:], version)
	setMethod(r, method)
}

// Add adds a header field, in the order and with the case of the wire. It
// copies what it needs. Of the pseudo-header fields of HTTP/2 and HTTP/3,
// ":method" and ":authority" are looked at; none is counted or hashed.
func (r *Request) Add(name, value string) { addField(r, name, value) }

// AddBytes is Add for bytes.
func (r *Request) AddBytes(name, value []byte) { addField(r, name, value) }

// text is how the two kinds of parsers hold a field.
type text interface{ ~string | ~[]byte }

func setMethod[T text](r *Request, method T) {
	if code := methodCode(method); code != "" {
		copy(r.method[:], code)
	}
}

func addField[T text](r *Request, name, value T) {
	if len(name) > 0 && name[0] == ':' {
		switch {
		case string(name) == ":method":
			setMethod(r, value)
		case string(name) == ":authority" && !r.named:
			r.host, r.named = appendHost(r.host[:0], value), true
		}
		return
	}
	switch len(name) {
	case len("cookie"):
		if equalFold(name, "cookie") {
			r.cookie = true
			r.addCookies(append(r.cookies, value...))
			return
		}
	case len("referer"):
		if equalFold(name, "referer") {
			r.referer = true
			return
		}
	case len("host"):
		if !r.named && len(r.host) == 0 && equalFold(name, "host") {
			r.host = appendHost(r.host, value)
		}
	case len("accept-language"):
		if !r.spoken && equalFold(name, "accept-language") {
			r.language, r.spoken = languageCode(value), true
		}
	}
	addName(r, name)
}

// addName counts and lists a field.
func addName[T text](r *Request, name T) {
	if r.fields > 0 {
		r.names = append(r.names, ',')
	}
	r.names = append(r.names, name...)
	r.fields++
}

// maxHostBytes is the longest value that may be a host and a port.
const maxHostBytes = MaxServerNameBytes + len("[]:65535")

// appendHost appends a host. In the place of what is too long for one it puts
// a byte that is no server name.
func appendHost[T text](dst []byte, value T) []byte {
	if len(value) > maxHostBytes {
		return append(dst, 0)
	}
	return append(dst, value...)
}

// addCookies splits what cookies has more than r.cookies into crumbs. A crumb
// without "=" is its own name; empty ones do not count.
func (r *Request) addCookies(cookies []byte) {
	at := len(r.cookies)
	r.cookies = cookies
	for at < len(cookies) {
		end := len(cookies)
		if i := bytes.IndexByte(cookies[at:], ';'); i >= 0 {
			end = at + i
		}
		next := end + 1
		for at < end && blank(cookies[at]) {
			at++
		}
		for end > at && blank(cookies[end-1]) {
			end--
		}
		if at < end {
			nameEnd := end
			if i := bytes.IndexByte(cookies[at:end], '='); i >= 0 {
				nameEnd = at + i
			}
			r.crumbs = append(r.crumbs, crumb{uint32(at), uint32(nameEnd), uint32(end)})
		}
		at = next
	}
}

// Event returns the JA4H of the request, with its raw form and the host,
// without port, as server name.
func (r *Request) Event() ja4.Event {
	if len(r.crumbs) > 1 {
		slices.SortFunc(r.crumbs, r.compareCrumbs)
	}
	value := make([]byte, 0, 51)
	value = r.appendHead(value)
	value = append(value, '_')
	value = notation.AppendHash(value, r.names)
	value = append(value, '_')
	r.scratch = r.appendCookieNames(r.scratch[:0])
	value = notation.AppendHash(value, r.scratch)
	value = append(value, '_')
	r.scratch = r.appendCookiePairs(r.scratch[:0])
	value = notation.AppendHash(value, r.scratch)

	e := ja4.Event{Type: ja4.TypeJA4H, Value: string(value), ServerName: r.serverName()}
	if len(r.names)+len(r.scratch) <= MaxRawBytes {
		if raw := r.raw(); len(raw) <= MaxRawBytes {
			e.Raw = raw
		}
	}
	return e
}

// OriginalOrder returns the ja4h_ro of the request as the value of the event:
// the raw form with the cookies in the order of the wire. Unlike all other
// values it may be long, and is what the header holds: bytes that are not
// UTF-8 are replaced, others are not.
func (r *Request) OriginalOrder() ja4.Event {
	slices.SortFunc(r.crumbs, func(a, b crumb) int { return int(a.start) - int(b.start) })
	return ja4.Event{Type: ja4.TypeJA4HRO, Value: r.raw(), ServerName: r.serverName()}
}

// compareCrumbs orders cookies by name, then value, byte by byte: not as
// joined strings, where "a-b=" would come before "a=".
func (r *Request) compareCrumbs(a, b crumb) int {
	if c := bytes.Compare(r.cookies[a.start:a.nameEnd], r.cookies[b.start:b.nameEnd]); c != 0 {
		return c
	}
	if c := bytes.Compare(r.cookies[a.nameEnd:a.end], r.cookies[b.nameEnd:b.end]); c != 0 {
		return c
	}
	return int(a.start) - int(b.start)
}

// appendHead appends part a.
func (r *Request) appendHead(dst []byte) []byte {
	dst = append(dst, r.method[0], r.method[1], r.version[0], r.version[1])
	dst = append(dst, letter(r.cookie, 'c'), letter(r.referer, 'r'))
	dst = notation.AppendCount(dst, r.fields)
	return append(dst, r.language[:]...)
}

func letter(present bool, c byte) byte {
	if present {
		return c
	}
	return 'n'
}

func (r *Request) appendCookieNames(dst []byte) []byte {
	for i, c := range r.crumbs {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, r.cookies[c.start:c.nameEnd]...)
	}
	return dst
}

func (r *Request) appendCookiePairs(dst []byte) []byte {
	for i, c := range r.crumbs {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, r.cookies[c.start:c.end]...)
	}
	return dst
}

// raw returns the unhashed form with the cookies in their present order.
func (r *Request) raw() string {
	b := r.appendHead(r.scratch[:0])
	b = append(b, '_')
	b = append(b, r.names...)
	b = append(b, '_')
	b = r.appendCookieNames(b)
	b = append(b, '_')
	b = r.appendCookiePairs(b)
	r.scratch = b
	if !utf8.Valid(b) {
		return strings.ToValidUTF8(string(b), "\uFFFD")
	}
	return string(b)
}

// serverName returns the host without its port, or "" when it is missing, too
// long or no text.
func (r *Request) serverName() string {
	host := bytes.Trim(r.host, " \t")
	if i := bytes.LastIndexByte(host, ':'); i >= 0 && bytes.IndexByte(host[i:], ']') < 0 && digitsOnly(host[i+1:]) {
		host = host[:i]
	}
	if len(host) > 2 && host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
	}
	if len(host) > MaxServerNameBytes || !utf8.Valid(host) {
		return ""
	}
	for _, c := range host {
		if c <= ' ' || c == 0x7f {
			return ""
		}
	}
	return string(host)
}

func digitsOnly(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// languageCode returns the first language of an Accept-Language value in four
// characters: cut at "," and ";", without "-", lower case, zeros behind. What
// is not printable ASCII becomes a zero, so that a value always is.
func languageCode[T text](value T) [4]byte {
	code := [4]byte{'0', '0', '0', '0'}
	n := 0
	for i := 0; i < len(value) && n < len(code); i++ {
		c := value[i]
		switch {
		case c == ',' || c == ';':
			return code
		case c == '-' || n == 0 && blank(c):
			continue
		case c >= 'A' && c <= 'Z':
			c |= 0x20
		case c <= ' ' || c >= 0x7f:
			c = '0'
		}
		code[n] = c
		n++
	}
	return code
}

// blank reports whether c separates: a space, a tab, or the line end of a
// folded header line (RFC 9112 section 5.2).
func blank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// equalFold compares s with a lower-case ASCII word of the same length.
func equalFold[T text](s T, lower string) bool {
	for i := range len(lower) {
		if c := s[i]; c != lower[i] && (c < 'A' || c > 'Z' || c|0x20 != lower[i]) {
			return false
		}
	}
	return true
}

// maxKeptBytes is the most memory that a Request keeps between uses.
const maxKeptBytes = 16 << 10

// held returns the bytes of memory that r holds besides itself.
func (r *Request) held() int {
	return cap(r.names) + cap(r.host) + cap(r.cookies) + cap(r.scratch) + 12*cap(r.crumbs)
}

// shrink lets go of the memory of an unusually large request.
func (r *Request) shrink() {
	if r.held() > maxKeptBytes {
		*r = Request{}
	}
}

// requestPool lends scratch memory for the moment in which a request is
// fingerprinted, so that a connection holds none.
var requestPool = sync.Pool{New: func() any { return new(Request) }}

func releaseRequest(r *Request) {
	r.shrink()
	requestPool.Put(r)
}
