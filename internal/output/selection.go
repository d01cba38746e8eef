package output

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/whorl-net/whorl/internal/suggest"
)

// Schema names the fields of a Kind in the order of their JSON.
type Schema struct {
	names []string
	inner map[string]*Schema // nil for a value
	// open schemas are maps: any name is one of theirs.
	open *Schema
}

// schemaOf returns the fields of a message. Messages that contain themselves do
// not occur in the contract.
func schemaOf(d protoreflect.MessageDescriptor) *Schema {
	s := &Schema{inner: map[string]*Schema{}}
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		s.add(string(f.Name()), schemaOfField(f))
	}
	s.addDerived(d)
	return s
}

func schemaOfField(f protoreflect.FieldDescriptor) *Schema {
	switch {
	case f.IsMap():
		return &Schema{open: schemaOfField(f.MapValue())}
	case f.Message() == nil, isTime(f.Message()):
		return &Schema{}
	}
	return schemaOf(f.Message())
}

func (s *Schema) add(name string, inner *Schema) {
	s.names = append(s.names, name)
	if s.inner == nil {
		s.inner = map[string]*Schema{}
	}
	s.inner[name] = inner
}

// fieldList is a Schema of plain values.
func fieldList(names ...string) *Schema {
	s := &Schema{}
	for _, n := range names {
		s.add(n, &Schema{})
	}
	return s
}

// Selection is the part of a value to show. A nil Selection is all of it.
type Selection struct {
	names []string // as they were asked for
	keep  map[string]*Selection
}

// FieldError says that a name is not one of the fields of a value.
type FieldError struct {
	// Name is the whole path as given; Known are the names possible where it
	// went wrong.
	Name  string
	Known []string
	// Suggestion is the nearest of them, "" when none is near.
	Suggestion string
}

func (e *FieldError) Error() string { return fmt.Sprintf("%q is not a field", e.Name) }

// Select returns the Selection of the named fields; dots lead to inner ones.
// No names give nil. The error is a *FieldError.
func (s *Schema) Select(names []string) (*Selection, error) {
	if len(names) == 0 {
		return nil, nil
	}
	sel := &Selection{names: names, keep: map[string]*Selection{}}
	for _, name := range names {
		if err := s.check(name); err != nil {
			return nil, err
		}
		at := sel
		for part := range strings.SplitSeq(name, ".") {
			next, ok := at.keep[part]
			if !ok {
				next = &Selection{keep: map[string]*Selection{}}
				at.keep[part] = next
			}
			at = next
		}
	}
	return sel, nil
}

func (s *Schema) check(name string) error {
	at := s
	for part := range strings.SplitSeq(name, ".") {
		switch {
		case at.open != nil && part != "":
			at = at.open
		case at.inner[part] != nil:
			at = at.inner[part]
		default:
			return &FieldError{Name: name, Known: at.names, Suggestion: suggest.Nearest(part, at.names)}
		}
	}
	return nil
}

// has reports whether the field is to be shown, and how much of it.
func (s *Selection) has(name string) (*Selection, bool) {
	if s == nil || len(s.keep) == 0 {
		return nil, true // everything below a chosen name
	}
	inner, ok := s.keep[name]
	return inner, ok
}

// Names returns the names as they were asked for, nil for all.
func (s *Selection) Names() []string {
	if s == nil {
		return nil
	}
	return s.names
}

// Top returns the fields of a message that hold what is named, each once, nil
// for all.
func (s *Selection) Top() []string {
	var top []string
	for _, name := range s.Names() {
		first := sourceOf(name)
		if !slices.Contains(top, first) {
			top = append(top, first)
		}
	}
	return top
}
