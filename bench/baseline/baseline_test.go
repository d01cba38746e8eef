package baseline

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/whorl-net/whorl/flow"
)

var (
	a     = netip.MustParseAddr("10.0.0.5")
	b     = netip.MustParseAddr("192.0.2.1")
	start = time.Unix(1_700_000_000, 0)
)

// Both directions are one connection, whose counters grow and whose copies do
// not.
func TestUpdateCountsBothDirections(t *testing.T) {
	tr := New(10, time.Minute, nil)
	k1 := tr.Update(a, 1000, b, 443, flow.TCP, start, 100)
	c, _ := tr.Get(k1)
	k2 := tr.Update(b, 443, a, 1000, flow.TCP, start.Add(time.Second), 50)
	d, ok := tr.Get(k2)
	if k1 != k2 || !ok || tr.Count() != 1 || d.PacketCount != 2 || d.ByteCount != 150 || c.PacketCount != 1 || d.Src != a {
		t.Errorf("keys %s and %s, count %d: %+v, before %+v", k1, k2, tr.Count(), d, c)
	}
}

// Beyond the limit the least recently used leaves, once, with what was known.
func TestCapacityEvictsTheLeastRecentlyUsed(t *testing.T) {
	var gone []*Connection
	tr := New(2, time.Minute, func(c *Connection) { gone = append(gone, c) })
	first := tr.Update(a, 1, b, 443, flow.TCP, start, 1)
	second := tr.Update(a, 2, b, 443, flow.TCP, start, 1)
	tr.AddFingerprint(second, "ja4", "x", "", start)
	tr.Update(a, 1, b, 443, flow.TCP, start, 1)
	tr.Update(a, 3, b, 443, flow.TCP, start, 1)
	if _, ok := tr.Get(first); !ok || tr.Count() != 2 || len(gone) != 1 || gone[0].ID != second || len(gone[0].Fingerprints["ja4"]) != 1 {
		t.Errorf("first there: %v, count %d, gone %v", ok, tr.Count(), gone)
	}
}

// Idle ones leave, and only those.
func TestEvictFindsTheIdle(t *testing.T) {
	tr := New(10, time.Minute, nil)
	tr.Update(a, 1, b, 443, flow.TCP, start, 1)
	fresh := tr.Update(a, 2, b, 443, flow.TCP, start.Add(time.Second), 1)
	if n := tr.Evict(start.Add(61 * time.Second)); n != 1 || len(tr.All()) != 1 || tr.All()[0].ID != fresh {
		t.Errorf("%d evicted, %d left", n, len(tr.All()))
	}
}

// A history keeps its first and its newest events.
func TestHistoryKeepsBothEnds(t *testing.T) {
	tr := New(10, time.Minute, nil)
	key := tr.Update(a, 1, b, 443, flow.TCP, start, 1)
	for i := range 1500 {
		tr.AddFingerprint(key, "ja4h", fmt.Sprint(i), "", start)
		tr.AddFingerprint(key, "ja4h", fmt.Sprint(i), "", start)
	}
	c, _ := tr.Get(key)
	h := c.Fingerprints["ja4h"]
	if len(h) != 1000 || h[99].Value != "99" || h[100].Value != "600" || h[999].Value != "1499" {
		t.Errorf("%d events: %s, %s … %s", len(h), h[99].Value, h[100].Value, h[999].Value)
	}
}
