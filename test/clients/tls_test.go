//go:build e2e

package clients

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// short is the hash of all types: 12 digits, and zeros for nothing.
func short(s string) string {
	if s == "" {
		return "000000000000"
	}
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:6])
}

// list hashes a list, or joins it.
func list(s []string) string { return strings.Join(s, ",") }

// parts joins the parts of a fingerprint.
func parts(s ...string) string { return strings.Join(s, "_") }

var versions = map[string]string{
	"0304": "13", "0303": "12", "0302": "11", "0301": "10", "0300": "s3",
	"feff": "d1", "fefd": "d2", "fefc": "d3",
}

func grease(s string) bool { return len(s) == 4 && s[:2] == s[2:] && s[1] == 'a' }

// hexes returns the bytes of the named fields in n, without GREASE.
func hexes(n *node, name string) (out []string) {
	for _, m := range n.every(name) {
		if !grease(m.Value) {
			out = append(out, m.Value)
		}
	}
	return out
}

// tlsEvents returns JA4, JA4S and JA4X of one packet. TLS inside TCP, QUIC and
// DTLS look alike in tshark, but for the prefix of DTLS.
func tlsEvents(t testing.TB, f *frame) (out []event) {
	for _, proto := range []struct{ name, letter string }{{"tls", "t"}, {"dtls", "d"}} {
		letter := proto.letter
		if proto.name == "tls" && f.has("quic") {
			letter = "q"
		}
		for _, h := range f.every(proto.name + ".handshake") {
			// A part of a message shows its type and no more.
			if !h.has(proto.name + ".handshake.version") {
				continue
			}
			switch h.first(proto.name + ".handshake.type").Show {
			case "1":
				out = append(out, clientHello(t, h, proto.name+".handshake.", letter))
			case "2":
				out = append(out, serverHello(t, h, proto.name+".handshake.", letter))
			}
		}
	}
	for _, c := range f.every("x509af.signedCertificate_element") {
		out = append(out, certificate(c))
	}
	return out
}

// hello is what both hellos have.
type hello struct {
	version, alpn string
	ciphers       []string
	extensions    []string
	algorithms    []string
}

func readHello(t testing.TB, h *node, p string) hello {
	o := hello{version: h.first(p + "version").Value, alpn: "00", ciphers: hexes(h, p+"ciphersuite")}
	for n := range h.all() {
		// An extension is a nameless node that begins with its type.
		if n.Name != "" || len(n.Nodes) == 0 || n.Nodes[0].Name != p+"extension.type" {
			continue
		}
		kind := n.Nodes[0].Value
		if grease(kind) {
			continue
		}
		o.extensions = append(o.extensions, kind)
		switch kind {
		case "000d":
			o.algorithms = hexes(n, p+"sig_hash_alg")
		case "002b":
			// Newest first: DTLS counts down from fe, TLS counts up to 03.
			offered := slices.DeleteFunc(hexes(n, p+"extensions.supported_version"), func(v string) bool { return versions[v] == "" })
			if len(offered) > 0 && strings.HasPrefix(offered[0], "fe") {
				o.version = slices.Min(offered)
			} else if len(offered) > 0 {
				o.version = slices.Max(offered)
			}
		case "0010":
			if names := n.every(p + "extensions_alpn_str"); len(names) > 0 {
				o.alpn = ends(names[0].octets(t))
			}
		}
	}
	return o
}

// ends returns the first and the last character of a protocol name.
func ends(name []byte) string {
	word := func(c byte) bool {
		return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
	}
	if len(name) == 0 {
		return "00"
	}
	s := string(name)
	if !word(name[0]) || !word(name[len(name)-1]) {
		s = hex.EncodeToString(name)
	}
	return s[:1] + s[len(s)-1:]
}

func clientHello(t testing.TB, h *node, p, letter string) event {
	o := readHello(t, h, p)
	name := "i"
	if slices.Contains(o.extensions, "0000") {
		name = "d"
	}
	a := fmt.Sprintf("%s%s%s%02d%02d%s", letter, versions[o.version], name, min(len(o.ciphers), 99), min(len(o.extensions), 99), o.alpn)
	slices.Sort(o.ciphers)
	slices.Sort(o.extensions)
	rest := slices.DeleteFunc(o.extensions, func(x string) bool { return x == "0000" || x == "0010" })
	c := list(rest)
	if len(o.algorithms) > 0 {
		c += "_" + list(o.algorithms)
	}
	return event{kind: "ja4", value: parts(a, short(list(o.ciphers)), short(c)), raw: parts(a, list(o.ciphers), c)}
}

func serverHello(t testing.TB, h *node, p, letter string) event {
	o := readHello(t, h, p)
	a := fmt.Sprintf("%s%s%02d%s", letter, versions[o.version], min(len(o.extensions), 99), o.alpn)
	chosen := list(o.ciphers)
	return event{kind: "ja4s", value: parts(a, chosen, short(list(o.extensions))), raw: parts(a, chosen, list(o.extensions))}
}

func certificate(c *node) event {
	raw := []string{
		list(hexes(c.first("x509af.issuer"), "x509if.oid")),
		list(hexes(c.first("x509af.subject"), "x509if.oid")),
		list(hexes(c.first("x509af.extensions"), "x509af.extension.id")),
	}
	return event{kind: "ja4x", value: parts(short(raw[0]), short(raw[1]), short(raw[2])), raw: parts(raw...)}
}
