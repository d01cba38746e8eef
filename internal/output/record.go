package output

import (
	"google.golang.org/protobuf/proto"
)

// messageCSV has a column for each plain field of a message, with the text of
// its JSON.
func messageCSV[M proto.Message]() []Column[M] {
	var zero M
	schema := schemaOf(zero.ProtoReflect().Descriptor())
	var columns []Column[M]
	fields := zero.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.IsList() || f.IsMap() || f.Message() != nil && !isTime(f.Message()) {
			continue
		}
		name := string(f.Name())
		one, err := schema.Select([]string{name})
		if err != nil {
			continue // a name of its own schema
		}
		columns = append(columns, Column[M]{Name: name, Cell: func(m M) string {
			return fieldText(AppendJSON(nil, m, one), []string{name})
		}})
	}
	return columns
}
