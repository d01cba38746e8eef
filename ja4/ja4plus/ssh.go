package ja4plus

import (
	"strconv"
	"sync"

	"github.com/whorl-net/whorl/ja4"
)

// The number of SSH packets, both directions together, that one JA4SSH sums
// up.
const (
	DefaultSSHWindow = 200
	MaxSSHWindow     = 4095
)

// maxSSHLength is the greatest payload length, in bytes, that is told apart;
// an IP packet that is no jumbogram has no more.
const maxSSHLength = 1<<16 - 1

// IsSSH reports whether payload begins as the identification string of SSH
// does (RFC 4253 section 4.2). A connection is SSH once either side sent such
// a payload, on any port.
func IsSSH(payload []byte) bool { return len(payload) >= 4 && string(payload[:4]) == "SSH-" }

// BareACKs counts the packets of a TCP connection that only acknowledge. They
// count from the start of the connection, when nobody knows yet that it is
// SSH. The zero BareACKs has counted none; at 65535 it stays.
type BareACKs struct{ Client, Server uint16 }

// Packet counts a packet if it is a bare ACK: flags, the low 8 flag bits of
// the TCP header, exactly ACK, and no payload.
func (a *BareACKs) Packet(fromClient bool, flags uint8, payloadBytes int) {
	switch {
	case flags != flagACK || payloadBytes != 0:
	case fromClient && a.Client < 1<<16-1:
		a.Client++
	case !fromClient && a.Server < 1<<16-1:
		a.Server++
	}
}

// SSHWindow counts the packets of one SSH connection and yields a JA4SSH for
// each full window: c36s36_c76s124_c60s0 says that the most frequent payload
// length was 36 bytes from either side, in 76 and 124 packets, and that there
// were 60 and 0 bare ACKs.
//
// It has 24 bytes, and holds 32 for each 8 payload lengths that occur in the
// present window: usually 32 or 64, at most 800 with DefaultSSHWindow. A window
// that is full keeps 32 for the next. Payload lengths beyond 65,535 count as
// that. Made by NewSSHWindow; it must not be copied and is not safe for
// concurrent use.
//
// Source: FoxIO's JA4SSH sheet and its withdrawn text.
type SSHWindow struct {
	counts *sshCounts // nil when nothing was counted
	// Of the present window, client first.
	acks    [2]uint32
	packets [2]uint16
	size    uint16
}

// sshCounts says how often some payload lengths occurred. Entries are taken in
// order, those with a count of 0 are free. A length has a further entry when
// its count would not fit.
type sshCounts struct {
	next    *sshCounts
	lengths [8]uint16
	counts  [8]uint8 // the upper bit is set for the server's
}

const (
	sshServer   = 0x80
	sshMaxCount = 0x7f
	sshBlock    = 32 // bytes of an sshCounts
)

var sshPool = sync.Pool{New: func() any { return new(sshCounts) }}

// NewSSHWindow returns an SSHWindow of size packets: DefaultSSHWindow if size
// is 0, MaxSSHWindow if it is larger than that or negative. before are the
// bare ACKs of the connection so far.
func NewSSHWindow(size int, before BareACKs) *SSHWindow {
	w := new(SSHWindow)
	w.Begin(size, before)
	return w
}

// Begin makes w, which holds nothing, as NewSSHWindow does: for a window that
// is part of something else.
func (w *SSHWindow) Begin(size int, before BareACKs) {
	switch {
	case size == 0:
		size = DefaultSSHWindow
	case size < 0 || size > MaxSSHWindow:
		size = MaxSSHWindow
	}
	*w = SSHWindow{size: uint16(size), acks: [2]uint32{uint32(before.Client), uint32(before.Server)}}
}

// Packet takes the next TCP packet of the connection: who sent it, the low 8
// flag bits and its payload length in bytes. One with payload is an SSH packet;
// retransmitted payload must not come here. If the packet fills the window, ok
// is true and e its JA4SSH.
func (w *SSHWindow) Packet(fromClient bool, flags uint8, payloadBytes int) (e ja4.Event, ok bool) {
	side := uint8(1)
	if fromClient {
		side = 0
	}
	if payloadBytes <= 0 {
		if flags == flagACK && w.acks[side] < 1<<32-1 {
			w.acks[side]++
		}
		return ja4.Event{}, false
	}
	w.count(side, uint16(min(payloadBytes, maxSSHLength)))
	if w.packets[0]+w.packets[1] < w.size {
		return ja4.Event{}, false
	}
	return w.emit(), true
}

// Flush returns the JA4SSH of the window that is not full and begins a new
// one, which holds no memory; ok is false when it holds no SSH packet. It is
// for the end of a connection, after a time in which the last ACKs arrive.
func (w *SSHWindow) Flush() (e ja4.Event, ok bool) {
	if w.packets[0]+w.packets[1] == 0 {
		w.release()
		return ja4.Event{}, false
	}
	e = w.emit()
	w.release()
	return e, true
}

// Held returns the bytes of memory that w holds besides itself.
func (w *SSHWindow) Held() int {
	n := 0
	for c := w.counts; c != nil; c = c.next {
		n += sshBlock
	}
	return n
}

func (w *SSHWindow) emit() ja4.Event {
	var array [64]byte
	b := appendPair(array[:0], uint64(w.mode(0)), uint64(w.mode(1)))
	b = append(b, '_')
	b = appendPair(b, uint64(w.packets[0]), uint64(w.packets[1]))
	b = append(b, '_')
	b = appendPair(b, uint64(w.acks[0]), uint64(w.acks[1]))
	w.packets, w.acks = [2]uint16{}, [2]uint32{}
	if first := w.counts; first != nil {
		w.counts = first.next
		w.release()
		*first = sshCounts{}
		w.counts = first
	}
	return ja4.Event{Type: ja4.TypeJA4SSH, Value: string(b)}
}

// release lets go of what was counted.
func (w *SSHWindow) release() {
	for c := w.counts; c != nil; {
		next := c.next
		*c = sshCounts{}
		sshPool.Put(c)
		c = next
	}
	w.counts = nil
}

// appendPair appends c{client}s{server}.
func appendPair(b []byte, client, server uint64) []byte {
	b = append(b, 'c')
	b = strconv.AppendUint(b, client, 10)
	b = append(b, 's')
	return strconv.AppendUint(b, server, 10)
}

// count counts a packet of side, 0 the client.
func (w *SSHWindow) count(side uint8, length uint16) {
	w.packets[side]++
	mark := side * sshServer
	at := &w.counts
	for ; *at != nil; at = &(*at).next {
		c := *at
		for i, n := range c.counts {
			switch {
			case n == 0:
				c.lengths[i], c.counts[i] = length, mark|1
				return
			case c.lengths[i] == length && n&sshServer == mark && n&sshMaxCount < sshMaxCount:
				c.counts[i]++
				return
			}
		}
	}
	*at = sshPool.Get().(*sshCounts)
	(*at).lengths[0], (*at).counts[0] = length, mark|1
}

// mode returns the most frequent payload length of side, the smaller one of
// two equally frequent ones, 0 without a packet.
func (w *SSHWindow) mode(side uint8) (length uint16) {
	most := 0
	for c := w.counts; c != nil; c = c.next {
		for i, count := range c.counts {
			if count == 0 || count&sshServer != side*sshServer {
				continue
			}
			n, of := int(count&sshMaxCount), c.lengths[i]
			if n == sshMaxCount { // there may be further entries
				n = w.total(side, of)
			}
			if n > most || n == most && of < length {
				most, length = n, of
			}
		}
	}
	return length
}

// total returns how often side sent a length.
func (w *SSHWindow) total(side uint8, length uint16) (n int) {
	for c := w.counts; c != nil; c = c.next {
		for i, count := range c.counts {
			if c.lengths[i] == length && count&sshServer == side*sshServer {
				n += int(count & sshMaxCount)
			}
		}
	}
	return n
}
