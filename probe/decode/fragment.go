package decode

// fragment takes one fragment of a datagram: wire bytes of it from offset on,
// of which b were captured. It decodes the datagram when it is complete.
// Otherwise the fragment gets the tuple if the first fragment has told it, and
// is Held if not: it never gets ports out of the middle of a payload.
func (d *Decoder) fragment(ip *ipHeader, key fragmentKey, protocol uint8, offset int, more bool, b []byte, wire int) Verdict {
	if d.partial {
		return Truncated // the bytes around it are not settled yet
	}
	if wire == 0 || more && wire%8 != 0 || offset+wire > maxDatagram || !d.enter() {
		return Malformed
	}
	r := &d.frags
	g := r.find(key, d.time)
	if offset == 0 && !g.begun {
		g.begun, g.ip, g.protocol = true, *ip, protocol
	}
	if !r.put(g, offset, b, wire, more) {
		// Too many pieces, or no room: the payload is lost.
		if g.known {
			v := d.belongs(g)
			r.giveUp(g)
			return v
		}
		return d.lose(g)
	}
	if g.complete() {
		d.held = r.release(g, d.held)
		ip, protocol := g.ip, g.protocol
		body := r.lend(g)
		d.stats.DatagramsComplete++
		return d.body(&ip, protocol, body, len(body))
	}
	if !g.known {
		d.peek(g)
	}
	if g.known {
		return d.belongs(g)
	}
	if !r.hold(g, d.held, HeldFragment{Time: d.time, WireLength: d.out.WireLength}) {
		return d.lose(g)
	}
	d.held = d.held[:0]
	return Held
}

// belongs gives the packet, and the fragments held for g, what the first
// fragment told.
func (d *Decoder) belongs(g *datagram) Verdict {
	d.held = d.frags.release(g, d.held)
	out := d.out
	out.Tuple, out.TTL, out.IPv6, out.Fragment = g.as.Tuple, g.as.TTL, g.as.IPv6, true
	return g.verdict
}

// lose gives up g, of which nobody knows what it is, and this packet with it.
func (d *Decoder) lose(g *datagram) Verdict {
	d.frags.giveUp(g)
	d.frags.lose(1 + len(d.held))
	d.held = d.held[:0]
	return Held
}

// body walks what a datagram carries.
func (d *Decoder) body(ip *ipHeader, protocol uint8, b []byte, wire int) Verdict {
	if ip.v6 {
		return d.extensions(ip, protocol, b, wire)
	}
	return d.transport(ip, protocol, b, wire)
}

// peek tries to tell the connection of g from what has come of its beginning.
// It may not guess: where the beginning ends before the ports do, or before a
// tunnel has proved to be one, the connection stays unknown.
func (d *Decoder) peek(g *datagram) {
	b := g.beginning()
	if b == nil {
		return
	}
	out := d.out
	d.scratch = Packet{}
	d.out, d.partial = &d.scratch, true
	// On the wire it was longer than what has come, but by how much is not
	// known: nothing counts as too short.
	v := d.body(&g.ip, g.protocol, b, maxDatagram)
	d.out, d.partial = out, false
	if v.recognised() && v != Held {
		g.known, g.verdict = true, v
		g.as = header{d.scratch.Tuple, d.scratch.TTL, d.scratch.IPv6}
	}
}
