package selftest

import (
	"slices"
	"strings"
	"testing"

	"github.com/whorl-net/whorl/ja4"
)

// every is all types that have vectors.
var every = ja4.AllTypes.With(ja4.TypeJA4O)

// Each vector gives exactly the fingerprints it is there for.
func TestVectorsPass(t *testing.T) {
	tallies, err := Run(t.Context(), every)
	if err != nil {
		t.Fatal(err)
	}
	for _, tally := range tallies {
		if tally.Passed != tally.Vectors || len(tally.Failures) > 0 {
			t.Errorf("%v: %d of %d\n%s", tally.Type, tally.Passed, tally.Vectors, strings.Join(tally.Failures, "\n"))
		}
	}
}

// There are at least three vectors for every type, all have a name of their
// own and a source, and those of methods under the FoxIO License are in the
// other file.
func TestVectorsCoverEveryType(t *testing.T) {
	vectors, err := Vectors()
	if err != nil {
		t.Fatal(err)
	}
	var counts [ja4.NumTypes]int
	names := map[string]bool{}
	for _, v := range vectors {
		var types []ja4.Type
		for kind := range v.Want {
			counts[kind]++
			types = append(types, kind)
		}
		slices.Sort(types)
		name := types[0].String() + v.Name
		if names[name] || v.Name == "" || v.Source == "" || len(v.Packets) == 0 {
			t.Errorf("%v, %q from %q, %d packets: no name of its own, no source, or no packet", types, v.Name, v.Source, len(v.Packets))
		}
		names[name] = true
		if slices.Contains(types, ja4.TypeJA4) != !slices.ContainsFunc(types, ja4.Type.Plus) {
			t.Errorf("%q mixes methods of two licences: %v", v.Name, types)
		}
	}
	for kind := ja4.TypeJA4; kind < ja4.NumTypes; kind++ {
		if every.Has(kind) && counts[kind] < 3 {
			t.Errorf("%v has %d vectors, want at least 3", kind, counts[kind])
		}
	}
	if n := strings.Count(string(fileJA4), `"name"`); n != counts[ja4.TypeJA4] || strings.Contains(string(fileJA4), `"ja4s"`) {
		t.Errorf("%d vectors in the file of JA4, %d have a ja4", n, counts[ja4.TypeJA4])
	}
}

// A type that is not asked for is not run, and has no tally.
func TestOnlyTypesAskedFor(t *testing.T) {
	tallies, err := Run(t.Context(), ja4.JA4Only)
	if err != nil {
		t.Fatal(err)
	}
	if len(tallies) != 2 || tallies[0].Type != ja4.TypeJA4 || tallies[1].Type != ja4.TypeJA4O {
		t.Errorf("%+v, want those of ja4 and ja4_o", tallies)
	}
}

// A wrong value, a wrong raw form, one too many and one too few each fail,
// with what was expected in words.
func TestFailuresAreSeen(t *testing.T) {
	vectors, err := Vectors()
	if err != nil {
		t.Fatal(err)
	}
	v := vectors[0]
	right := v.Want[ja4.TypeJA4]
	for name, wrong := range map[string][]Fingerprint{
		"value": {{right[0].Value + "x", right[0].Raw}}, "raw": {{right[0].Value, ""}},
		"more": {right[0], right[0]}, "none": {},
	} {
		v.Want = map[ja4.Type][]Fingerprint{ja4.TypeJA4: wrong}
		tallies := make([]Tally, ja4.NumTypes)
		if err := v.run(t.Context(), every, tallies); err != nil {
			t.Fatal(err)
		}
		got := tallies[ja4.TypeJA4]
		if got.Vectors != 1 || got.Passed != 0 || len(got.Failures) != 1 || !strings.Contains(got.Failures[0], right[0].Value) || !strings.Contains(got.Failures[0], v.Name) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
