package output

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/whorl-net/whorl/internal/units"
	"github.com/whorl-net/whorl/ja4"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// Detail is one line about a connection: a name, which is empty where a line
// goes on with the one before, and what it is.
type Detail struct {
	Name, Value string
	Style       Style
}

// Details is the Kind of the lines about one connection for people.
func Details() Kind[Detail] {
	return Kind[Detail]{Columns: []Column[Detail]{
		{Name: "WHAT", Cell: func(d Detail) string { return d.Name }, Style: func(Detail) Style { return StyleBold }},
		{Name: "VALUE", Cell: func(d Detail) string { return d.Value }, Style: func(d Detail) Style { return d.Style }},
	}}
}

// ConnectionDetails are all that is known of a connection but for the unhashed
// forms of its fingerprints. What is not known has no line.
func ConnectionDetails(c *whorlv1.Connection, clock Clock) []Detail {
	d := details{clock: clock}
	d.add("connection", "%s", c.GetId())
	d.add("uid", "%s", c.GetUid())
	d.add("network", "%s", c.GetNetwork())
	d.add("source", "%s, sent %s, %s", endpoint(c.GetSrcIp(), c.GetSrcPort()), Plural(c.GetSrcPacketCount(), "packet"), Bytes(c.GetSrcByteCount()))
	d.add("destination", "%s, sent %s, %s", endpoint(c.GetDstIp(), c.GetDstPort()),
		Plural(c.GetPacketCount()-c.GetSrcPacketCount(), "packet"), Bytes(c.GetByteCount()-c.GetSrcByteCount()))
	d.times(c)
	d.text("state", c.GetTcpState())
	d.text("server name", c.GetServerName())
	d.text("application", c.GetIdentifiedApp())
	d.verdicts(c)
	for t := ja4.TypeJA4; t < ja4.NumTypes; t++ {
		d.history(t.String(), c.GetFingerprints()[t.String()])
	}
	d.ssh(c)
	if c.GetMssValue() > 0 {
		d.add("mss", "%d bytes, path MTU %d", c.GetMssValue(), c.GetMtuEstimate())
	}
	d.text("tunnel", c.GetTunnelIndicator())
	d.text("community id", c.GetCommunityId())
	for i, o := range c.GetObservers() {
		d.nth(i, "seen by", "%s, %s, %s", o.GetProbeId(), Plural(o.GetPacketCount(), "packet"), Bytes(o.GetByteCount()))
	}
	return d.lines
}

// details collects the lines.
type details struct {
	clock Clock
	lines []Detail
}

func (d *details) add(name, format string, args ...any) *Detail {
	d.lines = append(d.lines, Detail{Name: name, Value: fmt.Sprintf(format, args...)})
	return &d.lines[len(d.lines)-1]
}

// text adds a line unless there is nothing to say.
func (d *details) text(name, value string) {
	if value != "" {
		d.add(name, "%s", value)
	}
}

// nth adds the i-th line of several of one name.
func (d *details) nth(i int, name, format string, args ...any) *Detail {
	if i > 0 {
		name = ""
	}
	return d.add(name, format, args...)
}

func (d *details) times(c *whorlv1.Connection) {
	d.text("first seen", d.clock.long(c.GetFirstSeen()))
	if c.GetFirstSeen() == nil || c.GetLastSeen() == nil {
		return
	}
	d.add("last seen", "%s, %s later", d.clock.long(c.GetLastSeen()),
		units.Duration(c.GetLastSeen().AsTime().Sub(c.GetFirstSeen().AsTime())))
}

// verdicts are what tables and rules say.
func (d *details) verdicts(c *whorlv1.Connection) {
	if c.GetIsKnownBad() {
		d.add("known bad", "yes").Style = StyleBad
	}
	if c.GetIsNew() {
		d.add("new", "it brought a fingerprint that its network had not shown before").Style = StyleWarn
	}
	for i, m := range c.GetTableMatches() {
		about := cmp.Or(m.GetApp(), "no application")
		if m.GetNote() != "" {
			about += ", " + m.GetNote()
		}
		if len(m.GetEvidence()) > 0 {
			about += ", for " + evidence(m.GetEvidence())
		}
		line := d.nth(i, "table", "%s/%s: %s, confidence %d", m.GetSource(), m.GetEntry(), about, m.GetConfidence())
		if m.GetIsBad() {
			line.Style = StyleBad
		}
	}
	for i, a := range c.GetAnomalies() {
		line := d.nth(i, "anomaly", "%s %s: %s", Word(a.GetSeverity()), a.GetRule(), a.GetDescription())
		line.Style = severityStyle(Word(a.GetSeverity()))
		if len(a.GetEvidence()) > 0 {
			d.nth(1, "", "  %s", evidence(a.GetEvidence()))
		}
	}
}

// evidence is a list of values, each behind its type.
func evidence(all []*whorlv1.Evidence) string {
	texts := make([]string, 0, len(all))
	for _, e := range all {
		texts = append(texts, strings.TrimSpace(e.GetType()+" "+e.GetValue()))
	}
	return strings.Join(texts, ", ")
}

// maxHistory is how many values of one type are shown.
const maxHistory = 10

// history shows the newest values of one type, oldest first, and how many there
// were before.
func (d *details) history(name string, h *whorlv1.FingerprintHistory) {
	events := h.GetEvents()
	if len(events) == 0 {
		return
	}
	shown := events[max(0, len(events)-maxHistory):]
	for i, e := range shown {
		d.nth(i, name, "%s  %s, packet %s", e.GetValue(), d.clock.text(e.GetSeenAt()), Number(e.GetPacketNum()))
	}
	if before := max(h.GetTotalCount(), uint64(len(events))) - uint64(len(shown)); before > 0 {
		d.nth(1, name, "%s before these: -o json has those that are kept", Number(before))
	}
}

func (d *details) ssh(c *whorlv1.Connection) {
	hint, published := c.GetSshSessionHint(), c.GetSshSessionType()
	switch {
	case hint == "" && published == "":
		return
	case hint == "":
		d.add("ssh session", "%s", published)
		return
	}
	texts := []string{hint + " by the wider rule"}
	if published != "" {
		texts = append(texts, published+" by the published thresholds")
	}
	d.add("ssh session", "%s", strings.Join(texts, ", "))
}
