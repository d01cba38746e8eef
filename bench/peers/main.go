// Peers measures the tracker beside caches that others made, on the one thing
// that all of them do: find the flow of a packet by its key, count the packet,
// and keep the order of use. It is a module of its own, so that the caches are no
// dependency of Whorl.
//
//	go run -C bench/peers . [-flows 1000000] [-rounds 3]
//
// The caches keep a pointer to a record of 32 bytes under a flow.Key; one
// goroutine uses them, so none waits for a lock. What the tracker takes holds
// more: routing, two goroutines, states, timeouts.
package main

import (
	"context"
	"flag"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/elastic/go-freelru"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/maypok86/otter/v2"

	"github.com/whorl-net/whorl/bench/baseline"
	"github.com/whorl-net/whorl/bench/measure"
	"github.com/whorl-net/whorl/bench/numbered"
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/tracker"
)

func main() {
	flows := flag.Int("flows", 1_000_000, "flows in each table")
	rounds := flag.Int("rounds", 3, "how often everything is measured, in turn")
	out := flag.String("out", "../out", "folder for JSON")
	markdown := flag.Bool("markdown", false, "print the table as markdown")
	flag.Parse()
	if err := run(*flows, *rounds, *out, *markdown); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// record is what a cache keeps of a flow.
type record struct {
	packets, bytes uint64
	first, last    int64
}

// peer counts the packets of batches.
type peer struct {
	name  string
	count func([]*flow.Batch) error
}

func run(flows, rounds int, out string, markdown bool) error {
	report := measure.Report{Started: time.Now(), Machine: measure.Machine(), Args: os.Args[1:]}
	fmt.Println(report.Machine)
	t := &measure.Table{Name: "peers", Title: fmt.Sprintf("Update, %d flows, uniform, per packet", flows), Columns: []measure.Column{
		{Name: "CPU", Unit: "ns", Spread: true}, {Name: "ratio", Spread: true, More: true}, {Name: "heap", Unit: "B per flow"},
	}, Notes: []string{"ratio: CPU of the row / that of whorl tracker in the same round."}}
	report.Tables = append(report.Tables, t)

	fill := numbered.Rows{To: flows, Of: numbered.UDPFlow}.Batches()
	back := numbered.Rows{To: flows, Of: func(n int) flow.Tuple { return numbered.UDPFlow(n).Reverse() }}.Batches()
	var all []peer
	for _, build := range []func(room int) (peer, error){
		whorl, freeLRU, golangLRU, otterCache, goMap, original,
	} {
		before := heap()
		p, err := build(flows + flows/5)
		if err != nil {
			return err
		}
		for _, b := range [][]*flow.Batch{fill, back} {
			if err := p.count(b); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
		}
		t.Add(p.name, "heap", (heap()-before)/float64(flows))
		all = append(all, p)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range rounds {
		batches := numbered.Updates(r, flows/2, flows, 1)
		var ours float64
		for i, p := range all {
			runtime.GC()
			stop := measure.Start()
			if err := p.count(batches); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			cpu := float64(stop().CPU) / float64(numbered.Packets(batches))
			if i == 0 {
				ours = cpu
			}
			t.Add(p.name, "CPU", cpu)
			t.Add(p.name, "ratio", cpu/ours)
		}
	}
	if err := t.Print(os.Stdout, markdown); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	return report.Write(filepath.Join(out, report.Started.UTC().Format("20060102-150405")+"-caches"))
}

// heap is what is in use after a collection.
func heap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// whorl is the tracker of the project.
func whorl(room int) (peer, error) {
	t, err := tracker.New(tracker.Config{MaxConnections: room})
	if err != nil {
		return peer{}, err
	}
	go t.Run(context.Background()) // to the end of the program
	return peer{"whorl tracker", func(batches []*flow.Batch) error {
		for _, b := range batches {
			if err := t.Submit(context.Background(), tracker.Entry{LogTime: numbered.Epoch}, tracker.Origin{}, b, nil); err != nil {
				return err
			}
		}
		done := make(chan struct{})
		err := t.Flush(context.Background(), tracker.Entry{LogTime: numbered.Epoch}, tracker.FlushRequest{Network: "nobody"}, func(int) { close(done) })
		<-done
		return err
	}}, nil
}

// eachPacket calls f with the key of every packet.
func eachPacket(batches []*flow.Batch, f func(k flow.Key, length uint32, at int64)) error {
	for _, b := range batches {
		for i, ref := range b.Flow {
			k, _ := b.Flows[ref>>1].Key()
			f(k, b.WireLength[i], b.Time[i])
		}
	}
	return nil
}

func (r *record) count(length uint32, at int64) {
	r.packets++
	r.bytes += uint64(length)
	r.last = at
}

// cached makes a peer of a cache's get and add.
func cached(name string, get func(flow.Key) (*record, bool), add func(flow.Key, *record)) peer {
	return peer{name, func(batches []*flow.Batch) error {
		return eachPacket(batches, func(k flow.Key, length uint32, at int64) {
			r, ok := get(k)
			if !ok {
				r = &record{first: at}
				add(k, r)
			}
			r.count(length, at)
		})
	}}
}

func freeLRU(room int) (peer, error) {
	seed := maphash.MakeSeed()
	c, err := freelru.New[flow.Key, *record](uint32(room), func(k flow.Key) uint32 {
		var b [37]byte
		copy(b[:], k.A[:])
		copy(b[16:], k.B[:])
		b[32], b[33], b[34], b[35], b[36] = byte(k.APort), byte(k.APort>>8), byte(k.BPort), byte(k.BPort>>8), byte(k.Protocol)
		return uint32(maphash.Bytes(seed, b[:]))
	})
	if err != nil {
		return peer{}, err
	}
	return cached("elastic/go-freelru", c.Get, func(k flow.Key, r *record) { c.Add(k, r) }), nil
}

func golangLRU(room int) (peer, error) {
	c, err := lru.New[flow.Key, *record](room)
	if err != nil {
		return peer{}, err
	}
	return cached("hashicorp/golang-lru/v2", c.Get, func(k flow.Key, r *record) { c.Add(k, r) }), nil
}

func otterCache(room int) (peer, error) {
	c, err := otter.New(&otter.Options[flow.Key, *record]{MaximumSize: room})
	if err != nil {
		return peer{}, err
	}
	return cached("maypok86/otter/v2", c.GetIfPresent, func(k flow.Key, r *record) { c.Set(k, r) }), nil
}

// goMap keeps no order of use: what finding alone costs.
func goMap(int) (peer, error) {
	m := make(map[flow.Key]*record)
	return cached("Go map, no order", func(k flow.Key) (*record, bool) { r, ok := m[k]; return r, ok },
		func(k flow.Key, r *record) { m[k] = r }), nil
}

// original is the design that the tracker took the place of.
func original(room int) (peer, error) {
	t := baseline.New(room, time.Minute, nil)
	return peer{"original design", func(batches []*flow.Batch) error {
		for _, b := range batches {
			for i, ref := range b.Flow {
				f := &b.Flows[ref>>1]
				t.Update(f.Src.Netip(), f.SrcPort, f.Dst.Netip(), f.DstPort, f.Protocol, time.Unix(0, b.Time[i]), int(b.WireLength[i]))
			}
		}
		return nil
	}}, nil
}
