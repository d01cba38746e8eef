package bpf

import (
	"fmt"
	"strings"
)

// Error is a filter that cannot be compiled.
type Error struct {
	// Filter is the whole text, Column the place in it, from 1, in bytes.
	Filter string
	Column int
	// Word is the offending word, empty at the end of the text.
	Word string
	// Problem says what is wrong with it, e.g. `"less" is not supported`.
	Problem string
}

// Error returns one line without the filter text.
func (e *Error) Error() string {
	return fmt.Sprintf("capture filter, column %d: %s", e.Column, e.Problem)
}

type token struct {
	text   string
	column int
}

// lex cuts text at blanks and around parentheses and "!".
func lex(text string) []token {
	var out []token
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
		case c == '(' || c == ')' || c == '!':
			out = append(out, token{text[i : i+1], i + 1})
			i++
		default:
			n := strings.IndexAny(text[i:], " \t\n\r()!")
			if n < 0 {
				n = len(text) - i
			}
			out = append(out, token{text[i : i+n], i + 1})
			i += n
		}
	}
	return append(out, token{"", len(text) + 1})
}
