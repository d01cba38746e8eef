package output

import (
	"net"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// Connections is the Kind of live connections.
func Connections(clock Clock) Kind[*whorlv1.Connection] {
	columns := []Column[*whorlv1.Connection]{
		{Name: "LAST SEEN", Cell: func(c *whorlv1.Connection) string { return clock.text(c.GetLastSeen()) }},
	}
	return Kind[*whorlv1.Connection]{
		Columns: append(columns, connectionColumns()...),
		CSV:     connectionCSV(),
		Schema:  schemaOf((&whorlv1.Connection{}).ProtoReflect().Descriptor()),
		JSON: func(dst []byte, c *whorlv1.Connection, sel *Selection) []byte {
			return AppendJSON(dst, c, sel)
		},
	}
}

// connectionColumns are those that list and watch have in common.
func connectionColumns() []Column[*whorlv1.Connection] {
	return []Column[*whorlv1.Connection]{
		{Name: "NETWORK", Optional: true, Cell: otherNetwork},
		{Name: "SRC", Cell: func(c *whorlv1.Connection) string { return endpoint(c.GetSrcIp(), c.GetSrcPort()) }},
		{Name: "DST", Cell: func(c *whorlv1.Connection) string { return endpoint(c.GetDstIp(), c.GetDstPort()) }},
		{Name: "PROTO", Cell: (*whorlv1.Connection).GetProtocol},
		{Name: "TYPE", Cell: func(c *whorlv1.Connection) string { return c.GetPrimaryFingerprint().GetType() }},
		{Name: "FINGERPRINT", Cell: func(c *whorlv1.Connection) string { return c.GetPrimaryFingerprint().GetValue() }},
		{Name: "APP", Cell: (*whorlv1.Connection).GetIdentifiedApp, Style: appStyle},
		{Name: "FLAGS", Cell: flags, Style: flagStyle},
		{Name: "SENT", Cell: func(c *whorlv1.Connection) string { return Bytes(c.GetSrcByteCount()) }},
		{Name: "RECEIVED", Cell: func(c *whorlv1.Connection) string { return Bytes(c.GetByteCount() - c.GetSrcByteCount()) }},
	}
}

// otherNetwork is the network of a connection, "" for the default one.
func otherNetwork(c *whorlv1.Connection) string {
	if c.GetNetwork() == flow.DefaultNetwork {
		return ""
	}
	return c.GetNetwork()
}

// endpoint joins an address and a port, IPv6 in brackets; "" when a view left
// the address out.
func endpoint(ip string, port uint32) string {
	if ip == "" {
		return ""
	}
	return net.JoinHostPort(ip, strconv.FormatUint(uint64(port), 10))
}

// flags are the words that make a connection worth a look.
func flags(c *whorlv1.Connection) string {
	var words []string
	if c.GetIsKnownBad() {
		words = append(words, "BAD")
	}
	if c.GetIsNew() {
		words = append(words, "NEW")
	}
	if len(c.GetAnomalies()) > 0 {
		words = append(words, "ANOMALY")
	}
	if c.GetTunnelIndicator() != "" {
		words = append(words, "TUNNEL")
	}
	return strings.Join(words, " ")
}

// appStyle marks the name of what condemns a connection.
func appStyle(c *whorlv1.Connection) Style {
	if c.GetIsKnownBad() {
		return StyleBad
	}
	return StylePlain
}

func flagStyle(c *whorlv1.Connection) Style {
	style := StylePlain
	if c.GetIsNew() {
		style = StyleWarn
	}
	for _, a := range c.GetAnomalies() {
		style = StyleWarn
		if a.GetSeverity() >= whorlv1.Severity_SEVERITY_HIGH {
			return StyleBad
		}
	}
	if c.GetIsKnownBad() {
		return StyleBad
	}
	return style
}

// connectionCSV has the plain fields of a connection and the newest value of
// each type.
func connectionCSV() []Column[*whorlv1.Connection] {
	type column = Column[*whorlv1.Connection]
	text := func(name string, get func(*whorlv1.Connection) string) column {
		return column{Name: name, Cell: get}
	}
	number := func(name string, get func(*whorlv1.Connection) uint64) column {
		return column{Name: name, Cell: func(c *whorlv1.Connection) string { return strconv.FormatUint(get(c), 10) }}
	}
	small := func(name string, get func(*whorlv1.Connection) uint32) column {
		return number(name, func(c *whorlv1.Connection) uint64 { return uint64(get(c)) })
	}
	moment := func(name string, get func(*whorlv1.Connection) *timestamppb.Timestamp) column {
		return column{Name: name, Cell: func(c *whorlv1.Connection) string { return stamp(get(c)) }}
	}
	truth := func(name string, get func(*whorlv1.Connection) bool) column {
		return column{Name: name, Cell: func(c *whorlv1.Connection) string { return strconv.FormatBool(get(c)) }}
	}
	columns := []column{
		text("id", (*whorlv1.Connection).GetId),
		text("uid", (*whorlv1.Connection).GetUid),
		text("src_ip", (*whorlv1.Connection).GetSrcIp),
		small("src_port", (*whorlv1.Connection).GetSrcPort),
		text("dst_ip", (*whorlv1.Connection).GetDstIp),
		small("dst_port", (*whorlv1.Connection).GetDstPort),
		text("protocol", (*whorlv1.Connection).GetProtocol),
		moment("first_seen", (*whorlv1.Connection).GetFirstSeen),
		moment("last_seen", (*whorlv1.Connection).GetLastSeen),
		number("packet_count", (*whorlv1.Connection).GetPacketCount),
		number("byte_count", (*whorlv1.Connection).GetByteCount),
		number("src_packet_count", (*whorlv1.Connection).GetSrcPacketCount),
		number("src_byte_count", (*whorlv1.Connection).GetSrcByteCount),
	}
	for t := ja4.TypeJA4; t <= ja4.TypeJA4D6; t++ {
		columns = append(columns, text(t.String(), func(c *whorlv1.Connection) string {
			return newest(c.GetFingerprints()[t.String()])
		}))
	}
	return append(columns,
		text("identified_app", (*whorlv1.Connection).GetIdentifiedApp),
		truth("is_known_bad", (*whorlv1.Connection).GetIsKnownBad),
		truth("is_new", (*whorlv1.Connection).GetIsNew),
		small("mss_value", (*whorlv1.Connection).GetMssValue),
		text("tunnel_indicator", (*whorlv1.Connection).GetTunnelIndicator),
		text("ssh_session_type", (*whorlv1.Connection).GetSshSessionType),
		text("anomalies", anomalies),
		text("server_name", (*whorlv1.Connection).GetServerName),
		text("network", (*whorlv1.Connection).GetNetwork),
		text("tcp_state", (*whorlv1.Connection).GetTcpState),
		text("community_id", (*whorlv1.Connection).GetCommunityId),
		small("mtu_estimate", (*whorlv1.Connection).GetMtuEstimate),
		text("ssh_session_hint", (*whorlv1.Connection).GetSshSessionHint),
		text("anomaly_rules", anomalyRules),
		text("table_matches", tableMatches),
	)
}

func newest(h *whorlv1.FingerprintHistory) string {
	events := h.GetEvents()
	if len(events) == 0 {
		return ""
	}
	return events[len(events)-1].GetValue()
}

func anomalies(c *whorlv1.Connection) string {
	var texts []string
	for _, a := range c.GetAnomalies() {
		texts = append(texts, a.GetDescription())
	}
	return strings.Join(texts, "; ")
}

// anomalyRules names the rules, each once.
func anomalyRules(c *whorlv1.Connection) string {
	var rules []string
	for _, a := range c.GetAnomalies() {
		if !slices.Contains(rules, a.GetRule()) {
			rules = append(rules, a.GetRule())
		}
	}
	return strings.Join(rules, " ")
}

// tableMatches names the entries, as source/entry.
func tableMatches(c *whorlv1.Connection) string {
	var entries []string
	for _, m := range c.GetTableMatches() {
		entries = append(entries, m.GetSource()+"/"+m.GetEntry())
	}
	return strings.Join(entries, " ")
}

// stamp is the JSON form of a time without quotes, "" for none.
func stamp(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().UTC().Format(timeLayout)
}
