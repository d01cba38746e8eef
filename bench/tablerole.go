package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/whorl-net/whorl/bench/baseline"
	"github.com/whorl-net/whorl/bench/measure"
	"github.com/whorl-net/whorl/bench/traffic"
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

// weight is what a table full of flows weighs, in a process of its own.
type weight struct {
	// Resident is the growth of RSS by the table, in bytes; GC the CPU time of
	// a full collection, in nanoseconds, Empty that of one before there was a
	// table: of the program alone.
	Resident, GC, Empty float64
}

// prints are the fingerprints of a connection in the cases of memory: three
// types, each with a raw form.
var prints = []ja4.Type{ja4.TypeJA4, ja4.TypeJA4S, ja4.TypeJA4H}

// distinct is how many values of each type there are: few clients make most
// connections.
const distinct = 1000

// value and rawValue are those of connection n, about as long as real ones.
func value(typ ja4.Type, n int) string {
	return fmt.Sprintf("%s_t13d1516h2_%012x_%012x", typ, n%distinct*7919, n%distinct*104729)
}

func rawValue(typ ja4.Type, n int) string {
	return value(typ, n) + strings.Repeat(",002f,0035,009c", 10)
}

// tableRole fills one table with flows and prints its weight: arguments are
// "ours" or "baseline", the number of flows, and "prints" or "bare".
func tableRole(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("table: %d arguments", len(args))
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	before, _, err := measure.ResidentBytes(os.Getpid())
	if err != nil {
		return err
	}
	empty := collection()
	var keep any
	if args[0] == "ours" {
		keep, err = fillOurs(n, args[2] == "prints")
	} else {
		keep, err = fillBaseline(n, args[2] == "prints")
	}
	if err != nil {
		return err
	}
	debug.FreeOSMemory()
	after, _, err := measure.ResidentBytes(os.Getpid())
	if err != nil {
		return err
	}
	b, err := json.Marshal(weight{Resident: float64(after - before), GC: collection(), Empty: empty})
	if err != nil {
		return err
	}
	ready(string(b))
	runtime.KeepAlive(keep)
	return nil
}

// collection returns the CPU time of a full collection in nanoseconds: the
// smallest of some, since what else the machine does adds milliseconds.
func collection() float64 {
	least := math.Inf(1)
	for range 5 {
		stop := measure.Start()
		runtime.GC()
		least = min(least, float64(stop().CPU))
	}
	return least
}

// fillOurs returns a Tracker with n connections, by batches that go when they
// are applied.
func fillOurs(n int, withPrints bool) (any, error) {
	t, err := newTable(tracker.Config{MaxConnections: n + n/5})
	if err != nil {
		return nil, err
	}
	for i := 0; i < n; {
		b := new(flow.Batch)
		for ; i < n && b.Rows() < traffic.BatchRows; i++ {
			if withPrints {
				addWithPrints(b, i)
			} else {
				b.AddPacket(b.AddFlow(traffic.UDPFlow(i)), false, traffic.Epoch, 100, 0)
			}
		}
		if err := t.submit([]*flow.Batch{b}); err != nil {
			return nil, err
		}
	}
	if c := t.Count(); int(c.Live) != n || c.FingerprintsNoRoom > 0 {
		return nil, fmt.Errorf("%d connections, %d fingerprints without room; want %d, 0", c.Live, c.FingerprintsNoRoom, n)
	}
	return t, nil
}

// addWithPrints adds a packet of flow n with its fingerprints.
func addWithPrints(b *flow.Batch, n int) {
	f := b.AddFlow(traffic.UDPFlow(n))
	b.AddPacket(f, false, traffic.Epoch, 100, 0)
	for _, typ := range prints {
		b.Fingerprints = append(b.Fingerprints, flow.Fingerprint{
			Flow: f, Row: uint32(b.Rows()), Event: ja4.Event{Type: typ, Value: value(typ, n), Raw: rawValue(typ, n)},
		})
	}
}

// fillBaseline returns a baseline with n connections.
func fillBaseline(n int, withPrints bool) (any, error) {
	t := baseline.New(n+n/5, time.Minute, nil)
	for i := range n {
		f := traffic.UDPFlow(i)
		at := time.Unix(0, traffic.Epoch)
		key := t.Update(f.Src.Netip(), f.SrcPort, f.Dst.Netip(), f.DstPort, f.Protocol, at, 100)
		for _, typ := range prints[:printsOf(withPrints)] {
			t.AddFingerprint(key, typ.String(), value(typ, i), rawValue(typ, i), at)
		}
	}
	return t, nil
}

func printsOf(with bool) int {
	if with {
		return len(prints)
	}
	return 0
}

// memory weighs both tables, in processes of their own.
func (t *trackerCases) memory(sizes []int) error {
	weigh := func(args ...string) (w weight, err error) {
		c, err := startRole("table", args...)
		if err != nil {
			return w, err
		}
		if err := json.Unmarshal([]byte(c.line), &w); err != nil {
			return w, err
		}
		if w.Resident <= 0 || w.GC <= 0 {
			return w, errors.Join(fmt.Errorf("table %v weighs %s", args, c.line), c.stop())
		}
		return w, c.stop()
	}
	for i, n := range sizes {
		for _, kind := range []string{"bare", "prints"} {
			if kind == "prints" {
				if i > 0 {
					continue // it takes long, and many GB for the baseline
				}
				n /= 2
			}
			ours, err := weigh("ours", strconv.Itoa(n), kind)
			if err != nil {
				return err
			}
			base, err := weigh("baseline", strconv.Itoa(n), kind)
			if err != nil {
				return err
			}
			if kind == "prints" {
				t.add("RSS per connection with 3 + 3 fingerprints, bytes, "+millions(n), ours.Resident, base.Resident, float64(n))
				continue
			}
			t.add("RSS per connection, bytes, "+millions(n), ours.Resident, base.Resident, float64(n))
			t.add("full GC, CPU ms, "+millions(n), ours.GC, base.GC, 1e6)
			const alone = "  of the program without a table"
			t.table.Add(alone, "ours", ours.Empty/1e6)
			t.table.Add(alone, "baseline", base.Empty/1e6)
		}
	}
	return nil
}
