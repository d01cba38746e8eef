package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/whorl-net/whorl/bench/measure"
)

// measureDurable compares a collector that writes everything to disk with one
// that keeps it in memory.
func (b *bench) measureDurable() error {
	p, err := b.newProgram()
	if err != nil {
		return err
	}
	name, cfg := b.mixed()
	r, err := b.capture(name, cfg)
	if err != nil {
		return err
	}
	table := b.table("durable", "A collector with durability memory and disk, per packet", []measure.Column{
		{Name: "collector CPU", Unit: "ns", Spread: true}, {Name: "ratio", Spread: true}, {Name: "packets/s", More: true},
		{Name: "log", Unit: "B"}, {Name: "groups/s"}, {Name: "batches"}, {Name: "on disk", Unit: "MiB"},
	}, r.String(),
		"log: what status.log says it holds; groups/s: writes of the log made safe, each with one fsync, per second of the probe's run; on disk: the whole data directory at the end.")
	packets := float64(r.stats.Packets)
	var memory float64
	pass := func(row string, args ...string) (err error) {
		col, err := p.startCollector(args...)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, col.end()) }()
		done, err := p.pass(col, r, nil, nil)
		if err != nil {
			return err
		}
		table.Add(row, "collector CPU", float64(done.collectorCPU)/packets)
		table.Add(row, "packets/s", packets/done.probe.Wall.Seconds())
		if len(args) == 0 {
			memory = float64(done.collectorCPU)
			return nil
		}
		log := done.status.GetLog()
		if !log.GetDurable() || done.status.GetPacketsApplied() != r.stats.Packets {
			return fmt.Errorf("%d packets applied, log %v", done.status.GetPacketsApplied(), log)
		}
		table.Add(row, "ratio", float64(done.collectorCPU)/memory)
		table.Add(row, "log", float64(log.GetBytes())/packets)
		table.Add(row, "groups/s", float64(log.GetGroups())/done.probe.Wall.Seconds())
		table.Add(row, "batches", float64(log.GetLastPosition()))
		size, err := treeBytes(args[1])
		table.Add(row, "on disk", float64(size)/(1<<20))
		return err
	}
	return measure.Rounds(b.rounds, func() error { return pass("memory") }, func() error {
		dir, err := os.MkdirTemp(b.dir, "data")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		return pass("disk", "--data-dir", dir)
	})
}

// treeBytes is the size of all files below dir.
func treeBytes(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return ignoreGone(err)
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return ignoreGone(err)
	})
	return n, err
}

// ignoreGone leaves out that a file was removed meanwhile.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
