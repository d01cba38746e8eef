package wire

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/whorl-net/whorl/internal/fuzzguard"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"github.com/whorl-net/whorl/tracker"
)

func randomDiscovery(r *rand.Rand) *Discovery {
	s := randomSnapshot(r)
	d := &Discovery{DiscoveredAt: testTime + r.Int64N(1e12), Connection: *s, EvictionSequence: r.Uint64N(2) * r.Uint64()}
	if len(s.Anomalies) > 0 {
		d.Anomaly = s.Anomalies[0]
	}
	return d
}

// A discovery has the bytes of the generated encoder, and comes back as it was,
// whatever the reused one held before.
func TestDiscoveryIsTheGeneratedCode(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	var got Discovery
	sortTypes := cmpopts.SortSlices(func(a, b tracker.History) bool { return a.Type < b.Type })
	for i := range 100 {
		d := randomDiscovery(r)
		want := &whorlv1.Discovery{
			Sequence: 8812, DiscoveredAt: timestampOf(d.DiscoveredAt), Connection: connectionOf(&d.Connection), EvictionSequence: d.EvictionSequence,
			Anomaly: connectionOf(&tracker.Snapshot{Anomalies: []tracker.Anomaly{d.Anomaly}}).Anomalies[0],
		}
		full := append(appendUint(nil, 1, 8812), AppendDiscovery(nil, d)...)
		if !bytes.Equal(full, mustMarshal(want)) {
			t.Fatalf("discovery %d differs from the generated one", i)
		}
		if got := (Projection{}).AppendDiscoveryFrame(nil, 8812, d); !bytes.Equal(got, mustMarshal(&whorlv1.WatchResponse{Discoveries: []*whorlv1.Discovery{want}})) {
			t.Fatalf("framed discovery %d differs from the generated one", i)
		}
		sequence, err := DecodeDiscovery(full, tracker.Full, &got)
		if err != nil || sequence != 8812 {
			t.Fatalf("sequence %d, error %v", sequence, err)
		}
		if diff := cmp.Diff(d, &got, cmpopts.EquateEmpty(), sortTypes); diff != "" {
			t.Fatalf("discovery %d (-want +got):\n%s", i, diff)
		}
	}
}

// Nothing that is decoded as a discovery does harm.
func FuzzDecodeDiscovery(f *testing.F) {
	r := rand.New(rand.NewPCG(13, 14))
	for range 4 {
		f.Add(AppendDiscovery(nil, randomDiscovery(r)))
	}
	var d, again Discovery
	f.Fuzz(func(t *testing.T, p []byte) {
		fuzzguard.Watch(t)
		if _, err := DecodeDiscovery(p, tracker.Full, &d); err != nil {
			return
		}
		if _, err := DecodeDiscovery(AppendDiscovery(nil, &d), tracker.Full, &again); err != nil {
			t.Fatalf("encoded again: %v", err)
		}
	})
}
