package output

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// Inventory is the Kind of what networks have shown. now is what FIRST and LAST
// are counted from.
func Inventory(now time.Time) Kind[*whorlv1.KnownFingerprint] {
	type column = Column[*whorlv1.KnownFingerprint]
	text := func(name string, get func(*whorlv1.KnownFingerprint) string) column {
		return column{Name: name, Cell: get}
	}
	age := func(name string, get func(*whorlv1.KnownFingerprint) *timestamppb.Timestamp) column {
		return column{Name: name, Right: true, Cell: func(f *whorlv1.KnownFingerprint) string { return ago(now, get(f)) }}
	}
	return Kind[*whorlv1.KnownFingerprint]{
		Columns: []column{
			text("TYPE", (*whorlv1.KnownFingerprint).GetType),
			text("VALUE", (*whorlv1.KnownFingerprint).GetValue),
			text("NETWORK", (*whorlv1.KnownFingerprint).GetNetwork),
			age("FIRST", (*whorlv1.KnownFingerprint).GetFirstSeen),
			age("LAST", (*whorlv1.KnownFingerprint).GetLastSeen),
			{Name: "CONNECTIONS", Right: true, Cell: func(f *whorlv1.KnownFingerprint) string { return Number(f.GetConnections()) }},
			text("APP", (*whorlv1.KnownFingerprint).GetIdentifiedApp),
			{Name: "FLAGS", Cell: inventoryFlag, Style: func(f *whorlv1.KnownFingerprint) Style {
				if f.GetIsKnownBad() {
					return StyleBad
				}
				return StyleFaint
			}},
		},
		CSV:    messageCSV[*whorlv1.KnownFingerprint](),
		Schema: schemaOf((&whorlv1.KnownFingerprint{}).ProtoReflect().Descriptor()),
		JSON: func(dst []byte, f *whorlv1.KnownFingerprint, sel *Selection) []byte {
			return AppendJSON(dst, f, sel)
		},
	}
}

func inventoryFlag(f *whorlv1.KnownFingerprint) string {
	switch {
	case f.GetIsKnownBad():
		return "BAD"
	case f.GetLearned():
		return "learned"
	}
	return ""
}
