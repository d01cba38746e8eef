package ja4plus

import (
	"reflect"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"

	"github.com/whorl-net/whorl/internal/fuzzguard"
	"github.com/whorl-net/whorl/ja4"
)

// frame3 builds a frame of HTTP/3 with a length of four bytes.
func frame3(kind byte, payload string) string {
	n := len(payload)
	return string([]byte{kind, 0x80 | byte(n>>24), byte(n >> 16), byte(n >> 8), byte(n)}) + payload
}

// section builds a field section that needs no dynamic table.
func section(lines ...string) string { return "\x00\x00" + strings.Join(lines, "") }

// prefixed is an integer with a prefix of n bits behind the bits of first.
func prefixed(first byte, n uint, v int) string {
	limit := 1<<n - 1
	if v < limit {
		return string([]byte{first | byte(v)})
	}
	b := []byte{first | byte(limit)}
	for v -= limit; v >= 0x80; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return string(append(b, byte(v)))
}

func indexed(i int) string { return prefixed(0xc0, 6, i) }

func named(i int, value string) string {
	return prefixed(0x50, 4, i) + prefixed(0, 7, len(value)) + value
}

func literalField(name, value string) string {
	return prefixed(0x20, 3, len(name)) + name + prefixed(0, 7, len(value)) + value
}

func huffmanField(name, value string) string {
	n, v := hpack.AppendHuffmanString(nil, name), hpack.AppendHuffmanString(nil, value)
	return prefixed(0x28, 3, len(n)) + string(n) + prefixed(0x80, 7, len(v)) + string(v)
}

type outcome3 struct {
	Status HTTP3Status
	Raw    []string
}

func feedHTTP3(input string, step int) outcome3 {
	var s HTTP3Stream
	var o outcome3
	for rest := []byte(input); len(rest) > 0; {
		n := min(step, len(rest))
		o.Status = s.Write(rest[:n], func(e ja4.Event) { o.Raw = append(o.Raw, e.Raw) })
		rest = rest[n:]
	}
	if o.Status != HTTP3More && s.Held() != 0 {
		o.Raw = append(o.Raw, "memory is held behind the end")
	}
	return o
}

func TestHTTP3(t *testing.T) {
	get := indexed(17)
	long := strings.Repeat("x", 300)
	for _, c := range []struct {
		name   string
		input  string
		status HTTP3Status
		want   string // raw form; "" is no request
	}{
		{"static table", frame3(1, section(get, indexed(23), indexed(1), indexed(29), indexed(95))), HTTP3Done, "ge30nn020000_accept,user-agent__"},
		{"names of the static table", frame3(1, section(named(15, "PATCH"), named(0, "example.net"), named(72, "da-DK"), named(5, "b=1"), named(13, "r"))), HTTP3Done, "pa30cr01dadk_accept-language_b_b=1"},
		{"literals", frame3(1, section(literalField(":method", "POST"), literalField("x-long-name", long))), HTTP3Done, "po30nn010000_x-long-name__"},
		{"Huffman's code", frame3(1, section(huffmanField(":method", "DELETE"), huffmanField("cookie", "a=b; c=d"))), HTTP3Done, "de30cn000000__a,c_a=b,c=d"},
		{"every method", frame3(1, section(indexed(21))), HTTP3Done, "pu30nn000000___"},
		{"the end of the table", frame3(1, section(get, indexed(98))), HTTP3Done, "ge30nn010000_x-frame-options__"},
		{"unknown frames first", "\x21\x00" + "\x40\x41\x03abc" + frame3(1, section(get)), HTTP3Done, "ge30nn000000___"},
		{"a body behind", frame3(1, section(get)) + frame3(0, "x") + frame3(1, section(literalField("trailer", "x"))), HTTP3Done, "ge30nn000000___"},
		{"cut short", frame3(1, section(get))[:6], HTTP3More, ""},
		{"insert count", frame3(1, "\x02\x00"+get), HTTP3Dynamic, ""},
		{"dynamic index", frame3(1, section(get, "\x80")), HTTP3Dynamic, ""},
		{"dynamic name", frame3(1, section(get, "\x40\x01a")), HTTP3Dynamic, ""},
		{"index behind the base", frame3(1, section(get, "\x10")), HTTP3Dynamic, ""},
		{"no method", frame3(1, section(indexed(95))), HTTP3Invalid, ""},
		{"no fields", frame3(1, ""), HTTP3Invalid, ""},
		{"beyond the table", frame3(1, section(get, indexed(99))), HTTP3Invalid, ""},
		{"a string too long", frame3(1, section(get, "\x27\x7f")), HTTP3Invalid, ""},
		{"an integer too long", frame3(1, section(get, "\xff\xff\xff\xff\xff\xff\xff")), HTTP3Invalid, ""},
		{"not Huffman's code", frame3(1, section(get, "\x29\xff\x00")), HTTP3Invalid, ""},
		{"body first", frame3(0, "x"), HTTP3Invalid, ""},
		{"settings", frame3(4, ""), HTTP3Invalid, ""},
		{"reserved frame", frame3(2, ""), HTTP3Invalid, ""},
		{"HTTP/1", "GET / HTTP/1.1\r\n\r\n", HTTP3More, ""},
		{"a block too large", "\x01\x80\x01\x00\x01", HTTP3TooLarge, ""},
		{"fields too large", frame3(1, section(get, strings.Repeat(indexed(58), 2000))), HTTP3TooLarge, ""},
	} {
		want := outcome3{Status: c.status}
		if c.want != "" {
			want.Raw = []string{c.want}
		}
		for _, step := range []int{1, 2, 7, 1 << 20} {
			if got := feedHTTP3(c.input, step); !reflect.DeepEqual(got, want) {
				t.Errorf("%s, %d bytes at once: %+v, want %+v", c.name, step, got, want)
			}
		}
	}
}

// The order of the wire is another event.
func TestHTTP3OriginalOrder(t *testing.T) {
	s := HTTP3Stream{OriginalOrder: true}
	var kinds []ja4.Type
	s.Write([]byte(frame3(1, section(indexed(17)))), func(e ja4.Event) { kinds = append(kinds, e.Type) })
	if want := []ja4.Type{ja4.TypeJA4H, ja4.TypeJA4HRO}; !reflect.DeepEqual(kinds, want) {
		t.Errorf("events %v, want %v", kinds, want)
	}
}

// The statuses have names.
func TestHTTP3Status(t *testing.T) {
	var got []string
	for s := range HTTP3TooLarge + 1 {
		got = append(got, s.String())
	}
	if list := strings.Join(got, " "); list != "more done dynamic invalid too-large" {
		t.Error(list)
	}
}

// Whatever the bytes and however they are cut, the same comes out, and what is
// held is bounded.
func FuzzHTTP3(f *testing.F) {
	f.Add([]byte(frame3(1, section(indexed(17), named(72, "da"), literalField("cookie", "a=b")))), uint8(3))
	f.Add([]byte("\x21\x03abc"+frame3(1, section(huffmanField(":method", "GET")))), uint8(1))
	f.Add([]byte(frame3(1, "\x02\x00\x80")), uint8(9))
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		fuzzguard.Watch(t)
		whole := feedHTTP3(string(b), len(b)+1)
		if cut := feedHTTP3(string(b), int(step)+1); !reflect.DeepEqual(whole, cut) {
			t.Fatalf("%+v at once, %+v in pieces of %d", whole, cut, int(step)+1)
		}
		var s HTTP3Stream
		for _, c := range b {
			s.Write([]byte{c}, func(ja4.Event) {})
			if s.Held() > 2*MaxHTTPHeaderBytes {
				t.Fatalf("holds %d bytes", s.Held())
			}
		}
	})
}
