package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/whorl-net/whorl/internal/suggest"
)

// ClientSection is the section for every command that talks to a collector.
const ClientSection = "client"

// maxFileBytes bounds a file: one with every key set has a few kilobytes.
const maxFileBytes = 1 << 20

// File is a configuration file that was read. Its keys are not checked until
// Check.
type File struct {
	// Path is where it was read from.
	Path     string
	sections []section
}

type section struct {
	name   string
	line   int
	values []Value
}

// Value is one key of a section.
type Value struct {
	Key string
	// Text is the value as a flag takes it; the entries of a list are joined
	// by commas.
	Text string
	// Line is where the key stands, from 1.
	Line int
}

// Error says what is wrong in which line of a file.
type Error struct {
	Path string
	Line int // 0 when it is about the whole file
	Msg  string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Path + ": " + e.Msg
	}
	return fmt.Sprintf("%s:%d: %s", e.Path, e.Line, e.Msg)
}

// Paths lists where a file is looked for when none is named, most wanted first.
func Paths(getenv func(string) string) []string {
	var paths []string
	dir := getenv("XDG_CONFIG_HOME")
	if dir == "" && getenv("HOME") != "" {
		dir = filepath.Join(getenv("HOME"), ".config")
	}
	if dir != "" {
		paths = append(paths, filepath.Join(dir, "whorl", "config.yaml"))
	}
	return append(paths, "/etc/whorl/config.yaml")
}

// Find reads the first of the paths that exists, alone. Without any it returns
// nil and no error.
func Find(paths []string) (*File, error) {
	for _, path := range paths {
		f, err := Read(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		return f, err
	}
	return nil, nil
}

// Read reads the file at path.
func Read(path string) (*File, error) {
	r, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxFileBytes+1))
	if err != nil {
		return nil, err
	}
	return Parse(path, data)
}

// Parse reads a file from bytes; path is for messages. The error is an *Error.
func Parse(path string, data []byte) (*File, error) {
	f := &File{Path: path}
	if len(data) > maxFileBytes {
		return nil, &Error{Path: path, Msg: fmt.Sprintf("is longer than %d bytes", maxFileBytes)}
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, &Error{Path: path, Msg: strings.TrimPrefix(err.Error(), "yaml: ")}
	}
	if len(doc.Content) == 0 {
		return f, nil // empty, or comments alone
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, f.errorf(root, "want sections such as client: or collector:")
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		if err := f.section(root.Content[i], root.Content[i+1]); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (f *File) errorf(n *yaml.Node, format string, args ...any) error {
	return &Error{Path: f.Path, Line: n.Line, Msg: fmt.Sprintf(format, args...)}
}

func (f *File) section(name, body *yaml.Node) error {
	s := section{name: name.Value, line: name.Line}
	if slices.ContainsFunc(f.sections, func(o section) bool { return o.name == s.name }) {
		return f.errorf(name, "section %q is there twice", s.name)
	}
	switch {
	case body.Kind == yaml.ScalarNode && body.Tag == "!!null": // a name and nothing in it
	case body.Kind != yaml.MappingNode:
		return f.errorf(body, "section %q: want keys and values below it, such as\n  client:\n    collector: col.example.net:4750", s.name)
	}
	for i := 0; i+1 < len(body.Content); i += 2 {
		key, value := body.Content[i], body.Content[i+1]
		if slices.ContainsFunc(s.values, func(v Value) bool { return v.Key == key.Value }) {
			return f.errorf(key, "%s has the key %q twice", s.name, key.Value)
		}
		text, err := f.text(key.Value, value)
		if err != nil {
			return err
		}
		s.values = append(s.values, Value{Key: key.Value, Text: text, Line: key.Line})
	}
	f.sections = append(f.sections, s)
	return nil
}

// text returns a value as a flag takes it.
func (f *File) text(key string, n *yaml.Node) (string, error) {
	switch n.Kind {
	case yaml.ScalarNode:
		if n.Tag == "!!null" {
			return "", f.errorf(n, "%s has no value", key)
		}
		return n.Value, nil
	case yaml.SequenceNode:
		var parts []string
		for _, e := range n.Content {
			if e.Kind != yaml.ScalarNode || e.Tag == "!!null" {
				return "", f.errorf(e, "%s: want a list of plain values", key)
			}
			parts = append(parts, strings.ReplaceAll(e.Value, ",", `\,`))
		}
		return strings.Join(parts, ","), nil
	case yaml.MappingNode:
		var pairs []string
		for i := 0; i+1 < len(n.Content); i += 2 {
			k, v := n.Content[i], n.Content[i+1]
			if v.Kind != yaml.ScalarNode {
				return "", f.errorf(v, "%s: want plain values", key)
			}
			pairs = append(pairs, k.Value+"="+v.Value)
		}
		return strings.Join(pairs, ","), nil
	}
	return "", f.errorf(n, "%s: want a value or a list of values", key)
}

// Check compares the file with the keys that each section may have. The error
// is an *Error about the first that does not exist.
func (f *File) Check(known map[string][]string) error {
	names := make([]string, 0, len(known))
	for name := range known {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, s := range f.sections {
		keys, ok := known[s.name]
		if !ok {
			return &Error{f.Path, s.line, fmt.Sprintf("there is no section %q%s", s.name, didYouMean(s.name, names, "sections: "))}
		}
		for _, v := range s.values {
			if !slices.Contains(keys, v.Key) {
				return &Error{f.Path, v.Line, fmt.Sprintf("%s has no key %q%s", s.name, v.Key, didYouMean(v.Key, keys, ""))}
			}
		}
	}
	return nil
}

// didYouMean names the nearest word. Without one it lists all behind title, if
// that is not empty.
func didYouMean(word string, words []string, title string) string {
	if near := suggest.Nearest(word, words); near != "" {
		return "; did you mean " + near + "?"
	}
	if title != "" {
		return "; " + title + strings.Join(words, ", ")
	}
	return ""
}

// Lookup returns the value of a key in a section.
func (f *File) Lookup(name, key string) (Value, bool) {
	if f == nil {
		return Value{}, false
	}
	for _, s := range f.sections {
		if s.name != name {
			continue
		}
		for _, v := range s.values {
			if v.Key == key {
				return v, true
			}
		}
	}
	return Value{}, false
}
