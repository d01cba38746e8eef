package ja4plus

import (
	"encoding/binary"
	"errors"
	"strconv"

	"github.com/whorl-net/whorl/ja4"
)

// MaxDHCPBytes bounds the value of a JA4D and a JA4D6. A message with a longer
// one gets none: real clients stay far below, and a part of a fingerprint
// would be another one.
const MaxDHCPBytes = 255

// The errors of DHCP and DHCPv6. They are returned as they are.
var (
	ErrNotDHCP     = errors.New("not a DHCP message with a type")
	ErrDHCPTooLong = errors.New("DHCP fingerprint longer than 255 bytes")
)

// DHCP options (RFC 2132, RFC 4702).
const (
	dhcpPad           = 0
	dhcpRequestedIP   = 50
	dhcpMessageType   = 53
	dhcpParameterList = 55
	dhcpMaxSize       = 57
	dhcpClientName    = 81
	dhcpEnd           = 255

	// dhcpNameHeader is what option 81 has before the name.
	dhcpNameHeader = 3
	// dhcpOptions is where the options begin, behind the BOOTP header and the
	// magic cookie.
	dhcpOptions = 240
	dhcpMagic   = 0x63825363
)

// dhcpTypes are the names of the DHCP message types from 1 on (IANA "DHCP
// Message Type 53 Values").
var dhcpTypes = [...]string{
	"disco", "offer", "reqst", "decln", "dpack", "dpnak", "relse", "infor", "frenw",
	"lqery", "lunas", "lunkn", "lactv", "blklq", "lqdon", "actlq", "lqsta", "dhtls",
}

// DHCP returns the JA4D of the DHCPv4 message in a UDP payload (ports 67 and
// 68), such as "disco1500in_61-55_1-3-6-42": message type, maximum message
// size, whether an address (i) and a name (d) are asked for, the options in
// order, the parameter request list. Option overload (option 52) is not
// followed. Options behind one that is cut short do not count.
//
// It allocates nothing but the value. The error is ErrNotDHCP, also for BOOTP
// without a message type, or ErrDHCPTooLong.
//
// Source: FoxIO's JA4D sheet; RFC 2131 section 2, RFC 2132.
func DHCP(payload []byte) (ja4.Event, error) {
	if len(payload) < dhcpOptions || binary.BigEndian.Uint32(payload[dhcpOptions-4:]) != dhcpMagic {
		return ja4.Event{}, ErrNotDHCP
	}
	var (
		kind      uint8
		typed     bool
		size      int
		ip, name  = byte('n'), byte('n')
		options   numberList
		parameter numberList
	)
	for rest := payload[dhcpOptions:]; len(rest) > 0; {
		code := rest[0]
		if code == dhcpPad {
			rest = rest[1:]
			continue
		}
		if code == dhcpEnd || len(rest) < 2 || len(rest) < 2+int(rest[1]) {
			break
		}
		data := rest[2 : 2+int(rest[1])]
		rest = rest[2+len(data):]
		switch code {
		case dhcpMessageType:
			if len(data) == 1 && !typed {
				kind, typed = data[0], true
			}
			continue
		case dhcpRequestedIP:
			ip = 'i'
			continue
		case dhcpClientName:
			if len(data) > dhcpNameHeader && namePresent(data[dhcpNameHeader:]) {
				name = 'd'
			}
			continue
		case dhcpMaxSize:
			if len(data) == 2 {
				size = int(binary.BigEndian.Uint16(data))
			}
		case dhcpParameterList:
			for _, p := range data {
				parameter.add(uint64(p))
			}
		}
		options.add(uint64(code))
	}
	if !typed {
		return ja4.Event{}, ErrNotDHCP
	}

	var buf [3 * MaxDHCPBytes]byte // a head and two lists, even if both are full
	value := buf[:0]
	if kind >= 1 && int(kind) <= len(dhcpTypes) {
		value = append(value, dhcpTypes[kind-1]...)
	} else {
		value = appendPadded(value, int(kind), 5)
	}
	value = appendPadded(value, min(size, 9999), 4)
	value = append(value, ip, name)
	return dhcpEvent(ja4.TypeJA4D, value, &options, &parameter)
}

// namePresent reports whether b, the name of a client in either encoding, is
// more than the root of all names.
func namePresent(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return true
		}
	}
	return false
}

// dhcpEvent appends the two lists to value and returns the event.
func dhcpEvent(t ja4.Type, value []byte, options, requested *numberList) (ja4.Event, error) {
	value = append(value, '_')
	value = options.appendTo(value)
	value = append(value, '_')
	value = requested.appendTo(value)
	if options.full || requested.full || len(value) > MaxDHCPBytes {
		return ja4.Event{}, ErrDHCPTooLong
	}
	return ja4.Event{Type: t, Value: string(value)}, nil
}

// appendPadded appends n, not negative, in decimal with at least width digits.
func appendPadded(dst []byte, n, width int) []byte {
	var scratch [20]byte
	digits := strconv.AppendInt(scratch[:0], int64(n), 10)
	for range width - len(digits) {
		dst = append(dst, '0')
	}
	return append(dst, digits...)
}

// numberList is a list of decimal numbers joined by "-", in fixed memory. When
// it is full it takes no more and says so. The zero numberList is empty.
type numberList struct {
	buf  [MaxDHCPBytes]byte
	n    int
	full bool
}

func (l *numberList) add(v uint64) {
	var scratch [24]byte
	b := scratch[:0]
	if l.n > 0 {
		b = append(b, '-')
	}
	b = strconv.AppendUint(b, v, 10)
	if l.full = l.full || len(b) > len(l.buf)-l.n; l.full {
		return
	}
	l.n += copy(l.buf[l.n:], b)
}

// appendTo appends the list to dst, "00" when it is empty.
func (l *numberList) appendTo(dst []byte) []byte {
	if l.n == 0 {
		return append(dst, "00"...)
	}
	return append(dst, l.buf[:l.n]...)
}
