package main

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/whorl-net/whorl/internal/analyst/anomaly"
	"github.com/whorl-net/whorl/internal/enrich"
	"github.com/whorl-net/whorl/internal/output"
)

// knowledgeFiles are files of an operator by what is in them.
type knowledgeFiles struct{ rules, tables []string }

// sortFiles tells tables of fingerprints from rules, and refuses captures. What
// cannot be read is left to who reads it as rules.
func sortFiles(files []string) (k knowledgeFiles, err error) {
	for _, name := range files {
		head, err := beginning(name)
		switch {
		case err != nil:
			k.rules = append(k.rules, name)
		case isCapture(head):
			return k, failf(exitUsage, "%s is a capture: the rules file comes first, captures behind it", name)
		case isTable(head):
			k.tables = append(k.tables, name)
		default:
			k.rules = append(k.rules, name)
		}
	}
	return k, nil
}

// beginning returns as much of a file as a table may have.
func beginning(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, enrich.MaxFileBytes))
}

// isCapture reports whether a file begins as pcap, pcapng or gzip do.
func isCapture(head []byte) bool {
	if len(head) < 4 {
		return false
	}
	magics := []uint32{0xa1b2c3d4, 0xa1b23c4d, 0x0a0d0d0a}
	return slices.Contains(magics, binary.LittleEndian.Uint32(head)) || slices.Contains(magics, binary.BigEndian.Uint32(head)) ||
		head[0] == 0x1f && head[1] == 0x8b
}

// isTable reports whether text has a key of tables, and none of rules, at its
// outermost level. It does not ask for more: a broken table is to be told of as a
// table.
func isTable(text []byte) bool {
	table := false
	for line := range strings.Lines(string(text)) {
		key, _, found := strings.Cut(strings.TrimLeft(line, "{\"'"), ":")
		switch key = strings.TrimRight(key, "\"'"); {
		case !found:
		case key == "entries" || key == "disable":
			table = true
		case key == "rules" || key == "builtin" || key == "allow":
			return false
		}
	}
	return table
}

// checkTables reads tables as a collector does, all of them together, and says
// what is in them. The result has the ids of all entries.
func checkTables(c *console, tables, apps, knownBad []string) (names []string, err error) {
	cfg := enrich.Config{Apps: apps, KnownBad: knownBad}
	for _, name := range tables {
		t, err := enrich.ReadTable(name, false)
		use := "--apps or --known-bad"
		if err != nil {
			// What names no application is for --known-bad alone.
			var bad error
			if t, bad = enrich.ReadTable(name, true); bad != nil {
				return nil, tableError(err)
			}
			use = "--known-bad"
			cfg.KnownBad = append(cfg.KnownBad, name)
		} else {
			cfg.Apps = append(cfg.Apps, name)
		}
		what := output.Plural(uint64(len(t.Entries)), "entry")
		if len(t.Entries) != 1 {
			what = output.Number(uint64(len(t.Entries))) + " entries"
		}
		c.say("%s: a table of %s, for %s", name, what, use)
	}
	all, err := enrich.Load(cfg)
	if err != nil {
		return nil, tableError(err)
	}
	return all.Names(), nil
}

func tableError(err error) error {
	var wrong *enrich.FileError
	if errors.As(err, &wrong) {
		return failf(exitUsage, "%v", err)
	}
	return err
}

// checkAllowed says which allow entries name what no table has. A collector that
// has no other tables refuses them; here one may only not have been named.
func checkAllowed(c *console, rules *anomaly.Rules, names []string) {
	if err := rules.CheckEntries(names); err != nil {
		for line := range strings.Lines(err.Error()) {
			c.say("%s", strings.TrimSuffix(line, "\n"))
		}
		c.say("a collector refuses that; if the entry is in a table of yours, name it with --apps or --known-bad")
	}
}
