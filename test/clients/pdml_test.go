//go:build e2e

package clients

import (
	"bytes"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// node is one protocol or field of tshark's dissection, with what lies in it.
type node struct {
	Name  string `xml:"name,attr"`
	Show  string `xml:"show,attr"`
	Value string `xml:"value,attr"` // the bytes in hex, if it has bytes
	Nodes []node `xml:",any"`
}

// all walks n and everything in it, parents first, as on the wire.
func (n *node) all() iter.Seq[*node] {
	return func(yield func(*node) bool) { n.walk(yield) }
}

func (n *node) walk(yield func(*node) bool) bool {
	if !yield(n) {
		return false
	}
	for i := range n.Nodes {
		if !n.Nodes[i].walk(yield) {
			return false
		}
	}
	return true
}

// every returns the nodes of that name in n.
func (n *node) every(name string) (out []*node) {
	for m := range n.all() {
		if m.Name == name {
			out = append(out, m)
		}
	}
	return out
}

// first returns the first node of that name in n, or an empty one.
func (n *node) first(name string) *node {
	for m := range n.all() {
		if m.Name == name {
			return m
		}
	}
	return &node{}
}

func (n *node) has(name string) bool { return n.first(name).Name != "" }

// number reads what tshark shows as decimal or 0x….
func (n *node) number(t testing.TB) int {
	t.Helper()
	v, err := strconv.ParseInt(n.Show, 0, 64)
	if err != nil {
		t.Fatalf("tshark shows %s as %q: %v", n.Name, n.Show, err)
	}
	return int(v)
}

// octets returns the bytes of a field.
func (n *node) octets(t testing.TB) []byte {
	t.Helper()
	b, err := hex.DecodeString(n.Value)
	if err != nil {
		t.Fatalf("tshark gives %s the value %q: %v", n.Name, n.Value, err)
	}
	return b
}

// frame is one packet of a recording.
type frame struct {
	node
	us       int64 // capture time
	tcp      bool
	src, dst netip.AddrPort
	ttl      int
}

// dissect runs tshark over a recording, with secrets if keys names a file.
func dissect(t testing.TB, file, keys string) []frame {
	t.Helper()
	args := []string{"-n", "-r", file, "-T", "pdml",
		"-d", "udp.port==4433,dtls", "-d", "udp.port==8443,quic", "-d", "tcp.port==4443,tls", "-d", "tcp.port==4444,tls", "-d", "tcp.port==8443,tls"}
	if keys != "" {
		args = append(args, "-o", "tls.keylog_file:"+keys)
	}
	var out, errs bytes.Buffer
	cmd := exec.Command("tshark", args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("tshark %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	var whole struct {
		Packets []node `xml:"packet"`
	}
	if err := xml.Unmarshal(out.Bytes(), &whole); err != nil {
		t.Fatalf("dissection of %s: %v", file, err)
	}
	var frames []frame
	for _, p := range whole.Packets {
		f, err := place(p)
		if err != nil {
			t.Fatalf("dissection of %s: %v", file, err)
		}
		frames = append(frames, f)
	}
	if len(frames) == 0 {
		t.Fatalf("tshark sees no packet in %s", file)
	}
	return frames
}

func place(p node) (frame, error) {
	f := frame{node: p, tcp: p.has("tcp")}
	seconds, fraction, _ := strings.Cut(p.first("frame.time_epoch").Show, ".")
	s, err1 := strconv.ParseInt(seconds, 10, 64)
	us, err2 := strconv.ParseInt((fraction + "000000")[:6], 10, 64)
	f.us = s*1_000_000 + us
	src, dst, ttl, ports := "ip.src", "ip.dst", "ip.ttl", "udp"
	if p.has("ipv6") {
		src, dst, ttl = "ipv6.src", "ipv6.dst", "ipv6.hlim"
	}
	if f.tcp {
		ports = "tcp"
	}
	var err3, err4, err5 error
	f.ttl, err3 = strconv.Atoi(p.first(ttl).Show)
	f.src, err4 = endpoint(p.first(src).Show, p.first(ports+".srcport").Show)
	f.dst, err5 = endpoint(p.first(dst).Show, p.first(ports+".dstport").Show)
	return f, errors.Join(err1, err2, err3, err4, err5)
}

func endpoint(addr, port string) (netip.AddrPort, error) {
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("port %q: %w", port, err)
	}
	return netip.AddrPortFrom(a, uint16(p)), nil
}
