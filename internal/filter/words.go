package filter

import (
	"github.com/whorl-net/whorl/internal/suggest"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

// word is one word of the language. compile understands its values, which are
// joined by OR.
type word struct {
	name    string
	example string // a value to show
	compile func(c *compiler, w *word, values []value) (test, []string, error)
	// Each word uses what its compile asks for.
	side  side
	typ   ja4.Type // 0: any
	text  func(s *tracker.Snapshot) string
	flag  func(s *tracker.Snapshot) bool
	count func(s *tracker.Snapshot) uint64
	// The same of a row, where a row has it.
	rowText  func(r *tracker.Row) string
	rowName  bool // it is the server name
	rowCount func(r *tracker.Row) uint64
	detail   tracker.Detail // what text or flag looks at
	fold     bool           // upper and lower case are the same
	stars    bool           // quoted values may have a * before or behind the quotes
	feed     bool           // known of evictions only
	// learned says that tables and rules decide, which change while a collector runs.
	learned bool
}

// side says which end of a connection a word looks at.
type side uint8

const (
	eitherSide side = iota
	srcSide
	dstSide
)

// words are all words, in the order of the documentation.
var words = func() []word {
	ws := []word{
		{name: "ip", example: "10.0.0.0/8", compile: compileAddrs, side: eitherSide},
		{name: "src", example: "10.0.0.0/8", compile: compileAddrs, side: srcSide},
		{name: "dst", example: "10.0.0.0/8", compile: compileAddrs, side: dstSide},
		{name: "port", example: "443", compile: compilePorts, side: eitherSide},
		{name: "src.port", example: "8000-8999", compile: compilePorts, side: srcSide},
		{name: "dst.port", example: "443", compile: compilePorts, side: dstSide},
		{name: "proto", example: "tcp", compile: compileProtocols},
		{name: "network", example: "lab", compile: compileTexts, stars: true,
			text: func(s *tracker.Snapshot) string { return s.Network }, rowText: (*tracker.Row).Network},
		{name: "probe", example: "edge1", compile: compileProbes, stars: true},
		{name: "app", example: "Chrome*", compile: compileTexts, stars: true, fold: true, learned: true, detail: tracker.Histories,
			text: func(s *tracker.Snapshot) string { return s.IdentifiedApp }},
		{name: "sni", example: "www.example.com", compile: compileTexts, stars: true, fold: true, detail: tracker.Newest,
			text: func(s *tracker.Snapshot) string { return s.ServerName }, rowName: true},
		{name: "rule", example: "mss-tunnel", compile: compileRules, stars: true, fold: true, learned: true},
		{name: "ssh", example: "Interactive*", compile: compileTexts, stars: true, fold: true, detail: tracker.Newest,
			text: func(s *tracker.Snapshot) string { return s.SSHSessionType }},
		{name: "fp", example: "t13d*", compile: compilePatterns},
		{name: "bad", example: "true", compile: compileFlags, learned: true, detail: tracker.Histories,
			flag: func(s *tracker.Snapshot) bool { return s.KnownBad }},
		{name: "new", example: "true", compile: compileFlags, learned: true, detail: tracker.Newest,
			flag: func(s *tracker.Snapshot) bool { return s.New }},
		{name: "anomaly", example: "true", compile: compileAnomalies, stars: true, fold: true, learned: true},
		{name: "severity", example: ">=high", compile: compileSeverities, learned: true},
		{name: "tunnel", example: "true", compile: compileFlags, detail: tracker.Newest,
			flag: func(s *tracker.Snapshot) bool { return s.TunnelIndicator != "" }},
		{name: "bytes", example: ">=1000", compile: compileCounts,
			count: func(s *tracker.Snapshot) uint64 { return s.ByteCount }, rowCount: (*tracker.Row).ByteCount},
		{name: "packets", example: ">=10", compile: compileCounts,
			count: func(s *tracker.Snapshot) uint64 { return s.PacketCount }, rowCount: (*tracker.Row).PacketCount},
		{name: "after", example: "5m", compile: compileAfter},
		{name: "before", example: "5m", compile: compileBefore},
		{name: "cause", example: "idle", compile: compileCauses, feed: true},
	}
	for t := ja4.TypeJA4; t < ja4.NumTypes; t++ {
		ws = append(ws, word{name: t.String(), example: "t13d*", compile: compilePatterns, typ: t})
	}
	return ws
}()

// meant maps names that other tools, or our own messages, use to words. They
// are suggested, not accepted: one word per concept.
var meant = map[string]string{
	"src_ip": "src", "srcip": "src", "source": "src", "client": "src", "src.ip": "src",
	"dst_ip": "dst", "dstip": "dst", "dest": "dst", "destination": "dst", "server": "dst", "dst.ip": "dst",
	"host": "ip", "addr": "ip", "address": "ip", "net": "ip",
	"sport": "src.port", "src_port": "src.port", "srcport": "src.port",
	"dport": "dst.port", "dst_port": "dst.port", "dstport": "dst.port",
	"protocol": "proto", "fingerprint": "fp", "fingerprints": "fp", "ja4+": "fp",
	"identified_app": "app", "application": "app", "server_name": "sni", "hostname": "sni",
	"probe_id": "probe", "is_known_bad": "bad", "known_bad": "bad", "malicious": "bad", "is_new": "new",
	"has_anomaly": "anomaly", "anomalies": "anomaly", "has_tunnel": "tunnel", "tunnel_indicator": "tunnel",
	"anomaly_rule": "rule", "ssh_session_type": "ssh", "min_severity": "severity", "level": "severity",
	"min_bytes": "bytes", "byte_count": "bytes", "min_packets": "packets", "packet_count": "packets",
	"since": "after", "seen_after": "after", "until": "before", "seen_before": "before",
	"eviction_cause": "cause", "reason": "cause",
}

// wordNamed returns nil if there is none.
func wordNamed(name string) *word {
	for i := range words {
		if words[i].name == name {
			return &words[i]
		}
	}
	return nil
}

// suggestWord returns the word that somebody meant who wrote name, or "".
func suggestWord(name string) string {
	if w, ok := meant[name]; ok {
		return w
	}
	// Order decides between equally near ones, so no map order here.
	var known []string
	for i := range words {
		known = append(known, words[i].name)
	}
	known = append(known, "sport", "dport", "protocol", "fingerprint", "source", "destination", "server_name", "probe_id")
	near := suggest.Nearest(name, known)
	if w, ok := meant[near]; ok {
		return w
	}
	return near
}
