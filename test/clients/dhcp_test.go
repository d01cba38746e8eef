//go:build e2e

package clients

import (
	"fmt"
	"strings"
	"testing"
)

// dhcpEvents returns JA4D or JA4D6 of one packet.
func dhcpEvents(t testing.TB, f *frame) []event {
	switch {
	case f.has("dhcp.option.dhcp"):
		return []event{dhcp4(t, f.first("dhcp"))}
	case f.has("dhcpv6.msgtype"):
		return []event{dhcp6(t, f.first("dhcpv6"))}
	}
	return nil
}

// dashes joins numbers, 00 for none.
func dashes(s []string) string {
	if len(s) == 0 {
		return "00"
	}
	return strings.Join(s, "-")
}

func letterIf(set bool, letter string) string {
	if set {
		return letter
	}
	return "n"
}

func dhcp4(t testing.TB, d *node) event {
	kinds := []string{"disco", "offer", "reqst", "decln", "dpack", "dpnak", "relse", "infor"}
	kind := d.first("dhcp.option.dhcp").number(t)
	size := 0
	var options, wanted []string
	address, name := false, false
	for _, o := range d.every("dhcp.option.type") {
		switch o.Show {
		case "0", "255", "53": // tshark shows the end as 0 or 255
			continue
		case "50":
			address = true
			continue
		case "81":
			name = len(o.first("dhcp.option.value").octets(t)) > 3 // flags and two result codes
			continue
		case "57":
			size = min(o.first("dhcp.option.dhcp_max_message_size").number(t), 9999)
		case "55":
			for _, w := range o.every("dhcp.option.request_list_item") {
				wanted = append(wanted, w.Show)
			}
		}
		options = append(options, o.Show)
	}
	return event{kind: "ja4d", value: parts(
		fmt.Sprintf("%s%04d%s%s", kinds[kind-1], size, letterIf(address, "i"), letterIf(name, "d")), dashes(options), dashes(wanted))}
}

func dhcp6(t testing.TB, d *node) event {
	kinds := []string{"solct", "advrt", "reqst", "confm", "renew", "rebnd", "reply", "relse", "decln", "recon", "inreq"}
	kind := d.first("dhcpv6.msgtype").number(t)
	size := 0
	var options, wanted []string
	address, name := false, false
	for _, o := range d.every("dhcpv6.option.type") {
		options = append(options, o.Show)
	}
	for _, o := range d.every("dhcpv6.option.type_str") {
		switch o.first("dhcpv6.option.type").Show {
		case "1":
			size = o.first("dhcpv6.option.length").number(t)
		case "4":
			address = true
		case "39":
			name = o.first("dhcpv6.option.length").number(t) > 1 // one byte of flags
		case "6":
			for _, w := range o.every("dhcpv6.requested_option_code") {
				wanted = append(wanted, w.Show)
			}
		}
	}
	return event{kind: "ja4d6", value: parts(
		fmt.Sprintf("%s%04d%s%s", kinds[kind-1], size, letterIf(address, "i"), letterIf(name, "d")), dashes(options), dashes(wanted))}
}
