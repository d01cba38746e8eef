package output

import (
	"fmt"
	"strings"
)

// Format is a way to show values.
type Format uint8

// The formats. The zero Format is Auto.
const (
	// Auto is Table on a terminal and JSONL elsewhere.
	Auto Format = iota
	// Table is aligned columns under a header, for people.
	Table
	// Compact is one line for each value and no header, for people and logs.
	Compact
	// JSONL is one JSON object in each line.
	JSONL
	// JSON is one document: an object, or an array of them.
	JSON
	// CSV is RFC 4180 with a header line and, as is usual outside mail, LF.
	CSV
)

var formatNames = [...]string{"auto", "table", "compact", "jsonl", "json", "csv"}

// Formats lists the names of all formats, comma-separated.
func Formats() string { return strings.Join(formatNames[:], ",") }

// String returns the name of the format.
func (f Format) String() string {
	if int(f) >= len(formatNames) {
		return fmt.Sprintf("format(%d)", uint8(f))
	}
	return formatNames[f]
}

// UnmarshalText takes one of the names.
func (f *Format) UnmarshalText(text []byte) error {
	for i, name := range formatNames {
		if name == string(text) {
			*f = Format(i)
			return nil
		}
	}
	return fmt.Errorf("%q is not an output format: want one of %s", text, strings.Join(formatNames[:], ", "))
}

// On returns what f means on a terminal, or elsewhere.
func (f Format) On(terminal bool) Format {
	switch {
	case f != Auto:
		return f
	case terminal:
		return Table
	}
	return JSONL
}

// ForPeople reports whether f is read by people, who also want what is said
// beside the data there.
func (f Format) ForPeople() bool { return f == Table || f == Compact }
