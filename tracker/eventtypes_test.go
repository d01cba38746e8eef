package tracker

import (
	"fmt"
	"slices"
	"testing"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
)

// Fingerprints of types that nobody asked for make no Event, but are recorded all
// the same; types that are asked for later count from the next entry on.
func TestEventTypes(t *testing.T) {
	var got []string
	r := newRig(t, Config{Events: true, EventTypes: 1 << ja4.TypeJA4, OnOutput: func(o *Output) {
		for _, i := range o.Items {
			if e := i.Event; e != nil && e.Kind == Fingerprinted {
				got = append(got, fmt.Sprint(e.Type, " ", e.Value))
			}
		}
	}})
	show := func(n int) {
		b := batchOf(handshake(tuple(1), 0)...)
		for _, typ := range []ja4.Type{ja4.TypeJA4L, ja4.TypeJA4, ja4.TypeJA4S} {
			b.Fingerprints = append(b.Fingerprints, flow.Fingerprint{Row: 3, Event: ja4.Event{Type: typ, Value: fmt.Sprint("v", n)}})
		}
		r.submit(at(0), Origin{}, b)
	}
	show(1)
	r.AddEventTypes(1 << ja4.TypeJA4S)
	show(2)
	settle(t, r.Tracker)
	if want := []string{"ja4 v1", "ja4 v2", "ja4s v2"}; !slices.Equal(got, want) {
		t.Errorf("events of %q, want %q", got, want)
	}
	for _, h := range r.get(tuple(1), "").Fingerprints {
		if h.TotalCount != 2 {
			t.Errorf("%v was recorded %d times, want 2", h.Type, h.TotalCount)
		}
	}
}

// What a tracker says of a fingerprint holds the totals of its connection, also when
// several probes see it.
func TestFingerprintEventTotals(t *testing.T) {
	var got []string
	r := newRig(t, Config{Events: true, OnOutput: func(o *Output) {
		for _, i := range o.Items {
			if e := i.Event; e != nil && e.Kind == Fingerprinted {
				got = append(got, fmt.Sprint(e.Value, " ", e.PacketNum, " ", e.SrcPackets, "+", e.DstPackets, " ", e.SrcBytes, "+", e.DstBytes, " ", e.Previous))
			}
		}
	}})
	for i, probe := range []string{"one", "two", "one"} {
		o, err := r.Origin("lab", probe, false)
		if err != nil {
			t.Fatal(err)
		}
		b := batchOf(handshake(tuple(1), 0)[:2+i%2]...)
		b.Fingerprints = append(b.Fingerprints, flow.Fingerprint{Row: 1, Event: ja4.Event{Type: ja4.TypeJA4, Value: fmt.Sprint("v", i)}})
		r.submit(at(0), o, b)
	}
	settle(t, r.Tracker)
	// The second probe has seen one packet when the first has seen two.
	want := []string{"v0 1 1+0 100+0 ", "v1 1 1+1 100+100 v0", "v2 3 2+1 200+100 v1"}
	if !slices.Equal(got, want) {
		t.Errorf("events\n%q, want\n%q", got, want)
	}
}
