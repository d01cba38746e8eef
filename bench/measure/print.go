package measure

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Print writes t as aligned text, or for markdown.
func (t *Table) Print(w io.Writer, markdown bool) error {
	header := []string{""}
	for _, c := range t.Columns {
		name := c.Name
		if c.Unit != "" {
			name += " " + c.Unit
		}
		if c.Spread {
			header = append(header, name+" min", "median", "spread")
			continue
		}
		header = append(header, name)
	}
	cells := [][]string{header}
	for _, r := range t.Rows {
		line := []string{r.Name}
		for i, c := range t.Columns {
			line = append(line, show(*r.Values[i], c.Spread)...)
		}
		cells = append(cells, line)
	}
	title := t.Title
	if markdown {
		title = "### " + title + "\n"
	}
	if _, err := fmt.Fprintf(w, "\n%s\n%s", title, layout(cells, markdown)); err != nil {
		return err
	}
	for _, n := range t.Notes {
		if markdown {
			n = "\n" + n
		}
		if _, err := fmt.Fprintf(w, "  %s\n", n); err != nil {
			return err
		}
	}
	return nil
}

// show returns the cells of a series.
func show(s Series, spread bool) []string {
	switch {
	case len(s) == 0 && spread:
		return []string{"", "", ""}
	case len(s) == 0:
		return []string{""}
	case spread:
		return []string{number(s.Min()), number(s.Median()), fmt.Sprintf("%.0f %%", 100*s.Spread())}
	}
	return []string{number(s.Median())}
}

// number shows about three digits.
func number(v float64) string {
	switch a := max(v, -v); {
	case a >= 1e5:
		return group(strconv.FormatInt(int64(v+0.5), 10))
	case a >= 100:
		return group(strconv.FormatFloat(v, 'f', 0, 64))
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case a >= 0.1 || a == 0:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'g', 2, 64)
}

// group puts commas between thousands.
func group(s string) string {
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// layout aligns cells: the first column to the left, the others to the right.
func layout(cells [][]string, markdown bool) string {
	width := make([]int, len(cells[0]))
	for _, line := range cells {
		for i, c := range line {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	var b strings.Builder
	for n, line := range cells {
		for i, c := range line {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c))
			if i == 0 {
				c += pad
			} else {
				c = pad + c
			}
			if markdown {
				c = "| " + c + " "
			} else {
				c = "  " + c
			}
			b.WriteString(c)
		}
		if markdown {
			b.WriteString("|")
		}
		b.WriteString("\n")
		if n == 0 && markdown {
			b.WriteString("|---" + strings.Repeat("|---:", len(line)-1) + "|\n")
		}
	}
	return b.String()
}
