package ja4

import (
	"fmt"
	"strings"
)

// Part is a named part of a fingerprint.
type Part struct {
	Name, Value string
}

// Parts are the parts of a fingerprint, in order.
type Parts []Part

// Part returns the value of the part with that name, empty when there is none.
func (p Parts) Part(name string) string {
	for _, q := range p {
		if q.Name == name {
			return q.Value
		}
	}
	return ""
}

// Parse cuts a fingerprint of type t, hashed as an Event has it in Value, into
// its parts, by the grammar of the type. The strings of the parts are cut from
// s. It says what is wrong with one that does not follow the grammar; it does
// not check that a count is possible or that a hash is one of anything.
//
// Naming the parts of a fingerprint is not computing it: no FoxIO-licensed
// method is needed for it.
func Parse(t Type, s string) (Parts, error) {
	if !t.Valid() {
		return nil, fmt.Errorf("%v is not a fingerprint type", t)
	}
	c := cutter{rest: s}
	grammars[t](&c)
	if c.err == nil && c.rest != "" {
		c.fail("nothing")
	}
	if c.err != nil {
		return nil, fmt.Errorf("%q is not a %v fingerprint: %w", s, t, c.err)
	}
	return c.parts, nil
}

// grammars has an entry for each valid type.
var grammars = [NumTypes]func(*cutter){
	TypeJA4:    (*cutter).clientHello,
	TypeJA4S:   (*cutter).serverHello,
	TypeJA4H:   (*cutter).httpRequest,
	TypeJA4X:   (*cutter).certificate,
	TypeJA4L:   (*cutter).latency,
	TypeJA4LS:  (*cutter).latency,
	TypeJA4T:   (*cutter).tcpSYN,
	TypeJA4TS:  (*cutter).tcpSYNACK,
	TypeJA4SSH: (*cutter).sshWindow,
	TypeJA4D:   (*cutter).dhcpv4,
	TypeJA4D6:  (*cutter).dhcpv6,
	TypeJA4O:   (*cutter).clientHello,
	TypeJA4HRO: (*cutter).httpRequestRaw,
}

// cutter takes parts from the front of rest. After the first failure it does
// nothing.
type cutter struct {
	rest  string
	parts Parts
	err   error
}

func (c *cutter) fail(want string) {
	if c.err == nil {
		c.err = fmt.Errorf("want %s at %q", want, c.rest)
	}
}

// take names the next n bytes, each of which must satisfy ok.
func (c *cutter) take(name, want string, n int, ok func(byte) bool) {
	if c.err != nil {
		return
	}
	if len(c.rest) < n {
		c.fail(want)
		return
	}
	for i := range n {
		if !ok(c.rest[i]) {
			c.fail(want)
			return
		}
	}
	c.parts = append(c.parts, Part{name, c.rest[:n]})
	c.rest = c.rest[n:]
}

// takeRun names the bytes that satisfy ok, one at least.
func (c *cutter) takeRun(name, want string, ok func(byte) bool) {
	n := 0
	for n < len(c.rest) && ok(c.rest[n]) {
		n++
	}
	c.take(name, want, max(n, 1), ok)
}

// oneOf names the next byte, which must be in set.
func (c *cutter) oneOf(name, set string) {
	c.take(name, "one of "+set, 1, func(b byte) bool { return strings.IndexByte(set, b) >= 0 })
}

// literal takes text that has no name.
func (c *cutter) literal(text string) {
	if c.err != nil {
		return
	}
	rest, ok := strings.CutPrefix(c.rest, text)
	if !ok {
		c.fail(text)
		return
	}
	c.rest = rest
}

func (c *cutter) count(name string)  { c.take(name, "two digits", 2, isDigit) }
func (c *cutter) number(name string) { c.takeRun(name, "a number", isDigit) }
func (c *cutter) hash(name string)   { c.take(name, "12 hex digits", 12, isHex) }
func (c *cutter) list(name string)   { c.takeRun(name, "numbers joined by -", isNumberList) }

// more reports whether another section follows.
func (c *cutter) more() bool { return c.err == nil && strings.HasPrefix(c.rest, "_") }

func (c *cutter) version() {
	c.take("version", "a version such as 13 or s3", 2, isAlphanumeric)
}

func (c *cutter) clientHello() {
	c.oneOf("protocol", "tqd")
	c.version()
	c.oneOf("sni", "di")
	c.count("cipher_count")
	c.count("extension_count")
	c.take("alpn", "two characters of ALPN", 2, isAlphanumeric)
	c.literal("_")
	c.hash("cipher_hash")
	c.literal("_")
	c.hash("extension_hash")
}

func (c *cutter) serverHello() {
	c.oneOf("protocol", "tqd")
	c.version()
	c.count("extension_count")
	c.take("alpn", "two characters of ALPN", 2, isAlphanumeric)
	c.literal("_")
	c.take("cipher", "4 hex digits", 4, isHex)
	c.literal("_")
	c.hash("extension_hash")
}

func (c *cutter) httpPrefix() {
	c.take("method", "two characters of the method", 2, isAlphanumeric)
	c.take("version", "a version such as 11", 2, isAlphanumeric)
	c.oneOf("cookie", "cn")
	c.oneOf("referer", "rn")
	c.count("header_count")
	c.take("language", "four characters of the language", 4, func(b byte) bool { return b > ' ' && b <= '~' })
	c.literal("_")
}

func (c *cutter) httpRequest() {
	c.httpPrefix()
	c.hash("header_hash")
	c.literal("_")
	c.hash("cookie_name_hash")
	c.literal("_")
	c.hash("cookie_hash")
}

// httpRequestRaw does not divide the names: they may hold the underscore that
// would do it.
func (c *cutter) httpRequestRaw() {
	c.httpPrefix()
	if c.err == nil {
		c.parts = append(c.parts, Part{"names", c.rest})
		c.rest = ""
	}
}

func (c *cutter) certificate() {
	c.hash("issuer_hash")
	c.literal("_")
	c.hash("subject_hash")
	c.literal("_")
	c.hash("extension_hash")
}

func (c *cutter) latency() {
	c.number("latency_us")
	c.literal("_")
	c.number("ttl")
	if c.more() {
		c.literal("_")
		c.number("application_latency_us")
	}
}

func (c *cutter) tcpSYN() {
	c.number("window")
	c.literal("_")
	c.list("options")
	c.literal("_")
	c.number("mss")
	c.literal("_")
	c.number("window_scale")
}

func (c *cutter) tcpSYNACK() {
	c.tcpSYN()
	if c.more() {
		c.literal("_")
		c.takeRun("retries", "seconds joined by -", func(b byte) bool { return isNumberList(b) || b == 'R' })
	}
}

func (c *cutter) sshWindow() {
	c.literal("c")
	c.number("client_mode")
	c.literal("s")
	c.number("server_mode")
	c.literal("_c")
	c.number("client_packets")
	c.literal("s")
	c.number("server_packets")
	c.literal("_c")
	c.number("client_acks")
	c.literal("s")
	c.number("server_acks")
}

func (c *cutter) dhcpv4() { c.dhcp("max_size") }
func (c *cutter) dhcpv6() { c.dhcp("client_id_length") }

func (c *cutter) dhcp(size string) {
	c.take("message_type", "five characters of the message type", 5, isAlphanumeric)
	c.take(size, "four digits", 4, isDigit)
	c.oneOf("address", "in")
	c.oneOf("domain", "dn")
	c.literal("_")
	c.list("options")
	c.literal("_")
	c.list("requests")
}

func isDigit(b byte) bool        { return b >= '0' && b <= '9' }
func isHex(b byte) bool          { return isDigit(b) || b >= 'a' && b <= 'f' }
func isAlphanumeric(b byte) bool { return isDigit(b) || b|0x20 >= 'a' && b|0x20 <= 'z' }
func isNumberList(b byte) bool   { return isDigit(b) || b == '-' }
