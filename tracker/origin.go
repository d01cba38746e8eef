package tracker

import (
	"cmp"
	"fmt"
	"sync"

	"github.com/whorl-net/whorl/flow"
)

// Origin is where a batch comes from: the network and the probe. The zero
// Origin is the default network, an unnamed probe and no live session.
type Origin struct {
	pair uint16
	live bool
}

// pair is a network and a probe in it.
type pair struct{ network, probe uint16 }

// names are the labels known at some time, by number. A names is never changed
// once others can see it: what comes later is in the next one, which shares
// its memory.
type names struct {
	networks, probes []string
	pairs            []pair
}

// maxPairs bounds the pairs; one number stands for a free slot.
const maxPairs = freePair

// maxProbeLen bounds the label of a probe in bytes.
const maxProbeLen = 255

// labels finds the numbers of labels. Only the goroutine that submits adds some.
type labels struct {
	mu       sync.RWMutex // guards networks, which queries read
	networks map[string]uint16
	probes   map[string]uint16
	pairs    map[pair]uint16
}

// network returns the number of a network, false if it is not known. An empty
// name is that of the default one.
func (l *labels) network(name string) (uint16, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	n, ok := l.networks[cmp.Or(name, flow.DefaultNetwork)]
	return n, ok
}

func (l *labels) addNetwork(name string, n uint16) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.networks[name] = n
}

// Origin returns the Origin of probe in network; an empty network is the
// default one. live says that packet times are to be compared with log times:
// packets more than 24 h ahead then move no clock. Labels are kept for good;
// ErrFull is wrapped when MaxNetworks, MaxProbes or 65,535 pairs are used up.
// It must be called in log order, from the goroutine that submits.
func (t *Tracker) Origin(network, probe string, live bool) (Origin, error) {
	network = cmp.Or(network, flow.DefaultNetwork)
	if err := flow.CheckNetwork(network); err != nil {
		return Origin{}, err
	}
	if len(probe) > maxProbeLen {
		return Origin{}, fmt.Errorf("probe %.40q… has %d bytes, at most %d", probe, len(probe), maxProbeLen)
	}
	old := t.names.Load()
	n, haveNet := t.labels.network(network)
	p, haveProbe := t.labels.probes[probe]
	if haveNet && haveProbe {
		if i, ok := t.labels.pairs[pair{n, p}]; ok {
			return Origin{pair: i, live: live}, nil
		}
	}
	switch {
	case !haveNet && len(old.networks) >= t.cfg.MaxNetworks:
		return Origin{}, fmt.Errorf("network %q: all %d networks are in use: %w", network, len(old.networks), ErrFull)
	case !haveProbe && len(old.probes) >= t.cfg.MaxProbes:
		return Origin{}, fmt.Errorf("probe %q: all %d probes are in use: %w", probe, len(old.probes), ErrFull)
	case len(old.pairs) == maxPairs:
		return Origin{}, fmt.Errorf("probe %q in network %q: all %d pairs are in use: %w", probe, network, maxPairs, ErrFull)
	}
	now := *old
	if !haveNet {
		n = uint16(len(now.networks))
		t.labels.addNetwork(network, n)
		now.networks = append(now.networks, network)
		t.clocks = append(t.clocks, netClock{})
	}
	if !haveProbe {
		p = uint16(len(now.probes))
		t.labels.probes[probe] = p
		now.probes = append(now.probes, probe)
	}
	i := uint16(len(now.pairs))
	t.labels.pairs[pair{n, p}] = i
	now.pairs = append(now.pairs, pair{n, p})
	t.names.Store(&now)
	return Origin{pair: i, live: live}, nil
}
