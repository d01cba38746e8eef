package bpf

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// expr is a node of the syntax tree: one of the types below.
type expr interface{}

type (
	andExpr struct{ x, y expr }
	orExpr  struct{ x, y expr }
	notExpr struct{ x expr }
	// protoExpr is ip, ip6, tcp, udp, icmp, icmp6 or arp.
	protoExpr struct{ name string }
	// vlanExpr shifts everything that is compiled after it behind the tag. id
	// is -1 for any.
	vlanExpr struct{ id, column int }
	addrExpr struct {
		side   side
		prefix netip.Prefix
	}
	portExpr struct {
		side   side
		proto  string // "", "tcp" or "udp"
		lo, hi uint16
	}
)

type side uint8

const (
	either side = iota
	src
	dst
)

// Bounds of what one filter may hold: they keep programs below the kernel's
// 4,096 instructions and the parser's recursion small.
const (
	maxFilterBytes = 16 << 10
	maxDepth       = 64
)

type parser struct {
	text   string
	tokens []token
	pos    int
	depth  int
}

// parse returns nil for a filter without words.
func parse(text string) (expr, error) {
	if len(text) > maxFilterBytes {
		return nil, &Error{Filter: text[:64], Column: maxFilterBytes + 1, Problem: fmt.Sprintf("the filter has %d bytes, at most %d are supported", len(text), maxFilterBytes)}
	}
	p := &parser{text: text, tokens: lex(text)}
	if p.peek().text == "" {
		return nil, nil
	}
	e, err := p.or()
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.text != "" {
		if t.text == ")" {
			return nil, p.fail(t, `")" has no "("`)
		}
		return nil, p.fail(t, p.unexpected(t, `"and" or "or"`))
	}
	return e, nil
}

func (p *parser) peek() token { return p.tokens[p.pos] }

func (p *parser) next() token {
	t := p.tokens[p.pos]
	if t.text != "" {
		p.pos++
	}
	return t
}

func (p *parser) fail(t token, problem string) error {
	return &Error{Filter: p.text, Column: t.column, Word: t.text, Problem: problem}
}

// unexpected distinguishes words of another place from words of no place.
func (p *parser) unexpected(t token, want string) string {
	switch strings.ToLower(t.text) {
	case "":
		return "the filter ends, want " + want
	case "and", "or", "not", "(", ")", "!", "&&", "||", "src", "dst", "host", "net", "port", "portrange",
		"ip", "ip6", "tcp", "udp", "icmp", "icmp6", "arp", "vlan":
		return fmt.Sprintf("unexpected %q, want %s", t.text, want)
	}
	return fmt.Sprintf("%q is not supported", t.text)
}

// or and and have one precedence and associate to the left, as in
// pcap-filter(7).
func (p *parser) or() (expr, error) {
	x, err := p.not()
	if err != nil {
		return nil, err
	}
	for {
		switch strings.ToLower(p.peek().text) {
		case "and", "&&":
			p.next()
			y, err := p.not()
			if err != nil {
				return nil, err
			}
			x = andExpr{x, y}
		case "or", "||":
			p.next()
			y, err := p.not()
			if err != nil {
				return nil, err
			}
			x = orExpr{x, y}
		default:
			return x, nil
		}
	}
}

func (p *parser) not() (expr, error) {
	t := p.peek()
	if w := strings.ToLower(t.text); w == "not" || w == "!" {
		p.next()
		if p.depth++; p.depth > maxDepth {
			return nil, p.fail(t, fmt.Sprintf("more than %d levels deep", maxDepth))
		}
		defer func() { p.depth-- }()
		x, err := p.not()
		if err != nil {
			return nil, err
		}
		return notExpr{x}, nil
	}
	return p.primary()
}

func (p *parser) primary() (expr, error) {
	t := p.next()
	switch w := strings.ToLower(t.text); w {
	case "(":
		if p.depth++; p.depth > maxDepth {
			return nil, p.fail(t, fmt.Sprintf("more than %d levels deep", maxDepth))
		}
		defer func() { p.depth-- }()
		x, err := p.or()
		if err != nil {
			return nil, err
		}
		if c := p.next(); c.text != ")" {
			return nil, p.fail(c, p.unexpected(c, `")"`))
		}
		return x, nil
	case "ip", "ip6", "icmp", "icmp6", "arp":
		return p.protoOnly(w)
	case "tcp", "udp":
		switch strings.ToLower(p.peek().text) {
		case "src", "dst", "port", "portrange":
			return p.qualified(w)
		}
		return p.protoOnly(w)
	case "src", "dst", "host", "net", "port", "portrange":
		p.pos--
		return p.qualified("")
	case "vlan":
		n, err := strconv.ParseUint(p.peek().text, 10, 32)
		if err != nil {
			return vlanExpr{-1, t.column}, nil
		}
		id := p.next()
		if n > 4095 {
			return nil, p.fail(id, fmt.Sprintf("VLAN %s is not 0 to 4095", id.text))
		}
		return vlanExpr{int(n), t.column}, nil
	}
	return nil, p.fail(t, p.unexpected(t, "a word such as host, net, port, tcp or vlan"))
}

// protoOnly refuses what tcpdump would read as a qualifier of what follows, so
// that "ip host 10.0.0.1" is an error and not "ip" with garbage behind it.
func (p *parser) protoOnly(w string) (expr, error) {
	switch t := p.peek(); strings.ToLower(t.text) {
	case "", "and", "or", "&&", "||", ")":
		return protoExpr{w}, nil
	default:
		return nil, p.fail(t, p.unexpected(t, fmt.Sprintf(`"and" or "or" after %q`, w)))
	}
}

func (p *parser) qualified(proto string) (expr, error) {
	s := either
	t := p.next()
	switch strings.ToLower(t.text) {
	case "src":
		s, t = src, p.next()
	case "dst":
		s, t = dst, p.next()
	}
	w := strings.ToLower(t.text)
	if proto != "" && w != "port" && w != "portrange" {
		return nil, p.fail(t, p.unexpected(t, `"port" or "portrange"`))
	}
	v := p.peek()
	switch w {
	case "host":
		p.next()
		a, err := netip.ParseAddr(v.text)
		if err != nil || a.Zone() != "" {
			return nil, p.fail(v, fmt.Sprintf("%q is not an IP address such as 10.0.0.5", v.text))
		}
		a = a.Unmap()
		return addrExpr{s, netip.PrefixFrom(a, a.BitLen())}, nil
	case "net":
		p.next()
		x, err := netip.ParsePrefix(v.text)
		if err != nil {
			return nil, p.fail(v, fmt.Sprintf("%q is not a network such as 10.0.0.0/8", v.text))
		}
		if x != x.Masked() {
			return nil, p.fail(v, fmt.Sprintf("%s has bits outside its mask; did you mean %s?", v.text, x.Masked()))
		}
		return addrExpr{s, x}, nil
	case "port":
		p.next()
		n, err := strconv.ParseUint(v.text, 10, 16)
		if err != nil {
			return nil, p.fail(v, fmt.Sprintf("%q is not a port number 0 to 65535", v.text))
		}
		return portExpr{s, proto, uint16(n), uint16(n)}, nil
	case "portrange":
		p.next()
		a, b, _ := strings.Cut(v.text, "-")
		lo, err1 := strconv.ParseUint(a, 10, 16)
		hi, err2 := strconv.ParseUint(b, 10, 16)
		if err1 != nil || err2 != nil || lo > hi {
			return nil, p.fail(v, fmt.Sprintf("%q is not a range of ports such as 8000-8999", v.text))
		}
		return portExpr{s, proto, uint16(lo), uint16(hi)}, nil
	}
	return nil, p.fail(t, p.unexpected(t, "host, net, port or portrange"))
}
