package anomaly

import (
	"net/netip"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/analyst/window"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

// The ids of the built-in rules. They are API: never renamed, never reused.
const (
	ruleKnownBad        = "known-bad"
	ruleNewFingerprint  = "new-fingerprint"
	ruleFingerprint     = "fingerprint-change"
	ruleClient          = "client-change"
	ruleFlood           = "ja4-flood"
	ruleCertificates    = "certificate-diversity"
	rulePortScan        = "port-scan"
	ruleHostSweep       = "host-sweep"
	ruleConnectionFlood = "connection-flood"
	ruleSSHFanOut       = "ssh-fan-out"
	ruleBeaconFast      = "beacon-fast"
	ruleBeaconSlow      = "beacon-slow"
	ruleReverseSSH      = "reverse-ssh"
	ruleSSHUpload       = "ssh-upload"
	ruleTunnel          = "tunnel-mss"
	ruleInconsistency   = "client-inconsistency"
)

// sourceBuiltin is the source of rules that come from no file.
const sourceBuiltin = "builtin"

// internalNetworks are what nobody routes on the Internet.
var internalNetworks = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10"),
}

// For how many keys there is room: pairs of hosts are many, hosts are fewer, and
// a slow beacon must outlast everything else that is opened in between.
const (
	fewKeys    = 1 << 13
	manyKeys   = 1 << 15
	beaconKeys = 1 << 17
)

func limit(d time.Duration, threshold uint32, keys int) window.Limit {
	return window.Limit{Window: int64(d), Sliding: true, Threshold: threshold, Keys: keys}
}

// builtins returns the built-in rules with their defaults, in the order of the
// documentation. docs/anomalies.md gives the reasons and the false alarms.
func builtins() []*Rule {
	src, dst, port, proto := field{what: srcField}, field{what: dstField}, field{what: dstPortField}, field{what: protocolField}
	value := field{what: valueField}
	rs := []*Rule{
		{ID: ruleKnownBad, Severity: tracker.SeverityHigh, about: "an entry of the tables condemns it"},
		{ID: ruleNewFingerprint, Severity: tracker.SeverityLow, measure: byNovelty}, // FirstSight has its text
		{ID: ruleFingerprint, Severity: tracker.SeverityMedium, judge: judgeChange,
			about: "a second client hello with other ciphers"},
		{ID: ruleClient, Severity: tracker.SeverityLow, measure: bySteadiness, types: 1 << ja4.TypeJA4,
			key: []field{src, dst, port, proto}, limit: window.Limit{Keys: manyKeys}, stable: 8,
			text: builtinText("{src} has spoken to {dst} port {dst.port} with one kind of client {n} times and now comes with another: {value}")},
		{ID: ruleFlood, Severity: tracker.SeverityMedium, measure: byDistinct, types: 1 << ja4.TypeJA4,
			key: []field{src}, of: value, limit: limit(5*time.Minute, 20, fewKeys),
			text: builtinText("{src} has shown {n} different ja4 within {window}")},
		{ID: ruleCertificates, Severity: tracker.SeverityMedium, measure: byDistinct, types: 1 << ja4.TypeJA4X,
			key: []field{src}, of: value, limit: limit(5*time.Minute, 40, fewKeys),
			text: builtinText("{src} was shown {n} kinds of certificates within {window}")},
		{ID: rulePortScan, Severity: tracker.SeverityMedium, measure: byDistinct, opened: true, accept: acceptScan,
			key: []field{src, dst}, of: port, limit: limit(time.Minute, 20, manyKeys),
			text: builtinText("{src} has tried {n} ports of {dst} within {window}")},
		{ID: ruleHostSweep, Severity: tracker.SeverityMedium, measure: byDistinct, opened: true, accept: acceptSweep,
			key: []field{src, port, proto}, narrow: []field{{what: dstField, bits: 24}}, commonPorts: portSet(53, 80, 123, 443),
			of: dst, limit: limit(time.Minute, 50, manyKeys),
			text: builtinText("{src} has tried {n} hosts on {proto} port {dst.port} within {window}")},
		{ID: ruleConnectionFlood, Severity: tracker.SeverityHigh, measure: byCount, opened: true, accept: acceptFlood,
			key: []field{dst, port, proto}, exceptPorts: portSet(53), limit: limit(10*time.Second, 5000, fewKeys),
			text: builtinText("{dst} {proto} port {dst.port} got {n} new connections within {window}")},
		{ID: ruleSSHFanOut, Severity: tracker.SeverityHigh, measure: byDistinct, opened: true, types: 1 << ja4.TypeJA4SSH, accept: acceptSSH,
			key: []field{src}, of: dst, limit: limit(5*time.Minute, 20, fewKeys),
			text: builtinText("{src} has opened SSH to {n} hosts within {window}")},
		{ID: ruleBeaconFast, Severity: tracker.SeverityLow, shortest: 2 * time.Second, longest: time.Minute, intervals: 16, score: 900},
		{ID: ruleBeaconSlow, Severity: tracker.SeverityLow, shortest: time.Minute, longest: 24 * time.Hour, intervals: 8, score: 900},
		{ID: ruleReverseSSH, Severity: tracker.SeverityHigh, judge: judgeReverseSSH,
			about: "a window of a reverse shell (ja4ssh)"},
		{ID: ruleSSHUpload, Severity: tracker.SeverityMedium, judge: judgeUpload, minBytes: 100 << 20,
			about: "a window of an upload (ja4ssh) and min-bytes from the client"},
		{ID: ruleTunnel, Severity: tracker.SeverityLow, judge: judgeTunnel, networks: internalNetworks,
			about: "a client in networks whose MSS has lost room to a tunnel"},
		{ID: ruleInconsistency, Severity: tracker.SeverityMedium, judge: judgeInconsistency,
			about: "TCP (ja4t) of one operating system, TLS (ja4) of another"},
	}
	for _, r := range rs {
		r.Source = sourceBuiltin
		if r.intervals > 0 {
			r.measure, r.opened, r.accept = byBeat, true, acceptBeat
			r.key, r.limit.Keys = []field{src, dst, port, proto}, beaconKeys
			// Clocks, names, discovery and monitoring tick by design.
			r.exceptPorts = portSet(53, 67, 68, 123, 137, 138, 161, 162, 514, 546, 547, 1900, 3702, 5351, 5353, 5355)
			r.text = builtinText("{src} comes to {dst} {proto} port {dst.port} every {interval}, score {score}")
		}
	}
	return rs
}

// Builtin returns the built-in rules with their defaults and an empty allowlist.
func Builtin() *Rules { return newRules(builtins(), nil) }

func builtinText(text string) template {
	t, err := parseTemplate(text, places)
	if err != nil {
		panic("anomaly: text of a built-in rule: " + err.Error()) // ours, and every test builds them
	}
	return t
}

// attempt reports whether an opened connection was begun by its first packet.
// A capture that begins, or sees only answers, meets TCP in the middle, with the
// roles perhaps turned; those do not count. TCP without ACK and RST does, also
// when it is no SYN but a null, FIN or Xmas scan. UDP counts from a port that
// belongs to no service; traceroute's ports do not.
func attempt(ev *tracker.Event) bool {
	switch ev.Protocol {
	case flow.TCP:
		return ev.TCPFlags&(flow.ACK|flow.RST) == 0
	case flow.UDP:
		return ev.SrcPort >= 1024 && (ev.DstPort < 33434 || ev.DstPort > 33534)
	}
	return false
}

// echo reports whether an ICMP connection is a ping.
func echo(ev *tracker.Event) bool {
	return ev.Protocol == flow.ICMP && ev.SrcPort == 8 || ev.Protocol == flow.ICMPv6 && ev.SrcPort == 128
}

// many reports whether an address stands for several hosts: multicast or the
// limited broadcast.
func many(a *flow.Addr) bool {
	if a.Is4() {
		return a[12]&0xf0 == 0xe0 || a[12] == 255
	}
	return a[0] == 0xff
}

func acceptScan(_ *Rule, ev *tracker.Event) bool { return attempt(ev) && !many(&ev.Dst) }

func acceptSweep(_ *Rule, ev *tracker.Event) bool {
	return (attempt(ev) || echo(ev)) && !many(&ev.Dst)
}

func acceptFlood(r *Rule, ev *tracker.Event) bool {
	return attempt(ev) && !r.exceptPorts.has(ev.DstPort)
}

func acceptSSH(_ *Rule, ev *tracker.Event) bool {
	return ev.Kind == tracker.Fingerprinted || ev.Protocol == flow.TCP && ev.DstPort == 22 && attempt(ev)
}

func acceptBeat(r *Rule, ev *tracker.Event) bool {
	return attempt(ev) && !r.exceptPorts.has(ev.DstPort) && !many(&ev.Dst)
}
