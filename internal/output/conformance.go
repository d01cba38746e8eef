package output

import "strconv"

// Conformance is how the conformance vectors of one fingerprint type came out.
type Conformance struct {
	Type            string
	Vectors, Passed int
}

// Conformances is the Kind of selftest.
func Conformances() Kind[Conformance] {
	return Kind[Conformance]{
		Columns: []Column[Conformance]{
			{Name: "TYPE", Cell: func(c Conformance) string { return c.Type }},
			{Name: "VECTORS", Right: true, Cell: func(c Conformance) string { return strconv.Itoa(c.Vectors) }},
			{Name: "PASSED", Right: true, Cell: func(c Conformance) string { return strconv.Itoa(c.Passed) }, Style: func(c Conformance) Style {
				if c.Passed == c.Vectors {
					return StyleGood
				}
				return StyleBad
			}},
		},
		CSV: []Column[Conformance]{
			{Name: "type", Cell: func(c Conformance) string { return c.Type }},
			{Name: "vectors", Cell: func(c Conformance) string { return strconv.Itoa(c.Vectors) }},
			{Name: "passed", Cell: func(c Conformance) string { return strconv.Itoa(c.Passed) }},
		},
		Schema: fieldList("type", "vectors", "passed"),
		JSON: func(dst []byte, c Conformance, sel *Selection) []byte {
			dst = append(dst, '{')
			if _, ok := sel.has("type"); ok {
				dst = appendString(appendKey(dst, "type"), c.Type)
			}
			if _, ok := sel.has("vectors"); ok {
				dst = strconv.AppendInt(appendKey(dst, "vectors"), int64(c.Vectors), 10)
			}
			if _, ok := sel.has("passed"); ok {
				dst = strconv.AppendInt(appendKey(dst, "passed"), int64(c.Passed), 10)
			}
			return append(dst, '}')
		},
	}
}
