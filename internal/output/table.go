package output

import (
	"bufio"
	"slices"
	"strings"
	"unicode/utf8"
)

// Style is how a cell is coloured.
type Style uint8

// The styles. They add to the words of a cell and never replace them.
const (
	StylePlain Style = iota
	StyleBold
	StyleFaint
	StyleGood
	StyleWarn
	StyleBad
)

// escapes are the ANSI sequences of the styles.
var escapes = [...]string{"", "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[33m", "\x1b[31m"}

const reset = "\x1b[0m"

// gap is what lies between two columns.
const gap = "  "

// table aligns rows under a header. Rows are held back until there are enough
// to know how wide columns must be; a wider cell later widens its column from
// there on.
type table[T any] struct {
	out     *bufio.Writer
	columns []Column[T]
	widths  []int
	hidden  []bool // optional columns that no row has had yet
	held    [][]cell
	hold    int
	color   bool
	begun   bool // the header is written
	// headless tables have no header.
	headless bool
}

type cell struct {
	text  string
	style Style
}

func newTable[T any](out *bufio.Writer, columns []Column[T], opts Options) *table[T] {
	t := &table[T]{out: out, columns: columns, hold: opts.Hold, color: opts.Color, begun: opts.NoHeader, headless: opts.NoHeader,
		widths: make([]int, len(columns)), hidden: make([]bool, len(columns))}
	for i, c := range columns {
		t.widths[i], t.hidden[i] = c.Width, c.Optional
		if !opts.NoHeader {
			t.widths[i] = max(c.Width, utf8.RuneCountInString(c.Name))
		}
	}
	return t
}

// row takes one value.
func (t *table[T]) row(v T) error {
	cells := make([]cell, len(t.columns))
	for i, c := range t.columns {
		cells[i].text = clean(c.Cell(v))
		if c.Style != nil {
			cells[i].style = c.Style(v)
		}
		t.widths[i] = max(t.widths[i], utf8.RuneCountInString(cells[i].text))
	}
	t.held = append(t.held, cells)
	if len(t.held) <= t.hold {
		return nil
	}
	return t.release()
}

// release writes the rows that are held back, the header first. A table
// without rows has no header.
func (t *table[T]) release() error {
	if len(t.held) == 0 {
		return nil
	}
	t.reveal()
	if err := t.begin(); err != nil {
		return err
	}
	for _, cells := range t.held {
		if err := t.line(cells, false); err != nil {
			return err
		}
	}
	clear(t.held)
	t.held = t.held[:0]
	return nil
}

// reveal shows the optional columns in which a held row has something. Under a
// header that is there already another one follows.
func (t *table[T]) reveal() {
	for i, hidden := range t.hidden {
		if hidden && slices.ContainsFunc(t.held, func(cells []cell) bool { return cells[i].text != "" }) {
			t.hidden[i] = false
			t.begun = t.headless
		}
	}
}

// begin writes the header, once for each set of columns.
func (t *table[T]) begin() error {
	if t.begun {
		return nil
	}
	t.begun = true
	header := make([]cell, len(t.columns))
	for i, c := range t.columns {
		header[i] = cell{c.Name, StyleBold}
	}
	return t.line(header, true)
}

// line writes one line without blanks at its end.
func (t *table[T]) line(cells []cell, header bool) error {
	pad := 0 // blanks owed before the next text
	for i, c := range cells {
		if t.hidden[i] {
			continue
		}
		space := max(0, t.widths[i]-utf8.RuneCountInString(c.text))
		if t.columns[i].Right && !header {
			pad += space
			space = 0
		}
		if c.text != "" {
			t.out.WriteString(strings.Repeat(" ", pad))
			pad = 0
			t.write(c)
		} else {
			space = t.widths[i]
			if t.columns[i].Right && !header {
				space = 0 // in pad already
			}
		}
		pad += space + len(gap)
	}
	_, err := t.out.WriteString("\n")
	return err
}

func (t *table[T]) write(c cell) {
	if !t.color || c.style == StylePlain {
		t.out.WriteString(c.text)
		return
	}
	t.out.WriteString(escapes[c.style])
	t.out.WriteString(c.text)
	t.out.WriteString(reset)
}
