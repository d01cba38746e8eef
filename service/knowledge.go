package service

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/whorl-net/whorl/internal/analyst"
	"github.com/whorl-net/whorl/internal/analyst/anomaly"
	"github.com/whorl-net/whorl/internal/enrich"
	"github.com/whorl-net/whorl/internal/hunt"
	"github.com/whorl-net/whorl/internal/log"
	"github.com/whorl-net/whorl/internal/wire"
	"github.com/whorl-net/whorl/ja4"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"github.com/whorl-net/whorl/tracker"
)

// Knowledge names what a collector knows beside what it sees. The files are read
// when it starts and again by Collector.Reload, which also follows their
// changes.
type Knowledge struct {
	// Apps and KnownBad are tables of fingerprints, beside those built in.
	Apps, KnownBad []string
	// Rules are rules for anomalies and the allowlist, on top of those built in.
	Rules []string
	// Learn is for how long, from its first packet on, nothing that a network
	// shows is new. 0 learns nothing.
	Learn time.Duration
	// Off leaves all of it out: no application, nothing bad, new or odd.
	Off bool
}

// followEvery is how often the files are looked at.
const followEvery = 2 * time.Second

// knowledge says what fingerprints mean, and finds what is new and what is odd.
// nil knows nothing.
type knowledge struct {
	files    Knowledge
	enricher *enrich.Enricher
	analyst  *analyst.Analyst
	logger   *slog.Logger
	// hunter searches the past for what is known to be bad only now.
	hunter  *hunt.Hunter
	tracker *tracker.Tracker
	// newest returns the position of the newest record of the log.
	newest func() uint64
	// bodies is where take puts evictions that it completes.
	bodies []byte
	// newestRules are those that were read last: in force, or about to be.
	newestRules atomic.Pointer[anomaly.Rules]

	reload  sync.Mutex // one at a time; guards what follows
	hash    string     // of the rules in force
	refused string     // why the newest files are not in force
	seen    string     // state of the files when they were last read
}

// newKnowledge reads the files of cfg.
func newKnowledge(cfg *Config) (*knowledge, error) {
	if cfg.Knowledge.Off {
		return nil, nil
	}
	k := &knowledge{files: cfg.Knowledge, logger: cfg.Logger}
	k.seen = stateOf(k.paths())
	rules, hash, err := k.loadRules()
	if err != nil {
		return nil, err
	}
	k.hash = hash
	k.enricher, err = enrich.New(enrich.Config{Apps: k.files.Apps, KnownBad: k.files.KnownBad, JA4Only: cfg.NoJA4Plus})
	if err != nil {
		return nil, err
	}
	if err := rules.CheckEntries(k.enricher.Tables().Names()); err != nil {
		return nil, err
	}
	k.newestRules.Store(rules)
	k.analyst, err = analyst.New(analyst.Config{Rules: rules, Learn: k.files.Learn, Seed: cfg.Tracker.HashSeed})
	return k, err
}

// attach gives k what it looks at: the table, the log and the feed of c.
func (k *knowledge) attach(c *Collector) (err error) {
	if k == nil {
		return nil
	}
	k.tracker = c.tracker
	k.newest = func() uint64 { return uint64(c.log.Stats().Last) }
	k.hunter, err = hunt.New(hunt.Config{Live: c.tracker, Journal: c.journal, Settle: c.settle, Done: k.hunted, Condemns: k.condemns})
	return err
}

// eventTypes returns the types of fingerprints that k wants to be told of, 0 if it
// does not care.
func (k *knowledge) eventTypes() ja4.TypeSet {
	if k == nil {
		return 0
	}
	return analyst.EventTypes(k.analyst.Rules())
}

// condemns is what a hunt asks: by the rules that were read together with the
// tables it is after, which a busy tracker may not have come to yet.
func (k *knowledge) condemns(s *tracker.Snapshot, matches []tracker.TableMatch) (int, tracker.Severity, bool) {
	return k.newestRules.Load().Condemns(s, matches)
}

// settle waits until the feed has everything that has left the table by now.
func (c *Collector) settle(ctx context.Context) error {
	settled := make(chan struct{})
	err := c.applier.between(func(log.Position) error {
		return c.tracker.Sync(ctx, func() { close(settled) })
	})
	if err != nil {
		return err
	}
	select {
	case <-settled:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// hunted logs what a hunt came to.
func (k *knowledge) hunted(r hunt.Result, err error) {
	attrs := []any{
		slog.Int("entries", r.Entries), slog.Uint64("found", r.Found), slog.Uint64("allowed", r.Allowed), slog.Uint64("announced", r.Announced),
		slog.Uint64("live", r.Live), slog.Uint64("held", r.Held), slog.Uint64("lost", r.Lost),
	}
	if err != nil {
		k.logger.Warn("the search for what is known to be bad only now was cut short", append(attrs, slog.Any("err", err))...)
		return
	}
	k.logger.Info("searched for what is known to be bad only now", attrs...)
}

// enrich fills what follows from a connection itself: the tracker's Enrich.
func (k *knowledge) enrich(s *tracker.Snapshot) {
	if k == nil {
		enrich.Snapshot(s)
		return
	}
	k.enricher.Snapshot(s)
	k.analyst.Enrich(s)
}

// ruleIDs returns the ids of the rules in force, nil if k knows nothing.
func (k *knowledge) ruleIDs() []string {
	if k == nil {
		return nil
	}
	var ids []string
	for _, r := range k.analyst.Rules().All() {
		ids = append(ids, r.ID)
	}
	return ids
}

// annotate adds what other connections have to do with it: the tracker's
// Annotate.
func (k *knowledge) annotate(s *tracker.Snapshot) {
	if k != nil {
		k.analyst.Annotate(s)
	}
}

// evicted counts what was found about a connection that leaves.
func (k *knowledge) evicted(e *tracker.Eviction) {
	if k != nil {
		k.analyst.Evicted(e)
	}
}

// take looks at the output of an entry before the feed does, and completes the
// evictions in it. Their bodies are valid until the next call.
func (k *knowledge) take(o *tracker.Output) {
	if k == nil {
		return
	}
	k.bodies = k.bodies[:0]
	if cap(k.bodies) > maxKeptBodies {
		k.bodies = nil
	}
	k.analyst.Take(o, k.complete)
}

// maxKeptBodies keeps the memory of giants from staying for good.
const maxKeptBodies = 1 << 20

// complete adds findings to the body of a departure.
func (k *knowledge) complete(d *tracker.Departure, f *analyst.Findings) {
	start := len(k.bodies)
	var ok bool
	if k.bodies, ok = wire.AmendEviction(k.bodies, d.Body, f.New, f.Anomalies); !ok {
		// It shows something odd by itself, too: both lists become one.
		var e tracker.Eviction
		if _, err := wire.DecodeEviction(d.Body, tracker.Full, &e); err != nil {
			return // an eviction that was too large to be encoded
		}
		f.Apply(&e.Connection)
		k.bodies = wire.AppendEviction(k.bodies, &e)
	}
	d.Body = k.bodies[start:len(k.bodies):len(k.bodies)]
}

// save appends the state that a checkpoint keeps. It is for the goroutine that
// calls take, between two entries.
func (k *knowledge) save(dst []byte) []byte {
	if k == nil {
		return dst
	}
	dst, _, err := k.analyst.Save(dst)
	if err != nil {
		panic("service: an entry was taken in part only") // the tracker's Sync is between entries
	}
	return dst
}

// restore takes up the state of a checkpoint; an empty one is that of a life
// that knew nothing.
func (k *knowledge) restore(data []byte) error {
	if k == nil || len(data) == 0 {
		return nil
	}
	return k.analyst.Restore(data)
}

func (k *knowledge) paths() []string {
	return slices.Concat(k.files.Apps, k.files.KnownBad, k.files.Rules)
}

// stateOf describes the files in a way that changes when they do.
func stateOf(paths []string) string {
	var b strings.Builder
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			fmt.Fprintf(&b, "%s: %v\n", path, err)
			continue
		}
		fmt.Fprintf(&b, "%s: %d %d\n", path, info.Size(), info.ModTime().UnixNano())
	}
	return b.String()
}

// loadRules reads the rules once, so that the hash is of what is in force.
func (k *knowledge) loadRules() (*anomaly.Rules, string, error) {
	files := make([]anomaly.File, 0, len(k.files.Rules))
	h := sha256.New()
	for _, path := range k.files.Rules {
		f, err := os.Open(path)
		if err != nil {
			return nil, "", &anomaly.Error{File: path, Problem: problemWith(err)}
		}
		data, err := io.ReadAll(io.LimitReader(f, anomaly.MaxFileBytes+1))
		f.Close()
		if err != nil {
			return nil, "", &anomaly.Error{File: path, Problem: problemWith(err)}
		}
		files = append(files, anomaly.File{Name: path, Data: data})
		fmt.Fprintf(h, "%q %d\n%s\n", path, len(data), data)
	}
	rules, err := anomaly.Load(files...)
	return rules, hex.EncodeToString(h.Sum(nil)[:8]), err
}

// problemWith is what is wrong with a file, without its name.
func problemWith(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return err.Error()
}

// Reload reads the tables and rules again and puts them in force: all of them
// or, with an error that names file, line and reason, none. It returns what
// changed, "tables" or "rules", and searches what is live and what the feed
// holds for what is known to be bad only now.
func (c *Collector) Reload() (changed []string, err error) {
	if c.knowledge == nil {
		return nil, errors.New("this collector knows no tables and no rules")
	}
	return c.knowledge.load()
}

func (k *knowledge) load() (changed []string, err error) {
	k.reload.Lock()
	defer k.reload.Unlock()
	k.seen = stateOf(k.paths())
	defer func() {
		k.refused = ""
		if err != nil {
			k.refused = err.Error()
		}
	}()
	rules, hash, err := k.loadRules()
	if err != nil {
		return nil, err
	}
	change, err := k.enricher.Reload(nil, func(t *enrich.Tables) error { return rules.CheckEntries(t.Names()) })
	if err != nil {
		return nil, err
	}
	if change.Old.Hash() != change.New.Hash() {
		changed = append(changed, "tables")
	}
	if hash != k.hash {
		k.hash = hash
		k.newestRules.Store(rules)
		// Before the position is read: all behind it is told of what the rules ask.
		k.tracker.AddEventTypes(analyst.EventTypes(rules))
		k.analyst.Reload(rules, k.newest())
		changed = append(changed, "rules")
	}
	k.hunter.Hunt(change)
	return changed, nil
}

// run searches the past when it is asked to, until ctx ends.
func (k *knowledge) run(ctx context.Context) {
	if k != nil {
		k.hunter.Run(ctx) // ends with ctx only
	}
}

// follow loads the files when they have changed, until ctx ends.
func (k *knowledge) follow(ctx context.Context) {
	if k == nil || len(k.paths()) == 0 {
		return
	}
	ticker := time.NewTicker(followEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		k.reload.Lock()
		same := k.seen == stateOf(k.paths())
		k.reload.Unlock()
		if !same {
			k.say(k.load())
		}
	}
}

// say logs what came of a load.
func (k *knowledge) say(changed []string, err error) {
	switch {
	case err != nil:
		k.logger.Error("tables and rules were refused: what was in force stays", slog.Any("err", err))
	case len(changed) > 0:
		k.logger.Info("new in force", slog.String("changed", strings.Join(changed, ", ")), slog.String("hash", k.configHash()))
	}
}

// configHash changes with the tables and rules in force.
func (k *knowledge) configHash() string {
	sum := sha256.Sum256([]byte(k.enricher.Tables().Hash() + k.hash))
	return hex.EncodeToString(sum[:8])
}

// describe adds what is known to a status.
func (k *knowledge) describe(resp *whorlv1.GetStatusResponse) {
	if k == nil {
		return
	}
	st, tables := k.analyst.Stats(), k.enricher.Stats()
	k.reload.Lock()
	defer k.reload.Unlock()
	resp.Enrichment = &whorlv1.EnrichmentStatus{
		ConfigHash: k.configHash(), AppEntries: uint64(tables.Apps), BadEntries: uint64(tables.Bad),
		FingerprintsKnown: uint64(st.Fingerprints), FingerprintsForgotten: st.FingerprintsForgotten,
		Refused: toValid(k.refused), Discoveries: k.hunter.Stats().Total.Announced,
	}
	for _, r := range st.Rules {
		resp.Rules = append(resp.Rules, &whorlv1.RuleStatus{
			Rule: r.ID, Severity: whorlv1.Severity(r.Severity), Source: toValid(r.Source), Raised: r.Raised, Suppressed: r.Suppressed,
		})
	}
}

// drops lists what the rules had no room for.
func (k *knowledge) drops() []counterValue {
	if k == nil {
		return nil
	}
	st := k.analyst.Stats()
	var anomalies uint64
	for _, r := range st.Rules {
		anomalies += r.Dropped
	}
	return []counterValue{
		{"rules.sources_forgotten", st.SourcesEvicted},
		{"rules.keys_forgotten", st.KeysEvicted},
		{"rules.anomalies_dropped", anomalies},
		{"rules.first_sights_dropped", st.NewLost},
	}
}

// badConfig reports files that were refused.
func badConfig(err error) error {
	meta := map[string]string{}
	var table *enrich.FileError
	var rules *anomaly.Error
	switch {
	case errors.As(err, &table):
		meta["file"], meta["line"] = table.File, strconv.Itoa(table.Line)
	case errors.As(err, &rules):
		meta["file"], meta["line"] = rules.File, strconv.Itoa(rules.Line)
	}
	return withDetails(status.New(codes.FailedPrecondition, toValid(err.Error())),
		&errdetails.ErrorInfo{Reason: ReasonBadConfig, Domain: ErrorDomain, Metadata: meta})
}
