package output

import (
	"fmt"
	"strconv"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
)

// Fingerprint is one fingerprint event of a capture.
type Fingerprint struct {
	// Time is the capture time of the packet that completed it, Unix
	// nanoseconds; Since the time of the first packet of its file.
	Time, Since int64
	// Network is left out when it is the default one.
	Network string
	// Tuple goes from the client to the server, whoever sent the packet.
	Tuple flow.Tuple
	ja4.Event
	// PacketNum is the packet's number within its connection, from 1. 0, when it
	// is unknown, is left out.
	PacketNum uint64
	// App is the application that the value alone is known for, "" when it is
	// unknown. Bad says that the value is known to be bad; a table shows it by
	// colour.
	App string
	Bad bool
}

// TimeStyle says how TIME is shown in tables of fingerprints.
type TimeStyle uint8

const (
	// FromFirst counts seconds from the first packet of the file.
	FromFirst TimeStyle = iota
	// TimeOfDay shows the clock.
	TimeOfDay
)

// Fingerprints is the Kind of fp and run. raw adds the unhashed form to tables.
func Fingerprints(style TimeStyle, clock Clock, raw bool) Kind[Fingerprint] {
	when := func(f Fingerprint) string {
		if style == TimeOfDay {
			return clock.short(time.Unix(0, f.Time))
		}
		return sinceText(f.Time - f.Since)
	}
	columns := []Column[Fingerprint]{
		{Name: "TIME", Cell: when},
		{Name: "SRC", Cell: func(f Fingerprint) string { return endpoint(f.Tuple.Src.String(), uint32(f.Tuple.SrcPort)) }},
		{Name: "DST", Cell: func(f Fingerprint) string { return endpoint(f.Tuple.Dst.String(), uint32(f.Tuple.DstPort)) }},
		{Name: "PROTO", Cell: func(f Fingerprint) string { return f.Tuple.Protocol.String() }},
		{Name: "TYPE", Cell: func(f Fingerprint) string { return f.Type.String() }},
		{Name: "VALUE", Cell: func(f Fingerprint) string { return f.Value }},
		{Name: "APP", Cell: func(f Fingerprint) string { return f.App }, Style: func(f Fingerprint) Style {
			if f.Bad {
				return StyleBad
			}
			return StylePlain
		}},
	}
	if style == TimeOfDay { // as they come
		for i := range columns {
			columns[i].Width = streamWidths[columns[i].Name]
		}
	}
	if raw {
		columns = append(columns, Column[Fingerprint]{Name: "RAW", Cell: func(f Fingerprint) string { return f.Raw }})
	}
	return Kind[Fingerprint]{Columns: columns, CSV: fingerprintCSV(),
		Schema: fieldList(fingerprintKeys...), JSON: appendFingerprint}
}

// sinceText shows nanoseconds as seconds with six digits, cut and not rounded,
// as packet tools do.
func sinceText(ns int64) string {
	sign := ""
	if ns < 0 {
		sign, ns = "-", -ns
	}
	return fmt.Sprintf("%s%d.%06d", sign, ns/1e9, ns%1e9/1e3)
}

var fingerprintKeys = []string{"time", "network", "src_ip", "src_port", "dst_ip", "dst_port",
	"protocol", "type", "value", "raw", "packet_num", "app"}

// appendFingerprint writes exactly these keys in this order: people compare
// this output with that of other tools.
func appendFingerprint(dst []byte, f Fingerprint, sel *Selection) []byte {
	text := func(name, value string) {
		if _, ok := sel.has(name); ok && value != "" {
			dst = appendString(appendKey(dst, name), value)
		}
	}
	number := func(name string, value uint64) {
		if _, ok := sel.has(name); ok {
			dst = strconv.AppendUint(appendKey(dst, name), value, 10)
		}
	}
	dst = append(dst, '{')
	if _, ok := sel.has("time"); ok {
		dst = appendTime(appendKey(dst, "time"), time.Unix(0, f.Time))
	}
	if f.Network != flow.DefaultNetwork {
		text("network", f.Network)
	}
	text("src_ip", f.Tuple.Src.String())
	number("src_port", uint64(f.Tuple.SrcPort))
	text("dst_ip", f.Tuple.Dst.String())
	number("dst_port", uint64(f.Tuple.DstPort))
	text("protocol", f.Tuple.Protocol.String())
	text("type", f.Type.String())
	text("value", f.Value)
	text("raw", f.Raw)
	if f.PacketNum > 0 {
		number("packet_num", f.PacketNum)
	}
	text("app", f.App)
	return append(dst, '}')
}

func fingerprintCSV() []Column[Fingerprint] {
	columns := make([]Column[Fingerprint], 0, len(fingerprintKeys))
	cells := map[string]func(Fingerprint) string{
		"time":       func(f Fingerprint) string { return time.Unix(0, f.Time).UTC().Format(timeLayout) },
		"network":    func(f Fingerprint) string { return f.Network },
		"src_ip":     func(f Fingerprint) string { return f.Tuple.Src.String() },
		"src_port":   func(f Fingerprint) string { return strconv.Itoa(int(f.Tuple.SrcPort)) },
		"dst_ip":     func(f Fingerprint) string { return f.Tuple.Dst.String() },
		"dst_port":   func(f Fingerprint) string { return strconv.Itoa(int(f.Tuple.DstPort)) },
		"protocol":   func(f Fingerprint) string { return f.Tuple.Protocol.String() },
		"type":       func(f Fingerprint) string { return f.Type.String() },
		"value":      func(f Fingerprint) string { return f.Value },
		"raw":        func(f Fingerprint) string { return f.Raw },
		"packet_num": func(f Fingerprint) string { return strconv.FormatUint(f.PacketNum, 10) },
		"app":        func(f Fingerprint) string { return f.App },
	}
	for _, name := range fingerprintKeys {
		columns = append(columns, Column[Fingerprint]{Name: name, Cell: cells[name]})
	}
	return columns
}
