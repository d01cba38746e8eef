package traffic

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/probe/capture"
	"github.com/whorl-net/whorl/probe/decode"
)

// kind is what a recorded conversation is.
type kind uint8

const (
	kindTLS kind = iota
	kindHTTP
	kindSSH
	kindDNS
	kindPing
	kindRefused

	numKinds = iota
)

var kindNames = [numKinds]string{"tls", "http", "ssh", "dns", "ping", "refused"}

// Sample holds recorded conversations. It is not changed after ReadSample, so
// many Generators may share one.
type Sample struct {
	kinds [numKinds][]*template
}

// template is one recorded conversation. Side 0 is the client.
type template struct {
	kind    kind
	ipv6    bool
	packets []recorded
	// cut is where data segments go: before the first FIN.
	cut int
	// next is the sequence number each side would send at cut.
	next [2]uint32
	// header is a packet of each side at cut without its payload.
	header [2]recorded
}

// recorded is one packet and where its parts begin.
type recorded struct {
	data     []byte
	wire     uint32
	side     uint8
	protocol flow.Protocol
	// l3, l4 and payload are offsets into data.
	l3, l4, payload int
}

// errShape says that a recorded packet is none that can be played again.
var errShape = errors.New("not Ethernet with plain IP and TCP, UDP or ICMP")

// ReadSample takes the conversations of a capture: whole ones over Ethernet,
// each with a server port that says what it is (443, 80, 22, 53, another), and
// pings. All kinds have to be there.
func ReadSample(name string, r io.Reader) (*Sample, error) {
	f, err := capture.Read(name, r)
	if err != nil {
		return nil, fmt.Errorf("traffic sample: %w", err)
	}
	var (
		in    capture.Packet
		out   decode.Packet
		d     = decode.New(decode.Config{})
		index = make(map[flow.Key]*template)
		first = make(map[flow.Key]flow.Tuple)
		all   []*template
	)
	for {
		err := f.Next(&in)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("traffic sample: %w", err)
		}
		if d.Decode(&in, &out) != decode.Tracked {
			continue
		}
		key, _ := out.Tuple.Key()
		t := index[key]
		if t == nil {
			t = &template{kind: kindOf(out.Tuple), ipv6: out.IPv6}
			index[key], first[key] = t, out.Tuple
			all = append(all, t)
		}
		side := uint8(0)
		if out.Tuple != first[key] {
			side = 1
		}
		p, err := parse(&in, side)
		if err != nil {
			return nil, fmt.Errorf("traffic sample: packet %d: %w", f.Stats().Packets, err)
		}
		t.packets = append(t.packets, p)
	}
	s := new(Sample)
	for _, t := range all {
		if err := t.finish(); err != nil {
			return nil, fmt.Errorf("traffic sample: a conversation of kind %s: %w", kindNames[t.kind], err)
		}
		s.kinds[t.kind] = append(s.kinds[t.kind], t)
	}
	for k, ts := range s.kinds {
		if len(ts) == 0 {
			return nil, fmt.Errorf("traffic sample: %s has no conversation of kind %s", name, kindNames[k])
		}
	}
	return s, nil
}

func kindOf(t flow.Tuple) kind {
	if t.Protocol != flow.TCP && t.Protocol != flow.UDP {
		return kindPing
	}
	switch t.DstPort {
	case 443:
		return kindTLS
	case 80:
		return kindHTTP
	case 22:
		return kindSSH
	case 53:
		return kindDNS
	}
	return kindRefused
}

// parse finds the parts of a packet and copies it, without Ethernet padding.
func parse(in *capture.Packet, side uint8) (recorded, error) {
	d := in.Data
	if in.LinkType != capture.Ethernet || len(d) < 14+20 || int(in.WireLength) != len(d) {
		return recorded{}, errShape
	}
	p := recorded{side: side, l3: 14}
	end := 0
	switch binary.BigEndian.Uint16(d[12:]) {
	case 0x0800:
		p.l4 = p.l3 + int(d[p.l3]&0xf)*4
		p.protocol = flow.Protocol(d[p.l3+9])
		end = p.l3 + int(binary.BigEndian.Uint16(d[p.l3+2:]))
	case 0x86dd:
		if len(d) < 14+40 {
			return recorded{}, errShape
		}
		p.l4 = p.l3 + 40
		p.protocol = flow.Protocol(d[p.l3+6])
		end = p.l4 + int(binary.BigEndian.Uint16(d[p.l3+4:]))
	default:
		return recorded{}, errShape
	}
	if end > len(d) || p.l4+8 > end {
		return recorded{}, errShape
	}
	p.payload = p.l4 + 8
	if p.protocol == flow.TCP {
		if p.l4+20 > end {
			return recorded{}, errShape
		}
		p.payload = p.l4 + int(d[p.l4+12]>>4)*4
	}
	if p.payload > end {
		return recorded{}, errShape
	}
	p.data, p.wire = slices.Clone(d[:end]), uint32(end)
	return p, nil
}

// finish finds the place for data segments and what they continue.
func (t *template) finish() error {
	t.cut = len(t.packets)
	if t.packets[0].protocol != flow.TCP {
		return nil
	}
	if i := slices.IndexFunc(t.packets, func(p recorded) bool { return p.flags()&(flow.FIN|flow.RST) != 0 }); i >= 0 {
		t.cut = i
	}
	var have [2]bool
	for _, p := range t.packets[:t.cut] {
		n := uint32(len(p.data) - p.payload)
		if p.flags()&flow.SYN != 0 {
			n++
		}
		if next := p.seq() + n; !have[p.side] || int32(next-t.next[p.side]) > 0 {
			t.next[p.side] = next
		}
		have[p.side] = true
		t.header[p.side] = p
		t.header[p.side].data = p.data[:p.payload]
	}
	if t.carriesData() && !(have[0] && have[1]) {
		return errors.New("one side says nothing")
	}
	return nil
}

// carriesData reports whether data segments may be put in.
func (t *template) carriesData() bool {
	return t.kind == kindTLS || t.kind == kindHTTP || t.kind == kindSSH
}

func (p *recorded) flags() uint8 { return p.data[p.l4+13] }

func (p *recorded) seq() uint32 { return binary.BigEndian.Uint32(p.data[p.l4+4:]) }
