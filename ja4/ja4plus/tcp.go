package ja4plus

import "strconv"

// TCP option kinds that a fingerprint looks into (IANA "TCP Option Kind
// Numbers").
const (
	optEndOfList   = 0
	optNoOperation = 1
	optMSS         = 2
	optWindowScale = 3
)

// maxTCPOptions is the most option bytes that a TCP header can hold (RFC 9293
// section 3.1): 60 bytes less the fixed 20. Bytes beyond are not looked at, so
// no value is longer than 127 bytes.
const maxTCPOptions = 40

// SYN returns the JA4T of a SYN, such as "65535_2-1-3-1-1-8-4-0-0_1460_6":
// window, option kinds, MSS and window scale. window is the 16-bit field as it
// is in the header; options are the option bytes, from byte 20 of the header
// to its end.
//
// A SYN is a packet with SYN and without ACK and RST. Other flags do not
// matter: one that offers ECN is a SYN like any other.
//
// Source: FoxIO's JA4T sheet; RFC 9293 section 3.2; RFC 7323 section 2.2. The
// edge cases (bytes behind the end of the list, broken lengths, repeated
// options) are as tshark lists options.
func SYN(window uint16, options []byte) string {
	return string(AppendTCP(make([]byte, 0, 64), window, options))
}

// SYNACK returns the JA4TS of a first SYN-ACK (a packet with SYN and ACK and
// without FIN and RST), which has the form of a JA4T. SYNACKRetries adds what
// later ones tell.
func SYNACK(window uint16, options []byte) string { return SYN(window, options) }

// AppendTCP appends what SYN and SYNACK return to dst. It allocates only to
// grow dst.
func AppendTCP(dst []byte, window uint16, options []byte) []byte {
	dst = strconv.AppendUint(dst, uint64(window), 10)
	dst = append(dst, '_')
	start := len(dst)
	var mss uint16
	var scale uint8
	for o := (optionWalk{rest: options[:min(len(options), maxTCPOptions)]}); o.next(); {
		if len(dst) > start {
			dst = append(dst, '-')
		}
		dst = strconv.AppendUint(dst, uint64(o.kind), 10)
		switch {
		case o.kind == optMSS && len(o.data) == 2:
			mss = uint16(o.data[0])<<8 | uint16(o.data[1])
		case o.kind == optWindowScale && len(o.data) == 1:
			scale = o.data[0]
		}
	}
	if len(dst) == start {
		dst = append(dst, "00"...)
	}
	dst = append(dst, '_')
	if mss < 10 {
		dst = append(dst, '0')
	}
	dst = strconv.AppendUint(dst, uint64(mss), 10)
	dst = append(dst, '_')
	if scale == 0 {
		return append(dst, "00"...)
	}
	return strconv.AppendUint(dst, uint64(scale), 10)
}

// MSS returns the maximum segment size in bytes that options announce: the
// last one if there are several, as in JA4T. ok is false when they announce
// none. It does not allocate.
func MSS(options []byte) (mss uint16, ok bool) {
	for o := (optionWalk{rest: options[:min(len(options), maxTCPOptions)]}); o.next(); {
		if o.kind == optMSS && len(o.data) == 2 {
			mss, ok = uint16(o.data[0])<<8|uint16(o.data[1]), true
		}
	}
	return mss, ok
}

// optionWalk steps through TCP options as tshark lists them. Behind the end of
// the list only zero bytes count, each as one more end of the list: stacks pad
// with them, and how much they pad tells them apart.
type optionWalk struct {
	rest  []byte
	ended bool
	kind  uint8
	data  []byte
}

// next moves to the next option. An option whose length is below 2 or runs
// past the header ends the walk and is not itself part of it.
func (o *optionWalk) next() bool {
	if len(o.rest) == 0 || o.ended && o.rest[0] != optEndOfList {
		return false
	}
	o.kind, o.data = o.rest[0], nil
	if o.kind == optEndOfList || o.kind == optNoOperation {
		o.ended = o.kind == optEndOfList
		o.rest = o.rest[1:]
		return true
	}
	if len(o.rest) < 2 {
		return false
	}
	n := int(o.rest[1])
	if n < 2 || n > len(o.rest) {
		return false
	}
	o.data, o.rest = o.rest[2:n], o.rest[n:]
	return true
}
