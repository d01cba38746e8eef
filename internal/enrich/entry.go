package enrich

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/whorl-net/whorl/internal/pattern"
	"github.com/whorl-net/whorl/ja4"
)

// Limits of an entry.
const (
	// MaxEntryID, MaxApp and MaxNote bound its texts in bytes.
	MaxEntryID = 64
	MaxApp     = 128
	MaxNote    = 255
	// MaxValues bounds the values and patterns of one type of an entry.
	MaxValues = 256
	// MaxParts bounds the types of a combination.
	MaxParts = 8
	// DefaultConfidence is that of an entry which states none.
	DefaultConfidence = 50
	// MinIdentify is the least confidence with which an entry says what a
	// connection is. Below it a match is shown, and names nobody.
	MinIdentify = 40
	// minLiteral is the least number of letters that a pattern must have beside
	// its stars: fewer would name half of all traffic.
	minLiteral = 4
	// maxValueBytes bounds a value or a pattern, as a fingerprint is bounded.
	maxValueBytes = 255
)

// Entry is one line of a table: what is known of whoever shows certain
// fingerprints. Entries of a Tables must not be changed.
type Entry struct {
	// ID names the entry within Source: "builtin", or the name of a file.
	ID, Source string
	// Line is where it stands in its file, from 1.
	Line int
	// App is the application, "" if the entry only says that something is bad.
	App string
	// Bad says that the entry condemns a connection.
	Bad  bool
	Note string
	// Confidence is how sure it is, 1 to 100.
	Confidence uint8
	// Parts must all match on one connection. More than one are a combination.
	// They are in the order of their types.
	Parts []Part
}

// Part is what an entry asks of the fingerprints of one type.
type Part struct {
	Type ja4.Type
	// Patterns are alternatives: any may match.
	Patterns []pattern.Pattern
}

// weak says of a type why it can neither identify nor condemn on its own, ""
// if it can.
func weak(t ja4.Type) string {
	switch t {
	case ja4.TypeJA4S:
		return "most servers share a handful of ja4s values"
	case ja4.TypeJA4L, ja4.TypeJA4LS:
		return "a latency is a distance, not a name"
	}
	return ""
}

// check says what is wrong with an entry beside its match, "" if nothing is.
func (e *Entry) check() string {
	switch {
	case !validID(e.ID):
		return fmt.Sprintf("id: %q is not 1 to %d lower-case letters, digits, '.', '_' or '-'", cut(e.ID), MaxEntryID)
	case e.App == "" && !e.Bad:
		return "it says nothing: want an app, or bad: true"
	case !printable(e.App, MaxApp):
		return fmt.Sprintf("app: want at most %d bytes of printable text", MaxApp)
	case !printable(e.Note, MaxNote):
		return fmt.Sprintf("note: want at most %d bytes of printable text", MaxNote)
	case e.Confidence < 1 || e.Confidence > 100:
		return "confidence: want 1 to 100"
	case len(e.Parts) == 0:
		return "match: names no fingerprint"
	case len(e.Parts) > MaxParts:
		return fmt.Sprintf("match: has %d types, at most %d", len(e.Parts), MaxParts)
	}
	var reasons []string
	for _, p := range e.Parts {
		if reason := weak(p.Type); reason != "" && !slices.Contains(reasons, reason) {
			reasons = append(reasons, reason)
		}
	}
	if len(reasons) > 0 && !slices.ContainsFunc(e.Parts, func(p Part) bool { return weak(p.Type) == "" }) {
		return fmt.Sprintf("match: %s alone can name nobody: %s; combine it with another type",
			typesOf(e.Parts), strings.Join(reasons, ", and "))
	}
	return ""
}

func typesOf(parts []Part) string {
	var names []string
	for _, p := range parts {
		names = append(names, p.Type.String())
	}
	return strings.Join(names, " and ")
}

func validID(s string) bool {
	if s == "" || len(s) > MaxEntryID {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func printable(s string, maxBytes int) bool {
	if len(s) > maxBytes || !utf8.ValidString(s) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// cut shortens what somebody wrote for a message.
func cut(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}

// parsePattern reads a value or pattern of type t. Of a ja4h the last parts may
// be missing, as they are in values that were published before there were
// cookie parts: it then stands for every value that goes on behind a "_".
func parsePattern(t ja4.Type, text string) (pattern.Pattern, error) {
	if len(text) > maxValueBytes {
		return pattern.Pattern{}, fmt.Errorf("%q has %d bytes, at most %d", cut(text), len(text), maxValueBytes)
	}
	if i := strings.IndexFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }); i >= 0 || text == "" {
		return pattern.Pattern{}, fmt.Errorf("%q is not a %v fingerprint", cut(text), t)
	}
	least, most := pattern.PartCount(t)
	n := strings.Count(text, "_") + 1
	if t == ja4.TypeJA4H && n > 1 && n < most && !strings.Contains(text, "*") {
		text += "_*"
		n++
	}
	p, err := pattern.Parse(text)
	if err != nil {
		return p, fmt.Errorf("%q %w", text, err)
	}
	if p.Exact() {
		_, err := ja4.Parse(t, text)
		return p, err
	}
	switch _, tail := p.Parts(); {
	case n > most:
		return p, fmt.Errorf("%q has %d parts, a %v fingerprint has %d", text, n, t, most)
	case n < least && !tail:
		return p, fmt.Errorf("%q has %d parts, a %v fingerprint has %d: end it with _* if more may follow", text, n, t, least)
	case len(text)-strings.Count(text, "*")-strings.Count(text, "_") < minLiteral:
		return p, fmt.Errorf("%q names too much: want at least %d letters beside * and _", text, minLiteral)
	}
	return p, nil
}
