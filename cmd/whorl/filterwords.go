package main

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/whorl-net/whorl/internal/filter"
	"github.com/whorl-net/whorl/ja4"
)

// A filterWord is a word of a filter as help shows it.
type filterWord struct{ name, value, about string }

// filterWords are all words but the fingerprint types, which are words too.
var filterWords = []filterWord{
	{"ip src dst", "10.0.0.0/8", "address or prefix: of either side, of the source, of the destination"},
	{"port src.port dst.port", "8000-8999", "port or range, likewise"},
	{"proto", "tcp", "tcp, udp, icmp …, or a number"},
	{"network probe", "lab", "where it was seen, and by which probe"},
	{"app sni", "Chrome*", "application; TLS server name"},
	{"fp", "t13d*", "fingerprint of any type; one type is a word too: ja4:t13d*, ja4t:64240*"},
	{"bad new tunnel", "true", "known bad; first seen here; in a tunnel"},
	{"anomaly rule", "port-scan", "with an anomaly of that rule; anomaly:true with any"},
	{"severity", ">=high", "of an anomaly: low, medium, high or critical"},
	{"ssh", "Reverse*", "kind of SSH session"},
	{"bytes packets", ">=1000", "size; also <=1000 and 10-20"},
	{"after before", "5m", "seen since or until then: an age, or an RFC 3339 time"},
	{"cause", "idle", "with watch: idle, closed, capacity or flush"},
}

// filterHelp is the table of filter words.
func filterHelp() string {
	var b strings.Builder
	b.WriteString("Filter words, joined by AND; commas are OR, a leading - is NOT:\n")
	for _, w := range filterWords {
		b.WriteString("  " + w.name + strings.Repeat(" ", 24-len(w.name)) + w.value + strings.Repeat(" ", 12-len(w.value)) + w.about + "\n")
	}
	return b.String()
}

// filterNames are all words in one line.
func filterNames() string {
	var names []string
	for _, w := range filterWords {
		names = append(names, w.name)
	}
	for t := ja4.TypeJA4; t < ja4.NumTypes; t++ {
		names = append(names, t.String())
	}
	return strings.Join(names, " ")
}

// filterFor is the filter that a bare value may stand for, such as ip:10.0.0.5;
// "" when it looks like nothing.
func filterFor(value string) string {
	if _, err := netip.ParseAddr(value); err == nil {
		return "ip:" + value
	}
	if _, err := netip.ParsePrefix(value); err == nil {
		return "ip:" + value
	}
	if _, err := strconv.ParseUint(value, 10, 16); err == nil {
		return "port:" + value
	}
	switch value {
	case "tcp", "udp", "icmp", "icmpv6", "sctp":
		return "proto:" + value
	case "bad", "new", "anomaly", "tunnel":
		return value + ":true"
	}
	if strings.Count(value, "_") == 2 && !strings.ContainsAny(value, " :") {
		return "fp:" + value
	}
	return ""
}

// habitOf says how to write what people are used to write in other filters: and,
// or, not, brackets, or a time that is not whole. "" when it is none of these.
func habitOf(text string, err *filter.Error) string {
	switch strings.ToLower(err.Word) {
	case "and", "&&", "&":
		return "words are joined by AND as they stand: leave \"" + err.Word + "\" out"
	case "or", "||", "|":
		return "OR is a comma between the values of one word, such as port:80,443; for two words ask twice"
	case "not", "!":
		return "NOT is a - before a word, such as -port:53"
	}
	if strings.HasPrefix(err.Word, "(") || strings.HasPrefix(err.Word, "!") {
		return "there are no brackets and no !: words are joined by AND, values by commas are OR, a - before a word is NOT"
	}
	if whole := wholeTime(err.Word); whole != "" {
		return "a time is whole: " + whole + ", or with a zone such as +02:00"
	}
	return ""
}

// wholeTime is a date or a time without a zone as a time in UTC, "" when text is
// neither.
func wholeTime(text string) string {
	for _, layout := range []string{"2006-01-02", "2006-01-02T15:04", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02 15:04:05"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.Format(time.RFC3339)
		}
	}
	return ""
}
