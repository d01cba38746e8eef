package tracker

import "context"

// merger is the goroutine that puts together what the workers say of each entry
// and hands it on in the order of the log. A worker's items of an entry have
// rising orders, and no two workers use the same one, so the result depends on
// neither the number of workers nor their timing.
type merger struct {
	t      *Tracker
	heads  []head // a heap by order, of workers with more to say of the entry
	out    Output
	items  []Item // all of outputItems; those of out are the first
	events []Event
	ended  bool // the last Output of the entry is out
}

// head is where the merger is in what a worker says.
type head struct {
	order uint64 // of the next item
	w     *worker
	at    int // of the next item in the part
	portion
}

// outputItems bounds the Items of an Output.
const outputItems = 256

func newMerger(t *Tracker) *merger {
	m := &merger{t: t, items: make([]Item, outputItems)}
	m.events = make([]Event, outputItems)
	return m
}

// run ends entries until ctx ends.
func (m *merger) run(ctx context.Context) {
	for {
		select {
		case j := <-m.t.submitted:
			if !m.end(ctx, j) {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// end waits until the workers have applied j, and hands on what they say of it.
// It reports false if ctx ended first.
func (m *merger) end(ctx context.Context, j *job) bool {
	m.out.Position, m.out.LogTime = j.entry.Position, j.entry.LogTime
	m.ended = m.t.cfg.OnOutput == nil || j.kind >= jobSync
	for _, w := range j.to {
		if !m.next(ctx, head{w: m.t.workers[w]}) {
			return false
		}
	}
	for len(m.heads) > 0 {
		if !m.advance(ctx, j) {
			return false
		}
	}
	if !m.ended {
		m.flush(true)
	}
	if j.done != nil {
		j.done()
	}
	if j.doneN != nil {
		j.doneN(int(j.flushed.Load()))
	}
	j.recycle(&m.t.jobs)
	<-m.t.underWay
	return true
}

// next waits for the next part of a worker and puts it into the heap, unless
// there is none. It reports false if ctx ended first.
func (m *merger) next(ctx context.Context, h head) bool {
	select {
	case h.portion = <-h.w.out:
	case <-ctx.Done():
		return false
	}
	if h.part != nil {
		h.at, h.order = 0, h.part.items[0].order
		m.heads = append(m.heads, h)
		m.up(len(m.heads) - 1)
	}
	return true
}

// advance takes the items of the worker that comes first, up to the next
// worker's turn.
func (m *merger) advance(ctx context.Context, j *job) bool {
	h := &m.heads[0]
	until := m.second()
	p := h.part
	for ; h.at < len(p.items) && p.items[h.at].order < until; h.at++ {
		m.add(p, &p.items[h.at], j)
	}
	if h.at < len(p.items) {
		h.order = p.items[h.at].order
		m.down()
		return true
	}
	ended := *h
	n := len(m.heads) - 1
	m.heads[0], m.heads = m.heads[n], m.heads[:n]
	m.down()
	m.flush(n == 0 && ended.last) // items refer to the part, which goes back now
	p.reset()
	ended.w.free <- p // has room for all there are
	return ended.last || m.next(ctx, ended)
}

// add appends an item to the Output.
func (m *merger) add(p *part, i *item, j *job) {
	if len(m.out.Items) == outputItems {
		m.flush(false)
	}
	n := len(m.out.Items)
	m.out.Items = m.items[:n+1]
	to := &m.items[n]
	switch i.kind {
	case itemDeparture:
		*to = Item{Departure: &p.departures[i.at]}
	case itemOpened:
		to.Event, to.Departure = &m.events[n], nil
		p.opened[i.at].event(to.Event, j)
	case itemPrinted:
		to.Event, to.Departure = &m.events[n], nil
		p.printed[i.at].event(to.Event, j)
	}
}

// flush hands on the Output.
func (m *merger) flush(last bool) {
	m.out.Last = last
	m.t.cfg.OnOutput(&m.out)
	for i := range m.out.Items {
		if e := &m.events[i]; e.Value != "" { // let go of the strings
			e.Value, e.Raw, e.ServerName, e.Previous = "", "", "", ""
		}
	}
	m.out.Items = m.items[:0]
	m.ended = last
}

// second returns the order of the worker that comes second.
func (m *merger) second() uint64 {
	least := ^uint64(0)
	for i := 1; i < min(3, len(m.heads)); i++ {
		least = min(least, m.heads[i].order)
	}
	return least
}

// up moves the head at i to its place in the heap, down the first one.
func (m *merger) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if m.heads[parent].order < m.heads[i].order {
			return
		}
		m.heads[parent], m.heads[i] = m.heads[i], m.heads[parent]
		i = parent
	}
}

func (m *merger) down() {
	for i := 0; ; {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(m.heads); c++ {
			if m.heads[c].order < m.heads[least].order {
				least = c
			}
		}
		if least == i {
			return
		}
		m.heads[i], m.heads[least] = m.heads[least], m.heads[i]
		i = least
	}
}
