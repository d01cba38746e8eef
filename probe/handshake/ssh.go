package handshake

import (
	"math"

	"github.com/whorl-net/whorl/ja4/ja4plus"
)

// An sshFlow is an SSH connection: its window, and what tells new payload from
// payload that was sent again. Its bytes are not looked at.
type sshFlow struct {
	window *ja4plus.SSHWindow
	sent   [2]coverage // by side
	number uint64      // in order of beginning

	// The last packet, for a window that time closes.
	lastTime int64
	lastNum  uint64

	list       uint8
	prev, next *conn
}

// The lists of SSH connections, each in order of their last packets.
const (
	sshOpen   = iota // with a window that has begun
	sshIdle          // whose window was reported, for want of packets
	sshClosed        // by FIN or RST
	numSSHLists
)

const portSSH = 22

// beginSSH makes c an SSH connection.
func (g *Engine) beginSSH(c *conn) {
	e := g.e
	if e.evidence() < evidencePort {
		for side := range uint8(2) {
			if e.port(side) == portSSH && e.port(side^1) != portSSH {
				g.setClient(e, side^1, evidencePort)
			}
		}
	}
	g.sshCount++
	c.ssh = &sshFlow{window: ja4plus.NewSSHWindow(g.cfg.SSHWindow, c.acks), number: g.sshCount}
	for side := range c.streams {
		if s := &c.streams[side]; s.started {
			c.ssh.sent[side] = coverage{next: s.next, known: true}
		}
	}
	// The segment that told is in order; it is yet to be counted.
	c.ssh.sent[g.side].next = g.p.Seq
	c.streams = nil
	e.flags |= flagHeld
	g.ssh[sshOpen].pushBack(c)
	g.sshDue = min(g.sshDue, g.p.Time+g.sshAfter[sshOpen])
}

// sshPacket counts the packet in work.
func (g *Engine) sshPacket(e *entry, c *conn) {
	p, s := g.p, c.ssh
	s.lastTime, s.lastNum = p.Time, e.packets
	if e.closed() {
		g.listSSH(c, sshClosed)
	} else {
		g.listSSH(c, sshOpen)
	}
	if p.PayloadLength > 0 && !s.sent[g.side].add(p.Seq, uint32(p.PayloadLength)) {
		return
	}
	if ev, ok := s.window.Packet(g.side == e.clientSide(), p.TCPFlags, p.PayloadLength); ok {
		g.event(ev)
	}
}

// listSSH puts c at the end of a list.
func (g *Engine) listSSH(c *conn, list uint8) {
	if list != c.ssh.list {
		g.sshDue = min(g.sshDue, c.ssh.lastTime+g.sshAfter[list])
	}
	g.ssh[c.ssh.list].remove(c)
	c.ssh.list = list
	g.ssh[list].pushBack(c)
}

// flushSSH reports the open window of c, the conn of e, as an event of the
// past.
func (g *Engine) flushSSH(c *conn, e *entry) {
	ev, ok := c.ssh.window.Flush()
	if !ok {
		return
	}
	g.stats.Events++
	g.out.Ended = append(g.out.Ended, EndEvent{
		Event: Event{
			Event: ev, Time: c.ssh.lastTime, PacketNum: c.ssh.lastNum, Tuple: e.tuple(e.clientSide()),
		},
		Mark: e.mark,
	})
}

// endSSH reports the windows whose time is over at packet time now, and forgets
// the connections whose time is. The sweep would find them too, but in an order
// that depends on the seed of the table.
func (g *Engine) endSSH(now int64) {
	g.sshDue = math.MaxInt64
	for list, idle := range g.sshAfter {
		for c := g.ssh[list].head; c != nil; c = g.ssh[list].head {
			if due := c.ssh.lastTime + idle; now <= due {
				g.sshDue = min(g.sshDue, due)
				break
			}
			e := g.entryOf(c)
			if list == sshOpen {
				g.flushSSH(c, e)
				g.listSSH(c, sshIdle)
				continue
			}
			g.end(e)
			e.flags |= flagDone
		}
	}
}

// An sshList orders SSH connections by their last packet.
type sshList struct{ head, tail *conn }

func (l *sshList) pushBack(c *conn) {
	c.ssh.prev, c.ssh.next = l.tail, nil
	if l.tail != nil {
		l.tail.ssh.next = c
	} else {
		l.head = c
	}
	l.tail = c
}

func (l *sshList) remove(c *conn) {
	if c.ssh.prev != nil {
		c.ssh.prev.ssh.next = c.ssh.next
	} else {
		l.head = c.ssh.next
	}
	if c.ssh.next != nil {
		c.ssh.next.ssh.prev = c.ssh.prev
	} else {
		l.tail = c.ssh.prev
	}
	c.ssh.prev, c.ssh.next = nil, nil
}

// coverage tells which sequence numbers were seen: all before next but the
// missing ranges. When more are missing than it can keep, the oldest counts as
// seen.
type coverage struct {
	next    uint32
	known   bool
	n       uint8
	missing [4]struct{ from, to uint32 }
}

// add takes the range of n bytes from seq and reports whether any of it is new.
func (c *coverage) add(seq, n uint32) bool {
	end := seq + n
	if !c.known {
		c.next, c.known = end, true
		return true
	}
	fresh := false
	if before(c.next, end) {
		if before(c.next, seq) {
			if int(c.n) == len(c.missing) {
				copy(c.missing[:], c.missing[1:])
				c.n--
			}
			c.missing[c.n].from, c.missing[c.n].to = c.next, seq
			c.n++
		}
		c.next = end
		fresh = true
	}
	for i := 0; i < int(c.n); i++ {
		m := &c.missing[i]
		from, to := m.from, m.to
		if !before(seq, to) || !before(from, end) || from == to {
			continue
		}
		fresh = true
		switch {
		case !before(from, seq) && !before(end, to): // filled
			m.from = m.to
		case !before(from, seq):
			m.from = end
		case !before(end, to):
			m.to = seq
		default: // a piece in the middle: the part before it counts as seen
			m.from = end
		}
	}
	kept := uint8(0)
	for i := range c.n {
		if c.missing[i].from != c.missing[i].to {
			c.missing[kept] = c.missing[i]
			kept++
		}
	}
	c.n = kept
	return fresh
}
