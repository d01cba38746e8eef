// Package selftest holds conformance vectors and runs them through the same
// code that analyses captures.
//
// A Vector is a handful of packets and the fingerprints that must come out of
// them: from the examples of RFCs, or built by hand. The expected values were
// computed from the rules of each method by a program of its own that shares
// no code with this project, never by the code under test. A Tally says for one
// type how many vectors came out.
//
// The vectors are embedded, so an installed binary can prove itself on the
// machine it runs on. Those of JA4 are in a file apart from those of the
// methods under the FoxIO License. It is no replacement for the tests.
package selftest

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/probe"
	"github.com/whorl-net/whorl/probe/capture"
	"github.com/whorl-net/whorl/probe/handshake"
)

// Tally is the outcome for one type.
type Tally struct {
	Type ja4.Type
	// Vectors have fingerprints of the type; Passed of them gave exactly
	// those.
	Vectors, Passed int
	// Failures say what came out of the others, one line each.
	Failures []string
}

// Run runs the vectors that have fingerprints of types, and returns a Tally
// for each type that has any, in the order of their numbers. An error is that
// of ctx, or of the vectors themselves: a failing vector is none.
func Run(ctx context.Context, types ja4.TypeSet) ([]Tally, error) {
	vectors, err := Vectors()
	if err != nil {
		return nil, err
	}
	tallies := make([]Tally, ja4.NumTypes)
	for i := range vectors {
		if err := vectors[i].run(ctx, types, tallies); err != nil {
			return nil, fmt.Errorf("vector %q: %w", vectors[i].Name, err)
		}
	}
	for t := range tallies {
		tallies[t].Type = ja4.Type(t)
	}
	return slices.DeleteFunc(tallies, func(t Tally) bool { return t.Vectors == 0 }), nil
}

// run adds the outcome of v to the tallies, which are indexed by type.
func (v *Vector) run(ctx context.Context, types ja4.TypeSet, tallies []Tally) error {
	var got [ja4.NumTypes][]Fingerprint
	src := &source{packets: v.Packets}
	_, err := probe.Fingerprints(ctx, src, probe.Config{Types: types, SSHWindow: v.SSHWindow}, func(e *handshake.Event) error {
		got[e.Type] = append(got[e.Type], Fingerprint{e.Value, e.Raw})
		return nil
	})
	if err != nil {
		return err
	}
	for t, want := range v.Want {
		if !types.Has(t) {
			continue
		}
		tally := &tallies[t]
		tally.Vectors++
		if slices.Equal(got[t], want) {
			tally.Passed++
			continue
		}
		tally.Failures = append(tally.Failures, fmt.Sprintf("%s, %q: got %s, want %s", t, v.Name, list(got[t]), list(want)))
	}
	return nil
}

func list(all []Fingerprint) string {
	if len(all) == 0 {
		return "nothing"
	}
	var texts []string
	for _, f := range all {
		text := f.Value
		if f.Raw != "" {
			text += " (" + f.Raw + ")"
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, ", ")
}

// source lends the packets of a vector.
type source struct{ packets []Packet }

func (s *source) Next(p *capture.Packet) error {
	if len(s.packets) == 0 {
		return io.EOF
	}
	next := s.packets[0]
	s.packets = s.packets[1:]
	*p = capture.Packet{
		Data: next.IP, Time: next.At.Nanoseconds(), WireLength: uint32(len(next.IP)), LinkType: capture.Raw,
	}
	return nil
}

func (s *source) Close() error { return nil }
