package decode

import (
	"reflect"
	"testing"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/fuzzguard"
	"github.com/whorl-net/whorl/probe/capture"
)

// same compares what common says of a packet with what the walk over all
// headers says, and reports whether common had an answer.
func same(t *testing.T, in *capture.Packet) bool {
	t.Helper()
	short, long := New(Config{}), New(Config{})
	// What was in out before must not shine through.
	got := Packet{Fragment: true, Held: make([]HeldFragment, 1), TCPFlags: 1, Window: 2, Seq: 3, Ack: 4, TCPOptions: []byte{5}, TCPCut: true, TTL: 6}
	if !short.common(in, &got) {
		return false
	}
	var want Packet
	if v := long.any(in, &want); v != Tracked {
		t.Fatalf("common tracks %x, which is %v", in.Data, v)
	}
	if len(got.TCPOptions) == 0 && len(want.TCPOptions) == 0 {
		got.TCPOptions, want.TCPOptions = nil, nil
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%x\ncommon %+v\nany    %+v", in.Data, got, want)
	}
	if s := long.Stats(); s.HeadersBroken+s.HeadersCut+s.DepthExceeded > 0 {
		t.Fatalf("%x: common has not counted what %+v has", in.Data, s)
	}
	return true
}

// The short way through the headers and the long one agree about every
// packet that the short one takes.
func FuzzCommon(f *testing.F) {
	for _, e := range encapsulations() {
		for _, v6 := range []bool{false, true} {
			frame := e.wrap(innermost(v6), v6, !v6)
			f.Add(frame, uint32(len(frame)))
			f.Add(frame[:len(frame)-1], uint32(len(frame)))
			f.Add(append(frame, 0, 0, 0), uint32(len(frame)+3))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, wire uint32) {
		fuzzguard.Watch(t)
		same(t, &capture.Packet{Data: data, WireLength: wire, Time: 7, LinkType: capture.Ethernet})
	})
}

// Plain TCP and UDP over both versions of IP goes the short way, cut anywhere
// and with any byte of its headers changed it is decoded as on the long one.
func TestCommonIsTheSame(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, protocol := range []flow.Protocol{flow.TCP, flow.UDP} {
			body := udp(1234, 53, make([]byte, 20))
			if protocol == flow.TCP {
				body = tcp(1234, 443, 0x18, []byte{2, 4, 5, 180, 1, 1, 4, 2}, make([]byte, 20))
			}
			frame := ethernet(etherOf(v6), ip(v6, inside, 64, protocol, body))
			in := capture.Packet{Data: frame, WireLength: uint32(len(frame)), LinkType: capture.Ethernet}
			if !same(t, &in) {
				t.Errorf("protocol %d, IPv6 %v: common leaves a plain packet to others", protocol, v6)
			}
			for n := range len(frame) {
				for _, wire := range []int{0, n, len(frame), len(frame) + 6, maxFrame + 1} {
					in.Data, in.WireLength = frame[:n], uint32(wire)
					same(t, &in)
				}
			}
			in.WireLength = uint32(len(frame))
			for i := range frame {
				for bit := range 8 {
					in.Data = append([]byte(nil), frame...)
					in.Data[i] ^= 1 << bit
					same(t, &in)
				}
			}
		}
	}
}
