package tracker

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/whorl-net/whorl/flow"
)

// RestoreHead makes a new Tracker go on from a head that SaveHead made. It comes
// before Run, before anything else that a log would do, and before RestoreShard.
// Damaged data, and that of a Tracker with another number of shards, HashSeed or
// Epoch, is refused with ErrCheckpoint: then the Tracker must not be used.
func (t *Tracker) RestoreHead(data []byte) error {
	if t.started.Load() || t.position != 0 || len(t.names.Load().pairs) > 1 {
		return errors.New("restore a head: the tracker is not new")
	}
	d := newSource(data)
	d.mark(headMark, "head")
	shards := d.uvarint()
	d.want(shards == uint64(len(t.shards)), "made for %d shards, this tracker has %d", shards, len(t.shards))
	epoch := d.uvarint()
	d.want(epoch == uint64(t.cfg.Epoch), "made in epoch %d, this is epoch %d", epoch, t.cfg.Epoch)
	check := d.uvarint()
	d.want(check == seedCheck(t.cfg.HashSeed), "made with another hash seed")
	position := d.uvarint()
	logTime := d.time(0, "log time")
	all := d.names(names{}, t.cfg)
	d.want(len(all.networks) > 0 && len(all.probes) > 0 && len(all.pairs) > 0,
		"%d networks, %d probes, %d pairs", len(all.networks), len(all.probes), len(all.pairs))
	d.want(d.err != nil || all.networks[0] == flow.DefaultNetwork && all.probes[0] == "" && all.pairs[0] == pair{},
		"the first labels are not the default ones")
	var clocks []netClock
	for range all.networks {
		c := netClock{set: d.bool()}
		c.now, c.newest, c.setAt = d.time(0, "clock"), d.time(0, "packet time"), d.time(0, "log time")
		c.hold = d.time(0, "hold")
		clocks = append(clocks, c)
	}
	if err := d.end(); err != nil {
		return fmt.Errorf("restore a head: %w", err)
	}
	t.position, t.logTime, t.clocks = position, logTime, nil
	t.adopt(&all)
	t.clocks = clocks
	t.headNames = all.counts()
	return nil
}

// names reads labels, which stand behind those of base.
func (d *source) names(base names, c Config) names {
	all := names{slices.Clone(base.networks), slices.Clone(base.probes), slices.Clone(base.pairs)}
	for range d.count("networks") {
		s := d.text(1, flow.MaxNetworkLen, "network label")
		d.want(flow.CheckNetwork(s) == nil, "%q is no network label", s)
		all.networks = append(all.networks, s)
	}
	for range d.count("probes") {
		all.probes = append(all.probes, d.text(0, maxProbeLen, "probe label"))
	}
	for range d.count("pairs") {
		p := pair{uint16(d.upTo(math.MaxUint16, "network")), uint16(d.upTo(math.MaxUint16, "probe"))}
		d.want(int(p.network) < len(all.networks) && int(p.probe) < len(all.probes), "a pair of unknown labels")
		all.pairs = append(all.pairs, p)
	}
	n := all.counts()
	d.want(n.networks <= math.MaxUint16 && n.probes <= math.MaxUint16 && n.pairs <= maxPairs,
		"%d networks, %d probes, %d pairs", n.networks, n.probes, n.pairs)
	d.want(distinct(all.networks) && distinct(all.probes) && distinct(all.pairs), "a label is there twice")
	return all
}

func distinct[T comparable](all []T) bool {
	seen := make(map[T]struct{}, len(all))
	for _, v := range all {
		seen[v] = struct{}{}
	}
	return len(seen) == len(all)
}

// adopt makes n, which goes on from the labels known, the labels.
func (t *Tracker) adopt(n *names) {
	for i, s := range n.networks {
		t.labels.addNetwork(s, uint16(i))
	}
	for i, s := range n.probes {
		t.labels.probes[s] = uint16(i)
	}
	for i, p := range n.pairs {
		t.labels.pairs[p] = uint16(i)
	}
	for len(t.clocks) < len(n.networks) {
		t.clocks = append(t.clocks, netClock{})
	}
	t.names.Store(n)
}

// RestoreShard makes a shard go on from an image, which must belong to the head
// that was restored, and returns its place in the log. Calls for different shards
// may run at the same time, all before Run and before any query. It fails as
// RestoreHead does.
func (t *Tracker) RestoreShard(shard int, data []byte) (position uint64, err error) {
	position, err = t.restoreShard(shard, data)
	if err != nil {
		return 0, fmt.Errorf("restore shard %d: %w", shard, err)
	}
	return position, nil
}

func (t *Tracker) restoreShard(shard int, data []byte) (position uint64, err error) {
	if shard < 0 || shard >= len(t.shards) {
		return 0, fmt.Errorf("there are %d shards", len(t.shards))
	}
	s := t.shards[shard]
	if t.started.Load() || s.opened > 0 || s.appliedTo > 0 {
		return 0, errors.New("the shard is not new")
	}
	d := newSource(data)
	d.mark(shardMark, "shard")
	id := d.uvarint()
	d.want(id == uint64(shard), "this is shard %d", id)
	position = d.uvarint()
	d.want(position >= t.position, "at entry %d, before the head at %d", position, t.position)
	n, err := t.moreNames(d)
	if err != nil {
		return 0, err
	}
	r := restorer{source: d, t: t, s: s, names: n}
	r.shard()
	if err := d.end(); err != nil {
		return 0, err
	}
	s.appliedTo = position
	s.publish()
	return position, nil
}

// moreNames reads the labels that a shard had and its head did not.
func (t *Tracker) moreNames(d *source) (*names, error) {
	t.restoring.Lock()
	defer t.restoring.Unlock()
	known := t.names.Load()
	base := nameCounts{
		int(d.upTo(uint64(t.headNames.networks), "number of networks")),
		int(d.upTo(uint64(t.headNames.probes), "number of probes")),
		int(d.upTo(uint64(t.headNames.pairs), "number of pairs")),
	}
	d.want(base == t.headNames, "it belongs to another head")
	if d.err != nil {
		return nil, d.err
	}
	all := d.names(names{known.networks[:base.networks], known.probes[:base.probes], known.pairs[:base.pairs]}, t.cfg)
	if d.err != nil {
		return nil, d.err
	}
	if !agree(all.networks, known.networks) || !agree(all.probes, known.probes) || !agree(all.pairs, known.pairs) {
		d.fail("its labels are not those of the other shards")
		return nil, d.err
	}
	merged := names{longer(all.networks, known.networks), longer(all.probes, known.probes), longer(all.pairs, known.pairs)}
	t.adopt(&merged)
	return &all, nil
}

// agree reports whether one of a and b is how the other begins.
func agree[T comparable](a, b []T) bool {
	n := min(len(a), len(b))
	return slices.Equal(a[:n], b[:n])
}

func longer[T any](a, b []T) []T {
	if len(a) > len(b) {
		return a
	}
	return b
}

// restorer fills a new shard from an image.
type restorer struct {
	*source
	t     *Tracker
	s     *shard
	names *names // those that the shard knew
	seeds []secret
	// values are the interned values by their place in the data.
	values []uint32
	// listed says which slots are in a wheel or on the free chain.
	listed []bool
	// relist is set if the timeouts are not those of the image.
	relist bool
}

func (r *restorer) shard() {
	s := r.s
	for _, n := range r.names.networks {
		r.seeds = append(r.seeds, r.t.labelSecret(n))
	}
	var was timeouts
	for c := range was {
		was[c] = r.varint()
		r.want(was[c] > 0, "a timeout of %d ns", was[c])
	}
	r.relist = was != s.timeouts
	s.opened = r.upTo(maxNumber, "number of connections opened")
	s.evicted = r.uvarint()
	for _, n := range s.tally.all() {
		*n = r.uvarint()
	}
	r.connections()
	r.free()
	r.wheels(was)
	r.open()
}

// maxNumber bounds creation numbers, see makeUID.
const maxNumber = 1<<48 - 1
