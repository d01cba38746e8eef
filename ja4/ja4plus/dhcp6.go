package ja4plus

import (
	"encoding/binary"

	"github.com/whorl-net/whorl/ja4"
)

// DHCPv6 message types and options (RFC 8415 sections 7.3 and 21, RFC 4704).
const (
	dhcp6RelayForward = 12
	dhcp6RelayReply   = 13

	dhcp6ClientID      = 1
	dhcp6NonTemporary  = 3
	dhcp6Temporary     = 4
	dhcp6Address       = 5
	dhcp6Requested     = 6
	dhcp6RelayMessage  = 9
	dhcp6PrefixDelegat = 25
	dhcp6Prefix        = 26
	dhcp6ClientName    = 39
)

// Lengths in bytes.
const (
	dhcp6Header       = 4  // type and transaction id
	dhcp6RelayHeader  = 34 // type, hop count, two addresses
	dhcp6OptionHeader = 4
	// maxDHCP6Relays bounds how deep relay messages are unpacked (RFC 8415
	// section 7.6: HOP_COUNT_LIMIT is 8); maxDHCP6Depth how deep options in
	// options are. Deeper ones are not looked into.
	maxDHCP6Relays = 8
	maxDHCP6Depth  = 8
)

// dhcp6Types are the names of the DHCPv6 message types from 1 on (IANA "DHCPv6
// Message Types").
var dhcp6Types = [...]string{
	"solct", "advrt", "reqst", "confm", "renew", "rebnd", "reply", "relse", "decln", "recon",
	"inreq", "rlayf", "rlayr", "query", "qrply", "qdone", "qdata", "rereq", "rrply", "v4qry",
	"v4res", "acqry", "sttls", "bdudp", "brply", "poreq", "pores", "urqst", "ureqa", "udone",
	"conne", "connr", "dconn", "state", "conta", "arinf", "arrep",
}

// DHCPv6 returns the JA4D6 of the DHCPv6 message in a UDP payload (ports 546
// and 547), such as "solct0014nn_1-6-8-25_23-24": message type, length of the
// client's identifier, whether a temporary address (i) and a name (d) are asked
// for, all options with nested ones right behind their parent, the option
// request list. Of a relayed message the innermost one counts. Options behind
// one that is cut short do not count.
//
// It allocates nothing but the value. The error is ErrNotDHCP or
// ErrDHCPTooLong.
//
// Source: FoxIO's JA4D6 sheet and Wireshark plugin; RFC 8415. What a relay
// carries is our choice: no expectation exists.
func DHCPv6(payload []byte) (ja4.Event, error) {
	message, ok := unpackDHCP6(payload)
	if !ok {
		return ja4.Event{}, ErrNotDHCP
	}
	w := dhcp6Walk{temporary: 'n', name: 'n'}
	w.options(message[dhcp6Header:], 0)

	var buf [3 * MaxDHCPBytes]byte
	value := buf[:0]
	if kind := int(message[0]); kind <= len(dhcp6Types) {
		value = append(value, dhcp6Types[kind-1]...)
	} else {
		value = appendPadded(value, kind, 5)
	}
	value = appendPadded(value, min(w.clientID, 9999), 4)
	value = append(value, w.temporary, w.name)
	return dhcpEvent(ja4.TypeJA4D6, value, &w.list, &w.requested)
}

// unpackDHCP6 returns the innermost message of a payload, the first that is no
// relay message.
func unpackDHCP6(message []byte) ([]byte, bool) {
	for range maxDHCP6Relays + 1 {
		if len(message) < dhcp6Header || message[0] == 0 {
			return nil, false
		}
		if message[0] != dhcp6RelayForward && message[0] != dhcp6RelayReply {
			return message, true
		}
		if len(message) < dhcp6RelayHeader {
			return nil, false
		}
		inner, found := []byte(nil), false
		for rest := message[dhcp6RelayHeader:]; !found; {
			code, data, after, ok := cutDHCP6(rest)
			if !ok {
				return nil, false
			}
			inner, found, rest = data, code == dhcp6RelayMessage, after
		}
		message = inner
	}
	return nil, false
}

// cutDHCP6 returns the first option of b and what follows it.
func cutDHCP6(b []byte) (code uint16, data, rest []byte, ok bool) {
	if len(b) < dhcp6OptionHeader {
		return 0, nil, nil, false
	}
	end := dhcp6OptionHeader + int(binary.BigEndian.Uint16(b[2:]))
	if end > len(b) {
		return 0, nil, nil, false
	}
	return binary.BigEndian.Uint16(b), b[dhcp6OptionHeader:end], b[end:], true
}

// dhcp6Walk collects what a JA4D6 needs of the options of a message.
type dhcp6Walk struct {
	list, requested numberList
	clientID        int
	temporary, name byte
}

func (w *dhcp6Walk) options(b []byte, depth int) {
	for !w.list.full && !w.requested.full {
		code, data, rest, ok := cutDHCP6(b)
		if !ok {
			return
		}
		b = rest
		w.list.add(uint64(code))
		nested := -1 // where options inside this one begin
		switch code {
		case dhcp6ClientID:
			w.clientID = len(data)
		case dhcp6NonTemporary, dhcp6PrefixDelegat: // IAID, T1, T2
			nested = 12
		case dhcp6Temporary: // IAID
			w.temporary = 'i'
			nested = 4
		case dhcp6Address: // address, two lifetimes
			nested = 24
		case dhcp6Prefix: // two lifetimes, length, prefix
			nested = 25
		case dhcp6Requested:
			for i := 0; i+1 < len(data) && !w.requested.full; i += 2 {
				w.requested.add(uint64(binary.BigEndian.Uint16(data[i:])))
			}
		case dhcp6ClientName: // flags, name
			if len(data) > 1 && namePresent(data[1:]) {
				w.name = 'd'
			}
		}
		if nested >= 0 && nested < len(data) && depth < maxDHCP6Depth {
			w.options(data[nested:], depth+1)
		}
	}
}
