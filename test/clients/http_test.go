//go:build e2e

package clients

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// header is one line of a request.
type header struct{ name, value string }

// httpEvents returns JA4H of the requests in one packet.
func httpEvents(t testing.TB, f *frame) (out []event) {
	for _, p := range f.every("http") {
		method := p.first("http.request.method").Show
		if method == "" {
			continue
		}
		var lines []header
		for _, l := range p.every("http.request.line") {
			// tshark shows the end of the line as \r\n, in letters.
			line := strings.TrimSuffix(strings.TrimSpace(l.Show), `\r\n`)
			name, value, _ := strings.Cut(line, ":")
			lines = append(lines, header{name, strings.TrimSpace(value)})
		}
		out = append(out, request(method, strings.ReplaceAll(strings.TrimPrefix(p.first("http.request.version").Show, "HTTP/"), ".", ""), lines))
	}
	for _, s := range f.every("http2.stream") {
		var fields []header
		for _, h := range s.every("http2.header") {
			fields = append(fields, header{h.first("http2.header.name").Show, h.first("http2.header.value").Show})
		}
		out = append(out, section("20", fields)...)
	}
	for _, p := range f.every("http3") {
		if p.first("http3.frame_type").Show == "1" {
			out = append(out, section("30", qpack(t, p.first("http3.frame_payload").octets(t)))...)
		}
	}
	return out
}

// section returns JA4H of the fields of HTTP/2 or HTTP/3, if they are those of a
// request.
func section(version string, fields []header) []event {
	method := ""
	var lines []header
	for _, f := range fields {
		if f.name == ":method" {
			method = f.value
		}
		if !strings.HasPrefix(f.name, ":") {
			lines = append(lines, f)
		}
	}
	if method == "" {
		return nil
	}
	return []event{request(method, version, lines)}
}

func request(method, version string, lines []header) event {
	type pair struct{ name, whole string }
	var names []string
	var pairs []pair
	cookie, referer, language := "n", "n", "0000"
	for _, l := range lines {
		switch lower := strings.ToLower(l.name); lower {
		case "cookie":
			cookie = "c"
			for crumb := range strings.SplitSeq(l.value, ";") {
				if crumb = strings.TrimSpace(crumb); crumb != "" {
					name, _, _ := strings.Cut(crumb, "=")
					pairs = append(pairs, pair{name, crumb})
				}
			}
			continue
		case "referer":
			referer = "r"
			continue
		case "accept-language":
			if language == "0000" {
				word, _, _ := strings.Cut(l.value, ",")
				word, _, _ = strings.Cut(word, ";")
				language = (strings.ToLower(strings.ReplaceAll(word, "-", "")) + "0000")[:4]
			}
		}
		names = append(names, l.name)
	}
	slices.SortFunc(pairs, func(a, b pair) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.whole, b.whole)) })
	var keys, wholes []string
	for _, p := range pairs {
		keys, wholes = append(keys, p.name), append(wholes, p.whole)
	}
	a := fmt.Sprintf("%s%s%s%s%02d%s", strings.ToLower(method[:2]), version, cookie, referer, min(len(names), 99), language)
	return event{
		kind:  "ja4h",
		value: parts(a, short(list(names)), short(list(keys)), short(list(wholes))),
		raw:   parts(a, list(names), list(keys), list(wholes)),
	}
}
