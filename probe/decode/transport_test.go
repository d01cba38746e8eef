package decode

import (
	"bytes"
	"slices"
	"testing"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/probe/capture"
)

// Requests and their replies are one connection, whoever came first; messages
// that go one way carry type and code. The pairs are those of Community ID v1.
func TestICMP(t *testing.T) {
	tests := []struct {
		v6         bool
		kind, code int
		src, dst   uint16
	}{
		{false, 8, 0, 8, 0}, {false, 0, 0, 0, 8},
		{false, 13, 0, 13, 14}, {false, 14, 0, 14, 13},
		{false, 15, 0, 15, 16}, {false, 16, 0, 16, 15},
		{false, 10, 0, 10, 9}, {false, 9, 0, 9, 10},
		{false, 17, 0, 17, 18}, {false, 18, 0, 18, 17},
		{false, 3, 1, 3, 1}, {false, 11, 0, 11, 0}, {false, 5, 2, 5, 2},
		{true, 128, 0, 128, 129}, {true, 129, 0, 129, 128},
		{true, 133, 0, 133, 134}, {true, 134, 0, 134, 133},
		{true, 135, 0, 135, 136}, {true, 136, 0, 136, 135},
		{true, 130, 0, 130, 131}, {true, 131, 0, 131, 130},
		{true, 139, 0, 139, 140}, {true, 140, 0, 140, 139},
		{true, 144, 0, 144, 145}, {true, 145, 0, 145, 144},
		{true, 1, 4, 1, 4}, {true, 143, 0, 143, 0}, {true, 8, 0, 8, 0},
	}
	for _, test := range tests {
		protocol := choose(test.v6, flow.ICMP, flow.ICMPv6)
		// What an error quotes is another connection's.
		b := ip(test.v6, inside, 1, protocol, join(test.kind, test.code, uint16(0), uint32(0), innermost(test.v6)))
		got, v := decodeOne(t, Config{}, packetOf(capture.Raw, b))
		if want := tuple(inside[test.v6][0], test.src, inside[test.v6][1], test.dst, protocol); v != Tracked || got.Tuple != want {
			t.Errorf("%v type %d code %d: %v %v, want %v", protocol, test.kind, test.code, v, got.Tuple, want)
		}
	}
	request := tuple("10.0.0.1", 8, "10.0.0.2", 0, flow.ICMP)
	reply := tuple("10.0.0.2", 0, "10.0.0.1", 8, flow.ICMP)
	a, _ := request.Key()
	if b, _ := reply.Key(); a != b {
		t.Errorf("echo request %v, reply %v", a, b)
	}
}

// Every way not to belong to a connection has its own verdict.
func TestVerdicts(t *testing.T) {
	raw := func(v6 bool, protocol flow.Protocol, payload ...any) capture.Packet {
		return packetOf(capture.Raw, ip(v6, inside, 1, protocol, join(payload...)))
	}
	eth := func(t uint16, payload ...any) capture.Packet {
		return packetOf(capture.Ethernet, ethernet(t, join(payload...)))
	}
	header := func(change func(b []byte)) capture.Packet {
		b := innermost(false)
		change(b)
		return packetOf(capture.Raw, b)
	}
	udp4 := ipv4(inside[false], 1, flow.UDP, udp(1, 2, nil))
	tests := map[string]struct {
		in   capture.Packet
		want Verdict
	}{
		"ARP":                     {eth(etherARP, make([]byte, 28)), ARP},
		"RARP in VLAN":            {eth(etherVLAN, uint16(1), uint16(etherRARP), make([]byte, 28)), ARP},
		"LLDP":                    {eth(0x88cc, make([]byte, 50)), NonIP},
		"spanning tree":           {eth(38, "\x42\x42\x03", make([]byte, 35)), NonIP},
		"CDP":                     {eth(50, "\xaa\xaa\x03\x00\x00\x0c\x20\x00", make([]byte, 40)), NonIP},
		"PPPoE discovery":         {eth(0x8863, make([]byte, 50)), NonIP},
		"PPPoE of version 2":      {eth(etherPPPoE, "\x21\x00\x00\x01\x00\x00"), NonIP},
		"LCP":                     {eth(etherPPPoE, "\x11\x00\x00\x01\x00\x08\xc0\x21\x09\x01\x00\x08"), NonIP},
		"another family":          {packetOf(capture.Null, join("\x07\x00\x00\x00", innermost(false))), NonIP},
		"netlink":                 {packetOf(capture.LinuxSLL, join("\x00\x04\x03\x38", make([]byte, 10), uint16(etherIPv4), innermost(false))), NonIP},
		"SLL of raw 802.3":        {packetOf(capture.LinuxSLL, join(make([]byte, 14), uint16(1), innermost(false))), NonIP},
		"SLL of CAN":              {packetOf(capture.LinuxSLL, join(make([]byte, 14), uint16(0xc), innermost(false))), NonIP},
		"MPLS of OAM":             {eth(etherMPLS, uint32(0x00010140), "\x10\x00\x00\x21", make([]byte, 40)), NonIP},
		"ESP":                     {raw(false, 50, make([]byte, 40)), IPOther},
		"OSPF in IPv6":            {raw(true, 89, make([]byte, 40)), IPOther},
		"no next header":          {raw(true, protoNone, make([]byte, 40)), IPOther},
		"UDP-Lite":                {raw(false, 136, make([]byte, 40)), IPOther},
		"GRE of ISO":              {raw(false, protoGRE, uint16(0), uint16(0x00fe), make([]byte, 40)), IPOther},
		"GRE of LLDP":             {raw(false, protoGRE, uint16(0), uint16(0x88cc), make([]byte, 40)), IPOther},
		"GRE with source routes":  {raw(false, protoGRE, uint16(0x4000), uint16(etherIPv4), make([]byte, 40)), IPOther},
		"GRE of version 7":        {raw(false, protoGRE, uint16(7), uint16(etherIPv4), make([]byte, 40)), IPOther},
		"PPTP acknowledgement":    {raw(false, protoGRE, uint16(0x2081), uint16(etherPPP), uint32(0), "acks"), IPOther},
		"PPTP encrypted":          {raw(false, protoGRE, uint16(0x3001), uint16(etherPPP), uint32(0), "seqs", uint16(0xfd), make([]byte, 40)), IPOther},
		"ERSPAN of version 0":     {raw(false, protoGRE, uint16(0x1000), uint16(etherERSPAN), "seqs", make([]byte, 60)), IPOther},
		"ERSPAN of infiniband":    {raw(false, protoGRE, uint16(0x1000), uint16(etherERSPAN3), "seqs", "\x20\x01\x00\x01timeSG\x04\x00", make([]byte, 60)), IPOther},
		"EtherIP of version 1":    {raw(false, protoEtherIP, uint16(0x1000), make([]byte, 60)), IPOther},
		"hop-by-hop in IPv4":      {raw(false, protoHopByHop, make([]byte, 60)), IPOther},
		"AH, hop-by-hop in IPv4":  {raw(false, protoAH, protoHopByHop, 1, make([]byte, 10), flowByte(flow.TCP), 0, make([]byte, 6), innermost(false)[20:]), IPOther},
		"unknown link":            {packetOf(9999, make([]byte, 60)), UnknownLink},
		"empty frame":             {packetOf(capture.Ethernet, nil), Malformed},
		"short frame":             {packetOf(capture.Ethernet, make([]byte, 13)), Malformed},
		"version 5":               {header(func(b []byte) { b[0] = 0x55 }), Malformed},
		"header of 16 bytes":      {header(func(b []byte) { b[0] = 0x44 }), Malformed},
		"total within the header": {header(func(b []byte) { b[2], b[3] = 0, 19 }), Malformed},
		"header beyond total":     {header(func(b []byte) { b[0], b[2], b[3] = 0x4f, 0, 60-4 }), Malformed},
		"IPv6 in an IPv4 frame":   {eth(etherIPv4, innermost(true)), Malformed},
		"IPv4 in an IPv6 frame":   {eth(etherIPv6, udp4, make([]byte, 20)), Malformed},
		"TCP of 3 bytes":          {raw(false, flow.TCP, "abc"), Malformed},
		"UDP of 3 bytes":          {raw(true, flow.UDP, "abc"), Malformed},
		"SCTP of 3 bytes":         {raw(false, flow.SCTP, "abc"), Malformed},
		"ICMP of 1 byte":          {raw(false, flow.ICMP, "a"), Malformed},
		"IPv6 without payload":    {raw(true, flow.TCP), Malformed},
		"extension beyond packet": {raw(true, protoDestination, flowByte(flow.TCP), 1, uint16(0), uint32(0)), Malformed},
		"no label below":          {eth(etherMPLS, uint32(0x00010040)), Malformed},
		"nothing below label":     {eth(etherMPLS, uint32(0x00010140)), Malformed},
		"SNAP cut by its frame":   {eth(5, "\xaa\xaa\x03\x00\x00"), Malformed},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, v := decodeOne(t, Config{}, test.in)
			if v != test.want || got.Tuple != (flow.Tuple{}) {
				t.Errorf("%v %v, want %v", v, got.Tuple, test.want)
			}
			if n := boolsSet(v == Tracked, v == Held, v.Untracked(), v.Undecodable()); n != 1 {
				t.Errorf("%v is of %d classes", v, n)
			}
		})
	}
	seen := make(map[string]bool)
	for v := range Verdict(NumVerdicts) {
		if s := v.String(); s == "" || seen[s] {
			t.Errorf("verdict %d is called %q", v, s)
		}
		seen[v.String()] = true
	}
	if s := Verdict(200).String(); s != "verdict(200)" {
		t.Errorf("verdict 200 is called %q", s)
	}
}

func flowByte(p flow.Protocol) int { return int(p) }

func boolsSet(bs ...bool) (n int) {
	for _, b := range bs {
		if b {
			n++
		}
	}
	return n
}

// Broken or missing parts behind the ports do not lose the packet.
func TestBrokenTransportHeaders(t *testing.T) {
	tcpWith := func(change func(b []byte)) []byte {
		b := tcp(40000, 443, 0x02, innerOptions, innerPayload)
		change(b)
		return b
	}
	tests := []struct {
		name     string
		protocol flow.Protocol
		body     []byte
		payload  string
		length   int
		broken   uint64
	}{
		{"data offset 0", flow.TCP, tcpWith(func(b []byte) { b[12] = 0x00 }), "", 0, 1},
		{"data offset 4", flow.TCP, tcpWith(func(b []byte) { b[12] = 0x40 }), "", 0, 1},
		{"data offset beyond packet", flow.TCP, tcpWith(func(b []byte) { b[12] = 0xf0 }), "", 0, 1},
		{"TCP of 19 bytes", flow.TCP, tcpWith(func(b []byte) {})[:19], "", 0, 1},
		{"TCP of 4 bytes", flow.TCP, tcpWith(func(b []byte) {})[:4], "", 0, 1},
		{"UDP of 4 bytes", flow.UDP, join(uint16(40000), uint16(443)), "", 0, 1},
		{"UDP length 7", flow.UDP, join(uint16(40000), uint16(443), uint16(7), uint16(0), "payload"), "", 0, 1},
		{"UDP length 0", flow.UDP, join(uint16(40000), uint16(443), uint16(0), uint16(0), "payload"), "payload", 7, 0},
		{"UDP length beyond packet", flow.UDP, join(uint16(40000), uint16(443), uint16(999), uint16(0), "payload"), "payload", 7, 0},
		{"UDP length within packet", flow.UDP, join(uint16(40000), uint16(443), uint16(11), uint16(0), "payload"), "pay", 3, 0},
		{"SCTP", flow.SCTP, join(uint16(40000), uint16(443), uint32(0), uint32(0), "chunks"), "chunks", 6, 0},
		{"SCTP of 11 bytes", flow.SCTP, join(uint16(40000), uint16(443), make([]byte, 7)), "", 0, 1},
	}
	for _, test := range tests {
		for _, v6 := range []bool{false, true} {
			in := packetOf(capture.Raw, ip(v6, inside, innerTTL, test.protocol, test.body))
			d := New(Config{})
			var out Packet
			v := d.Decode(&in, &out)
			want := tuple(inside[v6][0], 40000, inside[v6][1], 443, test.protocol)
			if v != Tracked || out.Tuple != want || string(out.Payload) != test.payload || out.PayloadLength != test.length {
				t.Errorf("%s: %v %+v, want %v with %q of %d", test.name, v, out, want, test.payload, test.length)
			}
			if s := d.Stats(); s.HeadersBroken != test.broken || s.HeadersCut != 0 {
				t.Errorf("%s: %d broken, %d cut; want %d, 0", test.name, s.HeadersBroken, s.HeadersCut, test.broken)
			}
		}
	}
	// The flags of a header that ends behind them are told.
	in := packetOf(capture.Raw, ipv4(inside[false], 1, flow.TCP, tcp(1, 2, 0x12, nil, nil)))
	in.Data = in.Data[:20+16]
	d := New(Config{})
	var out Packet
	d.Decode(&in, &out)
	if out.TCPFlags != flow.SYN|flow.ACK || out.Seq != 0x01020304 || out.Ack != 0x05060708 || out.Window != 0xabcd || d.Stats().HeadersCut != 1 {
		t.Errorf("%+v, %d cut", out, d.Stats().HeadersCut)
	}
}

// Lengths in IP headers decide what is payload: padding is not, and a zero that
// segmentation offload left means the rest of the frame.
func TestIPLengths(t *testing.T) {
	large := bytes.Repeat([]byte("x"), 100_000)
	offload := func(v6 bool, payload []byte) []byte {
		b := ip(v6, inside, 1, flow.UDP, join(uint16(1), uint16(2), uint32(0), payload))
		if v6 {
			b[4], b[5] = 0, 0
		} else {
			b[2], b[3] = 0, 0
		}
		return b
	}
	jumbo := ipv6(inside[true], 1, protoHopByHop, join(flowByte(flow.UDP), 0, "\xc2\x04\x00\x01\x86\xb0", uint16(1), uint16(2), uint32(0), large))
	jumbo[4], jumbo[5] = 0, 0
	tests := map[string]struct {
		data []byte
		want int
	}{
		"padded to 60 bytes":        {ethernet(etherIPv4, join(ipv4(inside[false], 1, flow.UDP, udp(1, 2, nil)), make([]byte, 18))), 0},
		"padded, IPv6":              {ethernet(etherIPv6, join(ipv6(inside[true], 1, flow.UDP, udp(1, 2, []byte("a"))), "trailer")), 1},
		"offload":                   {ethernet(etherIPv4, offload(false, large[:2000])), 2000},
		"offload of 100 kB":         {ethernet(etherIPv4, offload(false, large)), len(large)},
		"offload of 100 kB in IPv6": {ethernet(etherIPv6, offload(true, large)), len(large)},
		"jumbogram":                 {ethernet(etherIPv6, jumbo), len(large)},
	}
	for name, test := range tests {
		got, v := decodeOne(t, Config{}, packetOf(capture.Ethernet, test.data))
		if v != Tracked || len(got.Payload) != test.want || got.PayloadLength != test.want {
			t.Errorf("%s: %v, %d bytes of %d; want %d", name, v, len(got.Payload), got.PayloadLength, test.want)
		}
	}
	// A zero in a frame that may be padding is an error, not a payload.
	if _, v := decodeOne(t, Config{}, packetOf(capture.Ethernet, ethernet(etherIPv4, offload(false, make([]byte, 18))))); v != Malformed {
		t.Errorf("short frame of total length 0: %v", v)
	}
	if _, v := decodeOne(t, Config{}, packetOf(capture.Ethernet, ethernet(etherIPv6, offload(true, make([]byte, 1800))))); v != Malformed {
		t.Errorf("IPv6 without payload, with a trailer: %v", v)
	}
}

// IPv4 options, and the headers between IPv6 and its transport, are walked.
func TestHeadersBetween(t *testing.T) {
	segment := tcp(40000, 443, 0x18, innerOptions, innerPayload)
	withOptions := ipv4(inside[false], innerTTL, flow.TCP, join("\x94\x04\x00\x00\x01\x01\x01\x00", segment))
	withOptions[0] = 0x47
	ext := func(next flow.Protocol, words int) []byte {
		return join(flowByte(next), words, make([]byte, 6+8*words))
	}
	ah := join(flowByte(flow.TCP), 4, make([]byte, 22))
	atomic := join(flowByte(flow.TCP), 0, uint16(0), uint32(7))
	tests := map[string][]byte{
		"options": withOptions,
		"AH":      ipv4(inside[false], innerTTL, protoAH, join(ah, segment)),
		"AH in 6": ipv6(inside[true], innerTTL, protoAH, join(ah, segment)),
		"many": ipv6(inside[true], innerTTL, protoHopByHop, join(ext(protoDestination, 0), ext(protoRouting, 2), ext(protoMobility, 4),
			ext(protoHIP, 0), ext(protoShim6, 1), ext(protoDestination, 0), ext(flow.TCP, 255), segment)),
		"atomic fragment": ipv6(inside[true], innerTTL, protoDestination, join(ext(protoFragment, 0), atomic, segment)),
	}
	for name, b := range tests {
		got, v := decodeOne(t, Config{}, packetOf(capture.Raw, b))
		if v != Tracked || got.Tuple != innerTuple(got.IPv6) || !bytes.Equal(got.Payload, innerPayload) || got.Fragment {
			t.Errorf("%s: %v %+v", name, v, got)
		}
	}
}

// Decode overwrites all of out, also when it is used again.
func TestDecodeForgetsThePacketBefore(t *testing.T) {
	d := New(Config{})
	var out Packet
	in := packetOf(capture.Raw, innermost(true))
	d.Decode(&in, &out)
	in = packetOf(capture.Ethernet, ethernet(etherARP, nil))
	d.Decode(&in, &out)
	if want := (Packet{Time: in.Time, WireLength: in.WireLength}); !equal(out, want) {
		t.Errorf("%+v, want %+v", out, want)
	}
}

// A panic in the decoder costs one packet, which is kept for whoever mends it.
func TestFault(t *testing.T) {
	d := New(Config{})
	in := packetOf(capture.Raw, ipv4(inside[false], 1, flow.UDP, udp(1, 2, nil)))
	in.Data[6] = 0x20 // a first fragment
	var out Packet
	for range maxFaults + 3 {
		d.frags.open = nil // our bug: writing to it panics
		if v := d.Decode(&in, &out); v != Fault || !equal(out, Packet{Time: in.Time, WireLength: in.WireLength}) {
			t.Fatalf("%v %+v", v, out)
		}
	}
	if n := len(d.Offenders()); n != maxFaults || !bytes.Equal(d.Offenders()[0].Data, in.Data) {
		t.Errorf("%d offenders were kept, want %d", n, maxFaults)
	}
	o := verdictsOf(d, fragments(ipv4(inside[false], 1, flow.UDP, udp(1, 2, make([]byte, 100))), 1, 48)...)
	if want := []Verdict{Tracked, Tracked, Tracked}; !slices.Equal(o, want) || d.Stats().DatagramsComplete != 1 {
		t.Errorf("fragments after a fault: %v, %+v", o, d.Stats())
	}
	if s := d.Stats(); s.Verdicts[Fault] != maxFaults+3 || s.Packets != maxFaults+6 {
		t.Errorf("%+v", s)
	}
}

// verdictsOf decodes raw packets and returns their verdicts.
func verdictsOf(d *Decoder, data ...[]byte) (all []Verdict) {
	var out Packet
	for _, in := range rawPackets(data...) {
		all = append(all, d.Decode(&in, &out))
	}
	return all
}

func TestNewRefusesNegativeLimits(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("New took a negative limit")
		}
	}()
	New(Config{MaxDatagrams: -1})
}
