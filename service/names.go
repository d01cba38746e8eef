package service

import (
	"fmt"
	"strconv"
	"sync"

	"google.golang.org/grpc/codes"

	"github.com/whorl-net/whorl/tracker"
)

// Bounds of the labels a tracker keeps, see tracker.Config; they are set here so
// that names are refused at the door, before anything of theirs is in the log.
const (
	defaultMaxNetworks = 256
	defaultMaxProbeIDs = 4096
	maxNamePairs       = 65535
)

// names are the labels that were admitted. A tracker keeps labels for good, so
// this set only grows, to the same bounds. Safe for concurrent use.
type names struct {
	maxNetworks, maxProbes int
	counters               *counters

	mu       sync.Mutex // guards the sets
	networks map[string]bool
	probes   map[string]bool
	pairs    map[[2]string]bool
}

func newNames(cfg tracker.Config, c *counters) *names {
	return &names{
		counters:    c,
		maxNetworks: cfg.MaxNetworks, maxProbes: cfg.MaxProbes,
		networks: make(map[string]bool), probes: make(map[string]bool), pairs: make(map[[2]string]bool),
	}
}

// admit makes room for a probe in a network, or says that there is none.
func (n *names) admit(network, probe string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	pair := [2]string{network, probe}
	if n.pairs[pair] {
		return nil
	}
	switch {
	case !n.networks[network] && len(n.networks) >= n.maxNetworks:
		return n.refuse("networks", n.maxNetworks)
	case !n.probes[probe] && len(n.probes) >= n.maxProbes:
		return n.refuse("probe ids", n.maxProbes)
	case len(n.pairs) >= maxNamePairs:
		return n.refuse("pairs of network and probe id", maxNamePairs)
	}
	n.networks[network], n.probes[probe], n.pairs[pair] = true, true, true
	return nil
}

// refuse counts a name that there is no room for.
func (n *names) refuse(what string, limit int) error {
	n.counters.namesRefused.Add(1)
	return tooManyNames(what, limit)
}

func tooManyNames(what string, limit int) error {
	return retryLater(codes.ResourceExhausted, ReasonTooManyNames, takeoverSilence,
		fmt.Sprintf("this collector has seen %d %s, the most it tells apart; names are never given back: use one that it knows, or start it anew with an empty data directory", limit, what),
		"limit", strconv.Itoa(limit))
}
