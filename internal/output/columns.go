package output

import (
	"bytes"
	"encoding/json"
	"strings"
)

// fieldColumns are the columns that --fields asks for: the JSON of each field,
// without the quotes of a string.
func fieldColumns[T any](kind Kind[T], sel *Selection) []Column[T] {
	columns := make([]Column[T], 0, len(sel.names))
	for _, name := range sel.names {
		path := strings.Split(name, ".")
		one, err := kind.Schema.Select([]string{name})
		if err != nil {
			continue // checked when sel was made
		}
		columns = append(columns, Column[T]{
			Name: name,
			Cell: func(v T) string { return fieldText(kind.JSON(nil, v, one), path) },
		})
	}
	return columns
}

// fieldText returns what lies at path in an object: the text of a string, the
// JSON of anything else, and the values of a list with commas between them.
func fieldText(object []byte, path []string) string {
	dec := json.NewDecoder(bytes.NewReader(object))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		return ""
	}
	var texts []string
	collect(v, path, &texts)
	return strings.Join(texts, ",")
}

func collect(v any, path []string, texts *[]string) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			collect(e, path, texts)
		}
		return
	case map[string]any:
		if len(path) > 0 {
			if inner, ok := v[path[0]]; ok {
				collect(inner, path[1:], texts)
			}
			return
		}
	case string:
		*texts = append(*texts, v)
		return
	}
	text, err := json.Marshal(v)
	if err == nil {
		*texts = append(*texts, string(text))
	}
}
