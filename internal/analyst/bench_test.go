package analyst

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

// benchItems is how many items an Output of the benchmarks has.
const benchItems = 1000

// BenchmarkTake: what one event costs on the goroutine that all outputs pass.
// Goals: 150 ns for an opened connection of a flood, 2 µs for a fingerprint.
func BenchmarkTake(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	random := func() flow.Addr {
		return flow.AddrFrom4([4]byte{byte(1 + r.IntN(200)), byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(256))})
	}
	base := tracker.Event{
		Kind: tracker.Opened, Network: "default", Probe: "p", Protocol: flow.TCP, TCPFlags: flow.SYN, SrcPort: 40000, DstPort: 443,
		Src: flow.AddrFrom4([4]byte{10, 0, 0, 1}), Dst: flow.AddrFrom4([4]byte{192, 0, 2, 1}), Time: start,
	}
	fingerprint := func(ev *tracker.Event, value string) {
		ev.Kind, ev.Type, ev.Value, ev.PacketNum = tracker.Fingerprinted, ja4.TypeJA4, value, 4
	}
	for _, bench := range []struct {
		name string
		next func(i int, ev *tracker.Event)
	}{
		{"opened/flood from invented addresses", func(_ int, ev *tracker.Event) { ev.Src = random() }},
		{"opened/scan", func(i int, ev *tracker.Event) { ev.DstPort = uint16(i) }},
		{"opened/sweep", func(_ int, ev *tracker.Event) { ev.Dst = random() }},
		{"opened/clients of servers", func(i int, ev *tracker.Event) {
			ev.Src = flow.AddrFrom4([4]byte{10, 0, byte(i % 7), byte(i % 199)})
			ev.Dst = flow.AddrFrom4([4]byte{192, 0, 2, byte(i % 31)})
		}},
		{"opened/answers", func(i int, ev *tracker.Event) { ev.TCPFlags = flow.ACK }},
		{"fingerprint/known", func(i int, ev *tracker.Event) {
			fingerprint(ev, fmt.Sprintf("t13d1516h2_%012x_02713d6af862", i%10))
		}},
		{"fingerprint/invented", func(i int, ev *tracker.Event) {
			ev.Src = random()
			fingerprint(ev, fmt.Sprintf("t13d1516h2_%012x_02713d6af862", r.Uint64()>>16))
		}},
		{"fingerprint/measurement", func(i int, ev *tracker.Event) {
			fingerprint(ev, fmt.Sprintf("%d_64", i))
			ev.Type = ja4.TypeJA4L
		}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			a, err := New(Config{Seed: 1})
			if err != nil {
				b.Fatal(err)
			}
			// Many outputs, so that a flood does not come back after some thousand.
			outputs := make([]*tracker.Output, 200)
			n := 0
			for k := range outputs {
				outputs[k] = &tracker.Output{Last: true}
				for range benchItems {
					ev := base
					ev.Time += int64(n) * 1000
					ev.UID[4], ev.UID[5], ev.UID[9], ev.UID[10], ev.UID[11] = byte(n>>24), byte(n), byte(n>>16), byte(n>>8), byte(n>>4)
					bench.next(n, &ev)
					outputs[k].Items = append(outputs[k].Items, tracker.Item{Event: &ev})
					n++
				}
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += benchItems {
				o := outputs[i/benchItems%len(outputs)]
				o.Position = uint64(i + 1)
				a.Take(o, nil)
			}
		})
	}
}

// BenchmarkSave: everything full of inventions. Take waits for so long.
func BenchmarkSave(b *testing.B) {
	a, err := New(Config{Seed: 1})
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	ev := tracker.Event{Network: "default", Probe: "p", Protocol: flow.TCP, TCPFlags: flow.SYN, SrcPort: 40000, Time: start}
	for i := range 300_000 {
		ev.Src = flow.AddrFrom4([4]byte{byte(1 + r.IntN(200)), byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(256))})
		ev.DstPort = uint16(i)
		ev.UID[5], ev.UID[9], ev.UID[10], ev.UID[11] = byte(i), byte(i>>16), byte(i>>8), byte(i>>4)
		opened, shown := ev, ev
		opened.Kind = tracker.Opened
		shown.Kind, shown.Type, shown.Value = tracker.Fingerprinted, ja4.TypeJA4, fmt.Sprintf("t13d1516h2_%012x_02713d6af862", i)
		a.Take(&tracker.Output{Position: uint64(i + 1), Last: true, Items: []tracker.Item{{Event: &opened}, {Event: &shown}}}, nil)
	}
	var data []byte
	b.ResetTimer()
	for range b.N {
		if data, _, err = a.Save(data[:0]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(data)), "bytes")
}
