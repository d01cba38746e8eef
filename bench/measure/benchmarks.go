package measure

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// benchmarks returns r as `go test -bench` would print it, for benchstat: a
// line for each row and round, the columns as its units.
func (r *Report) benchmarks() []byte {
	var b []byte
	b = fmt.Appendf(b, "cpu: %s\n", r.Machine)
	for _, t := range r.Tables {
		for _, row := range t.Rows {
			rounds := 0
			for _, v := range row.Values {
				rounds = max(rounds, len(*v))
			}
			for i := range rounds {
				b = fmt.Appendf(b, "Benchmark%s/%s 1", title(t.Name), word(row.Name))
				for c, v := range row.Values {
					if i < len(*v) {
						b = fmt.Appendf(b, " %s %s", strconv.FormatFloat((*v)[i], 'g', 6, 64), t.Columns[c].benchmarkUnit())
					}
				}
				b = append(b, '\n')
			}
		}
	}
	return b
}

// benchmarkUnit is the column as the unit of a value.
func (c Column) benchmarkUnit() string {
	if c.Unit == "" || c.Unit == "%" {
		return word(c.Name)
	}
	return word(c.Name) + "-" + word(c.Unit)
}

// title is the name of a table as that of a benchmark, which begins with a
// capital letter.
func title(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = word(p)
	}
	return strings.ToUpper(name[:1]) + strings.Join(parts, "/")[1:]
}

// word is s without what ends or divides a name in a benchmark's line.
func word(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r), r == '-', r == ',':
			return '_'
		case r == '/':
			return '|'
		}
		return r
	}, strings.TrimSpace(s))
	return strings.ReplaceAll(s, "__", "_")
}
