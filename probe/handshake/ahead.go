package handshake

import "github.com/whorl-net/whorl/probe/decode"

// Ahead is what can be known of a packet before its turn: the flow that it
// belongs to, and where that is looked up. It depends on the packet alone, so it
// stays true whatever other packets do meanwhile. It belongs to the Engine
// that made it, until Finish.
//
// Who has several packets finds them all, touches them all and takes them one
// by one: what the memory has to bring for one then comes together with what
// it has to bring for the others. One at a time, the packet of a flow that no
// cache holds waits longer for its entry than everything else takes.
type Ahead struct {
	key  key
	side uint8
	hash uint64
}

// Find finds out what can be known of p.
func (g *Engine) Find(p *decode.Packet, a *Ahead) {
	a.side = a.key.set(&p.Tuple)
	a.hash = g.table.hash(&a.key)
}

// Touch asks the memory for the entries of all, and changes nothing. What it
// returns says nothing: it is there so that the compiler cannot leave the
// reading out.
func (g *Engine) Touch(all []Ahead) (nothing uint32) {
	for i := range all {
		nothing |= g.table.touch(all[i].hash)
	}
	return nothing
}
