package filter

import (
	"fmt"
	"strings"
)

// Error says what is wrong with a filter and where.
type Error struct {
	// Field is the path of the value in a request, such as
	// "include[0].src_ip[1]"; it is "filter" for the line of text.
	Field string
	// Column is the place in the text, in characters from 1; 0 for typed
	// filters.
	Column int
	// Word is what is wrong, as it was written.
	Word string
	// Problem goes on after the word: "is not a filter word".
	Problem string
	// Suggestion is what was perhaps meant, empty when nothing comes near.
	Suggestion string
}

// Error returns one line, such as
//
//	filter, column 20: "dprt" is not a filter word; did you mean dst.port?
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Field)
	if e.Column > 0 {
		fmt.Fprintf(&b, ", column %d", e.Column)
	}
	b.WriteString(": ")
	if e.Word != "" {
		fmt.Fprintf(&b, "%q ", e.Word)
	}
	b.WriteString(e.Problem)
	if e.Suggestion != "" {
		fmt.Fprintf(&b, "; did you mean %s?", e.Suggestion)
	}
	return b.String()
}

// place is where a value stands.
type place struct {
	field  string
	column int
}

// maxQuoted bounds how much of a wrong word an error repeats, in bytes.
const maxQuoted = 64

func (p place) errorf(word, format string, args ...any) *Error {
	if len(word) > maxQuoted {
		word = strings.ToValidUTF8(word[:maxQuoted], "") + "…"
	}
	return &Error{Field: p.field, Column: p.column, Word: word, Problem: fmt.Sprintf(format, args...)}
}
