package output

import (
	"encoding/base64"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/whorl-net/whorl/flow"
)

// timeLayout always has nine digits, so that times sort as text.
const timeLayout = "2006-01-02T15:04:05.000000000Z"

// AppendJSON appends m as a JSON object by the rules of the package; sel says
// which of its fields.
func AppendJSON(dst []byte, m proto.Message, sel *Selection) []byte {
	return appendMessage(dst, m.ProtoReflect(), sel)
}

func appendMessage(dst []byte, m protoreflect.Message, sel *Selection) []byte {
	dst = append(dst, '{')
	return append(appendDerived(appendFields(dst, m, sel), m, sel), '}')
}

// appendFields appends the members of an object, without its braces. dst must
// end with the brace or the member before.
func appendFields(dst []byte, m protoreflect.Message, sel *Selection) []byte {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		inner, ok := sel.has(string(f.Name()))
		if !ok || absent(m, f) {
			continue
		}
		dst = appendKey(dst, string(f.Name()))
		v := m.Get(f)
		switch {
		case f.IsMap():
			dst = appendMap(dst, f, v.Map(), inner)
		case f.IsList():
			dst = appendList(dst, f, v.List(), inner)
		default:
			dst = appendValue(dst, f, v, inner)
		}
	}
	return dst
}

// absent reports whether a field is left out: anything empty but numbers and
// booleans, and the name of the default network.
func absent(m protoreflect.Message, f protoreflect.FieldDescriptor) bool {
	switch {
	case f.IsList():
		return m.Get(f).List().Len() == 0
	case f.IsMap():
		return m.Get(f).Map().Len() == 0
	case f.HasPresence(): // messages, optional scalars
		return !m.Has(f)
	}
	switch f.Kind() {
	case protoreflect.StringKind:
		s := m.Get(f).String()
		return s == "" || f.Name() == "network" && s == flow.DefaultNetwork
	case protoreflect.BytesKind:
		return len(m.Get(f).Bytes()) == 0
	case protoreflect.EnumKind:
		return m.Get(f).Enum() == 0
	}
	return false
}

func appendList(dst []byte, f protoreflect.FieldDescriptor, l protoreflect.List, sel *Selection) []byte {
	dst = append(dst, '[')
	for i := range l.Len() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendValue(dst, f, l.Get(i), sel)
	}
	return append(dst, ']')
}

// appendMap appends a map, its keys sorted as text.
func appendMap(dst []byte, f protoreflect.FieldDescriptor, m protoreflect.Map, sel *Selection) []byte {
	type entry struct {
		key   string
		value protoreflect.Value
	}
	entries := make([]entry, 0, m.Len())
	m.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		entries = append(entries, entry{k.String(), v})
		return true
	})
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	dst = append(dst, '{')
	for _, e := range entries {
		inner, ok := sel.has(e.key)
		if !ok {
			continue
		}
		dst = appendKey(dst, e.key)
		dst = appendValue(dst, f.MapValue(), e.value, inner)
	}
	return append(dst, '}')
}

func appendValue(dst []byte, f protoreflect.FieldDescriptor, v protoreflect.Value, sel *Selection) []byte {
	switch f.Kind() {
	case protoreflect.BoolKind:
		return strconv.AppendBool(dst, v.Bool())
	case protoreflect.EnumKind:
		return appendString(dst, enumWord(f.Enum(), v.Enum()))
	case protoreflect.Int32Kind, protoreflect.Int64Kind, protoreflect.Sint32Kind, protoreflect.Sint64Kind,
		protoreflect.Sfixed32Kind, protoreflect.Sfixed64Kind:
		return strconv.AppendInt(dst, v.Int(), 10)
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind, protoreflect.Fixed32Kind, protoreflect.Fixed64Kind:
		return strconv.AppendUint(dst, v.Uint(), 10)
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return appendFloat(dst, v.Float())
	case protoreflect.StringKind:
		return appendString(dst, v.String())
	case protoreflect.BytesKind:
		return appendString(dst, base64.StdEncoding.EncodeToString(v.Bytes()))
	}
	m := v.Message()
	switch m.Descriptor().FullName() {
	case timestampName:
		seconds, nanos := secondsAndNanos(m)
		return appendTime(dst, time.Unix(seconds, nanos))
	case durationName:
		seconds, nanos := secondsAndNanos(m)
		return appendDuration(dst, seconds, nanos)
	}
	return appendMessage(dst, m, sel)
}

const (
	timestampName protoreflect.FullName = "google.protobuf.Timestamp"
	durationName  protoreflect.FullName = "google.protobuf.Duration"
)

// isTime reports whether a message is shown as a string.
func isTime(d protoreflect.MessageDescriptor) bool {
	return d.FullName() == timestampName || d.FullName() == durationName
}

func secondsAndNanos(m protoreflect.Message) (seconds, nanos int64) {
	fields := m.Descriptor().Fields()
	return m.Get(fields.ByName("seconds")).Int(), m.Get(fields.ByName("nanos")).Int()
}

// enumWord is the short name of a value: EVICTION_CAUSE_IDLE of EvictionCause
// is "idle". A value of a newer contract is its number.
func enumWord(d protoreflect.EnumDescriptor, n protoreflect.EnumNumber) string {
	v := d.Values().ByNumber(n)
	if v == nil {
		return strconv.Itoa(int(n))
	}
	zero := string(d.Values().ByNumber(0).Name()) // …_UNSPECIFIED
	prefix := strings.TrimSuffix(zero, "UNSPECIFIED")
	return strings.ToLower(strings.TrimPrefix(string(v.Name()), prefix))
}

// Word returns the short lower-case name of an enum value, such as "idle".
func Word(e protoreflect.Enum) string { return enumWord(e.Descriptor(), e.Number()) }

// appendKey appends a member's name and, before it, the comma that it needs.
func appendKey(dst []byte, name string) []byte {
	if n := len(dst); n > 0 && dst[n-1] != '{' {
		dst = append(dst, ',')
	}
	return append(appendString(dst, name), ':')
}

func appendTime(dst []byte, t time.Time) []byte {
	dst = append(dst, '"')
	dst = t.UTC().AppendFormat(dst, timeLayout)
	return append(dst, '"')
}

// appendDuration appends "2.5s", without zeros at the end.
func appendDuration(dst []byte, seconds, nanos int64) []byte {
	dst = append(dst, '"')
	if seconds < 0 || nanos < 0 {
		dst = append(dst, '-')
		seconds, nanos = -seconds, -nanos
	}
	dst = strconv.AppendInt(dst, seconds, 10)
	if nanos > 0 {
		digits := strconv.FormatInt(1_000_000_000+nanos, 10)[1:]
		dst = append(dst, '.')
		dst = append(dst, strings.TrimRight(digits, "0")...)
	}
	return append(dst, 's', '"')
}

// appendFloat appends f; JSON has no word for what is not finite.
func appendFloat(dst []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, '0')
	}
	return strconv.AppendFloat(dst, f, 'g', -1, 64)
}

const hexDigits = "0123456789abcdef"

// appendString appends s in quotes (RFC 8259 section 7). Bytes that are not
// UTF-8 become U+FFFD, so that the line is JSON whatever an attacker put into
// a host name.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= 0x20 && c != '"' && c != '\\' && c != 0x7f {
				i++
				continue
			}
			dst = append(dst, s[start:i]...)
			switch c {
			case '"', '\\':
				dst = append(dst, '\\', c)
			case '\n':
				dst = append(dst, '\\', 'n')
			case '\t':
				dst = append(dst, '\\', 't')
			case '\r':
				dst = append(dst, '\\', 'r')
			default:
				dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			start = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			dst = append(dst, s[start:i]...)
			dst = append(dst, "\ufffd"...)
			start = i + n
		}
		i += n
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}
