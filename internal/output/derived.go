package output

import (
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/whorl-net/whorl/ja4"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// A derived field is one that a connection does not have but that can be named,
// as the columns of its CSV are: ja4 is the newest value of
// fingerprints.ja4.events. It is shown only where it is named.
type derivedField struct {
	name string
	// source is the field that it is made of.
	source string
	text   func(c *whorlv1.Connection) string
}

// derivedFields are those of a connection, in the order of their JSON.
var derivedFields = func() (fields []derivedField) {
	for t := ja4.TypeJA4; t < ja4.NumTypes; t++ {
		fields = append(fields, derivedField{t.String(), "fingerprints", func(c *whorlv1.Connection) string {
			return newest(c.GetFingerprints()[t.String()])
		}})
	}
	return append(fields, derivedField{"anomaly_rules", "anomalies", anomalyRules})
}()

var connectionDescriptor = (&whorlv1.Connection{}).ProtoReflect().Descriptor()

// addDerived adds the derived fields of a message to its schema.
func (s *Schema) addDerived(d protoreflect.MessageDescriptor) {
	if d != connectionDescriptor {
		return
	}
	for _, f := range derivedFields {
		s.add(f.name, &Schema{})
	}
}

// appendDerived appends the derived fields of m that sel names.
func appendDerived(dst []byte, m protoreflect.Message, sel *Selection) []byte {
	if sel == nil || len(sel.keep) == 0 || m.Descriptor() != connectionDescriptor {
		return dst
	}
	c, ok := m.Interface().(*whorlv1.Connection)
	if !ok {
		return dst
	}
	for _, f := range derivedFields {
		if sel.keep[f.name] == nil {
			continue
		}
		if text := f.text(c); text != "" {
			dst = appendString(appendKey(dst, f.name), text)
		}
	}
	return dst
}

// sourceOf is the field of a message behind the first part of a name.
func sourceOf(name string) string {
	first, _, _ := strings.Cut(name, ".")
	for _, f := range derivedFields {
		if f.name == first {
			return f.source
		}
	}
	return first
}
