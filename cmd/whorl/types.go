package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/whorl-net/whorl/ja4"
)

// typeFlags choose fingerprint types.
type typeFlags struct {
	Types []string `group:"types" placeholder:"TYPE" help:"Fingerprint types (default: all but the original-order forms; those are ja4_o, ja4_ro, ja4h_ro); none: only count."`
	ja4plusFlag
}

// ja4plusFlag turns the methods off that are not under the BSD licence.
type ja4plusFlag struct {
	JA4Plus bool `group:"types" name:"ja4plus" default:"true" help:"Types beyond JA4 itself, which are under the FoxIO License 1.1 (default on; --ja4plus=false: JA4 alone)."`
}

// ErrNoTypes says that nothing is left to compute.
var errNoTypes = errors.New("--ja4plus=false leaves none of the types: only ja4 and ja4_o are under the BSD licence")

// set returns the types to compute.
func (f *typeFlags) set() (ja4.TypeSet, error) {
	set := ja4.AllTypes
	if len(f.Types) > 0 {
		set = 0
	}
	if f.onlyCounts() {
		return ja4.NoTypes, nil
	}
	for _, name := range f.Types {
		t, err := parseType(name, "none")
		if err != nil {
			return 0, fmt.Errorf("--types: %w", err)
		}
		set = set.With(t)
	}
	if !f.JA4Plus {
		set &= ja4.JA4Only
	}
	if set == 0 {
		return 0, errNoTypes
	}
	return set, nil
}

// onlyCounts reports whether no fingerprints are wanted: then a probe keeps no
// flows, and nobody but the collector counts connections.
func (f *typeFlags) onlyCounts() bool { return len(f.Types) == 1 && f.Types[0] == "none" }

// parseType knows the types and the raw forms that come with one. more are words
// that could have been meant as well.
func parseType(name string, more ...string) (ja4.Type, error) {
	if name == "ja4_ro" { // the raw form of ja4_o
		return ja4.TypeJA4O, nil
	}
	t, err := ja4.ParseType(name)
	if err == nil {
		return t, nil
	}
	if of, ok := strings.CutSuffix(name, "_r"); ok {
		if _, err := ja4.ParseType(of); err == nil {
			return 0, fmt.Errorf("%q comes with %s: as raw in JSON, in tables with --raw", name, of)
		}
	}
	names := append(typeNames(), more...)
	return 0, fmt.Errorf("%q is not one of %s%s", name, strings.Join(names, ","), didYouMean(name, names))
}

// typeNames are the words for types, ja4_ro among them.
func typeNames() []string {
	var names []string
	for t := ja4.TypeJA4; t < ja4.NumTypes; t++ {
		names = append(names, t.String())
	}
	return slices.Insert(names, len(names)-1, "ja4_ro")
}
