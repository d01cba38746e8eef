package traffic

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// weights says how many of 1,000 connections are of each kind.
var weights = map[Shape][numKinds]int{
	Mixed: {kindTLS: 480, kindHTTP: 100, kindSSH: 10, kindDNS: 320, kindPing: 40, kindRefused: 50},
	Short: {kindTLS: 60, kindHTTP: 20, kindDNS: 800, kindPing: 40, kindRefused: 80},
}

// paretoShape and maxShare describe the sizes of connections: the first is the
// exponent, the second bounds the part of all data segments that one has.
const (
	paretoShape = 1.2
	maxShare    = 0.02
)

// plan says what each connection is: its template and its data segments.
type plan struct {
	templates []*template
	of        []uint8 // by connection: index into templates
	data      []int32 // by connection
}

// newPlan draws the connections of cfg.
func newPlan(cfg Config, s *Sample, r *rand.Rand) (plan, error) {
	p := plan{of: make([]uint8, cfg.Connections), data: make([]int32, cfg.Connections)}
	if cfg.Shape == Elephants {
		return p, p.elephants(cfg, s)
	}
	first := [numKinds]int{}
	for k, ts := range s.kinds {
		first[k] = len(p.templates)
		p.templates = append(p.templates, ts...)
	}
	w := weights[cfg.Shape]
	var sum [numKinds]int
	total := 0
	for k, n := range w {
		total += n
		sum[k] = total
	}
	budget := cfg.Packets
	for i := range p.of {
		n, k := r.IntN(total), 0
		for n >= sum[k] {
			k++
		}
		p.of[i] = uint8(first[k] + r.IntN(len(s.kinds[k])))
		budget -= len(p.templates[p.of[i]].packets)
	}
	if budget < 0 {
		return p, fmt.Errorf("traffic: %d connections of shape %v have %d packets before any data, more than %d",
			cfg.Connections, cfg.Shape, cfg.Packets-budget, cfg.Packets)
	}
	return p, p.spread(budget, r)
}

// elephants makes all connections TLS, of the same size.
func (p *plan) elephants(cfg Config, s *Sample) error {
	p.templates = s.kinds[kindTLS]
	budget := cfg.Packets
	for i := range p.of {
		p.of[i] = uint8(i % len(p.templates))
		budget -= len(p.templates[p.of[i]].packets)
	}
	if budget < 0 {
		return fmt.Errorf("traffic: %d packets do not make %d elephants", cfg.Packets, cfg.Connections)
	}
	for i := range p.data {
		p.data[i] = int32(budget / len(p.data))
	}
	p.data[0] += int32(budget % len(p.data))
	return nil
}

// spread gives budget data segments to the connections that carry some.
func (p *plan) spread(budget int, r *rand.Rand) error {
	share := make([]float32, len(p.of))
	var sum float64
	last := -1
	for i, t := range p.of {
		if p.templates[t].carriesData() {
			share[i] = float32(math.Pow(1-r.Float64(), -1/paretoShape))
			sum += float64(share[i])
			last = i
		}
	}
	if last < 0 {
		if budget > 0 {
			return fmt.Errorf("traffic: no connection could carry %d data segments", budget)
		}
		return nil
	}
	most := float32(max(sum*maxShare, 1))
	sum = 0
	for i := range share {
		share[i] = min(share[i], most)
		sum += float64(share[i])
	}
	left := budget
	for i := range share {
		n := int(float64(share[i]) / sum * float64(budget))
		p.data[i] = int32(n)
		left -= n
	}
	for i := 0; left > 0; i = (i + 1) % len(share) { // what rounding left over
		if share[i] > 0 {
			p.data[i]++
			left--
		}
	}
	return nil
}
