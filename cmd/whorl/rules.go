package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/analyst"
	"github.com/whorl-net/whorl/internal/analyst/anomaly"
	"github.com/whorl-net/whorl/internal/enrich"
	"github.com/whorl-net/whorl/internal/output"
	"github.com/whorl-net/whorl/internal/wire"
	"github.com/whorl-net/whorl/probe"
	"github.com/whorl-net/whorl/probe/capture"
	"github.com/whorl-net/whorl/tracker"
)

// rulesCmd checks rules for anomalies and tries them on captures.
type rulesCmd struct {
	Action   string        `arg:"" enum:"check,test" placeholder:"check|test" help:"check reads rules files and tables of fingerprints; test also runs captures through them."`
	Files    []string      `arg:"" name:"file" placeholder:"FILE" help:"check: rules files and tables. test: one rules file, then captures (pcap or pcapng, also in gzip)."`
	Network  string        `group:"select" default:"default" placeholder:"NAME" help:"test: the network the captures are of (default ${default})."`
	Apps     []string      `group:"know" placeholder:"FILE" help:"Tables of fingerprints and their applications, beside those built in."`
	KnownBad []string      `group:"know" placeholder:"FILE" help:"Tables of fingerprints that condemn a connection."`
	Learn    time.Duration `group:"know" default:"24h" placeholder:"DURATION" help:"test: for so long, from the first packet on, nothing is new (default ${default}; 0: everything is new once)."`
	outputFlags
}

func (*rulesCmd) examples() []string {
	return []string{"whorl rules check rules.yaml known-bad.yaml", "whorl rules test rules.yaml yesterday.pcap"}
}

func (cmd *rulesCmd) check() error {
	switch {
	case cmd.Learn < 0:
		return errors.New("--learn: want 0 or more")
	case cmd.Action == "test" && len(cmd.Files) < 2:
		return errors.New("test wants a rules file and a capture")
	}
	return flow.CheckNetwork(cmd.Network)
}

// Run checks or tests.
func (cmd *rulesCmd) Run(ctx context.Context, c *console) error {
	if cmd.Action == "test" {
		return cmd.test(ctx, c)
	}
	files, err := sortFiles(cmd.Files)
	if err != nil {
		return err
	}
	names, err := checkTables(c, files.tables, cmd.Apps, cmd.KnownBad)
	if err != nil || len(files.rules) == 0 {
		return err
	}
	rules, err := loadRules(files.rules)
	if err != nil {
		return err
	}
	checkAllowed(c, rules, names)
	kind := output.RuleList()
	opts, err := c.options(&cmd.outputFlags, kind.Schema)
	if err != nil {
		return err
	}
	opts.Hold = tableLimit
	w := output.NewWriter(c.out, kind, opts)
	for _, r := range rules.All() {
		if err := w.Write(output.Rule{ID: r.ID, Severity: severityName(r.Severity), Source: r.Source, What: r.Text()}); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	c.say("%s in force, remembering at most %s", output.Plural(uint64(len(rules.All())), "rule"), output.Bytes(uint64(rules.StateBytes())))
	return nil
}

// loadRules reads rules files; what is wrong with them is wrong usage.
func loadRules(files []string) (*anomaly.Rules, error) {
	rules, err := anomaly.LoadFiles(files...)
	if err == nil {
		return rules, nil
	}
	lines := strings.Split(plainPath(err), "\n")
	more := lines[1:]
	if len(more) > 4 {
		more = append(slices.Clone(more[:3]), fmt.Sprintf("and %d more", len(more)-3))
	}
	return nil, failf(exitUsage, "%s", lines[0]).hint(more...)
}

func severityName(s tracker.Severity) string {
	switch s {
	case tracker.SeverityLow:
		return "low"
	case tracker.SeverityMedium:
		return "medium"
	case tracker.SeverityHigh:
		return "high"
	case tracker.SeverityCritical:
		return "critical"
	}
	return ""
}

// maxOddities bounds what a test holds before it is sorted and shown.
const maxOddities = 100_000

// test runs captures through a probe, a tracker and an analyst, and shows what
// the rules raise.
func (cmd *rulesCmd) test(ctx context.Context, c *console) error {
	files, err := sortFiles(cmd.Files[:1])
	if err != nil {
		return err
	}
	if len(files.tables) > 0 {
		return failf(exitUsage, "%s is a table, not rules: name it with --apps or --known-bad", cmd.Files[0])
	}
	rules, err := loadRules(cmd.Files[:1])
	if err != nil {
		return err
	}
	tables, err := enrich.New(enrich.Config{Apps: cmd.Apps, KnownBad: cmd.KnownBad})
	if err != nil {
		return failf(exitUsage, "%v", err)
	}
	checkAllowed(c, rules, tables.Tables().Names())
	a, err := analyst.New(analyst.Config{Rules: rules, Learn: cmd.Learn})
	if err != nil {
		return err
	}
	kind := output.Oddities(cmd.clock(c))
	opts, err := c.options(&cmd.outputFlags, kind.Schema)
	if err != nil {
		return err
	}
	trial := &trial{analyst: a}
	totals, broken := trial.run(ctx, cmd, tables)
	if broken != nil && !brokenOff(broken) {
		return broken
	}
	opts.Hold = tableLimit
	w := output.NewWriter(c.out, kind, opts)
	slices.SortStableFunc(trial.found, func(x, y output.Oddity) int {
		return cmp.Or(x.RaisedAt.Compare(y.RaisedAt), cmp.Compare(x.Connection, y.Connection), cmp.Compare(x.Rule, y.Rule))
	})
	for _, o := range trial.found {
		if err := w.Write(o); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	if trial.dropped > 0 {
		c.say("%s more are not shown", output.Number(trial.dropped))
	}
	var suppressed uint64
	for _, r := range a.Stats().Rules {
		suppressed += r.Suppressed
	}
	c.say("%s, %s, %s raised, %d kept silent", output.Plural(totals.Packets, "packet"), output.Plural(totals.Connections, "connection"),
		anomalies(uint64(len(trial.found))+trial.dropped), suppressed)
	return broken
}

func anomalies(n uint64) string {
	if n == 1 {
		return "1 anomaly"
	}
	return output.Number(n) + " anomalies"
}

// trial is one run of captures through rules.
type trial struct {
	analyst *analyst.Analyst
	tracker *tracker.Tracker
	origin  tracker.Origin
	logTime int64
	found   []output.Oddity
	dropped uint64 // beyond maxOddities
}

// run reads all captures and evicts everything in the end.
func (t *trial) run(ctx context.Context, cmd *rulesCmd, tables *enrich.Enricher) (totals probe.Totals, err error) {
	t.tracker, err = tracker.New(tracker.Config{
		Events: true, OnOutput: t.take,
		Enrich: func(s *tracker.Snapshot) {
			tables.Snapshot(s)
			t.analyst.Enrich(s)
		},
		Encode: func(dst []byte, e *tracker.Eviction) []byte {
			t.analyst.Evicted(e)
			return wire.AppendEviction(dst, e)
		},
	})
	if err != nil {
		return totals, err
	}
	if t.origin, err = t.tracker.Origin(cmd.Network, "", false); err != nil {
		return totals, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- t.tracker.Run(running) }()
	defer func() {
		stop()
		err = errors.Join(err, <-ended)
	}()
	secrets, _, err := openSecrets("")
	if err != nil {
		return totals, err
	}
	var sources []capture.Source
	for _, name := range cmd.Files[1:] {
		f, err := capture.Open(name)
		if err != nil {
			return totals, err
		}
		defer f.Close()
		probe.TakeSecrets(f, secrets)
		sources = append(sources, f)
	}
	p, err := probe.New(probe.Config{Secrets: secrets}, t, sources...)
	if err != nil {
		return totals, err
	}
	err = p.Run(ctx)
	if err != nil && !brokenOff(err) {
		return p.Totals(), err
	}
	flushed := make(chan struct{})
	if ferr := t.tracker.Flush(running, tracker.Entry{LogTime: t.logTime}, tracker.FlushRequest{}, func(int) { close(flushed) }); ferr != nil {
		return p.Totals(), ferr
	}
	<-flushed
	return p.Totals(), err
}

// Report applies b and waits until that is done: the probe uses b again.
func (t *trial) Report(ctx context.Context, b *flow.Batch) error {
	for _, at := range b.Time {
		t.logTime = max(t.logTime, at)
	}
	done := make(chan struct{})
	if err := t.tracker.Submit(ctx, tracker.Entry{LogTime: t.logTime}, t.origin, b, func() { close(done) }); err != nil {
		return err
	}
	<-done
	return nil
}

// take keeps what was raised about each connection that leaves.
func (t *trial) take(o *tracker.Output) {
	found := map[*tracker.Departure]analyst.Findings{}
	t.analyst.Take(o, func(d *tracker.Departure, f *analyst.Findings) { found[d] = *f })
	var e tracker.Eviction
	for _, it := range o.Items {
		if it.Departure == nil {
			continue
		}
		if _, err := wire.DecodeEviction(it.Departure.Body, tracker.Newest, &e); err != nil {
			continue // too large to be encoded: never with the limits of a batch
		}
		if f, ok := found[it.Departure]; ok {
			f.Apply(&e.Connection)
		}
		for i := range e.Connection.Anomalies {
			t.keep(&e.Connection, &e.Connection.Anomalies[i])
		}
	}
}

func (t *trial) keep(s *tracker.Snapshot, a *tracker.Anomaly) {
	if len(t.found) == maxOddities {
		t.dropped++
		return
	}
	o := output.Oddity{
		RaisedAt: time.Unix(0, a.RaisedAt), Severity: severityName(a.Severity), Rule: strings.Clone(a.Rule),
		Connection: s.ID(), Description: strings.Clone(a.Description),
	}
	for _, e := range a.Evidence {
		text := e.Value
		if e.Type != 0 {
			text = e.Type.String() + " " + text
		}
		o.Evidence = append(o.Evidence, strings.Clone(text))
	}
	t.found = append(t.found, o)
}
