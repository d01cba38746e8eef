package tracker

import (
	"slices"
	"testing"
	"time"

	"github.com/whorl-net/whorl/flow"
)

// A copy has every byte of the addresses, at the end where they belong, whichever
// side of the key the initiator is; also into memory that held something else.
func TestCopyHasBothEndsWhole(t *testing.T) {
	r := newRig(t, Config{})
	tu := flow.Tuple{SrcPort: 0x1122, DstPort: 0x3344, Protocol: flow.TCP}
	for i := range tu.Src {
		tu.Src[i], tu.Dst[i] = byte(0x20+i), byte(0x60+i)
	}
	var s Snapshot
	for n, tu := range []flow.Tuple{tu, tu.Reverse()} {
		network := []string{"here", "there"}[n]
		r.submit(at(0), r.origin(network, "probe"), batchOf(
			pkt{flow: tu, flags: flow.SYN, bytes: 100},
			pkt{flow: tu, at: time.Second, flags: flow.SYN | flow.ACK, back: true, bytes: 70},
			pkt{flow: tu, at: 2 * time.Second, flags: flow.ACK, bytes: 60}))
		key, _ := tu.Key()
		if !r.Get(key, network, Full, &s) {
			t.Fatalf("%v is not tracked", tu)
		}
		if s.Key != key || s.Src != tu.Src || s.Dst != tu.Dst || s.SrcPort != tu.SrcPort || s.DstPort != tu.DstPort {
			t.Errorf("the copy has key %v, ends %v %d and %v %d; want %v of %+v", s.Key, s.Src, s.SrcPort, s.Dst, s.DstPort, key, tu)
		}
		want := Observer{
			Probe: "probe", PacketCount: 3, ByteCount: 230, SrcPacketCount: 2, SrcByteCount: 160,
			FirstSeen: at(0), LastSeen: at(2 * time.Second),
		}
		if !slices.Equal(s.Observers, []Observer{want}) {
			t.Errorf("from %v: observers %+v, want %+v", tu.Src, s.Observers, want)
		}
		if s.PacketCount != 3 || s.ByteCount != 230 || s.SrcPacketCount != 2 || s.SrcByteCount != 160 {
			t.Errorf("from %v: %d packets, %d bytes, %d and %d from there; want 3, 230, 2, 160",
				tu.Src, s.PacketCount, s.ByteCount, s.SrcPacketCount, s.SrcByteCount)
		}
	}
}
