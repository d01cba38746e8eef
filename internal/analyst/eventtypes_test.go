package analyst

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/whorl-net/whorl/internal/analyst/anomaly"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

// Events of types that EventTypes leaves out change nothing: neither what is found
// nor what is saved.
func TestEventTypesAreEnough(t *testing.T) {
	outputs := recorded(t, 1, 3000)
	cfg := Config{Learn: 20 * time.Second, Seed: 7}
	types := EventTypes(anomaly.Builtin())
	more := make([]*tracker.Output, len(outputs)) // a latency beside each fingerprint
	for i, o := range outputs {
		o := *o
		o.Items = nil
		for _, item := range outputs[i].Items {
			o.Items = append(o.Items, item)
			if ev := item.Event; ev != nil && ev.Kind == tracker.Fingerprinted {
				latency := *ev
				latency.Type, latency.Value = ja4.TypeJA4L, fmt.Sprint(i, "_64")
				if types.Has(latency.Type) || !types.Has(ev.Type) {
					t.Fatal("types are", types)
				}
				o.Items = append(o.Items, tracker.Item{Event: &latency})
			}
		}
		more[i] = &o
	}
	whole, _ := New(cfg)
	part, _ := New(cfg)
	want, got := amendments(whole, more), amendments(part, outputs)
	if !slices.Equal(got, want) {
		t.Errorf("%d findings, want %d", len(got), len(want))
	}
	all, _, _ := whole.Save(nil)
	if saved, _, _ := part.Save(nil); !bytes.Equal(saved, all) {
		t.Error("the states are not the same")
	}
}

// A rule on a type that is otherwise of no interest asks for its events.
func TestEventTypesOfRules(t *testing.T) {
	const rule = "rules:\n- {id: far, severity: low, on: [ja4l], key: src, threshold: 1, window: 1m, text: far}\n"
	rs, err := anomaly.Load(anomaly.File{Name: "rules.yaml", Data: []byte(rule)})
	if err != nil {
		t.Fatal(err)
	}
	builtin, own := EventTypes(anomaly.Builtin()), EventTypes(rs)
	for _, typ := range []ja4.Type{ja4.TypeJA4, ja4.TypeJA4S, ja4.TypeJA4SSH, ja4.TypeJA4TS} {
		if !builtin.Has(typ) {
			t.Errorf("%v makes no events", typ)
		}
	}
	if builtin.Has(ja4.TypeJA4L) || builtin.Has(ja4.TypeJA4LS) || own != builtin.With(ja4.TypeJA4L) {
		t.Errorf("types are %b, with a rule on ja4l %b", builtin, own)
	}
}
