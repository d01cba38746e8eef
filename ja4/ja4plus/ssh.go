package ja4plus

import (
	"strconv"

	"github.com/whorl-net/whorl/ja4"
)

// The number of SSH packets, both directions together, that one JA4SSH sums
// up.
const (
	DefaultSSHWindow = 200
	MaxSSHWindow     = 4095
)

// maxSSHLength is the greatest payload length, in bytes, that is told apart;
// no capture hands over a longer packet.
const maxSSHLength = 1<<20 - 1

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
// It holds one number for each payload length of the present window, so at
// most 4 bytes for each of its packets, and usually well below 200 bytes;
// that memory is kept from window to window. Made by NewSSHWindow; it must not
// be copied and is not safe for concurrent use.
//
// Source: FoxIO's JA4SSH sheet and its withdrawn text.
type SSHWindow struct {
	size           int
	client, server sshSide
}

// sshSide is what one direction has sent in the present window.
type sshSide struct {
	// lengths holds one entry per payload length: length<<12 | packets.
	lengths []uint32
	packets int
	acks    int
}

// NewSSHWindow returns an SSHWindow of size packets: DefaultSSHWindow if size
// is 0, MaxSSHWindow if it is larger than that or negative. before are the
// bare ACKs of the connection so far.
func NewSSHWindow(size int, before BareACKs) *SSHWindow {
	switch {
	case size == 0:
		size = DefaultSSHWindow
	case size < 0 || size > MaxSSHWindow:
		size = MaxSSHWindow
	}
	w := &SSHWindow{size: size}
	w.client.acks, w.server.acks = int(before.Client), int(before.Server)
	return w
}

// Packet takes the next TCP packet of the connection: who sent it, the low 8
// flag bits and its payload length in bytes. One with payload is an SSH packet;
// retransmitted payload must not come here. If the packet fills the window, ok
// is true and e its JA4SSH.
func (w *SSHWindow) Packet(fromClient bool, flags uint8, payloadBytes int) (e ja4.Event, ok bool) {
	side := &w.server
	if fromClient {
		side = &w.client
	}
	if payloadBytes <= 0 {
		if flags == flagACK {
			side.acks++
		}
		return ja4.Event{}, false
	}
	side.count(uint32(min(payloadBytes, maxSSHLength)))
	if w.client.packets+w.server.packets < w.size {
		return ja4.Event{}, false
	}
	return w.emit(), true
}

// Flush returns the JA4SSH of the window that is not full and begins a new
// one; ok is false when it holds no SSH packet. It is for the end of a
// connection, after a time in which the last ACKs arrive.
func (w *SSHWindow) Flush() (e ja4.Event, ok bool) {
	if w.client.packets+w.server.packets == 0 {
		return ja4.Event{}, false
	}
	return w.emit(), true
}

// Held returns the bytes of memory that w holds besides itself.
func (w *SSHWindow) Held() int { return 4 * (cap(w.client.lengths) + cap(w.server.lengths)) }

func (w *SSHWindow) emit() ja4.Event {
	b := make([]byte, 0, 48)
	b = appendPair(b, uint64(w.client.mode()), uint64(w.server.mode()))
	b = append(b, '_')
	b = appendPair(b, uint64(w.client.packets), uint64(w.server.packets))
	b = append(b, '_')
	b = appendPair(b, uint64(w.client.acks), uint64(w.server.acks))
	w.client.reset()
	w.server.reset()
	return ja4.Event{Type: ja4.TypeJA4SSH, Value: string(b)}
}

// appendPair appends c{client}s{server}.
func appendPair(b []byte, client, server uint64) []byte {
	b = append(b, 'c')
	b = strconv.AppendUint(b, client, 10)
	b = append(b, 's')
	return strconv.AppendUint(b, server, 10)
}

func (s *sshSide) count(length uint32) {
	s.packets++
	for i, e := range s.lengths {
		if e>>12 == length {
			s.lengths[i]++
			return
		}
	}
	s.lengths = append(s.lengths, length<<12|1)
}

// mode returns the most frequent payload length, the smaller one of two
// equally frequent ones, 0 without a packet.
func (s *sshSide) mode() (length uint32) {
	most := uint32(0)
	for _, e := range s.lengths {
		if n := e & (1<<12 - 1); n > most || n == most && e>>12 < length {
			most, length = n, e>>12
		}
	}
	return length
}

func (s *sshSide) reset() { *s = sshSide{lengths: s.lengths[:0]} }
