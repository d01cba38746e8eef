package output

import (
	"bufio"
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strings"
)

// Kind says how values of one sort are shown.
type Kind[T any] struct {
	// Columns are those of a table and of a compact line.
	Columns []Column[T]
	// CSV are the columns of a CSV file; nil is Columns.
	CSV []Column[T]
	// Schema names the fields that JSON writes.
	Schema *Schema
	// JSON appends v as an object, as far as it is selected.
	JSON func(dst []byte, v T, sel *Selection) []byte
}

// Column is one column of a table.
type Column[T any] struct {
	Name string
	// Right aligns cells, not the name, to the right.
	Right bool
	// Width is how wide the column is at least.
	Width int
	// Optional columns are not in a table before a row has something there; then
	// the header is shown again. In a compact line they are the last ones.
	Optional bool
	// Cell is the text of a value. It may hold anything: what could harm a
	// terminal is taken out behind it.
	Cell func(v T) string
	// Style is how the cell of a value is coloured; nil is plain.
	Style func(v T) Style
}

// Options are those of a Writer. The zero Options write JSONL.
type Options struct {
	// Format must not be Auto: see Format.On.
	Format Format
	// Color allows colours in tables.
	Color bool
	// Hold is how many rows of a table are held back to find out how wide the
	// columns must be. 0 shows each row at once and widens as it goes.
	Hold int
	// NoHeader leaves the header of a table out.
	NoHeader bool
	// Document makes JSON write the one value as it is, not an array.
	Document bool
	// Select is what to show; nil is everything.
	Select *Selection
}

// Writer shows values of one Kind. It buffers: Flush shows what is there,
// Close ends the document. Not safe for concurrent use.
type Writer[T any] struct {
	kind    Kind[T]
	opts    Options
	out     *bufio.Writer
	csv     *csv.Writer
	table   *table[T]
	columns []Column[T]
	buf     []byte
	count   int
}

// NewWriter returns a Writer to w. Its first error is that of every later call.
func NewWriter[T any](w io.Writer, kind Kind[T], opts Options) *Writer[T] {
	out := bufio.NewWriterSize(w, 64<<10)
	o := &Writer[T]{kind: kind, opts: opts, out: out, columns: kind.Columns}
	if opts.Select != nil {
		o.columns = fieldColumns(kind, opts.Select)
	}
	switch opts.Format {
	case Compact:
		o.columns = optionalLast(o.columns)
	case Table:
		for i := range o.columns {
			o.columns[i].Name = strings.ToUpper(o.columns[i].Name)
		}
		o.table = newTable(out, o.columns, opts)
	case CSV:
		o.csv = csv.NewWriter(out)
		if opts.Select == nil && kind.CSV != nil {
			o.columns = kind.CSV
		}
	}
	return o
}

// optionalLast moves optional columns to the end, where they disturb nobody who
// counts columns.
func optionalLast[T any](columns []Column[T]) []Column[T] {
	columns = slices.Clone(columns)
	slices.SortStableFunc(columns, func(a, b Column[T]) int {
		switch {
		case a.Optional == b.Optional:
			return 0
		case a.Optional:
			return 1
		}
		return -1
	})
	return columns
}

// Write shows v, at the latest with the next Flush or Close.
func (o *Writer[T]) Write(v T) error {
	o.count++
	switch o.opts.Format {
	case Table:
		return o.table.row(v)
	case Compact:
		return o.compact(v)
	case CSV:
		return o.record(v)
	case JSON:
		return o.element(v)
	}
	o.buf = append(o.kind.JSON(o.buf[:0], v, o.opts.Select), '\n')
	_, err := o.out.Write(o.buf)
	return err
}

// Remark shows a line that is no value, such as "# LOST …", in the formats that
// people read, and nothing in the others.
func (o *Writer[T]) Remark(line string) error {
	if !o.opts.Format.ForPeople() {
		return nil
	}
	if o.table != nil {
		if err := errors.Join(o.table.begin(), o.table.release()); err != nil {
			return err
		}
	}
	_, err := o.out.WriteString(clean(line) + "\n")
	return err
}

// Count is how many values were written.
func (o *Writer[T]) Count() int { return o.count }

// Flush shows everything that was written. A table finds its widths by it.
func (o *Writer[T]) Flush() error {
	if o.table != nil {
		if err := o.table.release(); err != nil {
			return err
		}
	}
	if o.csv != nil {
		o.csv.Flush()
		if err := o.csv.Error(); err != nil {
			return err
		}
	}
	return o.out.Flush()
}

// Close ends the document and shows it. It does not close what lies under it.
func (o *Writer[T]) Close() error {
	switch {
	case o.opts.Format == JSON && !o.opts.Document && o.count == 0:
		o.out.WriteString("[]\n")
	case o.opts.Format == JSON && !o.opts.Document:
		o.out.WriteString("\n]\n")
	case o.opts.Format == CSV && o.count == 0:
		if err := o.header(); err != nil {
			return err
		}
	}
	return o.Flush()
}

func (o *Writer[T]) compact(v T) error {
	o.buf = o.buf[:0]
	for i, c := range o.columns {
		if i > 0 {
			o.buf = append(o.buf, ' ', ' ')
		}
		cell := clean(c.Cell(v))
		if cell == "" {
			cell = "-"
		}
		o.buf = append(o.buf, cell...)
	}
	o.buf = append(o.buf, '\n')
	_, err := o.out.Write(o.buf)
	return err
}

func (o *Writer[T]) element(v T) error {
	o.buf = o.buf[:0]
	switch {
	case o.opts.Document:
	case o.count == 1:
		o.buf = append(o.buf, "[\n"...)
	default:
		o.buf = append(o.buf, ",\n"...)
	}
	o.buf = o.kind.JSON(o.buf, v, o.opts.Select)
	if o.opts.Document {
		o.buf = append(o.buf, '\n')
	}
	_, err := o.out.Write(o.buf)
	return err
}

func (o *Writer[T]) header() error {
	names := make([]string, len(o.columns))
	for i, c := range o.columns {
		names[i] = c.Name
	}
	return o.csv.Write(names)
}

func (o *Writer[T]) record(v T) error {
	if o.count == 1 {
		if err := o.header(); err != nil {
			return err
		}
	}
	cells := make([]string, len(o.columns))
	for i, c := range o.columns {
		cells[i] = c.Cell(v)
	}
	return o.csv.Write(cells)
}
