package enrich

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/whorl-net/whorl/internal/suggest"
	"github.com/whorl-net/whorl/ja4"
)

// MaxFileBytes bounds a file of a table.
const MaxFileBytes = 8 << 20

// FileError says what is wrong in which line of which file.
type FileError struct {
	File   string
	Line   int // from 1; 0 when it is about the whole file
	Reason string
}

func (e *FileError) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Reason
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Reason)
}

// Table is what one file says.
type Table struct {
	// Source is the file's name without its folder, or "builtin".
	Source  string
	Entries []*Entry
	// Disable holds the ids of built-in entries that are not to be used.
	Disable []Disabled
}

// Disabled is the id of a built-in entry and the line that names it.
type Disabled struct {
	ID   string
	Line int
}

// ReadTable reads the table at path. With bad, entries condemn unless they say
// otherwise.
func ReadTable(path string, bad bool) (*Table, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	t, err := ParseTable(filepath.Base(path), data, bad)
	var wrong *FileError
	if errors.As(err, &wrong) {
		wrong.File = path
	}
	return t, err
}

// ParseTable reads a table from YAML; source names it. With bad, entries
// condemn unless they say otherwise. The error is a *FileError. docs/tables.md
// describes the format.
func ParseTable(source string, data []byte, bad bool) (*Table, error) {
	p := parser{source: source, bad: bad, ids: make(map[string]int)}
	t, err := p.table(data)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// formatVersion is the version of the format. A file of another is refused.
const formatVersion = "1"

type parser struct {
	source string
	bad    bool
	ids    map[string]int // id to line
}

func (p *parser) errorf(n *yaml.Node, format string, args ...any) error {
	return &FileError{File: p.source, Line: n.Line, Reason: fmt.Sprintf(format, args...)}
}

func (p *parser) table(data []byte) (*Table, error) {
	t := &Table{Source: p.source}
	if len(data) > MaxFileBytes {
		return nil, &FileError{File: p.source, Reason: fmt.Sprintf("is longer than %d bytes", MaxFileBytes)}
	}
	root, err := p.document(data)
	if err != nil {
		return nil, err
	}
	version := false
	err = p.fields(root, "the file", []string{"version", "entries", "disable"}, func(key string, n *yaml.Node) (err error) {
		switch key {
		case "version":
			version = true
			if n.Value != formatVersion {
				return p.errorf(n, "version: %q is not %s, the only one there is", cut(n.Value), formatVersion)
			}
		case "disable":
			t.Disable, err = p.disable(n)
		case "entries":
			t.Entries, err = p.entries(n)
		}
		return err
	})
	if err == nil && !version {
		err = p.errorf(root, "has no version: begin it with version: %s", formatVersion)
	}
	return t, err
}

// document returns the only document of data.
func (p *parser) document(data []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(strings.NewReader(string(data)))
	var doc, second yaml.Node
	if err := dec.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, p.syntax(err)
	}
	if len(doc.Content) == 0 {
		return nil, &FileError{File: p.source, Reason: "is empty"}
	}
	switch err := dec.Decode(&second); {
	case err == nil:
		return nil, p.errorf(&second, "holds a second document: want one")
	case !errors.Is(err, io.EOF):
		return nil, p.syntax(err)
	}
	return doc.Content[0], nil
}

// syntax takes the line out of an error of the YAML reader.
func (p *parser) syntax(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	e := &FileError{File: p.source, Reason: text}
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if number, reason, ok := strings.Cut(rest, ": "); ok {
			if n, err := strconv.Atoi(number); err == nil {
				e.Line, e.Reason = n, reason
			}
		}
	}
	return e
}

// fields calls f with each key of a mapping, all of which must be known.
func (p *parser) fields(n *yaml.Node, what string, known []string, f func(key string, value *yaml.Node) error) error {
	if n.Kind != yaml.MappingNode {
		return p.errorf(n, "%s: want keys and values: %s", what, strings.Join(known, ", "))
	}
	seen := make([]string, 0, len(known))
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name := key.Value
		switch {
		case key.Kind != yaml.ScalarNode || !slices.Contains(known, name):
			return p.errorf(key, "%s has no key %q%s", what, cut(name), didYouMean(name, known))
		case slices.Contains(seen, name):
			return p.errorf(key, "%s has the key %q twice", what, name)
		case value.Kind == yaml.AliasNode:
			return p.errorf(value, "%s: an alias (*name) is not taken: write it out", name)
		case value.Kind == yaml.ScalarNode && value.Tag == "!!null":
			return p.errorf(value, "%s has no value", name)
		}
		seen = append(seen, name)
		if err := f(name, value); err != nil {
			return err
		}
	}
	return nil
}

func didYouMean(word string, known []string) string {
	if near := suggest.Nearest(word, known); near != "" {
		return "; did you mean " + near + "?"
	}
	return "; it has " + strings.Join(known, ", ")
}

// items returns the nodes of a list, or the node itself if it is a plain value.
func (p *parser) items(n *yaml.Node, what string, most int) ([]*yaml.Node, error) {
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items = n.Content
	}
	if len(items) == 0 {
		return nil, p.errorf(n, "%s is empty", what)
	}
	if len(items) > most {
		return nil, p.errorf(n, "%s has %d values, at most %d", what, len(items), most)
	}
	for _, item := range items {
		if item.Kind != yaml.ScalarNode || item.Tag == "!!null" {
			return nil, p.errorf(item, "%s: want a plain value or a list of them", what)
		}
	}
	return items, nil
}

func (p *parser) disable(n *yaml.Node) ([]Disabled, error) {
	items, err := p.items(n, "disable", MaxEntries)
	if err != nil {
		return nil, err
	}
	var out []Disabled
	for _, item := range items {
		out = append(out, Disabled{item.Value, item.Line})
	}
	return out, nil
}

func (p *parser) entries(n *yaml.Node) ([]*Entry, error) {
	if n.Kind != yaml.SequenceNode {
		return nil, p.errorf(n, "entries: want a list, such as\n  entries:\n    - id: example\n      app: Example\n      match: {ja4: t13d1516h2_8daaf6152771_02713d6af862}")
	}
	if len(n.Content) > MaxEntries {
		return nil, p.errorf(n, "has %d entries, at most %d", len(n.Content), MaxEntries)
	}
	entries := make([]*Entry, 0, len(n.Content))
	for _, item := range n.Content {
		e, err := p.entry(item)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// entryKeys are the keys of an entry.
var entryKeys = []string{"id", "app", "bad", "note", "confidence", "match"}

func (p *parser) entry(n *yaml.Node) (*Entry, error) {
	e := &Entry{Source: p.source, Line: n.Line, Bad: p.bad, Confidence: DefaultConfidence}
	err := p.fields(n, "an entry", entryKeys, func(key string, value *yaml.Node) (err error) {
		if key == "match" {
			e.Parts, err = p.match(value)
			return err
		}
		if value.Kind != yaml.ScalarNode {
			return p.errorf(value, "%s: want a plain value", key)
		}
		switch key {
		case "id":
			e.ID = value.Value
			if before, twice := p.ids[e.ID]; twice {
				return p.errorf(value, "id %q is taken by the entry of line %d", cut(e.ID), before)
			}
			p.ids[e.ID] = value.Line
		case "app":
			e.App = value.Value
		case "note":
			e.Note = value.Value
		case "bad":
			if value.Value != "true" && value.Value != "false" {
				return p.errorf(value, "bad: %q is neither true nor false", cut(value.Value))
			}
			e.Bad = value.Value == "true"
		case "confidence":
			confidence, err := strconv.ParseUint(value.Value, 10, 8)
			if err != nil || confidence < 1 || confidence > 100 {
				return p.errorf(value, "confidence: %q is not a number from 1 to 100", cut(value.Value))
			}
			e.Confidence = uint8(confidence)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if reason := e.check(); reason != "" {
		if e.ID != "" {
			reason = fmt.Sprintf("entry %s: %s", cut(e.ID), reason)
		}
		return nil, p.errorf(n, "%s", reason)
	}
	return e, nil
}

// typeNames are what a match may have.
var typeNames = func() (names []string) {
	for t := ja4.TypeJA4; t < ja4.NumTypes; t++ {
		names = append(names, t.String())
	}
	return names
}()

func (p *parser) match(n *yaml.Node) (parts []Part, err error) {
	err = p.fields(n, "match", typeNames, func(key string, value *yaml.Node) error {
		t, err := ja4.ParseType(key)
		if err != nil {
			return p.errorf(value, "%v", err)
		}
		items, err := p.items(value, key, MaxValues)
		if err != nil {
			return err
		}
		part := Part{Type: t}
		for _, item := range items {
			x, err := parsePattern(t, item.Value)
			if err != nil {
				return p.errorf(item, "%s: %v", key, err)
			}
			part.Patterns = append(part.Patterns, x)
		}
		parts = append(parts, part)
		return nil
	})
	slices.SortFunc(parts, func(a, b Part) int { return int(a.Type) - int(b.Type) })
	return parts, err
}
