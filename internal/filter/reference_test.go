package filter

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/pattern"
	"github.com/whorl-net/whorl/internal/wire"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

// The reference: a filter as a conjunction of plain functions, written down as
// text at the same time. It uses netip and regexp where the filter has its own.

type predicate func(e *tracker.Eviction) bool

// pick returns one of the values.
func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

var (
	someAddrs    = []string{"10.0.0.5", "10.0.1.6", "192.0.2.1", "2001:db8::1", "2001:db8:1::2", "fe80::9"}
	someValues   = []string{"t13d1516h2_8daaf6152771_02713d6af862", "t13d1516h2_aaaaaaaaaaaa_02713d6af862", "t12d0909h1_8daaf6152771_e5627efa2ab1", "64240_2-1-3_1460_8", "2e92_a373_0e17", "q13d"}
	someTexts    = []string{"", "Chromium Browser", "chrome", "www.example.com", "example.com", "Ärger", "a,b", `a"b`, "edge1", "edge2", "mss-tunnel"}
	someNetworks = []string{"default", "lab", "Lab", "lab-2"}
)

// randomClause returns one word and what it means.
func randomClause(r *rand.Rand) (string, predicate) {
	sides := func(s *tracker.Snapshot, which string) (addrs []flow.Addr, ports []uint16) {
		if !strings.HasPrefix(which, "dst") {
			addrs, ports = append(addrs, s.Src), append(ports, s.SrcPort)
		}
		if !strings.HasPrefix(which, "src") {
			addrs, ports = append(addrs, s.Dst), append(ports, s.DstPort)
		}
		return addrs, ports
	}
	var word string
	var one func() (string, predicate)
	texts := func(get func(s *tracker.Snapshot) []string, fold bool) func() (string, predicate) {
		return func() (string, predicate) {
			text, match := randomText(r, fold)
			return text, func(e *tracker.Eviction) bool {
				for _, s := range get(&e.Connection) {
					if match(s) {
						return true
					}
				}
				return false
			}
		}
	}
	flags := func(get func(s *tracker.Snapshot) bool) func() (string, predicate) {
		return func() (string, predicate) {
			want := r.IntN(2) == 0
			return fmt.Sprint(want), func(e *tracker.Eviction) bool { return get(&e.Connection) == want }
		}
	}
	switch word = words[r.IntN(len(words))].name; word {
	case "ip", "src", "dst":
		one = func() (string, predicate) {
			a := netip.MustParseAddr(pick(r, someAddrs...))
			p := netip.PrefixFrom(a, r.IntN(a.BitLen()+1))
			text := pick(r, p.String(), p.Masked().String())
			if p.Bits() == a.BitLen() {
				text = a.String()
			}
			return text, func(e *tracker.Eviction) bool {
				addrs, _ := sides(&e.Connection, word)
				for _, a := range addrs {
					if p.Contains(a.Netip()) {
						return true
					}
				}
				return false
			}
		}
	case "port", "src.port", "dst.port":
		one = func() (string, predicate) {
			low := uint16(r.IntN(5))
			high := low + uint16(r.IntN(3))
			text := fmt.Sprintf("%d-%d", low, high)
			if low == high {
				text = fmt.Sprint(low)
			}
			return text, func(e *tracker.Eviction) bool {
				_, ports := sides(&e.Connection, word)
				for _, p := range ports {
					if p >= low && p <= high {
						return true
					}
				}
				return false
			}
		}
	case "proto":
		one = func() (string, predicate) {
			p := pick(r, flow.TCP, flow.UDP, flow.Protocol(47))
			return p.String(), func(e *tracker.Eviction) bool { return e.Connection.Protocol == p }
		}
	case "network":
		one = func() (string, predicate) {
			n := pick(r, someNetworks...)
			return n, func(e *tracker.Eviction) bool { return e.Connection.Network == n }
		}
	case "app":
		one = texts(func(s *tracker.Snapshot) []string { return []string{s.IdentifiedApp} }, true)
	case "sni":
		one = texts(func(s *tracker.Snapshot) []string { return []string{s.ServerName} }, true)
	case "ssh":
		one = texts(func(s *tracker.Snapshot) []string { return []string{s.SSHSessionType} }, true)
	case "probe":
		one = texts(func(s *tracker.Snapshot) (names []string) {
			for _, o := range s.Observers {
				names = append(names, o.Probe)
			}
			return names
		}, false)
	case "rule":
		one = texts(func(s *tracker.Snapshot) (names []string) {
			for _, a := range s.Anomalies {
				names = append(names, a.Rule)
			}
			return names
		}, true)
	case "bad":
		one = flags(func(s *tracker.Snapshot) bool { return s.KnownBad })
	case "new":
		one = flags(func(s *tracker.Snapshot) bool { return s.New })
	case "anomaly":
		one = flags(func(s *tracker.Snapshot) bool { return len(s.Anomalies) != 0 })
		if r.IntN(2) == 0 {
			one = texts(func(s *tracker.Snapshot) (names []string) {
				for _, a := range s.Anomalies {
					names = append(names, a.Rule)
				}
				return names
			}, true)
		}
	case "severity":
		one = func() (string, predicate) {
			names := []string{"low", "medium", "high", "critical"}
			n, op := r.IntN(4), pick(r, ">=", "<=", "", "=")
			return op + names[n], func(e *tracker.Eviction) bool {
				for _, a := range e.Connection.Anomalies {
					v := int(a.Severity) - 1
					if v >= 0 && map[string]bool{">=": v >= n, "<=": v <= n, "": v == n, "=": v == n}[op] {
						return true
					}
				}
				return false
			}
		}
	case "tunnel":
		one = flags(func(s *tracker.Snapshot) bool { return s.TunnelIndicator != "" })
	case "bytes", "packets":
		one = func() (string, predicate) {
			n, op := uint64(1+r.IntN(5)), pick(r, ">=", "<=", ">", "<", "", "=")
			return fmt.Sprintf("%s%d", op, n), func(e *tracker.Eviction) bool {
				v := e.Connection.ByteCount
				if word == "packets" {
					v = e.Connection.PacketCount
				}
				return map[string]bool{">=": v >= n, "<=": v <= n, ">": v > n, "<": v < n, "": v == n, "=": v == n}[op]
			}
		}
	case "after", "before":
		one = func() (string, predicate) {
			age := time.Duration(r.IntN(6)) * time.Minute
			at := time.Unix(0, now).Add(-age)
			text := pick(r, age.String(), at.UTC().Format(time.RFC3339), at.In(time.FixedZone("", 3600)).Format(time.RFC3339))
			return text, func(e *tracker.Eviction) bool {
				if word == "after" {
					return !time.Unix(0, e.Connection.LastSeen).Before(at)
				}
				return time.Unix(0, e.Connection.FirstSeen).Before(at)
			}
		}
	case "cause":
		one = func() (string, predicate) {
			c := tracker.Cause(1 + r.IntN(4))
			return c.String(), func(e *tracker.Eviction) bool { return e.Cause == c }
		}
	default: // fp and the types
		typ, _ := ja4.ParseType(word)
		one = func() (string, predicate) {
			text, match := randomPattern(r)
			for typ != 0 && !fits(text, typ) {
				text, match = randomPattern(r)
			}
			return text, func(e *tracker.Eviction) bool {
				for _, h := range e.Connection.Fingerprints {
					for _, event := range h.Events {
						if (word == "fp" || h.Type == typ) && match(event.Value) {
							return true
						}
					}
				}
				return false
			}
		}
	}
	var values []string
	var any []predicate
	for range 1 + r.IntN(3) {
		text, p := one()
		values, any = append(values, text), append(any, p)
	}
	negate := r.IntN(3) == 0
	text := word + ":" + strings.Join(values, ",")
	if negate {
		text = "-" + text
	}
	return text, func(e *tracker.Eviction) bool {
		for _, p := range any {
			if p(e) {
				return !negate
			}
		}
		return negate
	}
}

func randomText(r *rand.Rand, fold bool) (string, func(string) bool) {
	s := pick(r, someTexts...)
	if s == "" {
		return `""`, func(x string) bool { return x == "" }
	}
	plain := !strings.ContainsAny(s, ` ,"`)
	flags := "(?s)"
	if fold {
		flags = "(?is)"
	}
	cut := s[:strings.IndexFunc(s+" ", func(c rune) bool { return c == 'r' || c == ' ' || c == ',' || c == '"' })]
	switch {
	case plain && r.IntN(3) == 0:
		return cut + "*", regexp.MustCompile(flags + "^" + regexp.QuoteMeta(cut)).MatchString
	case plain && r.IntN(3) == 0:
		return "*" + s, regexp.MustCompile(flags + regexp.QuoteMeta(s) + "$").MatchString
	case plain && r.IntN(2) == 0:
		return s, regexp.MustCompile(flags + "^" + regexp.QuoteMeta(s) + "$").MatchString
	}
	return `"` + strings.ReplaceAll(s, `"`, `\"`) + `"`, regexp.MustCompile(flags + "^" + regexp.QuoteMeta(s) + "$").MatchString
}

func randomPattern(r *rand.Rand) (string, func(string) bool) {
	parts := strings.Split(pick(r, someValues...), "_")
	var exprs []string
	if len(parts) > 1 && r.IntN(3) == 0 {
		parts = parts[:1+r.IntN(len(parts)-1)]
	}
	last := len(parts) - 1
	for i := range parts {
		expr := regexp.QuoteMeta(parts[i])
		switch {
		case i < last && r.IntN(3) == 0:
			parts[i], expr = "*", "[^_]*"
		case r.IntN(4) == 0: // a star in the part
			n := r.IntN(len(parts[i]))
			m := n + r.IntN(len(parts[i])-n)
			end := parts[i][m:]
			parts[i], expr = parts[i][:n]+"*"+end, regexp.QuoteMeta(parts[i][:n])+"[^_]*"+regexp.QuoteMeta(end)
		case i == last && r.IntN(2) == 0:
			n := r.IntN(len(parts[i]) + 1)
			parts[i], expr = parts[i][:n]+"*", regexp.QuoteMeta(parts[i][:n])+".*"
		}
		exprs = append(exprs, expr)
	}
	return strings.Join(parts, "_"), regexp.MustCompile("^" + strings.Join(exprs, "_") + "$").MatchString
}

// fits reports whether a pattern can match a value of a type at all.
func fits(text string, typ ja4.Type) bool {
	p, err := pattern.Parse(text)
	return err == nil && p.Fits(typ) == nil
}

func randomEviction(r *rand.Rand) *tracker.Eviction {
	s := tracker.Snapshot{
		Network: pick(r, someNetworks...), Src: addr(pick(r, someAddrs[:3]...)), Dst: addr(pick(r, someAddrs[:3]...)),
		SrcPort: uint16(r.IntN(7)), DstPort: uint16(r.IntN(7)), Protocol: pick(r, flow.TCP, flow.UDP, flow.Protocol(47)),
		FirstSeen: now - int64(r.IntN(6))*int64(time.Minute), LastSeen: now - int64(r.IntN(6))*int64(time.Minute),
		PacketCount: uint64(r.IntN(7)), ByteCount: uint64(r.IntN(7)),
		IdentifiedApp: pick(r, someTexts...), ServerName: pick(r, someTexts...), SSHSessionType: pick(r, someTexts...),
		TunnelIndicator: pick(r, "", "wireguard"), KnownBad: r.IntN(2) == 0, New: r.IntN(2) == 0,
	}
	if r.IntN(2) == 0 {
		s.Src, s.Dst = addr("["+pick(r, someAddrs[3:]...)+"]"), addr("["+pick(r, someAddrs[3:]...)+"]")
	}
	for range r.IntN(3) {
		s.Observers = append(s.Observers, tracker.Observer{Probe: pick(r, someTexts...)})
		s.Anomalies = append(s.Anomalies, tracker.Anomaly{Rule: pick(r, someTexts...), Severity: tracker.Severity(r.IntN(5))})
	}
	for _, i := range r.Perm(ja4.NumTypes - 1)[:r.IntN(4)] {
		h := tracker.History{Type: ja4.Type(i + 1)}
		for range 1 + r.IntN(3) {
			h.Events = append(h.Events, tracker.FingerprintEvent{Value: pick(r, someValues...)})
		}
		s.Fingerprints = append(s.Fingerprints, h)
	}
	t := flow.Tuple{Src: s.Src, Dst: s.Dst, SrcPort: s.SrcPort, DstPort: s.DstPort, Protocol: s.Protocol}
	s.Key, _ = t.Key()
	return &tracker.Eviction{Cause: tracker.Cause(1 + r.IntN(4)), Connection: s}
}

// A filter says what the reference says, also about a connection that went over
// the feed and was decoded no further than the filter asked for.
func TestFilterIsTheReference(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	matches, total := 0, 0
	var lean tracker.Eviction
	for range 1000 {
		var texts []string
		var all []predicate
		for range 1 + r.IntN(3) {
			text, p := randomClause(r)
			texts, all = append(texts, text), append(all, p)
		}
		text := strings.Join(texts, pick(r, " ", "  ", "\t"))
		f, err := Compile(Source{Text: text, Now: now, Feed: true})
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		again, err := Compile(Source{Text: f.String(), Now: now, Feed: true})
		if err != nil || again.String() != f.String() {
			t.Fatalf("%s prints as %s: %v", text, f, err)
		}
		for range 20 {
			e := randomEviction(r)
			want := true
			for _, p := range all {
				want = want && p(e)
			}
			if got := f.MatchEviction(e); got != want {
				t.Fatalf("%s: %v, want %v, of\n%+v", text, got, want, e)
			}
			if got := again.MatchEviction(e); got != want {
				t.Fatalf("%s, printed from %s: %v, want %v", f, text, got, want)
			}
			if _, err := wire.DecodeEviction(wire.AppendEviction(nil, e), f.Detail(), &lean); err != nil {
				t.Fatal(err)
			}
			if got := f.MatchEviction(&lean); got != want {
				t.Fatalf("%s with detail %d: %v, want %v, of\n%+v", text, f.Detail(), got, want, e)
			}
			total++
			if want {
				matches++
			}
		}
	}
	if matches < total/20 || matches > total*19/20 {
		t.Errorf("%d of %d matched: the test asks too little", matches, total)
	}
}
