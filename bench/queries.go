package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/whorl-net/whorl/bench/measure"
	"github.com/whorl-net/whorl/bench/numbered"
	"github.com/whorl-net/whorl/bench/traffic"
	"github.com/whorl-net/whorl/client"
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/probe"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"google.golang.org/protobuf/proto"
)

// loadRate is the load beside queries, in packets per second: a third or so of
// what a core of a collector can do.
const loadRate = 500_000

// queries asks a collector full of connections, at rest and under load.
type queries struct {
	addr   string
	client *client.Client
	rand   *rand.Rand
	// flows are in the table; load are packets of them.
	flows []flow.Tuple
	load  []*flow.Batch
	clock int64 // the time of the next packet of the load
	// filters are what is counted, with few and with many hits.
	filters []string
	pages   map[string]string // by query, the token of its next page

	calls   *measure.Table
	exports *measure.Table
}

// measureQueries fills a collector with short connections and asks it.
func (b *bench) measureQueries() (err error) {
	p, err := b.newProgram()
	if err != nil {
		return err
	}
	cfg := traffic.Config{Shape: traffic.Short, Packets: 4 * b.packets, Connections: b.packets, Span: 5 * time.Second}
	r, err := b.capture("short", cfg)
	if err != nil {
		return err
	}
	args := []string{room(b.packets), "--learn=0"}
	for _, class := range []string{"tcp-half-open", "tcp", "tcp-closed", "udp-one-way", "udp", "other"} {
		args = append(args, "--idle-timeout-"+class+"=0")
	}
	col, err := p.startCollector(args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, col.end()) }()
	filled, err := p.pass(col, r, nil, nil)
	if err != nil {
		return err
	}
	q := &queries{addr: col.line, rand: rand.New(rand.NewPCG(1, 2)), pages: make(map[string]string)}
	if q.client, err = client.Dial(context.Background(), col.line, client.WithTimeout(time.Minute)); err != nil {
		return err
	}
	defer q.client.Close()
	if err := q.prepare(b.sample, cfg); err != nil {
		return err
	}
	live := filled.status.GetConnections()
	title := fmt.Sprintf("Queries by gRPC on %s connections, wall time", millions(int(live)))
	q.calls = b.table("queries", title, []measure.Column{
		{Name: "p50 at rest", Unit: "µs", Spread: true}, {Name: "p99 at rest", Unit: "µs"},
		{Name: "p50 under load", Unit: "µs", Spread: true}, {Name: "p99 under load", Unit: "µs"},
		{Name: "collector CPU at rest", Unit: "µs"}, {Name: "connections"},
	}, r.String(), fmt.Sprintf("Load: %d packets/s of connections in the table; one query at a time; this process sends, asks and decodes on the same cores.", loadRate))
	q.exports = b.table("queries/export", fmt.Sprintf("Export of %s connections", millions(int(live))), []measure.Column{
		{Name: "wall", Unit: "ms", Spread: true}, {Name: "collector CPU", Unit: "ms"}, {Name: "connections"}, {Name: "ingest beside it, packets/s", More: true},
	}, "Under load, the collector's CPU holds that of ingest.")
	return measure.Rounds(b.rounds, func() error { return q.round(col, false) }, func() error { return q.round(col, true) })
}

// prepare makes the load and finds values to filter by.
func (q *queries) prepare(sample *traffic.Sample, cfg traffic.Config) (err error) {
	g, err := traffic.New(cfg, sample)
	if err != nil {
		return err
	}
	if q.load, err = traffic.Batches(g, probe.Config{Count: min(uint64(cfg.Packets), 400_000)}); err != nil {
		return err
	}
	var first, last string // parts of a ja4
	for _, b := range q.load {
		q.flows = append(q.flows, b.Flows...)
		for i := range b.Fingerprints {
			f := &b.Fingerprints[i]
			if parts := strings.Split(f.Value, "_"); f.Type == ja4.TypeJA4 && strings.HasPrefix(f.Value, "t13d") {
				first, last = parts[0], parts[len(parts)-1]
			}
		}
		b.Fingerprints = nil
		for i := range b.TCPFlags { // begin and end no connection
			b.TCPFlags[i] &^= flow.SYN | flow.FIN | flow.RST
		}
	}
	if first == "" {
		return errors.New("no TLS 1.3 client in the sample")
	}
	any := "ja4:t13d*_*_" + last
	q.filters = []string{
		any, "ja4:" + first + "_*_" + last, "ja4h:ge11*", any + " -dst.port:80 packets:>2", "-" + any,
		"proto:tcp -dst.port:443", "src:10.0.0.0/8 port:1024-2047", "sni:*.com", "app:chrom*",
	}
	return nil
}

// query is something to ask; it returns how many connections the answer is about.
type query struct {
	name  string
	calls int
	ask   func(context.Context) (uint64, error)
}

func (q *queries) all() []query {
	count := func(filter string, by ...string) func(context.Context) (uint64, error) {
		return func(ctx context.Context) (uint64, error) {
			r, err := q.client.Count(ctx, &whorlv1.CountRequest{Filter: filter, GroupBy: by})
			return r.GetCount(), err
		}
	}
	list := func(name string, req *whorlv1.AllRequest) query {
		return query{name, 50, func(ctx context.Context) (uint64, error) {
			req := proto.CloneOf(req)
			req.PageToken = q.pages[name]
			for page, err := range q.client.Pages(ctx, req) {
				q.pages[name] = page.GetNextPageToken()
				return uint64(len(page.GetConnections())), err
			}
			return 0, errors.New("no page")
		}}
	}
	all := []query{
		{"Get", 500, func(ctx context.Context) (uint64, error) {
			t := q.flows[q.rand.IntN(len(q.flows))]
			_, err := q.client.Get(ctx, &whorlv1.GetRequest{Target: &whorlv1.GetRequest_Tuple{Tuple: &whorlv1.FiveTuple{
				SrcIp: t.Src.String(), SrcPort: uint32(t.SrcPort), DstIp: t.Dst.String(), DstPort: uint32(t.DstPort), Protocol: t.Protocol.String(),
			}}})
			return 1, err
		}},
		{"Count", 200, count("")},
	}
	for _, filter := range q.filters {
		all = append(all, query{"Count " + filter, 10, count(filter)})
	}
	for _, by := range []string{"ja4", "dst_port", "app"} {
		all = append(all, query{"Count by " + by, 4, count("", by)})
	}
	return append(all,
		list("All, a page of 1,000", &whorlv1.AllRequest{PageSize: 1000}),
		list("All, a page of 1,000 ids", &whorlv1.AllRequest{PageSize: 1000, View: whorlv1.ConnectionView_CONNECTION_VIEW_BASIC, Fields: []string{"id"}}),
		list("All "+q.filters[0]+", a page of 100", &whorlv1.AllRequest{PageSize: 100, Filter: q.filters[0]}),
	)
}

// round asks everything once, with load or without.
func (q *queries) round(col *collector, loaded bool) (err error) {
	p50, p99 := "p50 at rest", "p99 at rest"
	if loaded {
		p50, p99 = "p50 under load", "p99 under load"
		stop := q.startLoad()
		defer func() { err = errors.Join(err, stop()) }()
	} else if err := col.rest(); err != nil {
		return err
	}
	for _, c := range q.all() {
		took := make([]float64, 0, c.calls)
		var about uint64
		before, err := col.cpu()
		if err != nil {
			return err
		}
		for range c.calls {
			start := time.Now()
			n, err := c.ask(context.Background())
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			took = append(took, float64(time.Since(start))/1e3)
			about = max(about, n)
		}
		after, err := col.cpu()
		if err != nil {
			return err
		}
		slices.Sort(took)
		q.calls.Add(c.name, p50, took[len(took)/2])
		q.calls.Add(c.name, p99, took[len(took)*99/100])
		q.calls.Add(c.name, "connections", float64(about))
		if !loaded {
			q.calls.Add(c.name, "collector CPU at rest", float64(after-before)/1e3/float64(c.calls))
		}
	}
	return q.export(col, loaded)
}

// export reads the whole table.
func (q *queries) export(col *collector, loaded bool) error {
	row := "at rest"
	if loaded {
		row = "under load"
	}
	packets := func() (uint64, error) {
		s, err := status(q.addr)
		return s.GetPacketsApplied(), err
	}
	applied, err := packets()
	if err != nil {
		return err
	}
	before, err := col.cpu()
	if err != nil {
		return err
	}
	start, n := time.Now(), 0
	for resp, err := range q.client.Export(context.Background(), &whorlv1.ExportRequest{}) {
		if err != nil {
			return fmt.Errorf("export: %w", err)
		}
		n += len(resp.GetConnections())
	}
	wall := time.Since(start)
	after, err := col.cpu()
	if err != nil {
		return err
	}
	now, err := packets()
	if err != nil {
		return err
	}
	q.exports.Add(row, "wall", float64(wall)/1e6)
	q.exports.Add(row, "collector CPU", float64(after-before)/1e6)
	q.exports.Add(row, "connections", float64(n))
	q.exports.Add(row, "ingest beside it, packets/s", float64(now-applied)/wall.Seconds())
	return nil
}

// startLoad sends packets at loadRate until stop is called.
func (q *queries) startLoad() (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var err error
	wg.Go(func() { err = reporting(q.addr, func(r *client.Reporter) error { return q.send(ctx, r) }) })
	return func() error {
		cancel()
		wg.Wait()
		return err
	}
}

// send reports batches as they fall due. Their times go on where the last ones
// ended.
func (q *queries) send(ctx context.Context, r *client.Reporter) error {
	begin, sent := time.Now(), 0
	if q.clock == 0 {
		q.clock = numbered.Epoch + int64(time.Minute)
	}
	for i := 0; ctx.Err() == nil; i++ {
		b := q.load[i%len(q.load)]
		for shift, k := q.clock-b.Time[0], 0; k < len(b.Time); k++ {
			b.Time[k] += shift
		}
		if err := r.Report(ctx, b); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		sent += b.Rows()
		q.clock += int64(b.Rows()) * int64(time.Second) / loadRate
		time.Sleep(time.Until(begin.Add(time.Duration(sent) * time.Second / loadRate)))
	}
	return nil
}
