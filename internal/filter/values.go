package filter

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/tracker"
)

// timeFormat is RFC 3339 with as many digits as there are.
const timeFormat = time.RFC3339Nano

// prefix is an IP prefix over the 16 bytes of a flow.Addr. IPv4 addresses match
// IPv4 prefixes only, IPv6 ones IPv6 prefixes, ::/0 included.
type prefix struct {
	high, low, highMask, lowMask uint64
	is4                          bool
}

func makePrefix(p netip.Prefix) prefix {
	bits := p.Bits()
	a := flow.AddrFrom(p.Addr())
	if p.Addr().Is4() {
		bits += 96
	}
	x := prefix{is4: a.Is4() && bits >= 96}
	if bits > 64 {
		x.highMask, x.lowMask = ^uint64(0), ^uint64(0)<<(128-bits)
	} else {
		x.highMask = ^uint64(0) << (64 - bits)
	}
	x.high = binary.BigEndian.Uint64(a[:8]) & x.highMask
	x.low = binary.BigEndian.Uint64(a[8:]) & x.lowMask
	return x
}

func (x *prefix) contains(a *flow.Addr) bool {
	return binary.BigEndian.Uint64(a[8:])&x.lowMask == x.low &&
		binary.BigEndian.Uint64(a[:8])&x.highMask == x.high && a.Is4() == x.is4
}

func parsePrefix(v value) (netip.Prefix, error) {
	bad := v.place.errorf(v.text, "is not an address or a CIDR prefix such as 10.0.0.5 or 10.0.0.0/8")
	if strings.Contains(v.text, "/") {
		p, err := netip.ParsePrefix(v.text)
		if err != nil {
			return p, bad
		}
		if a := p.Addr(); a.Is4In6() {
			// ::ffff:10.0.0.0/104 is 10.0.0.0/8; wider ones are neither family.
			if p.Bits() < 96 {
				return p, bad
			}
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(v.text)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, bad
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen()), nil
}

func compileAddrs(_ *compiler, w *word, values []value) (test, []string, error) {
	var ps []prefix
	var texts []string
	for _, v := range values {
		p, err := parsePrefix(v)
		if err != nil {
			return test{}, nil, err
		}
		ps = append(ps, makePrefix(p))
		if p.IsSingleIP() {
			texts = append(texts, p.Addr().String())
		} else {
			texts = append(texts, p.String())
		}
	}
	t := test{cost: costAddr * len(ps)}
	switch w.side {
	case srcSide:
		t.match = func(s *tracker.Snapshot, _ tracker.Cause) bool { return inAny(ps, &s.Src) }
		t.row = func(r *tracker.Row) bool { return inAny(ps, r.Src()) }
	case dstSide:
		t.match = func(s *tracker.Snapshot, _ tracker.Cause) bool { return inAny(ps, &s.Dst) }
		t.row = func(r *tracker.Row) bool { return inAny(ps, r.Dst()) }
	default:
		t.match = func(s *tracker.Snapshot, _ tracker.Cause) bool { return inAny(ps, &s.Src) || inAny(ps, &s.Dst) }
		t.row = func(r *tracker.Row) bool { return inAny(ps, r.Src()) || inAny(ps, r.Dst()) }
	}
	return t, texts, nil
}

func inAny(ps []prefix, a *flow.Addr) bool {
	for i := range ps {
		if ps[i].contains(a) {
			return true
		}
	}
	return false
}

// span is a range of numbers, both ends included.
type span[N uint16 | uint64 | int64] struct{ least, most N }

func inSpan[N uint16 | uint64 | int64](spans []span[N], n N) bool {
	for _, s := range spans {
		if n >= s.least && n <= s.most {
			return true
		}
	}
	return false
}

func parsePorts(v value) (span[uint16], error) {
	low, high, ranged := strings.Cut(v.text, "-")
	if !ranged {
		high = low
	}
	least, err1 := strconv.ParseUint(low, 10, 16)
	most, err2 := strconv.ParseUint(high, 10, 16)
	if err1 != nil || err2 != nil {
		return span[uint16]{}, v.place.errorf(v.text, "is not a port such as 443 or a range such as 8000-8999")
	}
	if least > most {
		e := v.place.errorf(v.text, "is a range that ends before it begins")
		e.Suggestion = high + "-" + low
		return span[uint16]{}, e
	}
	return span[uint16]{uint16(least), uint16(most)}, nil
}

func compilePorts(_ *compiler, w *word, values []value) (test, []string, error) {
	var spans []span[uint16]
	var texts []string
	for _, v := range values {
		p, err := parsePorts(v)
		if err != nil {
			return test{}, nil, err
		}
		spans = append(spans, p)
		text := strconv.Itoa(int(p.least))
		if p.most > p.least {
			text += "-" + strconv.Itoa(int(p.most))
		}
		texts = append(texts, text)
	}
	t := test{cost: costNumber * len(spans)}
	switch w.side {
	case srcSide:
		t.match = func(s *tracker.Snapshot, _ tracker.Cause) bool { return inSpan(spans, s.SrcPort) }
		t.row = func(r *tracker.Row) bool { return inSpan(spans, r.SrcPort()) }
	case dstSide:
		t.match = func(s *tracker.Snapshot, _ tracker.Cause) bool { return inSpan(spans, s.DstPort) }
		t.row = func(r *tracker.Row) bool { return inSpan(spans, r.DstPort()) }
	default:
		t.match = func(s *tracker.Snapshot, _ tracker.Cause) bool {
			return inSpan(spans, s.SrcPort) || inSpan(spans, s.DstPort)
		}
		t.row = func(r *tracker.Row) bool { return inSpan(spans, r.SrcPort()) || inSpan(spans, r.DstPort()) }
	}
	return t, texts, nil
}

func compileProtocols(_ *compiler, _ *word, values []value) (test, []string, error) {
	var set [4]uint64 // one bit for each protocol
	var texts []string
	for _, v := range values {
		p, err := flow.ParseProtocol(v.text)
		if err != nil {
			return test{}, nil, v.place.errorf(v.text, "is not a protocol such as tcp, udp, icmp, icmpv6, sctp or 0 to 255")
		}
		set[p>>6] |= 1 << (p & 63)
		texts = append(texts, p.String())
	}
	in := func(p flow.Protocol) bool { return set[p>>6]>>(p&63)&1 != 0 }
	return test{
		cost:    costNumber,
		match:   func(s *tracker.Snapshot, _ tracker.Cause) bool { return in(s.Protocol) },
		rowTest: rowTest{row: func(r *tracker.Row) bool { return in(r.Protocol()) }},
	}, texts, nil
}

func compileFlags(_ *compiler, w *word, values []value) (test, []string, error) {
	var want [2]bool
	var texts []string
	for _, v := range values {
		switch v.text {
		case "true":
			want[1] = true
		case "false":
			want[0] = true
		default:
			return test{}, nil, v.place.errorf(v.text, "is neither true nor false")
		}
		texts = append(texts, v.text)
	}
	flag := w.flag
	return test{cost: costNumber, detail: w.detail, match: func(s *tracker.Snapshot, _ tracker.Cause) bool {
		if flag(s) {
			return want[1]
		}
		return want[0]
	}}, texts, nil
}

// comparisons are what may stand before a number, longest first.
var comparisons = []string{">=", "<=", ">", "<", "="}

func parseCount(v value) (span[uint64], error) {
	bad := v.place.errorf(v.text, "is not a number such as >=1000, <500, 20 or 100-200")
	op, digits := "=", v.text
	for _, c := range comparisons {
		if rest, found := strings.CutPrefix(v.text, c); found {
			op, digits = c, rest
			break
		}
	}
	if low, high, ranged := strings.Cut(digits, "-"); ranged && digits == v.text {
		least, err1 := strconv.ParseUint(low, 10, 64)
		most, err2 := strconv.ParseUint(high, 10, 64)
		if err1 != nil || err2 != nil || least > most {
			return span[uint64]{}, bad
		}
		return span[uint64]{least, most}, nil
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return span[uint64]{}, bad
	}
	const most = ^uint64(0)
	switch {
	case op == ">=":
		return span[uint64]{n, most}, nil
	case op == "<=":
		return span[uint64]{0, n}, nil
	case op == ">" && n < most:
		return span[uint64]{n + 1, most}, nil
	case op == "<" && n > 0:
		return span[uint64]{0, n - 1}, nil
	case op == "=":
		return span[uint64]{n, n}, nil
	}
	return span[uint64]{}, v.place.errorf(v.text, "is never true")
}

func countText(s span[uint64]) string {
	switch {
	case s.least == s.most:
		return strconv.FormatUint(s.least, 10)
	case s.most == ^uint64(0):
		return ">=" + strconv.FormatUint(s.least, 10)
	case s.least == 0:
		return "<=" + strconv.FormatUint(s.most, 10)
	}
	return strconv.FormatUint(s.least, 10) + "-" + strconv.FormatUint(s.most, 10)
}

func compileCounts(_ *compiler, w *word, values []value) (test, []string, error) {
	var spans []span[uint64]
	var texts []string
	for _, v := range values {
		s, err := parseCount(v)
		if err != nil {
			return test{}, nil, err
		}
		spans = append(spans, s)
		texts = append(texts, countText(s))
	}
	count, rowCount := w.count, w.rowCount
	return test{
		cost:    costNumber * len(spans),
		match:   func(s *tracker.Snapshot, _ tracker.Cause) bool { return inSpan(spans, count(s)) },
		rowTest: rowTest{row: func(r *tracker.Row) bool { return inSpan(spans, rowCount(r)) }},
	}, texts, nil
}

// parseTime reads an RFC 3339 time, or an age such as 90s, 5m, 36h or 7d.
func parseTime(v value, now int64) (int64, error) {
	bad := v.place.errorf(v.text, "is neither a time such as 2026-11-22T12:00:00Z nor an age such as 5m or 7d")
	if t, err := time.Parse(time.RFC3339, v.text); err == nil {
		// Beyond the years that nanoseconds reach, the nearest is as good.
		switch {
		case t.Year() < 1678:
			return -1 << 63, nil
		case t.Year() > 2261:
			return 1<<63 - 1, nil
		}
		return t.UnixNano(), nil
	}
	age, err := time.ParseDuration(v.text)
	if days, found := strings.CutSuffix(v.text, "d"); found && err != nil {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil || n > 36500 {
			return 0, bad
		}
		age = time.Duration(n) * 24 * time.Hour
	} else if err != nil {
		return 0, bad
	}
	if age < 0 {
		return 0, v.place.errorf(v.text, "is an age below 0")
	}
	if then := now - int64(age); then <= now {
		return then, nil
	}
	return -1 << 63, nil
}

func timeText(t int64) string { return time.Unix(0, t).UTC().Format(timeFormat) }

// compileAfter: the connection was seen at or after the time. Of several times
// the earliest decides.
func compileAfter(c *compiler, _ *word, values []value) (test, []string, error) {
	ts, err := parseTimes(c, values)
	if err != nil {
		return test{}, nil, err
	}
	least := slices.Min(ts)
	return test{
		cost:    costNumber,
		match:   func(s *tracker.Snapshot, _ tracker.Cause) bool { return s.LastSeen >= least },
		rowTest: rowTest{row: func(r *tracker.Row) bool { return r.LastSeen() >= least }},
	}, []string{timeText(least)}, nil
}

// compileBefore: the connection was seen before the time, of several times the
// latest. With after it selects what was alive at some moment between the two.
func compileBefore(c *compiler, _ *word, values []value) (test, []string, error) {
	ts, err := parseTimes(c, values)
	if err != nil {
		return test{}, nil, err
	}
	most := slices.Max(ts)
	return test{
		cost:    costNumber,
		match:   func(s *tracker.Snapshot, _ tracker.Cause) bool { return s.FirstSeen < most },
		rowTest: rowTest{row: func(r *tracker.Row) bool { return r.FirstSeen() < most }},
	}, []string{timeText(most)}, nil
}

func parseTimes(c *compiler, values []value) (ts []int64, err error) {
	for _, v := range values {
		t, err := parseTime(v, c.Now)
		if err != nil {
			return nil, err
		}
		ts = append(ts, t)
	}
	return ts, nil
}

func compileCauses(_ *compiler, _ *word, values []value) (test, []string, error) {
	var want [tracker.NumCauses]bool
	var texts []string
	for _, v := range values {
		cause := tracker.CauseIdle
		for cause < tracker.NumCauses && cause.String() != v.text {
			cause++
		}
		if cause == tracker.NumCauses {
			return test{}, nil, v.place.errorf(v.text, "is not a cause: idle, closed, capacity or flush")
		}
		want[cause] = true
		texts = append(texts, v.text)
	}
	return test{cost: costNumber, match: func(_ *tracker.Snapshot, cause tracker.Cause) bool {
		return cause < tracker.NumCauses && want[cause]
	}}, texts, nil
}
