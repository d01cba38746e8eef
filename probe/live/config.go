package live

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"golang.org/x/net/bpf"
)

// Config says what to capture. Interface is required.
type Config struct {
	// Interface is the name of one interface, such as "eth0".
	Interface string
	// RingBytes is the memory of one ring, rounded up to whole blocks of 1 MiB;
	// 0 = 32 MiB, at most 2 GiB.
	RingBytes int
	// Filter is compiled for an Ethernet interface (or for the link type that
	// LinkType gives) with live set; nil accepts everything.
	Filter []bpf.Instruction
	// Fanout is the group that shares the interface; nil for a ring alone.
	Fanout *Fanout
	// NoPromiscuous leaves the interface's mode alone. Loopback needs none.
	NoPromiscuous bool
}

// Fanout is a group of rings that share an interface, each getting the packets
// of its flows. All rings of an interface have the same Fanout. The first ring
// makes the group; what passes the interface until the last has joined is
// spread over those that are there. Safe for concurrent use.
type Fanout struct {
	mu   sync.Mutex // guards what follows
	made bool
	id   int
}

// NewFanout returns a group without rings.
func NewFanout() *Fanout { return &Fanout{} }

const (
	blockBytes       = 1 << 20
	defaultRingBytes = 32 << 20
	maxRingBytes     = 2 << 30
)

func (c *Config) blocks() (uint32, error) {
	n := c.RingBytes
	if n == 0 {
		n = defaultRingBytes
	}
	if n < 0 || int64(n) > maxRingBytes {
		return 0, fmt.Errorf("ring of %d bytes: want 1 to %d", n, int64(maxRingBytes))
	}
	// Two blocks at least: one is filled while the other is read.
	return max(2, uint32((n+blockBytes-1)/blockBytes)), nil
}

// ErrNotPermitted is wrapped when the process lacks CAP_NET_RAW;
// ErrNoInterface when there is no interface of that name.
var (
	ErrNotPermitted = errors.New("not permitted: this process lacks CAP_NET_RAW")
	ErrNoInterface  = errors.New("no such interface")
	ErrClosed       = errors.New("capture closed")
	ErrUnsupported  = errors.New("live capture needs Linux")
)

// Interface describes one interface that can be captured.
type Interface struct {
	Name     string
	Up       bool
	Loopback bool
	// Addrs are its addresses in CIDR form.
	Addrs []string
}

// Interfaces lists the interfaces of this host, by index.
func Interfaces() ([]Interface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	var out []Interface
	for _, i := range all {
		d := Interface{Name: i.Name, Up: i.Flags&net.FlagUp != 0, Loopback: i.Flags&net.FlagLoopback != 0}
		if addrs, err := i.Addrs(); err == nil {
			for _, a := range addrs {
				d.Addrs = append(d.Addrs, a.String())
			}
		}
		out = append(out, d)
	}
	return out, nil
}

// Stats are the counters of a ring since it was opened.
type Stats struct {
	// Received packets passed the filter, those dropped included.
	Received uint64
	// DroppedKernel could not be kept because the ring was full.
	DroppedKernel uint64
	// DroppedInterface were dropped by the interface before they could be
	// captured, whoever they were for.
	DroppedInterface uint64
}
