package service

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/filter"
	"github.com/whorl-net/whorl/internal/suggest"
	"github.com/whorl-net/whorl/ja4"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"github.com/whorl-net/whorl/tracker"
)

// Limits of group_by. Groups are counted exactly or not at all: a query with
// more is refused.
const (
	maxGroupBy      = 4
	maxGroups       = 1 << 18
	maxGroupBytes   = 32 << 20 // of keys
	maxGroupLimit   = 1000
	defaultGroupTop = 20
)

// groupField is one group_by field. Its functions append the value to b; empty is
// unknown.
type groupField struct {
	// value is nil for the field that has a value for each anomaly: see
	// grouping.add.
	value func(b []byte, s *tracker.Snapshot) []byte
	// row is nil if only a copy of the connection tells.
	row    func(b []byte, r *tracker.Row) []byte
	detail tracker.Detail
	print  ja4.Type // of a field that is the newest fingerprint of a type
}

// grouping sums up connections by their values of some fields.
type grouping struct {
	fields []groupField
	// inPlace says that rows tell all fields.
	inPlace bool
	// rule is the place in fields of the one that has a value for each anomaly of
	// a connection, which then counts in each of these groups; -1 is none.
	rule   int
	detail tracker.Detail
	order  whorlv1.GroupOrder
	limit  int

	groups map[string]*group
	// prints are groups by what stands for the value, when that is the only field:
	// those of the shard that is looked at.
	prints map[tracker.PrintID]*group
	shard  uint32
	bytes  int
	key    []byte // used again for each connection
}

type group struct {
	key                         string // values, each with its length in front
	connections, packets, bytes uint64
}

// newGrouping reads group_by and what goes with it; nil when nothing is grouped.
func newGrouping(req *whorlv1.CountRequest) (*grouping, error) {
	if req.GetLimit() > maxGroupLimit {
		return nil, badNumber("limit", req.GetLimit(), "1 to 1000, or 0 for 20")
	}
	if _, known := whorlv1.GroupOrder_name[int32(req.GetOrderBy())]; !known {
		return nil, badNumber("order_by", int(req.GetOrderBy()), "CONNECTIONS, PACKETS or BYTES")
	}
	if len(req.GetGroupBy()) == 0 {
		return nil, nil
	}
	if n := len(req.GetGroupBy()); n > maxGroupBy {
		return nil, badField(ReasonBadField, "group_by", fmt.Sprintf("%d fields", n),
			fmt.Sprintf("a list of at most %d: group by fewer, and narrow the rest with the filter", maxGroupBy))
	}
	g := &grouping{order: req.GetOrderBy(), limit: int(req.GetLimit()), groups: make(map[string]*group), rule: -1, inPlace: true}
	if g.limit == 0 {
		g.limit = defaultGroupTop
	}
	for i, name := range req.GetGroupBy() {
		f, err := newGroupField(fmt.Sprintf("group_by[%d]", i), name)
		if err != nil {
			return nil, err
		}
		if f.value == nil {
			if g.rule >= 0 {
				return nil, badField(ReasonBadField, fmt.Sprintf("group_by[%d]", i), name, "there twice")
			}
			g.rule = i
		}
		g.fields = append(g.fields, f)
		g.detail = max(g.detail, f.detail)
		g.inPlace = g.inPlace && f.row != nil
	}
	return g, nil
}

// plainGroups are the fields without a prefix length. probe is the one that saw
// most of a connection: the one whose counters are shown.
var plainGroups = func() map[string]groupField {
	app := groupField{
		value:  func(b []byte, s *tracker.Snapshot) []byte { return append(b, s.IdentifiedApp...) },
		detail: tracker.Histories,
	}
	name := groupField{
		value:  func(b []byte, s *tracker.Snapshot) []byte { return append(b, s.ServerName...) },
		row:    func(b []byte, r *tracker.Row) []byte { return r.ServerName(b) },
		detail: tracker.Newest,
	}
	ssh := groupField{
		value:  func(b []byte, s *tracker.Snapshot) []byte { return append(b, s.SSHSessionType...) },
		detail: tracker.Newest,
	}
	tunnel := groupField{
		value:  func(b []byte, s *tracker.Snapshot) []byte { return append(b, s.TunnelIndicator...) },
		detail: tracker.Newest,
	}
	return map[string]groupField{
		"src_ip": {
			value: func(b []byte, s *tracker.Snapshot) []byte { return s.Src.Netip().AppendTo(b) },
			row:   func(b []byte, r *tracker.Row) []byte { return r.Src().Netip().AppendTo(b) },
		},
		"dst_ip": {
			value: func(b []byte, s *tracker.Snapshot) []byte { return s.Dst.Netip().AppendTo(b) },
			row:   func(b []byte, r *tracker.Row) []byte { return r.Dst().Netip().AppendTo(b) },
		},
		"src_port": {
			value: func(b []byte, s *tracker.Snapshot) []byte { return strconv.AppendUint(b, uint64(s.SrcPort), 10) },
			row:   func(b []byte, r *tracker.Row) []byte { return strconv.AppendUint(b, uint64(r.SrcPort()), 10) },
		},
		"dst_port": {
			value: func(b []byte, s *tracker.Snapshot) []byte { return strconv.AppendUint(b, uint64(s.DstPort), 10) },
			row:   func(b []byte, r *tracker.Row) []byte { return strconv.AppendUint(b, uint64(r.DstPort()), 10) },
		},
		"protocol": {
			value: func(b []byte, s *tracker.Snapshot) []byte { return append(b, s.Protocol.String()...) },
			row:   func(b []byte, r *tracker.Row) []byte { return append(b, r.Protocol().String()...) },
		},
		"network": {
			value: func(b []byte, s *tracker.Snapshot) []byte { return append(b, networkOf(s.Network)...) },
			row:   func(b []byte, r *tracker.Row) []byte { return append(b, networkOf(r.Network())...) },
		},
		"tcp_state": {
			value: func(b []byte, s *tracker.Snapshot) []byte { return append(b, s.TCPState.String()...) },
			row:   func(b []byte, r *tracker.Row) []byte { return append(b, r.TCPState().String()...) },
		},
		"probe": {
			value: groupProbe, detail: tracker.Newest,
			row: func(b []byte, r *tracker.Row) []byte { return append(b, r.Probe()...) },
		},
		"app": app, "identified_app": app,
		"server_name": name, "sni": name,
		"ssh": ssh, "ssh_session_type": ssh,
		"tunnel": tunnel, "tunnel_indicator": tunnel,
		"rule": {detail: tracker.Histories},
		"is_known_bad": {
			value:  func(b []byte, s *tracker.Snapshot) []byte { return strconv.AppendBool(b, s.KnownBad) },
			detail: tracker.Histories,
		},
		"is_new": {
			value:  func(b []byte, s *tracker.Snapshot) []byte { return strconv.AppendBool(b, s.New) },
			detail: tracker.Newest,
		},
	}
}()

func groupProbe(b []byte, s *tracker.Snapshot) []byte {
	var most *tracker.Observer
	for i := range s.Observers {
		if o := &s.Observers[i]; most == nil || o.PacketCount > most.PacketCount {
			most = o
		}
	}
	if most == nil {
		return b
	}
	return append(b, most.Probe...)
}

// newGroupField reads one element of group_by: a field, an address with a prefix
// length such as "src_ip/24", or a fingerprint type.
func newGroupField(path, name string) (groupField, error) {
	if f, ok := plainGroups[name]; ok {
		return f, nil
	}
	if t, err := ja4.ParseType(name); err == nil {
		return groupField{
			value: func(b []byte, s *tracker.Snapshot) []byte { return append(b, s.LatestFingerprint(t)...) },
			row:   func(b []byte, r *tracker.Row) []byte { return r.Newest(t, b) },
			print: t, detail: tracker.Newest,
		}, nil
	}
	if field, bits, ok := strings.Cut(name, "/"); ok && (field == "src_ip" || field == "dst_ip") {
		n, err := strconv.ParseUint(bits, 10, 8)
		if err != nil || n > 32 {
			return groupField{}, badField(ReasonBadField, path, name,
				"a field with a prefix length of 0 to 32 for IPv4, such as src_ip/24; IPv6 addresses are grouped by /64")
		}
		return groupPrefix(field == "src_ip", int(n)), nil
	}
	want := "a field to group by, such as app, src_ip/24, dst_port or ja4"
	if near := cmp.Or(filterGroups[name], suggest.Nearest(name, groupNames())); near != "" {
		want += "; did you mean " + near + "?"
	}
	return groupField{}, badField(ReasonBadField, path, name, want)
}

// filterGroups are what words of filters, where they are not fields, stand for.
var filterGroups = map[string]string{
	"proto": "protocol", "ip": "src_ip", "src": "src_ip", "dst": "dst_ip", "port": "dst_port", "src.port": "src_port",
	"dst.port": "dst_port", "bad": "is_known_bad", "new": "is_new", "anomaly": "rule", "state": "tcp_state",
}

func groupNames() []string {
	names := make([]string, 0, len(plainGroups)+ja4.NumTypes)
	for n := range plainGroups {
		names = append(names, n)
	}
	for t := ja4.TypeJA4; t < ja4.NumTypes; t++ {
		names = append(names, t.String())
	}
	slices.Sort(names) // of equally near ones the first is suggested
	return names
}

// groupBits6 is the prefix length by which IPv6 addresses are grouped: that of
// one link. A length meant for IPv4 would put a continent into one group.
const groupBits6 = 64

// groupPrefix groups IPv4 addresses by their first bits4 bits, and IPv6 addresses
// by their first groupBits6.
func groupPrefix(src bool, bits4 int) groupField {
	prefix := func(b []byte, a flow.Addr) []byte {
		if a.Is4() {
			return appendPrefix(b, a, bits4)
		}
		return appendPrefix(b, a, groupBits6)
	}
	return groupField{
		value: func(b []byte, s *tracker.Snapshot) []byte {
			if src {
				return prefix(b, s.Src)
			}
			return prefix(b, s.Dst)
		},
		row: func(b []byte, r *tracker.Row) []byte {
			if src {
				return prefix(b, *r.Src())
			}
			return prefix(b, *r.Dst())
		},
	}
}

func appendPrefix(b []byte, a flow.Addr, bits int) []byte {
	ip := a.Netip()
	return netip.PrefixFrom(ip, bits).Masked().AppendTo(b)
}

// add counts one connection.
func (g *grouping) add(s *tracker.Snapshot) error {
	if g.rule < 0 || len(s.Anomalies) == 0 {
		return g.addAs(s, "")
	}
	for i := range s.Anomalies { // a rule has one at most
		if err := g.addAs(s, s.Anomalies[i].Rule); err != nil {
			return err
		}
	}
	return nil
}

// addAs counts one connection; rule is its value of the field rule.
func (g *grouping) addAs(s *tracker.Snapshot, rule string) error {
	g.key = g.key[:0]
	for i := range g.fields {
		start := g.begin()
		if i == g.rule {
			g.key = append(g.key, rule...)
		} else {
			g.key = g.fields[i].value(g.key, s)
		}
		g.end(start)
	}
	sum, err := g.sum()
	if err != nil {
		return err
	}
	sum.add(s.PacketCount, s.ByteCount)
	return nil
}

// addRow counts one connection in its place; grouping.inPlace holds.
func (g *grouping) addRow(r *tracker.Row) error {
	var id tracker.PrintID
	if len(g.fields) == 1 && g.fields[0].print != 0 {
		if known, ok := r.NewestID(g.fields[0].print); ok {
			if sum := g.prints[known]; sum != nil {
				sum.add(r.PacketCount(), r.ByteCount())
				return nil
			}
			id = known
		}
	}
	g.key = g.key[:0]
	for i := range g.fields {
		start := g.begin()
		g.key = g.fields[i].row(g.key, r)
		g.end(start)
	}
	sum, err := g.sum()
	if err != nil {
		return err
	}
	if id != (tracker.PrintID{}) {
		if g.prints == nil || r.Shard() != g.shard || len(g.prints) == maxGroups {
			g.prints, g.shard = make(map[tracker.PrintID]*group), r.Shard()
		}
		g.prints[id] = sum
	}
	sum.add(r.PacketCount(), r.ByteCount())
	return nil
}

// begin and end stand around the appending of one value to key. A value may hold
// any byte, so its length goes in front. No value has more than 255 bytes, and a
// longer one is cut the same way every time.
func (g *grouping) begin() (start int) {
	g.key = append(g.key, 0)
	return len(g.key) - 1
}

func (g *grouping) end(start int) {
	n := min(len(g.key)-start-1, 255)
	g.key = g.key[:start+1+n]
	g.key[start] = byte(n)
}

// sum returns the group of key.
func (g *grouping) sum() (*group, error) {
	sum, ok := g.groups[string(g.key)]
	if ok {
		return sum, nil
	}
	g.bytes += len(g.key)
	if len(g.groups) >= maxGroups || g.bytes > maxGroupBytes {
		return nil, failure(codes.ResourceExhausted, ReasonTooManyGroups,
			fmt.Sprintf("group_by: more than %d groups: narrow the filter, or group by a shorter prefix", len(g.groups)),
			"field", "group_by")
	}
	sum = &group{key: string(g.key)}
	g.groups[sum.key] = sum
	return sum, nil
}

func (s *group) add(packets, bytes uint64) {
	s.connections++
	s.packets += packets
	s.bytes += bytes
}

// count sums up the connections that f selects, and returns how many there are.
func (g *grouping) count(ctx context.Context, t *tracker.Tracker, f *filter.Filter) (n uint64, err error) {
	w := newWalk(t, f, g.detail, tracker.Cursor{})
	if w.rest == nil && g.inPlace {
		err = w.rows(ctx, func(r *tracker.Row) error {
			n++
			return g.addRow(r)
		})
		return n, err
	}
	for w.next(ctx, countChunk) {
		for s := range w.matches() {
			n++
			if err := g.add(s); err != nil {
				return n, err
			}
		}
	}
	return n, w.err
}

// top returns the largest groups, and how many there are beyond.
func (g *grouping) top() (out []*whorlv1.Group, others uint64) {
	all := make([]*group, 0, len(g.groups))
	for _, sum := range g.groups {
		all = append(all, sum)
	}
	size := func(s *group) uint64 {
		switch g.order {
		case whorlv1.GroupOrder_GROUP_ORDER_PACKETS:
			return s.packets
		case whorlv1.GroupOrder_GROUP_ORDER_BYTES:
			return s.bytes
		}
		return s.connections
	}
	slices.SortFunc(all, func(a, b *group) int {
		return cmp.Or(cmp.Compare(size(b), size(a)), cmp.Compare(a.key, b.key))
	})
	n := min(g.limit, len(all))
	for _, sum := range all[:n] {
		out = append(out, &whorlv1.Group{
			Key: splitKey(sum.key), Connections: sum.connections, Packets: sum.packets, Bytes: sum.bytes,
		})
	}
	return out, uint64(len(all) - n)
}

// splitKey takes the values of a group apart.
func splitKey(key string) (values []string) {
	for key != "" {
		n := int(key[0])
		values = append(values, toValid(key[1:1+n]))
		key = key[1+n:]
	}
	return values
}
