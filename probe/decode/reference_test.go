package decode

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/whorl-net/whorl/internal/fuzzguard"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/probe/capture"
)

// reference decodes with gopacket's DecodingLayerParser, of the layers that it
// is safe with.
type reference struct {
	eth     layers.Ethernet
	tag     layers.Dot1Q
	ip4     layers.IPv4
	ip6     layers.IPv6
	tcp     layers.TCP
	udp     layers.UDP
	parser  *gopacket.DecodingLayerParser
	decoded []gopacket.LayerType
}

func newReference() *reference {
	r := new(reference)
	r.parser = gopacket.NewDecodingLayerParser(layers.LayerTypeEthernet, &r.eth, &r.tag, &r.ip4, &r.ip6, &r.tcp, &r.udp)
	r.parser.IgnoreUnsupported = true
	return r
}

// decode returns what the reference finds; ok is false where it gives up, or
// where it is known to be wrong.
func (r *reference) decode(data []byte) (t flow.Tuple, payload []byte, flags uint8, ok bool) {
	if err := r.parser.DecodeLayers(data, &r.decoded); err != nil || len(r.decoded) == 0 {
		return t, nil, 0, false
	}
	for _, l := range r.decoded {
		switch l {
		case layers.LayerTypeIPv4:
			t.Src, t.Dst = flow.AddrFrom4([4]byte(r.ip4.SrcIP)), flow.AddrFrom4([4]byte(r.ip4.DstIP))
			if r.ip4.FragOffset != 0 || r.ip4.Flags&layers.IPv4MoreFragments != 0 || r.ip4.Version != 4 || be16(r.ip4.Contents[2:]) == 0 {
				return t, nil, 0, false
			}
		case layers.LayerTypeIPv6:
			t.Src, t.Dst = flow.Addr(r.ip6.SrcIP), flow.Addr(r.ip6.DstIP)
			if r.ip6.Version != 6 || r.ip6.Length == 0 {
				return t, nil, 0, false
			}
		}
	}
	switch r.decoded[len(r.decoded)-1] {
	case layers.LayerTypeTCP:
		t.Protocol, t.SrcPort, t.DstPort = flow.TCP, uint16(r.tcp.SrcPort), uint16(r.tcp.DstPort)
		return t, r.tcp.Payload, r.tcp.Contents[13], true
	case layers.LayerTypeUDP:
		t.Protocol, t.SrcPort, t.DstPort = flow.UDP, uint16(r.udp.SrcPort), uint16(r.udp.DstPort)
		return t, r.udp.Payload, 0, tunnelPort(t.SrcPort, t.DstPort) == noTunnel
	}
	return t, nil, 0, false
}

// compare fails if the reference understands data and we do not say the same.
func (r *reference) compare(t *testing.T, data []byte) (compared bool) {
	t.Helper()
	want, payload, flags, ok := r.decode(data)
	if !ok {
		return false
	}
	got, v := decodeOne(t, Config{}, packetOf(capture.Ethernet, data))
	if v != Tracked || got.Tuple != want || got.TCPFlags != flags || !bytes.Equal(got.Payload, payload) {
		t.Errorf("%x\n%v %v flags %x, %d bytes of payload; gopacket says\n%v flags %x, %d bytes",
			data, v, got.Tuple, got.TCPFlags, len(got.Payload), want, flags, len(payload))
	}
	return true
}

func referenceSeeds() (seeds [][]byte) {
	for _, v6 := range []bool{false, true} {
		for _, packet := range [][]byte{
			innermost(v6),
			ip(v6, inside, 1, flow.UDP, udp(53, 40000, []byte("payload"))),
			ip(v6, inside, 1, flow.TCP, tcp(1, 2, 0x02, nil, nil)),
		} {
			seeds = append(seeds, ethernet(etherOf(v6), packet), ethernet(etherVLAN, join(uint16(1), etherOf(v6), packet)),
				ethernet(etherVLAN, join(uint16(1), uint16(etherVLAN), uint16(1), etherOf(v6), packet, "padding")))
		}
	}
	return seeds
}

// On mutated packets of Ethernet, VLAN, IPv4, IPv6, TCP and UDP, what gopacket
// understands we understand alike.
func TestEqualsGopacket(t *testing.T) {
	r := newReference()
	seeds := referenceSeeds()
	compared := 0
	const rounds = 100_000
	for i := range rounds {
		random := rand.New(rand.NewPCG(uint64(i), 5))
		data := bytes.Clone(seeds[random.IntN(len(seeds))])
		for range random.IntN(3) {
			data[12+random.IntN(len(data)-12)] = byte(random.Uint32())
		}
		if random.IntN(4) == 0 {
			data = data[:random.IntN(len(data)+1)]
		}
		if r.compare(t, data) {
			compared++
		}
		if t.Failed() {
			t.Fatalf("round %d", i)
		}
	}
	if compared < rounds/2 {
		t.Errorf("only %d of %d were compared", compared, rounds)
	}
}

func FuzzEqualsGopacket(f *testing.F) {
	for _, s := range referenceSeeds() {
		f.Add(s)
	}
	r := newReference()
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzguard.Watch(t)
		r.compare(t, data)
	})
}
