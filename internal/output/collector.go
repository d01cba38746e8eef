package output

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/whorl-net/whorl/internal/units"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// Probes is the Kind of the fleet. now is what LAST HEARD is counted from.
func Probes(now time.Time) Kind[*whorlv1.Probe] {
	type column = Column[*whorlv1.Probe]
	count := func(name string, get func(*whorlv1.Probe) uint64) column {
		return column{Name: name, Right: true, Cell: func(p *whorlv1.Probe) string { return Number(get(p)) }}
	}
	loss := func(p *whorlv1.Probe) Style {
		if p.GetPacketsDropped() > 0 || p.GetPacketsLost() > 0 {
			return StyleBad
		}
		return StylePlain
	}
	dropped, lost := count("DROPPED", (*whorlv1.Probe).GetPacketsDropped), count("LOST", (*whorlv1.Probe).GetPacketsLost)
	dropped.Style, lost.Style = loss, loss
	return Kind[*whorlv1.Probe]{
		Columns: []column{
			{Name: "PROBE", Cell: (*whorlv1.Probe).GetProbeId},
			{Name: "NETWORK", Cell: (*whorlv1.Probe).GetNetwork},
			{Name: "STATE", Cell: func(p *whorlv1.Probe) string { return Word(p.GetState()) }, Style: probeStyle},
			{Name: "HEARD", Right: true, Cell: func(p *whorlv1.Probe) string { return ago(now, p.GetLastHeard()) }},
			{Name: "LAG", Right: true, Cell: func(p *whorlv1.Probe) string { return span(p.GetLag()) }},
			{Name: "CLOCK", Right: true, Cell: func(p *whorlv1.Probe) string { return span(p.GetClockOffset()) }},
			count("RECEIVED", (*whorlv1.Probe).GetPacketsReceived),
			count("APPLIED", (*whorlv1.Probe).GetPacketsApplied),
			dropped, lost,
			count("HELD", (*whorlv1.Probe).GetSpoolBatches),
			{Name: "LABELS", Cell: labels},
			{Name: "VERSION", Cell: (*whorlv1.Probe).GetVersion},
		},
		CSV:    messageCSV[*whorlv1.Probe](),
		Schema: schemaOf((&whorlv1.Probe{}).ProtoReflect().Descriptor()),
		JSON: func(dst []byte, p *whorlv1.Probe, sel *Selection) []byte {
			return AppendJSON(dst, p, sel)
		},
	}
}

func probeStyle(p *whorlv1.Probe) Style {
	switch p.GetState() {
	case whorlv1.ProbeState_PROBE_STATE_CONNECTED:
		return StyleGood
	case whorlv1.ProbeState_PROBE_STATE_LAGGING:
		return StyleWarn
	}
	return StyleFaint
}

func labels(p *whorlv1.Probe) string {
	var pairs []string
	for k, v := range p.GetLabels() {
		pairs = append(pairs, k+"="+v)
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ",")
}

// ago says how long ago t was, "-" when nobody knows.
func ago(now time.Time, t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return Ago(now.Sub(t.AsTime()))
}

// span shows a duration to the millisecond.
func span(d *durationpb.Duration) string {
	if d == nil {
		return ""
	}
	return units.Duration(d.AsDuration().Round(time.Millisecond))
}

// Fact is one line of a status.
type Fact struct{ Name, Value string }

// Facts is the Kind of the lines of a status for people. Programs get the
// whole message: see Status.
func Facts() Kind[Fact] {
	return Kind[Fact]{Columns: []Column[Fact]{
		{Name: "WHAT", Cell: func(f Fact) string { return f.Name }},
		{Name: "NOW", Cell: func(f Fact) string { return f.Value }},
	}}
}

// Status is the Kind of a status as programs read it.
func Status() Kind[*whorlv1.GetStatusResponse] {
	return Kind[*whorlv1.GetStatusResponse]{
		CSV:    messageCSV[*whorlv1.GetStatusResponse](),
		Schema: schemaOf((&whorlv1.GetStatusResponse{}).ProtoReflect().Descriptor()),
		JSON: func(dst []byte, s *whorlv1.GetStatusResponse, sel *Selection) []byte {
			dst = AppendJSON(dst, s, sel)
			if _, ok := sel.has("drops"); ok && len(s.GetDrops()) == 0 {
				// A list also when it is empty: scripts loop over it.
				dst = append(appendKey(dst[:len(dst)-1], "drops"), "[]}"...)
			}
			return dst
		},
	}
}

// StatusFacts are what people want to know of a status, most urgent last, where
// the eye is. Counters at zero are left out, but for what must be zero.
func StatusFacts(s *whorlv1.GetStatusResponse, now time.Time) []Fact {
	facts := []Fact{
		{"collector", strings.TrimSpace(s.GetCollectorId() + " " + s.GetVersion())},
		{"up", ago(now, s.GetStartedAt())},
		{"state", s.GetState()},
		{"durability", s.GetDurability()},
		{"connections", fmt.Sprintf("%s of %s", Number(s.GetConnections()), Number(s.GetMaxConnections()))},
		{"opened", Number(s.GetConnectionsOpened())},
		{"table memory", Bytes(s.GetMemoryBytes())},
		{"packets applied", fmt.Sprintf("%s (%s)", Number(s.GetPacketsApplied()), Bytes(s.GetBytesApplied()))},
		{"probes connected", Number(uint64(s.GetProbesConnected()))},
		{"subscribers", Number(uint64(len(s.GetSubscribers())))},
	}
	facts = append(facts, storageFacts(s, now)...)
	for _, e := range s.GetEvictions() {
		facts = append(facts, Fact{"evicted " + Word(e.GetCause()), Number(e.GetCount())})
	}
	if f := s.GetFeed(); f != nil {
		facts = append(facts,
			Fact{"feed", fmt.Sprintf("%s, %s", Plural(f.GetHeldEvents(), "eviction"), Bytes(f.GetHeldBytes()))},
			Fact{"feed cursors", f.GetOldestCursor() + " to " + f.GetNewestCursor()})
	}
	for _, sub := range s.GetSubscribers() {
		facts = append(facts, Fact{"subscriber " + sub.GetSubscriber(),
			fmt.Sprintf("%s at %s, %s behind, %s lost", sub.GetPeer(), sub.GetCursor(), Number(sub.GetBacklog()), Number(sub.GetLost()))})
	}
	for _, sh := range s.GetShards() {
		facts = append(facts, Fact{"shard " + strconv.Itoa(int(sh.GetIndex())),
			fmt.Sprintf("%s, queue %s of %s", Plural(sh.GetConnections(), "connection"), Number(sh.GetQueueDepth()), Number(sh.GetQueueCapacity()))})
	}
	facts = append(facts, knowledgeFacts(s)...)
	facts = append(facts, Fact{"packets late", Number(s.GetPacketsLate())})
	for _, d := range s.GetDrops() {
		if d.GetCount() > 0 {
			facts = append(facts, Fact{"dropped " + d.GetWhere(), Number(d.GetCount())})
		}
	}
	return facts
}

// knowledgeFacts are those of tables, rules and the inventory. Rules that raised
// nothing are left out.
func knowledgeFacts(s *whorlv1.GetStatusResponse) []Fact {
	e := s.GetEnrichment()
	if e == nil {
		return nil
	}
	facts := []Fact{
		{"tables", fmt.Sprintf("%s entries name an application, %s condemn", Number(e.GetAppEntries()), Number(e.GetBadEntries()))},
		{"fingerprints known", fmt.Sprintf("%s, %s forgotten", Number(e.GetFingerprintsKnown()), Number(e.GetFingerprintsForgotten()))},
	}
	if e.GetDiscoveries() > 0 {
		facts = append(facts, Fact{"found later", Number(e.GetDiscoveries())})
	}
	for _, r := range s.GetRules() {
		if r.GetRaised()+r.GetSuppressed() > 0 {
			facts = append(facts, Fact{"rule " + r.GetRule(), fmt.Sprintf("%s raised, %s suppressed (%s)",
				Number(r.GetRaised()), Number(r.GetSuppressed()), Word(r.GetSeverity()))})
		}
	}
	if e.GetRefused() != "" {
		facts = append(facts, Fact{"newest files refused", e.GetRefused()})
	}
	return facts
}

// storageFacts are those of the log, the data directory, and what must add up.
func storageFacts(s *whorlv1.GetStatusResponse, now time.Time) []Fact {
	var facts []Fact
	add := func(name, format string, args ...any) {
		facts = append(facts, Fact{name, fmt.Sprintf(format, args...)})
	}
	if r := s.GetRestore(); r != nil {
		add("restore", "record %s of %s", Number(r.GetPosition()), Number(r.GetToPosition()))
	}
	if s.GetDataDir() != "" {
		l := s.GetLog()
		add("data directory", "%s", s.GetDataDir())
		add("log", "%s of %s, records %s to %s, applied %s, %s", Bytes(l.GetBytes()), Bytes(l.GetMaxBytes()),
			Number(l.GetFirstPosition()), Number(l.GetLastPosition()), Number(l.GetAppliedPosition()), Plural(l.GetGroups(), "write"))
		if l.GetError() != "" {
			add("log cannot be written", "%s", l.GetError())
		}
		add("checkpoint", "%s", checkpointFact(s.GetCheckpoint(), now))
	}
	// Nobody has acknowledged what a collector of an earlier version counts.
	if s.GetPacketsAcknowledged() > 0 || s.GetPacketsApplied() == 0 {
		add("packets", "%s acknowledged = %s applied + %s to come", Number(s.GetPacketsAcknowledged()),
			Number(s.GetPacketsApplied()), Number(s.GetPacketsReplaying()))
	}
	add("connections sum", "%s opened = %s live + %s evicted", Number(s.GetConnectionsOpened()),
		Number(s.GetConnections()), Number(Evicted(s)))
	return facts
}

func checkpointFact(c *whorlv1.CheckpointStatus, now time.Time) string {
	text := "none yet"
	if c.GetCompletedAt() != nil {
		text = fmt.Sprintf("%s ago, %s, %s, behind record %s", ago(now, c.GetCompletedAt()), Bytes(c.GetBytes()),
			Plural(c.GetConnections(), "connection"), Number(c.GetPosition()))
	}
	if n := c.GetFailures(); n > 0 {
		text += ", " + Plural(n, "failure")
	}
	return text
}

// Evicted is the sum of the evictions of all causes.
func Evicted(s *whorlv1.GetStatusResponse) uint64 {
	n := uint64(0)
	for _, e := range s.GetEvictions() {
		n += e.GetCount()
	}
	return n
}
