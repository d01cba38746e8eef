package decode

import (
	"testing"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/probe/capture"
)

// BenchmarkDecode: one packet, innermost connection. Must stay at 0 allocs/op;
// plain is the one to watch.
func BenchmarkDecode(b *testing.B) {
	watched := map[string]string{
		"ethernet": "plain", "qinq": "qinq", "gre": "gre", "vxlan": "vxlan", "gtp-u with extensions": "gtp-u",
	}
	for _, e := range encapsulations() {
		name := watched[e.name]
		if name == "" {
			continue
		}
		benchmark(b, name, packetOf(e.link, e.wrap(innermost(false), false, false)))
		if name == "plain" {
			benchmark(b, "plain6", packetOf(e.link, e.wrap(innermost(true), true, false)))
		}
	}
}

func benchmark(b *testing.B, name string, row ...capture.Packet) {
	b.Run(name, func(b *testing.B) {
		d := New(Config{})
		var out Packet
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			if v := d.Decode(&row[i], &out); v != Tracked && v != Held {
				b.Fatal(v)
			}
			if i++; i == len(row) {
				i = 0
			}
		}
	})
}

// BenchmarkFragments: one fragment of datagrams of 8 KiB on Ethernet.
func BenchmarkFragments(b *testing.B) {
	var row []capture.Packet
	for _, part := range fragments(ipv4(inside[false], 1, flow.UDP, udp(1, 2, make([]byte, 8192))), 1, 1480) {
		row = append(row, packetOf(capture.Raw, part))
	}
	benchmark(b, "in order", row...)
}

// BenchmarkReference: what gopacket's DecodingLayerParser needs for the plain
// packet of BenchmarkDecode.
func BenchmarkReference(b *testing.B) {
	r := newReference()
	data := ethernet(etherIPv4, innermost(false))
	b.ReportAllocs()
	for b.Loop() {
		if err := r.parser.DecodeLayers(data, &r.decoded); err != nil {
			b.Fatal(err)
		}
	}
}
