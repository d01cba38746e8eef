package probe

import (
	"testing"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/probe/capture"
	"github.com/whorl-net/whorl/probe/decode"
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
