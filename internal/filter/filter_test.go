package filter

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/fuzzguard"
	"github.com/whorl-net/whorl/ja4"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"github.com/whorl-net/whorl/tracker"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// now is what ages are counted from in all tests.
var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC).UnixNano()

func mustParse(t testing.TB, text string) *Filter {
	t.Helper()
	f, err := Parse(text, now)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return f
}

func addr(s string) flow.Addr {
	k, _, err := flow.ParseID("tcp/" + s + ":0-" + s + ":0")
	if err != nil {
		panic(err)
	}
	return k.A
}

// sample is a TLS connection of ten packets that ended a minute ago.
func sample() *tracker.Snapshot {
	events := func(values ...string) (es []tracker.FingerprintEvent) {
		for _, v := range values {
			es = append(es, tracker.FingerprintEvent{Value: v})
		}
		return es
	}
	return &tracker.Snapshot{
		Network: "lab", Src: addr("10.0.0.5"), Dst: addr("93.184.216.34"), SrcPort: 51312, DstPort: 443,
		Protocol: flow.TCP, FirstSeen: now - int64(2*time.Minute), LastSeen: now - int64(time.Minute),
		PacketCount: 10, ByteCount: 1000, ServerName: "www.Example.com", IdentifiedApp: "Chromium Browser",
		KnownBad: true, TunnelIndicator: "wireguard", SSHSessionType: "shell",
		Observers: []tracker.Observer{{Probe: "edge1"}, {Probe: "edge2"}},
		Anomalies: []tracker.Anomaly{{Rule: "mss-tunnel", Severity: tracker.SeverityHigh}, {Rule: "true"}},
		Fingerprints: []tracker.History{
			{Type: ja4.TypeJA4, Events: events("t13d1516h2_8daaf6152771_02713d6af862", "t12d1516h1_8daaf6152771_e5627efa2ab1")},
			{Type: ja4.TypeJA4T, Events: events("64240_2-1-3-1-1-4_1460_8")},
		},
		RawFingerprints: []tracker.History{{Type: ja4.TypeJA4, Events: events("t13d1516h2_002f_0005")}},
	}
}

// Each word, each kind of value, and what * and - do.
func TestWords(t *testing.T) {
	yes := []string{
		"", "  \t ",
		"ip:10.0.0.5", "ip:93.184.216.34", "src:10.0.0.5", "dst:93.184.216.34", "src:10.0.0.0/8", "src:10.0.0.77/24",
		"ip:1.1.1.1,10.0.0.5", "src:0.0.0.0/0", "src:::ffff:10.0.0.5", "src:::ffff:10.0.0.0/104", "-src:::/0",
		"port:443", "port:51312", "src.port:51312", "dst.port:443", "dst.port:400-500", "port:1,2,443", "port:0-65535",
		"proto:tcp", "proto:TCP", "proto:6", "proto:udp,tcp", "network:lab", "network:l*", "network:*b", "-network:Lab",
		"probe:edge1", "probe:edge2", "probe:edge*", "app:\"Chromium Browser\"", "app:chromium*", "app:*browser", "app:*", `app:"Chromium B"*`, `app:*" browser"`, `app:"chromium"*,x`, `sni:""*`,
		"sni:www.example.com", "sni:WWW*", "sni:*.example.com", "rule:mss-tunnel", "rule:mss*", "ssh:shell", "ssh:SHELL",
		"fp:t13d*", "fp:64240*", "ja4:t13d1516h2_*_02713d6af862", "ja4:t12d1516h1_8daaf6152771_e5627efa2ab1", "ja4:*", "fp:*",
		"ja4:*_8daaf6152771_*", "ja4:*_*_02713d6af862", "ja4:t13d1516h2_*", "ja4:t13d1516h2_8daa*", "ja4t:64240_*_1460_8", "ja4t:64240_2-1*",
		"bad:true", "-bad:false", "new:false", "bad:true,false", "anomaly:true", "tunnel:true",
		"anomaly:mss-tunnel", "anomaly:mss*", "anomaly:false,mss-tunnel", `anomaly:"true"`, "-anomaly:false", "-anomaly:port-scan",
		"severity:high", "severity:=high", "severity:>=high", "severity:>=low", "severity:>medium", "severity:<critical", "severity:<=high", "severity:low,high",
		"bytes:>=1000", "bytes:1000", "bytes:>999", "bytes:<=1000", "bytes:<1001", "bytes:=1000", "bytes:1-1000", "packets:10", "packets:1,10",
		"after:90s", "after:5m", "before:90s", "after:2026-11-22T11:58:00Z", "before:2026-11-22T11:58:00.000000001Z", "after:7d", "after:0s,1h",
		"-port:53", "-port:53 -proto:udp", "proto:tcp port:443 bad:true", `network:"lab"`, "port:443 port:51312",
	}
	no := []string{
		"ip:10.0.0.6", "src:93.184.216.34", "dst:10.0.0.5", "src:10.0.1.0/24", "src:::/0", "ip:2001:db8::1",
		"port:53", "src.port:443", "dst.port:51312", "dst.port:444-500", "proto:udp", "proto:17", "network:default", "network:Lab", "network:la", "network:",
		"probe:edge", "probe:EDGE1", "app:Chromium", "app:browser*", "sni:example.com", "rule:mss", "ssh:sh",
		"fp:t14*", "ja4s:t13d*", "ja4:t13d1516h2", "ja4:t13d1516h2_*_02713d6af863", "fp:*_02713d6af862", "fp:t13d1516h2_*_*_*", "fp:t13d1516h2_8daaf6152771_02713d6af862_*", "ja4:t12d*_*_02713d6af862", "ja4:t13d*h1_*",
		"ja4:64240*", `ja4:"t13d*"`, "fp:t13d1516h2_002f_0005", "ja4:T13d*",
		"bad:false", "-bad:true", "new:true", "anomaly:false", "tunnel:false",
		"anomaly:port-scan", "anomaly:false,port*", "-anomaly:true", "severity:low", "severity:>high", "severity:<high", "severity:critical", "-severity:>=low",
		"bytes:>1000", "bytes:<1000", "bytes:999", "bytes:1-999", "packets:>=11", "packets:<=9",
		"after:59s", "before:2m", "before:2026-11-22T11:58:00Z", "after:2026-11-22T12:00:00Z",
		"-port:443", "port:443 -bad:true", "-ja4:t13d*", "port:443 port:53", `sni:"www*"`, `app:"Chromium C"*`, `app:*"Chromium"`,
	}
	s := sample()
	for want, texts := range map[bool][]string{true: yes, false: no} {
		for _, text := range texts {
			if text == "network:" {
				continue
			}
			f := mustParse(t, text)
			if got := f.Match(s); got != want {
				t.Errorf("%s: %v, want %v", text, got, want)
			}
			again := mustParse(t, f.String())
			if again.String() != f.String() || again.Match(s) != want {
				t.Errorf("%s: prints as %s, which prints as %s", text, f, again)
			}
		}
	}
}

// What a filter looks at is copied at its Detail, not more.
func TestDetail(t *testing.T) {
	for text, want := range map[string]tracker.Detail{
		"": tracker.Bare, "src:10.0.0.0/8 dst.port:443 proto:tcp network:lab bytes:>=1 packets:1 after:5m before:1m": tracker.Bare,
		"bad:true": tracker.Histories, "app:a": tracker.Histories, "new:true anomaly:x severity:low rule:a tunnel:true": tracker.Newest, "sni:a": tracker.Newest, "probe:a": tracker.Newest, "port:1 ssh:a": tracker.Newest,
		"fp:t13d*": tracker.Histories, "bad:true -ja4:*": tracker.Histories,
	} {
		if got := mustParse(t, text).Detail(); got != want {
			t.Errorf("%s: detail %d, want %d", text, got, want)
		}
	}
	var none *Filter
	if !none.All() || none.Detail() != tracker.Bare || none.String() != "" || !none.Match(sample()) || !none.MatchEviction(&tracker.Eviction{}) {
		t.Error("a nil filter does not match everything")
	}
	if !mustParse(t, " ").All() || mustParse(t, "port:1").All() {
		t.Error("All is wrong")
	}
}

// Causes are known on the feed alone.
func TestCause(t *testing.T) {
	if _, err := Parse("port:1 -cause:idle", now); err == nil ||
		err.Error() != `filter, column 9: "cause" is known of evictions only: it works on the feed` {
		t.Errorf("in a query: %v", err)
	}
	f, err := Compile(Source{Text: "cause:idle,closed", Feed: true})
	if err != nil {
		t.Fatal(err)
	}
	for c := tracker.Cause(0); c <= tracker.NumCauses+1; c++ {
		e := &tracker.Eviction{Cause: c, Connection: *sample()}
		if got, want := f.MatchEviction(e), c == tracker.CauseIdle || c == tracker.CauseClosed; got != want {
			t.Errorf("%v: %v", c, got)
		}
	}
}

// An error says where, what, and what was meant.
func TestErrors(t *testing.T) {
	for text, want := range map[string]string{
		"proto:tcp port:443 dprt:80": `filter, column 20: "dprt" is not a filter word; did you mean dst.port?`,
		"prto:tcp":                   `filter, column 1: "prto" is not a filter word; did you mean proto?`,
		"src_ip:10.0.0.1":            `filter, column 1: "src_ip" is not a filter word; did you mean src?`,
		"bytess:>1":                  `filter, column 1: "bytess" is not a filter word; did you mean bytes?`,
		"PORT:1":                     `filter, column 1: "PORT" is not a filter word; did you mean port?`,
		"ja5:x":                      `filter, column 1: "ja5" is not a filter word; did you mean ja4?`,
		"ja4sh:x":                    `filter, column 1: "ja4sh" is not a filter word; did you mean ja4s?`,
		"zzzzzz:1":                   `filter, column 1: "zzzzzz" is not a filter word`,
		"10.0.0.5":                   `filter, column 1: "10.0.0.5" is not a filter word`,
		"port:443 and proto:tcp":     `filter, column 10: "and" is not a filter word`,
		":80":                        `filter, column 1: ":" is not a filter word`,
		"port:1 -":                   `filter, column 9: is not a filter word`,
		"--port:1":                   `filter, column 2: "-port" is not a filter word; did you mean port?`,
		"port":                       `filter, column 1: "port" has no value: write port:443`,
		"port: 1":                    `filter, column 6: "port" has an empty value`,
		"port:1,,2":                  `filter, column 8: "port" has an empty value`,
		"port:1,":                    `filter, column 8: "port" has an empty value`,
		"port:65536":                 `filter, column 6: "65536" is not a port such as 443 or a range such as 8000-8999`,
		"-port:1,x":                  `filter, column 9: "x" is not a port such as 443 or a range such as 8000-8999`,
		"port:9-8":                   `filter, column 6: "9-8" is a range that ends before it begins; did you mean 8-9?`,
		"src:10.0.0.300":             `filter, column 5: "10.0.0.300" is not an address or a CIDR prefix such as 10.0.0.5 or 10.0.0.0/8`,
		"src:10.0.0.0/33":            `filter, column 5: "10.0.0.0/33" is not an address or a CIDR prefix such as 10.0.0.5 or 10.0.0.0/8`,
		"src:fe80::1%eth0":           `filter, column 5: "fe80::1%eth0" is not an address or a CIDR prefix such as 10.0.0.5 or 10.0.0.0/8`,
		"proto:tpc":                  `filter, column 7: "tpc" is not a protocol such as tcp, udp, icmp, icmpv6, sctp or 0 to 255`,
		"bad:yes":                    `filter, column 5: "yes" is neither true nor false`,
		"anomaly:yes":                `filter, column 9: "yes" is neither true nor false nor, without quotes, the name of a rule`,
		"severity:bad":               `filter, column 10: "bad" is not a severity: low, medium, high or critical, perhaps with >= before it`,
		"severity:>critical":         `filter, column 10: ">critical" is never true`,
		"min_severity:low":           `filter, column 1: "min_severity" is not a filter word; did you mean severity?`,
		"bytes:1k":                   `filter, column 7: "1k" is not a number such as >=1000, <500, 20 or 100-200`,
		"bytes:<0":                   `filter, column 7: "<0" is never true`,
		"after:5":                    `filter, column 7: "5" is neither a time such as 2026-11-22T12:00:00Z nor an age such as 5m or 7d`,
		"after:-5m":                  `filter, column 7: "-5m" is an age below 0`,
		"sni:a*b":                    `filter, column 5: "a*b" has a * that is neither its end nor its beginning; "in quotes" it is an ordinary letter`,
		"ja4:t13**":                  `filter, column 5: "t13**" has ** in it: one * stands for any letters of its part, and at the end for all that follows`,
		"ja4:t13d*_02713d6af862":     `filter, column 5: "t13d*_02713d6af862" has 2 parts, a ja4 fingerprint has 3: write t13d*_*_02713d6af862, or t13d*_02713d6af862_*`,
		"ja4t:*_1_2_3_4":             `filter, column 6: "*_1_2_3_4" has 5 parts, a ja4t fingerprint has 4`,
		`app:"Chrom`:                 `filter, column 5: "\"" has no closing quote`,
		`app:"a"b`:                   `filter, column 8: "b" comes right after a quoted value`,
		`app:"a"*b`:                  `filter, column 9: "b" comes right after a quoted value`,
		`app:*"a"*`:                  `filter, column 9: "*" comes right after a quoted value`,
		`port:"4"*`:                  `filter, column 9: "*" comes right after a quoted value`,
		`ja4:"t"*`:                   `filter, column 8: "*" comes right after a quoted value`,
		`app:*"a`:                    `filter, column 6: "\"" has no closing quote`,
		`app:a"b"`:                   `filter, column 6: "\"" starts a quoted value in the middle of one`,
		`app:"a\b"`:                  `filter, column 7: "\\" stands before neither " nor \`,
		`app:"ÄÖ" prt:1`:             `filter, column 10: "prt" is not a filter word; did you mean port?`,
		"sni:\xff":                   `filter: is not valid UTF-8`,
		strings.Repeat("a", 5000):    `filter: has 5000 bytes, at most 4096`,
		"port:" + strings.TrimSuffix(strings.Repeat("1,", 1025), ","):    `filter, column 6: the filter has more than 1024 values`,
		"ja4:a* fp:" + strings.TrimSuffix(strings.Repeat("b,", 64), ","): `filter, column 11: the filter has more than 64 fingerprint patterns`,
	} {
		_, err := Parse(text, now)
		var e *Error
		if !errors.As(err, &e) || err.Error() != want {
			t.Errorf("%.60s:\n got %v\nwant %s", text, err, want)
			continue
		}
		if e.Column > len(text)+1 {
			t.Errorf("%.60s: column %d is beyond the text", text, e.Column)
		}
	}
}

func ptr[T any](v T) *T { return &v }

// Typed filters mean what the same words mean, and say which field is wrong.
func TestTyped(t *testing.T) {
	type cf = whorlv1.ConnectionFilter
	at := func(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(time.Unix(0, now).Add(d)) }
	for _, tc := range []struct {
		name             string
		include, exclude []*cf
		text             string
		want             bool
		canonical        string
	}{
		{name: "nothing", want: true},
		{name: "all of a field's values", include: []*cf{{Ip: []string{"1.1.1.1", "10.0.0.5"}}}, want: true, canonical: "ip:1.1.1.1,10.0.0.5"},
		{name: "and between fields", include: []*cf{{Ip: []string{"10.0.0.5"}, Port: []string{"53"}}}, canonical: "ip:10.0.0.5 port:53"},
		{name: "or between entries", include: []*cf{{Port: []string{"53"}}, {Port: []string{"400-500"}}}, want: true, canonical: "{port:53|port:400-500}"},
		{name: "blanks in a prefix", include: []*cf{{IdentifiedApp: []string{"Chromium B*"}}}, want: true, canonical: `app:"Chromium B"*`},
		{name: "exclude", exclude: []*cf{{Port: []string{"53"}}, {IsKnownBad: ptr(true)}}, canonical: "-{port:53|bad:true}"},
		{name: "and with text", text: "port:443", include: []*cf{{IsNew: ptr(false)}}, want: true, canonical: "port:443 new:false"},
		{name: "and with text that fails", text: "port:53", include: []*cf{{IsNew: ptr(false)}}},
		{name: "or between types", include: []*cf{{FingerprintMatch: []*whorlv1.FingerprintMatch{
			{Type: "ja4s", Pattern: []string{"t13d*"}}, {Type: "ja4", Pattern: []string{"x", "t12d*"}}}}}, want: true, canonical: "{ja4s:t13d*|ja4:x,t12d*}"},
		{name: "every field", include: []*cf{{
			Ip: []string{"10.0.0.0/8"}, SrcIp: []string{"10.0.0.5"}, DstIp: []string{"93.184.216.34"},
			Port: []string{"443"}, SrcPort: []string{"51312"}, DstPort: []string{"443"}, Protocol: []string{"tcp"},
			Fingerprint: []string{"64240*"}, FingerprintMatch: []*whorlv1.FingerprintMatch{{Type: "ja4", Pattern: []string{"t13d*"}}},
			IdentifiedApp: []string{"chromium browser"}, ServerName: []string{"www.example.com"}, ProbeId: []string{"edge2"}, Network: []string{"lab"},
			IsKnownBad: ptr(true), IsNew: ptr(false), HasAnomaly: ptr(true), HasTunnel: ptr(true),
			AnomalyRule: []string{"mss-tunnel"}, SshSessionType: []string{"shell"}, MinBytes: ptr(uint64(1000)), MinPackets: ptr(uint64(10)),
			SeenAfter: at(-90 * time.Second), SeenBefore: at(-90 * time.Second), MinSeverity: whorlv1.Severity_SEVERITY_HIGH,
		}}, want: true},
		{name: "too low", include: []*cf{{MinSeverity: whorlv1.Severity_SEVERITY_CRITICAL}}, canonical: "severity:>=critical"},
		{name: "too few bytes", include: []*cf{{MinBytes: ptr(uint64(1001))}}},
		{name: "too few packets", include: []*cf{{MinPackets: ptr(uint64(11))}}},
		{name: "not after", include: []*cf{{SeenAfter: at(0)}}},
		{name: "not before", include: []*cf{{SeenBefore: at(-time.Hour)}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, err := Compile(Source{Text: tc.text, Include: tc.include, Exclude: tc.exclude, Now: now})
			if err != nil {
				t.Fatal(err)
			}
			if got := f.Match(sample()); got != tc.want {
				t.Errorf("%s: %v, want %v", f, got, tc.want)
			}
			if tc.canonical != "" && f.String() != tc.canonical {
				t.Errorf("prints as %s, want %s", f, tc.canonical)
			}
		})
	}
	for want, src := range map[string]Source{
		`include[1].src_ip[1]: "x" is not an address or a CIDR prefix such as 10.0.0.5 or 10.0.0.0/8`: {Include: []*cf{{Port: []string{"1"}}, {SrcIp: []string{"::", "x"}}}},
		`exclude[0].dst_port[0]: "70000" is not a port such as 443 or a range such as 8000-8999`:      {Exclude: []*cf{{DstPort: []string{"70000"}}}},
		`exclude[0]: sets no field`: {Exclude: []*cf{{}}},
		`include[0]: sets no field`: {Include: []*cf{nil}},
		`include[0].fingerprint_match[0].type: "ja5" is not a fingerprint type such as ja4; did you mean ja4?`: {Include: []*cf{{FingerprintMatch: []*whorlv1.FingerprintMatch{{Type: "ja5", Pattern: []string{"*"}}}}}},
		`include[0].fingerprint_match[0].pattern: is empty: * stands for any value`:                            {Include: []*cf{{FingerprintMatch: []*whorlv1.FingerprintMatch{{Type: "ja4"}}}}},
		`include[0].fingerprint_match[0].pattern[1]: "a*b" has 1 part, a ja4 fingerprint has 3: write a*b*`:    {Include: []*cf{{FingerprintMatch: []*whorlv1.FingerprintMatch{{Type: "ja4", Pattern: []string{"*", "a*b"}}}}}},
		`include[0].fingerprint[0]: is empty`:                                                                  {Include: []*cf{{Fingerprint: []string{""}}}},
		`include[0].min_severity: "9" is not a severity`:                                                       {Include: []*cf{{MinSeverity: 9}}},
		`include[0].identified_app[0]: is empty`:                                                               {Include: []*cf{{IdentifiedApp: []string{""}}}},
		`include[0].seen_after: is not a valid time`:                                                           {Include: []*cf{{SeenAfter: &timestamppb.Timestamp{Nanos: -1}}}},
		`include[0].eviction_cause[0]: "EVICTION_CAUSE_UNSPECIFIED" is not a cause`:                            {Feed: true, Include: []*cf{{EvictionCause: []whorlv1.EvictionCause{0}}}},
		`include[0].eviction_cause: "cause" is known of evictions only: it works on the feed`:                  {Include: []*cf{{EvictionCause: []whorlv1.EvictionCause{1}}}},
		`include: and exclude have 65 entries, at most 64`:                                                     {Include: make([]*cf, 65)},
	} {
		if _, err := Compile(src); err == nil || err.Error() != want {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
}

// Where the rules are known, a name of none of them is refused, but in quotes; what
// is kept in a log may not depend on tables and rules; and what is in a log already
// is taken.
func TestSourceSaysWhatIsTaken(t *testing.T) {
	rules := []string{"port-scan", "mss-tunnel", "beacon"}
	typed := []*whorlv1.ConnectionFilter{{AnomalyRule: []string{"port_scan"}}}
	const learned = " comes from tables and rules, which may be others when the log is read again: select by what a connection shows itself, such as ja4:t13d*, src:10.0.0.5 or network:lab"
	for _, tc := range []struct {
		src  Source
		want string
	}{
		{Source{Text: "rule:port-scan,Port-Scan,mss*,*con"}, ""},
		{Source{Text: "rule:portscan"}, ""}, // rules not known
		{Source{Text: "rule:port-scan,Port-Scan,mss*,*con -anomaly:beacon,false,*", Rules: rules}, ""},
		{Source{Text: `rule:"portscan"`, Rules: rules}, ""},
		{Source{Text: "anomaly:true", Rules: rules}, ""},
		{Source{Text: "rule:beacon,portscan", Rules: rules}, `filter, column 13: "portscan" is no rule of this collector, and "in quotes" any name is taken; did you mean port-scan?`},
		{Source{Text: "-rule:syn*", Rules: rules}, `filter, column 7: "syn*" is no rule of this collector, and "in quotes" any name is taken`},
		{Source{Text: "anomaly:beacn", Rules: rules}, `filter, column 9: "beacn" is no rule of this collector, and "in quotes" any name is taken; did you mean beacon?`},
		{Source{Text: "rule:a", Rules: []string{}}, `filter, column 6: "a" is no rule of this collector, and "in quotes" any name is taken`},
		{Source{Include: typed, Rules: rules}, `include[0].anomaly_rule[0]: "port_scan" is no rule of this collector; did you mean port-scan?`},
		{Source{Text: "src:10.0.0.1 ja4:t13d* probe:edge1 tunnel:true ssh:x sni:y packets:>1 before:5m", Logged: true}, ""},
		{Source{Text: "port:443 -app:Chrome", Logged: true}, `filter, column 11: "app"` + learned},
		{Source{Text: "bad:true", Logged: true}, `filter, column 1: "bad"` + learned},
		{Source{Text: "new:true", Logged: true}, `filter, column 1: "new"` + learned},
		{Source{Text: "anomaly:true", Logged: true}, `filter, column 1: "anomaly"` + learned},
		{Source{Text: "severity:>=high", Logged: true}, `filter, column 1: "severity"` + learned},
		{Source{Exclude: typed, Logged: true}, `exclude[0].anomaly_rule: "rule"` + learned},
		{Source{Text: "ja4:*_x", Replay: true}, ""},
		{Source{Text: "app:Chrome rule:gone", Replay: true}, ""},
	} {
		_, err := Compile(tc.src)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != tc.want {
			t.Errorf("%+v:\n got %s\nwant %s", tc.src, got, tc.want)
		}
	}
}

// A match does not allocate, whatever it looks at.
func TestMatchDoesNotAllocate(t *testing.T) {
	s := sample()
	for _, text := range []string{
		"src:10.0.0.0/8 dst.port:443 proto:tcp -port:53 network:l* probe:edge2 app:chromium* sni:*.example.com rule:mss* ssh:shell " +
			"fp:64240_*_1460_8 -ja4:t14*,t15d_*_x bad:true new:false anomaly:true tunnel:true bytes:>=1000 packets:>1 after:1h before:1s",
	} {
		f := mustParse(t, text)
		if n := testing.AllocsPerRun(100, func() {
			if !f.Match(s) {
				t.Fatal("no match")
			}
		}); n > 0 {
			t.Errorf("%s: %v allocations", text, n)
		}
	}
}

// Nothing that is typed does harm; what is accepted prints as a text that means
// the same, and an error is short and lies within the text.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"src:10.0.0.0/8 dst.port:443 ja4:t13d* -port:53 bad:true network:lab bytes:>=1000",
		`app:"Chromium \"Browser\"",x* after:5m before:2026-11-22T12:00:00Z ip:2001:db8::/32,::ffff:1.2.3.4`,
		"port:8000-8999 packets:<7,9-11 fp:*_*_a,t*", "-", `sni:"`, "after:99999999h before:9999-01-01T00:00:00Z", "ja4_o:*x",
	} {
		f.Add(s)
	}
	s := sample()
	f.Fuzz(func(t *testing.T, text string) {
		fuzzguard.Watch(t)
		f, err := Parse(text, now)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Column < 0 || e.Column > len(text)+1 || len(err.Error()) > 600 {
				t.Fatalf("error %q", err)
			}
			return
		}
		again, err := Parse(f.String(), now)
		if err != nil {
			t.Fatalf("prints as %q: %v", f, err)
		}
		if again.String() != f.String() || again.Match(s) != f.Match(s) {
			t.Fatalf("prints as %q, which prints as %q", f, again)
		}
	})
}

// BenchmarkMatch: one connection and the filter of the documentation.
func BenchmarkMatch(b *testing.B) {
	s := sample()
	for _, text := range []string{
		"dst.port:443", "src:10.0.0.0/8 dst.port:443 proto:tcp bytes:>=1000 -port:53", "ja4:t13d1516h2_*_02713d6af862",
		"src:10.0.0.0/8 dst.port:443 ja4:t13d* -port:53 bad:true network:lab bytes:>=1000",
	} {
		b.Run(fmt.Sprintf("words=%d", 1+strings.Count(text, " ")), func(b *testing.B) {
			f := mustParse(b, text)
			b.ReportAllocs()
			for b.Loop() {
				f.Match(s)
			}
		})
	}
}
