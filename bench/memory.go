package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/whorl-net/whorl/bench/measure"
)

// weight is what a table full of connections weighs: see package bench/weigh,
// whose words these are.
type weight struct{ Resident, GC, Empty float64 }

// memory weighs both tables, in processes of their own, of a program that is as
// small as can be.
func (t *trackerCases) memory(b *bench, sizes []int) error {
	program := filepath.Join(b.dir, "weigh")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/whorl-net/whorl/bench/weigh").CombinedOutput(); err != nil {
		return fmt.Errorf("build weigh: %w\n%s", err, out)
	}
	weigh := func(table string, n int, kind string) (w weight, err error) {
		cmd := exec.Command(program, table, strconv.Itoa(n), kind)
		measure.Bind(cmd)
		out, err := cmd.Output()
		if err == nil {
			err = json.Unmarshal(out, &w)
		}
		if err == nil && (w.Resident <= 0 || w.GC <= 0) {
			err = errors.New("that cannot be")
		}
		if err != nil {
			err = fmt.Errorf("weigh %s %d %s: %w\n%s", table, n, kind, err, out)
		}
		return w, err
	}
	both := func(n int, kind string, add func(ours, base weight)) error {
		ours, err := weigh("ours", n, kind)
		if err != nil {
			return err
		}
		base, err := weigh("baseline", n, kind)
		if err == nil {
			add(ours, base)
		}
		return err
	}
	for _, n := range sizes {
		err := both(n, "bare", func(ours, base weight) {
			t.add("RSS per connection, bytes, "+millions(n), ours.Resident, base.Resident, float64(n))
			t.add("full GC, CPU ms, "+millions(n), ours.GC, base.GC, 1e6)
			const alone = "  of the program without a table"
			t.table.Add(alone, "ours", ours.Empty/1e6)
			t.table.Add(alone, "baseline", base.Empty/1e6)
		})
		if err != nil {
			return err
		}
		if n > b.packets {
			continue // with fingerprints it takes long, and many GB for the baseline
		}
		err = both(n/2, "prints", func(ours, base weight) {
			t.add("RSS per connection with 3 + 3 fingerprints, bytes, "+millions(n/2), ours.Resident, base.Resident, float64(n/2))
		})
		if err != nil {
			return err
		}
	}
	return nil
}
