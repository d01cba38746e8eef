package output

import (
	"fmt"
	"strconv"
	"time"

	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// Event is one step of a watch, as client.Event is: an eviction, a discovery, a
// gap or, with none of them, a heartbeat.
type Event struct {
	Eviction  *whorlv1.Eviction
	Discovery *whorlv1.Discovery
	Gap       *whorlv1.Gap
	Cursor    string
	// ServerTime and Backlog are those of a heartbeat.
	ServerTime time.Time
	Backlog    uint64
}

// Events is the Kind of a watch. All but evictions have no row in a table, a
// compact line or a CSV file: show Event.Remark there.
func Events(clock Clock) Kind[Event] {
	columns := []Column[Event]{
		{Name: "EVICTED", Cell: func(e Event) string { return clock.text(e.Eviction.GetEvictedAt()) }},
	}
	for _, c := range connectionColumns() {
		columns = append(columns, ofEviction(c))
	}
	columns = append(columns, Column[Event]{Name: "CAUSE", Cell: cause})
	table := []Column[Event]{
		{Name: "sequence", Cell: func(e Event) string { return strconv.FormatUint(e.Eviction.GetSequence(), 10) }},
		{Name: "cause", Cell: cause},
		{Name: "evicted_at", Cell: func(e Event) string { return stamp(e.Eviction.GetEvictedAt()) }},
	}
	for _, c := range connectionCSV() {
		table = append(table, ofEviction(c))
	}
	table = append(table, Column[Event]{Name: "cursor", Cell: func(e Event) string { return e.Cursor }})
	return Kind[Event]{Columns: columns, CSV: table, Schema: eventSchema(), JSON: appendEvent}
}

// streamWidths are how wide columns are at least where rows come one by one and
// nobody knows the widest: an IPv4 address with a port, a JA4.
var streamWidths = map[string]int{
	"SRC": 21, "DST": 21, "PROTO": 5, "TYPE": 6, "FINGERPRINT": 36, "VALUE": 36, "APP": 16, "FLAGS": 7, "SENT": 7,
}

func ofEviction(c Column[*whorlv1.Connection]) Column[Event] {
	out := Column[Event]{Name: c.Name, Right: c.Right, Width: max(c.Width, streamWidths[c.Name]),
		Cell: func(e Event) string { return c.Cell(e.Eviction.GetConnection()) }}
	if c.Style != nil {
		out.Style = func(e Event) Style { return c.Style(e.Eviction.GetConnection()) }
	}
	return out
}

func cause(e Event) string {
	if e.Eviction.GetCause() == whorlv1.EvictionCause_EVICTION_CAUSE_UNSPECIFIED {
		return ""
	}
	return Word(e.Eviction.GetCause())
}

// Remark is what people are told of a discovery, a gap or a heartbeat: a line
// that starts with #. It is "" for an eviction.
func (e Event) Remark() string {
	switch {
	case e.Gap != nil:
		return gapRemark(e.Gap)
	case e.Discovery != nil:
		return discoveryRemark(e.Discovery)
	case e.Eviction != nil:
		return ""
	}
	return fmt.Sprintf("# %s  cursor %s, %s behind", e.ServerTime.UTC().Format(time.RFC3339), e.Cursor, Number(e.Backlog))
}

func discoveryRemark(d *whorlv1.Discovery) string {
	where := "live"
	if n := d.GetEvictionSequence(); n > 0 {
		where = "evicted as " + Number(n)
	}
	return fmt.Sprintf("# FOUND LATER (%s) %s: %s  %s, %s", Word(d.GetAnomaly().GetSeverity()), d.GetAnomaly().GetRule(),
		d.GetAnomaly().GetDescription(), d.GetConnection().GetId(), where)
}

func gapRemark(g *whorlv1.Gap) string {
	if g.GetLostCount() == 0 {
		return fmt.Sprintf("# LOST an unknown number of evictions (%s)", Word(g.GetCause()))
	}
	return fmt.Sprintf("# LOST %s (%s), %s to %s", Plural(g.GetLostCount(), "eviction"), Word(g.GetCause()),
		Number(g.GetFirstLostSequence()), Number(g.GetLastLostSequence()))
}

// eventSchema is that of an eviction with a cursor, of a discovery, of a gap and
// of a heartbeat together.
func eventSchema() *Schema {
	s := schemaOf((&whorlv1.Eviction{}).ProtoReflect().Descriptor())
	gap := schemaOf((&whorlv1.Gap{}).ProtoReflect().Descriptor())
	gap.add("unknown", &Schema{})
	s.add("gap", gap)
	s.add("discovery", schemaOf((&whorlv1.Discovery{}).ProtoReflect().Descriptor()))
	for _, name := range []string{"cursor", "server_time", "backlog"} {
		s.add(name, &Schema{})
	}
	return s
}

// appendGap appends a gap. Of one whose size nobody knows it says that instead
// of a number: a program must not read it as 0.
func appendGap(dst []byte, g *whorlv1.Gap, sel *Selection) []byte {
	if g.GetLostCount() > 0 {
		return appendMessage(dst, g.ProtoReflect(), sel)
	}
	dst = append(dst, '{')
	if _, ok := sel.has("cause"); ok {
		dst = appendString(appendKey(dst, "cause"), Word(g.GetCause()))
	}
	if _, ok := sel.has("unknown"); ok {
		dst = append(appendKey(dst, "unknown"), "true"...)
	}
	return append(dst, '}')
}

// appendEvent appends one of the four objects of a watch.
func appendEvent(dst []byte, e Event, sel *Selection) []byte {
	dst = append(dst, '{')
	if e.Eviction != nil {
		dst = appendFields(dst, e.Eviction.ProtoReflect(), sel)
	}
	if inner, ok := sel.has("discovery"); ok && e.Discovery != nil {
		dst = appendMessage(appendKey(dst, "discovery"), e.Discovery.ProtoReflect(), inner)
	}
	if inner, ok := sel.has("gap"); ok && e.Gap != nil {
		dst = appendGap(appendKey(dst, "gap"), e.Gap, inner)
	}
	if _, ok := sel.has("cursor"); ok && e.Cursor != "" {
		dst = appendString(appendKey(dst, "cursor"), e.Cursor)
	}
	if e.Eviction == nil && e.Gap == nil && e.Discovery == nil {
		if _, ok := sel.has("server_time"); ok {
			dst = appendTime(appendKey(dst, "server_time"), e.ServerTime)
		}
		if _, ok := sel.has("backlog"); ok {
			dst = strconv.AppendUint(appendKey(dst, "backlog"), e.Backlog, 10)
		}
	}
	return append(dst, '}')
}
