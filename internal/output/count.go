package output

import (
	"strconv"
	"strings"

	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// Count is the Kind of a plain count. The groups of the answer are not shown.
func Count() Kind[*whorlv1.CountResponse] {
	number := func(c *whorlv1.CountResponse) string { return strconv.FormatUint(c.GetCount(), 10) }
	return Kind[*whorlv1.CountResponse]{
		// The bare number, also in a table: it has nothing to align.
		Columns: []Column[*whorlv1.CountResponse]{{Name: "CONNECTIONS", Right: true, Cell: func(c *whorlv1.CountResponse) string { return Number(c.GetCount()) }}},
		CSV: []Column[*whorlv1.CountResponse]{
			{Name: "count", Cell: number},
			{Name: "as_of", Cell: func(c *whorlv1.CountResponse) string { return stamp(c.GetAsOf()) }},
		},
		Schema: fieldList("count", "as_of"),
		JSON: func(dst []byte, c *whorlv1.CountResponse, sel *Selection) []byte {
			dst = append(dst, '{')
			if _, ok := sel.has("count"); ok {
				dst = strconv.AppendUint(appendKey(dst, "count"), c.GetCount(), 10)
			}
			if _, ok := sel.has("as_of"); ok && c.GetAsOf() != nil {
				dst = appendTime(appendKey(dst, "as_of"), c.GetAsOf().AsTime())
			}
			return append(dst, '}')
		},
	}
}

// Group is one row of a count by fields.
type Group struct {
	*whorlv1.Group
	// Others, when not 0, makes this the row of that many groups beyond the
	// limit. Only tables show it, and of its numbers only Connections.
	Others uint64
}

// Groups is the Kind of the groups of a count; by are the fields they are by.
func Groups(by []string) Kind[Group] {
	columns := make([]Column[Group], 0, len(by)+3)
	for i, name := range by {
		columns = append(columns, Column[Group]{Name: strings.ToUpper(name), Cell: func(g Group) string { return groupKey(g, by, i) }})
	}
	amount := func(show func(uint64) string, get func(*whorlv1.Group) uint64) func(Group) string {
		return func(g Group) string {
			if g.Others > 0 && get(g.Group) == 0 {
				return "–"
			}
			return show(get(g.Group))
		}
	}
	plain := func(n uint64) string { return strconv.FormatUint(n, 10) }
	records := make([]Column[Group], 0, len(by)+3)
	for i, name := range by {
		records = append(records, Column[Group]{Name: name, Cell: func(g Group) string { return keyAt(g, i) }})
	}
	for _, c := range []struct {
		name string
		show func(uint64) string
		get  func(*whorlv1.Group) uint64
	}{
		{"connections", Number, (*whorlv1.Group).GetConnections},
		{"packets", Number, (*whorlv1.Group).GetPackets},
		{"bytes", Bytes, (*whorlv1.Group).GetBytes},
	} {
		columns = append(columns, Column[Group]{Name: strings.ToUpper(c.name), Right: true, Cell: amount(c.show, c.get)})
		records = append(records, Column[Group]{Name: c.name, Cell: amount(plain, c.get)})
	}
	return Kind[Group]{
		Columns: columns, CSV: records,
		Schema: schemaOf((&whorlv1.Group{}).ProtoReflect().Descriptor()),
		JSON: func(dst []byte, g Group, sel *Selection) []byte {
			return AppendJSON(dst, g.Group, sel)
		},
	}
}

func keyAt(g Group, i int) string {
	if i < len(g.GetKey()) {
		return g.GetKey()[i]
	}
	return ""
}

// nothingOf is what a table shows for a group without a value. An application
// is there, known or not; the others may be missing.
func nothingOf(field string) string {
	if field == "app" || field == "identified_app" {
		return "(unknown)"
	}
	return "(none)"
}

func groupKey(g Group, by []string, i int) string {
	switch key := keyAt(g, i); {
	case g.Others > 0 && i == 0:
		return "(" + Plural(g.Others, "more group") + ")"
	case g.Others > 0:
		return ""
	case key == "":
		return nothingOf(by[i])
	default:
		return key
	}
}
