package analyst

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

// benchItems is how many items an Output of the benchmarks has: as many as a
// tracker puts into one, in memory that it uses again.
const benchItems = 256

// BenchmarkTake: what one event costs on the goroutine that all outputs pass.
// Goals: 150 ns for an opened connection of a flood, 2 µs for a fingerprint that
// makes its connection new.
func BenchmarkTake(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	random := func() flow.Addr {
		x := r.Uint32()
		return flow.AddrFrom4([4]byte{byte(x>>24)%200 + 1, byte(x >> 16), byte(x >> 8), byte(x)})
	}
	known := make([]string, 16)
	for i := range known {
		known[i] = fmt.Sprintf("t13d1516h2_%012x_02713d6af862", i)
	}
	// Values that are new for as long as the inventory is large: four times as
	// many as it has room for.
	invented := make([]string, 1<<19)
	for i := range invented {
		invented[i] = fmt.Sprintf("t13d1516h2_%012x_02713d6af862", r.Uint64()>>16)
	}
	base := tracker.Event{
		Kind: tracker.Opened, Network: "default", Probe: "p", Protocol: flow.TCP, TCPFlags: flow.SYN, SrcPort: 40000, DstPort: 443,
		Src: flow.AddrFrom4([4]byte{10, 0, 0, 1}), Dst: flow.AddrFrom4([4]byte{192, 0, 2, 1}), Time: start,
	}
	fingerprint := func(ev *tracker.Event, value string) {
		ev.Kind, ev.Type, ev.Value, ev.PacketNum = tracker.Fingerprinted, ja4.TypeJA4, value, 4
	}
	clients := func(i int, ev *tracker.Event) {
		ev.Src = flow.AddrFrom4([4]byte{10, 0, byte(i % 7), byte(i % 199)})
		ev.Dst = flow.AddrFrom4([4]byte{192, 0, 2, byte(i % 31)})
	}
	for _, bench := range []struct {
		name string
		next func(i int, ev *tracker.Event)
	}{
		{"opened/flood from invented addresses", func(_ int, ev *tracker.Event) { ev.Src = random() }},
		{"opened/scan", func(i int, ev *tracker.Event) { ev.DstPort = uint16(i) }},
		{"opened/sweep", func(_ int, ev *tracker.Event) { ev.Dst = random() }},
		{"opened/clients of servers", clients},
		{"opened/answers", func(i int, ev *tracker.Event) { ev.TCPFlags = flow.ACK }},
		{"fingerprint/known", func(i int, ev *tracker.Event) { clients(i, ev); fingerprint(ev, known[i%len(known)]) }},
		{"fingerprint/known server", func(i int, ev *tracker.Event) {
			clients(i, ev)
			fingerprint(ev, known[i%len(known)])
			ev.Type = ja4.TypeJA4S
		}},
		{"fingerprint/invented", func(i int, ev *tracker.Event) {
			ev.Src = random()
			fingerprint(ev, invented[i%len(invented)])
		}},
		{"fingerprint/measurement", func(i int, ev *tracker.Event) {
			fingerprint(ev, "1000_64")
			ev.Type = ja4.TypeJA4L
		}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			a, err := New(Config{Seed: 1})
			if err != nil {
				b.Fatal(err)
			}
			events, departures := make([]tracker.Event, benchItems), make([]tracker.Departure, benchItems)
			o := &tracker.Output{Last: true, Items: make([]tracker.Item, benchItems)}
			left := &tracker.Output{Last: true, Items: make([]tracker.Item, benchItems)}
			for k := range o.Items {
				events[k] = base
				o.Items[k].Event, left.Items[k].Departure = &events[k], &departures[k]
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += benchItems {
				for k := range events {
					ev, n := &events[k], i+k
					ev.Time = start + int64(n)*1000
					ev.UID[5], ev.UID[8], ev.UID[9], ev.UID[10], ev.UID[11] = byte(n), byte(n>>24), byte(n>>16), byte(n>>8), byte(n>>4)
					ev.UID[15] = byte(n >> 12)
					bench.next(n, ev)
					departures[k].UID = ev.UID
				}
				o.Position += 2
				a.Take(o, nil)
				left.Position = o.Position + 1
				a.Take(left, nil)
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
