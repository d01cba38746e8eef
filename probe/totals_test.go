package probe

import (
	"testing"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/probe/capture"
	"github.com/whorl-net/whorl/probe/decode"
	"github.com/whorl-net/whorl/probe/handshake"
)

// Packets that were cut and link types that are not known are counted.
func TestWhatCaptureLacksIsCounted(t *testing.T) {
	whole := raw(0, frame(1, true, flow.SYN, 1, ""))
	cut := raw(time.Millisecond, frame(1, true, flow.ACK, 2, "some"))
	cut.Data = cut.Data[:len(cut.Data)-1]
	foreign := raw(2*time.Millisecond, []byte("whatever"))
	foreign.LinkType = 239
	foreigner := foreign
	foreigner.LinkType = 240
	_, totals := mustRun(t, Config{}, &list{packets: []capture.Packet{whole, cut, foreign, foreigner}})
	if n := totals.Decode.Verdicts[decode.UnknownLink]; totals.Cut != 1 || n != 2 || totals.Decode.UnknownLink != 239 {
		t.Errorf("%d cut, %d of unknown link types, the first %v", totals.Cut, n, totals.Decode.UnknownLink.Label())
	}
	var sum Totals
	sum.add(Totals{})
	sum.add(totals)
	sum.add(totals)
	if n := sum.Decode.Verdicts[decode.UnknownLink]; sum.Cut != 2 || n != 4 || sum.Decode.UnknownLink != 239 {
		t.Errorf("together: %d cut, %d of unknown link types, the first %v", sum.Cut, n, sum.Decode.UnknownLink.Label())
	}
}

// A packet that claims more bytes than a wire carries counts as long as what was
// captured of it, and is counted, in batches and in Fingerprints.
func TestLengthsBeyondAWireAreRefused(t *testing.T) {
	packets := traffic(4, 1)
	for i, length := range []uint32{capture.MaxWire, capture.MaxWire + 1, 352 << 20, 1<<32 - 1} {
		packets[i].WireLength = length
	}
	want := uint64(capture.MaxWire)
	for _, p := range packets[1:] {
		want += uint64(len(p.Data))
	}
	_, totals := mustRun(t, Config{Types: ja4.NoTypes}, &list{packets: packets})
	if totals.LengthsRefused != 3 || totals.Bytes != want || totals.ReportedBytes != want || totals.Cut != 1 {
		t.Errorf("%+v; want %d bytes, 3 lengths refused", totals, want)
	}
	totals, err := Fingerprints(t.Context(), &list{packets: packets}, Config{}, func(*handshake.Event) error { return nil })
	if err != nil || totals.LengthsRefused != 3 || totals.Bytes != want {
		t.Errorf("%v: %+v; want %d bytes, 3 lengths refused", err, totals, want)
	}
	var sum Totals
	sum.add(totals)
	sum.add(totals)
	if sum.LengthsRefused != 6 {
		t.Errorf("together: %d lengths refused, want 6", sum.LengthsRefused)
	}
}
