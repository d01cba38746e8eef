package traffic

import (
	"errors"
	"fmt"
	"time"
)

// Shape is what traffic looks like.
type Shape uint8

const (
	// Mixed is web traffic; Short has mostly connections of a few packets.
	Mixed Shape = iota
	Short
	// Flood is one SYN from each of many sources to one server.
	Flood
	// Elephants are TLS connections, all of the same size.
	Elephants
	// UDP is datagrams both ways, all flows of the same size.
	UDP
	// Steady is Mixed as a probe sees it that is put on a link where all of it
	// is under way: Config.Connections are live from the first packet to the
	// last, most of them seen in their middle.
	Steady
)

// String returns the name of s in lower case.
func (s Shape) String() string {
	switch s {
	case Mixed:
		return "mixed"
	case Short:
		return "short"
	case Flood:
		return "flood"
	case Elephants:
		return "elephants"
	case UDP:
		return "udp"
	case Steady:
		return "steady"
	}
	return fmt.Sprintf("shape(%d)", uint8(s))
}

// DefaultSnap is how much is kept of a data segment: headers and some payload,
// as of tcpdump -s 192. Recorded packets are always whole.
const DefaultSnap = 192

// DefaultTrain gives trains of 2.5 packets on average; those of Mixed, with 100
// packets per connection, have 2.4.
const DefaultTrain = 4

// Config says what to make. The zero Config works but for Packets.
type Config struct {
	Shape Shape
	// Packets is how many there are in all, exactly.
	Packets int
	// Connections is how many there are, exactly; a flood has one per packet
	// whatever is said here. Steady has as many at any time. 0 is one for each
	// 100 packets, at least 1.
	Connections int
	// Train is the longest row of packets of one connection in Steady: each has
	// from 1 to Train, all equally likely. 0 is DefaultTrain, 1 lets each packet
	// be of another.
	Train int
	// Span is the packet time from the first to the last, about; 0 is 1 µs for
	// each packet.
	Span time.Duration
	// Snap is the number of bytes kept of a data segment; 0 is DefaultSnap, -1
	// keeps all.
	Snap int
	// Seed chooses among equals.
	Seed uint64
}

// maxConnections is what the client addresses are good for.
const maxConnections = 1 << 24

func (c Config) withDefaults() (Config, error) {
	if c.Connections == 0 {
		c.Connections = max(c.Packets/100, 1)
	}
	if c.Shape == Flood {
		c.Connections = c.Packets
	}
	if c.Span == 0 {
		c.Span = time.Duration(c.Packets) * time.Microsecond
	}
	if c.Train == 0 {
		c.Train = DefaultTrain
	}
	switch c.Snap {
	case 0:
		c.Snap = DefaultSnap
	case -1:
		c.Snap = 1 << 16
	}
	switch {
	case c.Packets < 1:
		return c, fmt.Errorf("traffic: %d packets, want 1 or more", c.Packets)
	case c.Connections < 1 || c.Connections > c.Packets:
		return c, fmt.Errorf("traffic: %d connections for %d packets", c.Connections, c.Packets)
	case c.Connections > maxConnections && c.Shape != Flood:
		return c, fmt.Errorf("traffic: %d connections, at most %d", c.Connections, maxConnections)
	case c.Shape > Steady:
		return c, fmt.Errorf("traffic: no shape %d", c.Shape)
	case c.Snap < 128:
		return c, errors.New("traffic: a snap length under 128 bytes would cut headers")
	case c.Train < 0:
		return c, errors.New("traffic: a negative train")
	case c.Span < 0:
		return c, errors.New("traffic: a negative span")
	}
	return c, nil
}
