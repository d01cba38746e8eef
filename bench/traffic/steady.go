package traffic

import (
	"slices"

	"github.com/whorl-net/whorl/probe/capture"
)

// What connections of Steady are like: those of Mixed with so many packets on
// so many connections.
const (
	likePackets     = 1_000_000
	likeConnections = 10_000
)

// beginSteady makes the connections that are live when the traffic begins. Who
// looks at a link at any moment finds a connection the more likely the more
// packets it has, and any of these equally likely to be the next one: so it is
// one packet of all those of the plan that is drawn here. Then the share of
// handshakes is that of the plan from the first packet on.
func (g *Generator) beginSteady(s *Sample) (err error) {
	like := g.cfg
	like.Shape, like.Packets, like.Connections = Mixed, likePackets, likeConnections
	if g.plan, err = newPlan(like, s, g.rand); err != nil {
		return err
	}
	sum := 0
	for i, t := range g.plan.of {
		sum += len(g.plan.templates[t].packets) + int(g.plan.data[i])
		g.sizes = append(g.sizes, sum)
	}
	g.open = make([]conn, g.cfg.Connections)
	for i := range g.open {
		n := g.rand.IntN(sum)
		which, _ := slices.BinarySearch(g.sizes, n+1) // the first with more than n
		c := g.begin(which)
		if which > 0 {
			n -= g.sizes[which-1]
		}
		c.skip(n)
		g.open[i] = c
	}
	g.make = g.steady
	return nil
}

// skip passes over the first n packets of c, which has more.
func (c *conn) skip(n int) {
	c.at = int32(min(n, c.t.cut))
	n -= int(c.at)
	data := min(n, int(c.left))
	c.left -= int32(data)
	c.at += int32(n - data)
}

// steady makes a packet of one of the live connections: first one of each, so
// that all have been seen after as many packets, then trains of any of them.
// One that has ended is followed by a new one, whose packets the train goes on
// with.
func (g *Generator) steady(p *capture.Packet) {
	switch {
	case g.stats.Packets < uint64(len(g.open)):
		g.turn, g.train = int(g.stats.Packets), 1
	case g.train == 0:
		g.turn = g.rand.IntN(len(g.open))
		g.train = 1 + g.rand.IntN(g.cfg.Train)
	}
	g.train--
	c := &g.open[g.turn]
	if c.t == nil {
		*c = g.begin(g.rand.IntN(len(g.plan.of)))
	}
	if g.advance(p, c) {
		c.t = nil
	}
}
