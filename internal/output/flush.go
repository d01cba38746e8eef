package output

import "strconv"

// Flushed says how many connections a flush was about, and whether it was done
// or only counted.
type Flushed struct {
	Matched uint64
	Evicted bool
}

// Flushes is the Kind of the answer to a flush.
func Flushes() Kind[Flushed] {
	return Kind[Flushed]{
		Columns: []Column[Flushed]{
			{Name: "matched", Cell: func(f Flushed) string { return strconv.FormatUint(f.Matched, 10) }},
			{Name: "evicted", Cell: func(f Flushed) string { return strconv.FormatBool(f.Evicted) }},
		},
		Schema: fieldList("matched", "evicted"),
		JSON: func(dst []byte, f Flushed, sel *Selection) []byte {
			dst = append(dst, '{')
			if _, ok := sel.has("matched"); ok {
				dst = strconv.AppendUint(appendKey(dst, "matched"), f.Matched, 10)
			}
			if _, ok := sel.has("evicted"); ok {
				dst = strconv.AppendBool(appendKey(dst, "evicted"), f.Evicted)
			}
			return append(dst, '}')
		},
	}
}
