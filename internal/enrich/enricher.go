package enrich

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

// Config says which tables an Enricher uses. The zero Config uses the built-in
// ones.
type Config struct {
	// Apps and KnownBad are files of the operator. Both have the same format;
	// entries of the latter condemn unless they say otherwise. At most MaxFiles.
	Apps, KnownBad []string
	// JA4Only leaves out every entry, built-in or not, that needs a method other
	// than JA4, which are under the FoxIO License.
	JA4Only bool
	// NoBuiltin leaves out the built-in entries.
	NoBuiltin bool
}

// MaxFiles bounds the files of a Config.
const MaxFiles = 64

// Enricher applies tables to connections. All methods are safe for concurrent
// use; those that look something up neither block nor are blocked.
type Enricher struct {
	tables atomic.Pointer[Tables]

	reload  sync.Mutex // one at a time; guards what follows
	cfg     Config
	reloads uint64
	refused uint64
	reason  string
}

// New reads the files of cfg. The error is a *FileError if one of them is not as
// it should be.
func New(cfg Config) (*Enricher, error) {
	tables, err := Load(cfg)
	if err != nil {
		return nil, err
	}
	e := &Enricher{cfg: cfg}
	e.tables.Store(tables)
	return e, nil
}

// Tables returns those in force.
func (e *Enricher) Tables() *Tables { return e.tables.Load() }

// Snapshot fills the enrichment fields of s, but for New and Anomalies. It keeps
// nothing of s: a tracker's Enrich hook. A connection without fingerprints costs
// nothing. The copy should have its Histories: from newest values alone follow
// fewer TableMatches.
func (e *Enricher) Snapshot(s *tracker.Snapshot) {
	if len(s.Fingerprints) == 0 {
		return
	}
	Snapshot(s)
	e.tables.Load().Apply(s)
}

// Apply fills TableMatches, IdentifiedApp and KnownBad of s. The application is
// that of the best match that names one and is sure enough to (MinIdentify).
func (t *Tables) Apply(s *tracker.Snapshot) {
	s.TableMatches = t.Match(s, s.TableMatches[:0])
	s.IdentifiedApp, s.KnownBad = "", false
	for i := range s.TableMatches {
		m := &s.TableMatches[i]
		s.KnownBad = s.KnownBad || m.Bad
		if s.IdentifiedApp == "" && m.Confidence >= MinIdentify {
			s.IdentifiedApp = m.App
		}
	}
}

// Change is what a Reload did.
type Change struct {
	// Old and New are the tables before and after.
	Old, New *Tables
	// NewBad are the entries of New that condemn by what no entry of Old
	// condemned by: what to search the past for.
	NewBad []*Entry
}

// Reload reads the files anew, with other names if files is not nil, and puts
// them in force: all of them or, with an error, none. Look-ups see the tables of
// before or those of after, never parts of both. accept, if not nil, is asked
// before: its error refuses the tables, too.
func (e *Enricher) Reload(files *Files, accept func(*Tables) error) (Change, error) {
	e.reload.Lock()
	defer e.reload.Unlock()
	cfg := e.cfg
	if files != nil {
		cfg.Apps, cfg.KnownBad = files.Apps, files.KnownBad
	}
	tables, err := Load(cfg)
	if err == nil && accept != nil {
		err = accept(tables)
	}
	if err != nil {
		e.refused++
		e.reason = err.Error()
		return Change{}, err
	}
	e.cfg = cfg
	e.reloads++
	e.reason = ""
	return Compare(e.tables.Swap(tables), tables), nil
}

// Files are the operator's, as in Config.
type Files struct{ Apps, KnownBad []string }

// Compare says what changes from a to b.
func Compare(a, b *Tables) Change {
	c := Change{Old: a, New: b}
	known := make(map[string]bool)
	for _, e := range a.Entries() {
		if e.Bad {
			known[e.signature()] = true
		}
	}
	for _, e := range b.Entries() {
		if e.Bad && !known[e.signature()] {
			c.NewBad = append(c.NewBad, e)
		}
	}
	return c
}

// Stats are counts of an Enricher at one moment.
type Stats struct {
	// Hash changes with the content of the tables in force.
	Hash string
	// Apps and Bad count entries: those that name an application and those that
	// condemn.
	Apps, Bad int
	// Reloads were put in force, Refused were not.
	Reloads, Refused uint64
	// Reason is why the newest reload was refused, "" if it was not.
	Reason string
}

// Stats returns the counts of this moment.
func (e *Enricher) Stats() Stats {
	t := e.tables.Load()
	s := Stats{Hash: t.Hash()}
	s.Apps, s.Bad = t.Count()
	e.reload.Lock()
	defer e.reload.Unlock()
	s.Reloads, s.Refused, s.Reason = e.reloads, e.refused, e.reason
	return s
}

// Load reads the files of cfg and compiles them, together with the built-in
// entries. The error is a *FileError if one of them is not as it should be.
func Load(cfg Config) (*Tables, error) {
	if n := len(cfg.Apps) + len(cfg.KnownBad); n > MaxFiles {
		return nil, fmt.Errorf("%d files of tables, at most %d", n, MaxFiles)
	}
	var builtin *Table
	if !cfg.NoBuiltin {
		var err error
		if builtin, err = Builtin(); err != nil {
			return nil, err
		}
	}
	names := map[string]string{builtinSource: "the built-in table"}
	known := make(map[string]bool)
	if builtin != nil {
		for _, e := range builtin.Entries {
			known[e.ID] = true
		}
	}
	disabled := make(map[string]bool)
	var entries []*Entry
	read := func(path string, bad bool) error {
		t, err := ReadTable(path, bad)
		if err != nil {
			return readable(err)
		}
		if other, twice := names[t.Source]; twice {
			return &FileError{File: path, Reason: fmt.Sprintf("has the name of %s: matches could not be told apart", other)}
		}
		names[t.Source] = path
		for _, d := range t.Disable {
			if builtin != nil && !known[d.ID] {
				return &FileError{File: path, Line: d.Line, Reason: fmt.Sprintf("disable: there is no built-in entry %q", cut(d.ID))}
			}
			disabled[d.ID] = true
		}
		entries = append(entries, t.Entries...)
		return nil
	}
	for _, path := range cfg.Apps {
		if err := read(path, false); err != nil {
			return nil, err
		}
	}
	for _, path := range cfg.KnownBad {
		if err := read(path, true); err != nil {
			return nil, err
		}
	}
	if builtin != nil {
		for _, e := range builtin.Entries {
			if !disabled[e.ID] {
				entries = append(entries, e)
			}
		}
	}
	var ids []string
	for _, e := range entries {
		ids = append(ids, e.ID)
	}
	for id := range disabled {
		ids = append(ids, id)
	}
	if cfg.JA4Only {
		entries = ja4Only(entries)
	}
	tables, err := Compile(entries)
	if err == nil {
		tables.name(ids)
	}
	return tables, err
}

// readable says which file could not be read; others errors say so already.
func readable(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return &FileError{File: path.Path, Reason: path.Err.Error()}
	}
	return err
}

func ja4Only(entries []*Entry) (kept []*Entry) {
	for _, e := range entries {
		free := true
		for _, p := range e.Parts {
			free = free && ja4.JA4Only.Has(p.Type)
		}
		if free {
			kept = append(kept, e)
		}
	}
	return kept
}
