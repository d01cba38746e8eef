package ja4plus

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/whorl-net/whorl/ja4"
)

// hash12 is the short hash, written without the code under test.
func hash12(s string) string {
	if s == "" {
		return "000000000000"
	}
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])[:12]
}

// ja4h returns the event that a raw form stands for.
func ja4h(raw, serverName string) ja4.Event {
	head, rest := raw[:12], raw[13:]
	part := strings.SplitN(rest, "_", 3)
	return ja4.Event{
		Type:       ja4.TypeJA4H,
		Value:      fmt.Sprintf("%s_%s_%s_%s", head, hash12(part[0]), hash12(part[1]), hash12(part[2])),
		Raw:        raw,
		ServerName: serverName,
	}
}

func request(lines ...string) string { return strings.Join(lines, "\r\n") + "\r\n\r\n" }

// A JA4H of a request, with its raw form and host. Underscores in the cookies
// are avoided here, so that ja4h can split the raw form.
func TestHTTPRequest(t *testing.T) {
	tests := []struct {
		name    string
		request string
		want    string // raw
		host    string
	}{
		{"no header", "GET / HTTP/1.0\r\n\r\n", "ge10nn000000___", ""},
		{"bare LF", "GET / HTTP/1.1\nHost: a.example\nA: b\n\n", "ge11nn020000_Host,A__", "a.example"},
		{"mixed line ends", "GET / HTTP/1.1\r\nHost: a.example\nA: b\r\n\n", "ge11nn020000_Host,A__", "a.example"},
		{"case and order of names", request("HEAD /x HTTP/1.1", "b: 1", "A: 2", "HOST: x"), "he11nn030000_b,A,HOST__", "x"},
		{"repeated names", request("GET / HTTP/1.1", "A: 1", "A: 2"), "ge11nn020000_A,A__", ""},
		{"empty values", request("GET / HTTP/1.1", "A:", "B: "), "ge11nn020000_A,B__", ""},
		{"a line without colon is skipped", request("GET / HTTP/1.1", "nonsense", ": x", "A: 1"), "ge11nn010000_A__", ""},
		{"blanks before the colon", request("GET / HTTP/1.1", "A : 1"), "ge11nn010000_A__", ""},
		{"a folded line is no field", request("GET / HTTP/1.1", "A: 1", "\tB: 2", " c", "D: 3"), "ge11nn020000_A,D__", ""},
		{"cookie and referer are letters only", request("GET / HTTP/1.1", "A: 1", "cOOkie: x=1", "refeRER: y"), "ge11cr010000_A_x_x=1", ""},
		{"names that begin with cookie count", request("GET / HTTP/1.1", "Cookies: 1", "Cookie2: 2", "Referers: 3"), "ge11nn030000_Cookies,Cookie2,Referers__", ""},
		{"an empty cookie header", request("GET / HTTP/1.1", "Cookie:"), "ge11cn000000___", ""},
		{"cookies are sorted by name, then value", request("GET / HTTP/1.1", "Cookie: b=2; a-b=1; a=2; a=1"),
			"ge11cn000000__a,a,a-b,b_a=1,a=2,a-b=1,b=2", ""},
		{"crumbs without =, empty ones, blanks", request("GET / HTTP/1.1", "Cookie: flag;; ;  z=1 ;y=;\t=v;"),
			"ge11cn000000__,flag,y,z_=v,flag,y=,z=1", ""},
		{"a value may hold =", request("GET / HTTP/1.1", "Cookie: a=b=c"), "ge11cn000000__a_a=b=c", ""},
		{"several cookie headers", request("GET / HTTP/1.1", "Cookie: b=1", "A: 1", "Cookie: a=2"), "ge11cn010000_A_a,b_a=2,b=1", ""},
		{"a fold within a cookie is a space", request("GET / HTTP/1.1", "Cookie: a=1 ", "  x", "\ty; b=2", "D: 3"), "ge11cn010000_D_a,b_a=1 x y,b=2", ""},
		{"a fold behind a line without a colon", request("GET / HTTP/1.1", "what", " B: 2", "D: 3"), "ge11nn010000_D__", ""},
		{"a folded cookie header", "GET / HTTP/1.1\r\nCookie: b=1;\r\n a=2\r\n\r\n", "ge11cn000000__a,b_a=2,b=1", ""},
		{"target with spaces", request("GET /a b c HTTP/1.1", "A: 1"), "ge11nn010000_A__", ""},
		{"blanks behind the version", request("GET / HTTP/1.1 ", "A: 1"), "ge11nn010000_A__", ""},
		{"method in lower case", request("post / HTTP/1.1", "A: 1"), "po11nn010000_A__", ""},
		{"unknown method", request("BREW / HTTP/1.1", "A: 1"), "0011nn010000_A__", ""},
		{"connect", request("CONNECT a.example:443 HTTP/1.1", "Host: a.example:443"), "co11nn010000_Host__", "a.example"},
		{"empty lines before", "\r\n\n" + request("GET / HTTP/1.1", "A: 1"), "ge11nn010000_A__", ""},
		{"host in brackets", request("GET / HTTP/1.1", "Host: [2001:db8::1]:8080"), "ge11nn010000_Host__", "2001:db8::1"},
		{"host in brackets without port", request("GET / HTTP/1.1", "Host: [2001:db8::1]"), "ge11nn010000_Host__", "2001:db8::1"},
		{"the first host", request("GET / HTTP/1.1", "Host: a", "Host: b"), "ge11nn020000_Host,Host__", "a"},
		{"a host with a blank inside is no name", request("GET / HTTP/1.1", "Host: a b"), "ge11nn010000_Host__", ""},
		{"99 fields and more", request(append([]string{"GET / HTTP/1.1"}, strings.Split(strings.Repeat("A: 1\n", 120), "\n")[:120]...)...),
			"ge11nn990000_" + strings.Repeat("A,", 119) + "A__", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, rest, err := HTTPRequest([]byte(tt.request + "body"))
			if err != nil || string(rest) != "body" {
				t.Fatalf("HTTPRequest(%q): rest %q, error %v", tt.request, rest, err)
			}
			if want := ja4h(tt.want, tt.host); got != want {
				t.Errorf("HTTPRequest(%q)\n got %+v\nwant %+v", tt.request, got, want)
			}
		})
	}
}

// A value that FoxIO's implementations agree on.
func TestHTTPRequestKnownValue(t *testing.T) {
	got, _, err := HTTPRequest([]byte(request("GET /x HTTP/1.1", "Accept: */*", "Referer: http://x/", "Accept-Language: en-US",
		"User-Agent: x", "Accept-Encoding: gzip, deflate", "Host: x", "Connection: Keep-Alive")))
	if want := "ge11nr06enus_8c2f9ef95269_000000000000_000000000000"; err != nil || got.Value != want {
		t.Errorf("%s, %v; want %s", got.Value, err, want)
	}
}

// The language is the first one, cut at a comma or semicolon, without dashes,
// in lower case, four characters.
func TestLanguage(t *testing.T) {
	tests := []struct{ value, want string }{
		{"en-US,en;q=0.9", "enus"},
		{"en", "en00"},
		{"DA", "da00"},
		{"en;q=0.5", "en00"},
		{"*", "*000"},
		{"zh-Hant-TW", "zhha"},
		{"en_US", "en_u"},
		{"  fr , de", "fr00"},
		{"", "0000"},
		{",en", "0000"},
		{"é", "0000"},
		{"a\x01b", "a0b0"},
		{"x y", "x0y0"},
	}
	for _, tt := range tests {
		var r Request
		r.Reset("GET", "11")
		r.Add("Accept-Language", tt.value)
		r.Add("accept-language", "xx-yy")
		if got := r.Event().Value[8:12]; got != tt.want {
			t.Errorf("Accept-Language %q gives %q, want %q", tt.value, got, tt.want)
		}
	}
}

// ja4h_ro has the cookies in the order of the wire, whether or not the sorted
// form was asked for before.
func TestOriginalOrder(t *testing.T) {
	var r Request
	r.Reset("GET", "11")
	r.Add("Host", "x.example")
	r.Add("Cookie", "b=1; a=2")
	want := ja4.Event{Type: ja4.TypeJA4HRO, Value: "ge11cn010000_Host_b,a_b=1,a=2", ServerName: "x.example"}
	for range 2 {
		if got := r.OriginalOrder(); got != want {
			t.Errorf("OriginalOrder = %+v, want %+v", got, want)
		}
		if got, want := r.Event().Raw, "ge11cn010000_Host_a,b_a=2,b=1"; got != want {
			t.Errorf("Event().Raw = %s, want %s", got, want)
		}
	}
}

// Every pseudo-header field is left out; :method and :authority are used, and
// :authority wins over Host.
func TestRequestPseudoHeader(t *testing.T) {
	var r Request
	r.Reset("", "20")
	for _, f := range [][2]string{{":method", "POST"}, {":authority", "a.example:8443"}, {":scheme", "https"}, {":path", "/"},
		{"host", "b.example"}, {"cookie", "b=1"}, {"accept-language", "de-DE"}, {"cookie", "a=1"}} {
		r.Add(f[0], f[1])
	}
	if got, want := r.Event(), ja4h("po20cn02dede_host,accept-language_a,b_a=1,b=1", "a.example"); got != want {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	r.Reset("GET", "30")
	r.Add("user-agent", "x")
	if got, want := r.Event(), ja4h("ge30nn010000_user-agent__", ""); got != want {
		t.Errorf("after Reset: got %+v\nwant %+v", got, want)
	}
}

// A raw form or a name beyond its bound is left out; the value stands.
func TestRequestBounds(t *testing.T) {
	var r Request
	r.Reset("GET", "11")
	r.Add("Host", strings.Repeat("a", MaxServerNameBytes+1))
	name := strings.Repeat("x", MaxRawBytes-20)
	r.Add(name, "")
	e := r.Event() // 12 + "_Host," + name + "__": exactly at the bound
	if len(e.Raw) != MaxRawBytes || e.ServerName != "" {
		t.Errorf("raw %d bytes, name %q; want %d bytes and no name", len(e.Raw), e.ServerName, MaxRawBytes)
	}
	r.Add("y", "")
	if e := r.Event(); e.Raw != "" || e.Value != "ge11nn030000_"+hash12("Host,"+name+",y")+"_000000000000_000000000000" {
		t.Errorf("value %s, raw %d bytes; want a value and no raw form", e.Value, len(e.Raw))
	}
}

// Bytes that are not UTF-8 are hashed as they are and shown as U+FFFD.
func TestRequestNotUTF8(t *testing.T) {
	var r Request
	r.Reset("GET", "11")
	r.Add("A\xff", "")
	r.Add("Cookie", "k=\xe6")
	e := r.Event()
	if want := "ge11cn010000_" + hash12("A\xff") + "_" + hash12("k") + "_" + hash12("k=\xe6"); e.Value != want {
		t.Errorf("value %s, want %s", e.Value, want)
	}
	if want := "ge11cn010000_A\uFFFD_k_k=\uFFFD"; e.Raw != want {
		t.Errorf("raw %q, want %q", e.Raw, want)
	}
}

// Every method that has a code, in either case.
func TestMethodCode(t *testing.T) {
	const table = `GET ge, HEAD he, OPTIONS op, TRACE tr, DELETE de, PUT pu, POST po, PATCH pa, CONNECT co, PROPFIND pf,
		PROPPATCH pp, MKCOL ml, COPY cy, MOVE mo, LOCK lo, UNLOCK uo, REPORT rp, SEARCH se, M-SEARCH ms, NOTIFY no,
		SUBSCRIBE su, UNSUBSCRIBE un, MERGE me, LINK li, UNLINK ui, PURGE pr, PRI pr, BIND bi, REBIND rb, UNBIND ub,
		ACL ac, LABEL la, UPDATE up, CHECKIN cn, CHECKOUT ct, UNCHECKOUT uc, MKACTIVITY ma, MKCALENDAR mc,
		MKWORKSPACE mw, MKREDIRECTREF mr, UPDATEREDIRECTREF ur, BASELINE-CONTROL ba, VERSION-CONTROL ve`
	entries := strings.Split(table, ",")
	if len(entries) != 43 {
		t.Fatalf("%d entries, want 43", len(entries))
	}
	for _, entry := range entries {
		f := strings.Fields(entry)
		for _, method := range []string{f[0], strings.ToLower(f[0])} {
			if got := methodCode(method); got != f[1] {
				t.Errorf("methodCode(%s) = %q, want %q", method, got, f[1])
			}
		}
	}
	for _, method := range []string{"", "G", "GETS", "BREW", strings.Repeat("X", 100)} {
		if got := methodCode(method); got != "" {
			t.Errorf("methodCode(%q) = %q, want none", method, got)
		}
	}
}

// A warm Request allocates the strings of its event and nothing else.
func TestRequestAllocations(t *testing.T) {
	var r Request
	run := func() {
		r.Reset("GET", "11")
		r.Add("Host", "x.example")
		r.Add("User-Agent", "x")
		r.Add("Cookie", "b=1; a=2; c=3")
		r.Event()
	}
	run()
	if n := testing.AllocsPerRun(100, run); n > 3 {
		t.Errorf("%v allocations, want 3: value, raw form, name", n)
	}
}

// BenchmarkRequest: a browser's request with three cookies.
func BenchmarkRequest(b *testing.B) {
	var r Request
	b.ReportAllocs()
	for b.Loop() {
		r.Reset("GET", "20")
		for _, n := range []string{":method", ":authority", ":path", "user-agent", "accept", "accept-language", "accept-encoding", "dnt"} {
			r.Add(n, "value-of-it")
		}
		r.Add("cookie", "sid=0123456789abcdef; theme=dark; a=1")
		r.Event()
	}
}
