package measure

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"time"
)

// Report is what one run found.
type Report struct {
	Started time.Time `json:"started"`
	Machine string    `json:"machine"`
	Args    []string  `json:"args"`
	Tables  []*Table  `json:"tables"`
}

// Table holds cases that were measured in turn.
type Table struct {
	// Name tells tables of two reports apart.
	Name string `json:"name"`
	// Title and Notes are for people.
	Title   string   `json:"title"`
	Notes   []string `json:"notes,omitempty"`
	Columns []Column `json:"columns"`
	Rows    []*Row   `json:"rows"`
}

// Column says what is measured.
type Column struct {
	Name string `json:"name"`
	// Unit is such as "ns"; may be empty.
	Unit string `json:"unit,omitempty"`
	// Spread shows the least and the spread beside the median.
	Spread bool `json:"spread,omitempty"`
	// More says that more is better; it is only for people who compare.
	More bool `json:"more,omitempty"`
}

// Row holds what was measured in each round, by column.
type Row struct {
	Name   string    `json:"name"`
	Values []*Series `json:"values"`
}

// Series are the values of several rounds; nil and empty mean that there are
// none.
type Series []float64

// Add appends a value. One that is no number, such as a ratio to nothing, is left
// out.
func (t *Table) Add(row, column string, v float64) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return
	}
	c := slices.IndexFunc(t.Columns, func(c Column) bool { return c.Name == column })
	if c < 0 {
		panic(fmt.Sprintf("table %s has no column %q", t.Name, column)) // a mistake in this program
	}
	r := t.row(row)
	*r.Values[c] = append(*r.Values[c], v)
}

// AddUse adds CPU and wall time divided by n to the columns "CPU" and "wall", in ns.
func (t *Table) AddUse(row string, u Use, n int) {
	t.Add(row, "CPU", float64(u.CPU)/float64(n))
	t.Add(row, "wall", float64(u.Wall)/float64(n))
}

func (t *Table) row(name string) *Row {
	i := slices.IndexFunc(t.Rows, func(r *Row) bool { return r.Name == name })
	if i >= 0 {
		return t.Rows[i]
	}
	r := &Row{Name: name}
	for range t.Columns {
		r.Values = append(r.Values, &Series{}) // null is no Series in JSON
	}
	t.Rows = append(t.Rows, r)
	return r
}

// Min returns the least value.
func (s Series) Min() float64 { return slices.Min(s) }

// Median returns the middle value, of an even number the mean of the two.
func (s Series) Median() float64 {
	sorted := slices.Sorted(slices.Values(s))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// Spread returns the distance from the least to the greatest value, in parts of
// the median.
func (s Series) Spread() float64 {
	if m := s.Median(); m != 0 {
		return (slices.Max(s) - slices.Min(s)) / max(m, -m)
	}
	return 0
}

// Rounds runs each case once per round, in turn, and stops at the first error.
func Rounds(n int, cases ...func() error) error {
	for range n {
		for _, c := range cases {
			if err := c(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Write writes the report to path.json for Read and to path.txt in the format of
// Go benchmarks.
func (r *Report) Write(path string) error {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(path+".json", append(b, '\n'), 0o644), os.WriteFile(path+".txt", r.benchmarks(), 0o644))
}

// Read reads a report that Write wrote.
func Read(path string) (*Report, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := new(Report)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, t := range r.Tables {
		for _, row := range t.Rows {
			if len(row.Values) != len(t.Columns) || slices.Contains(row.Values, nil) {
				return nil, fmt.Errorf("%s: table %s, row %s: its values do not fit the columns", path, t.Name, row.Name)
			}
		}
	}
	return r, nil
}
