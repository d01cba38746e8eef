//go:build !linux

package live

import (
	"fmt"

	"github.com/whorl-net/whorl/probe/capture"
)

// Ring is one open queue; on this system none can be opened.
type Ring struct{}

// Open returns ErrUnsupported.
func Open(c Config) (*Ring, error) {
	return nil, fmt.Errorf("capture on %s: %w", c.Interface, ErrUnsupported)
}

// LinkType returns ErrUnsupported.
func LinkType(name string) (capture.LinkType, error) {
	return 0, fmt.Errorf("capture on %s: %w", name, ErrUnsupported)
}

// LinkType returns Ethernet.
func (r *Ring) LinkType() capture.LinkType { return capture.Ethernet }

// Next returns ErrUnsupported.
func (r *Ring) Next(*capture.Packet) error { return ErrUnsupported }

// Stats returns zeros.
func (r *Ring) Stats() Stats { return Stats{} }

// Close does nothing.
func (r *Ring) Close() error { return nil }
