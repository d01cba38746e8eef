package service

import (
	"fmt"
	"os"
	"runtime/pprof"
	"testing"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

func TestZZProfile(t *testing.T) {
	r := newRig(t, Config{})
	p, _ := r.report(helloOf("probe-1", "s1"))
	sequence := uint64(0)
	const n = 10000
	for i := 0; i < n; i += 500 {
		sequence++
		b := &flow.Batch{Sequence: sequence}
		for k := i; k < min(i+500, n); k++ {
			f := b.AddFlow(tuple(k))
			b.AddPacket(f, false, epochStart+int64(k), 100, flow.ACK)
			for _, e := range []ja4.Event{
				{Type: ja4.TypeJA4T, Value: "64240_2-4-8-1-3_1460_10"},
				{Type: ja4.TypeJA4, Value: fmt.Sprintf("t13d%02d12h2_e8f1e7e78f70_b26ce05bbdd6", k%50), Raw: "t13d3112h2_002f,0035,009c,009d,1301,1302,1303,c009,c00a,c013,c014,c02b,c02c,c02f,c030,cca8,cca9_0005,000a,000b,000d,0012,0017,001b,0023,002b,002d,0033,4469,ff01_0403,0804,0401,0503,0805,0501,0806,0601", ServerName: fmt.Sprintf("www%d.example.com", k%300)},
				{Type: ja4.TypeJA4S, Value: "t130200_1302_a56c5b993250"},
				{Type: ja4.TypeJA4TS, Value: "65535_2-4-8-1-3_1460_9"},
			} {
				b.Fingerprints = append(b.Fingerprints, flow.Fingerprint{Flow: f, Row: uint32(b.Rows()), Event: e})
			}
		}
		p.batch(b)
	}
	p.acked(sequence)
	ts := newTrackerService(r.collector.tracker, r.collector.journal, r.collector.knowledge, &r.collector.counters)
	out, _ := os.Create(os.Getenv("ZZ_PROF"))
	pprof.StartCPUProfile(out)
	start, conns := time.Now(), 0
	var token string
	for time.Since(start) < 4*time.Second {
		resp, err := ts.All(t.Context(), &whorlv1.AllRequest{PageSize: 1000, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		token = resp.GetNextPageToken()
		conns += 1000
	}
	pprof.StopCPUProfile()
	t.Log(conns, time.Since(start)/time.Duration(conns))
}
