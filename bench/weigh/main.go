// Weigh fills one table with connections and prints what it weighs, as JSON: the
// memory it takes and what a full garbage collection costs.
//
//	weigh ours|baseline CONNECTIONS bare|prints
//
// It is a program of its own and holds nothing but the table: package bench and
// what it imports have 5 MB of global variables, which each collection looks at,
// for both tables alike.
package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"

	"github.com/whorl-net/whorl/bench/measure"
)

// weight is what a table full of flows weighs, in a process of its own.
type weight struct {
	// Resident is the growth of RSS by the table, in bytes; GC the CPU time of
	// a full collection, in nanoseconds, Empty that of one before there was a
	// table: of the program alone.
	Resident, GC, Empty float64
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "weigh:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("%d arguments; want ours or baseline, a number of connections, and bare or prints", len(args))
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	var fill func(n int, withPrints bool) (any, error)
	switch args[0] {
	case "ours":
		fill = fillOurs
	case "baseline":
		fill = fillBaseline
	default:
		return fmt.Errorf("no table %q", args[0])
	}
	before, _, err := measure.ResidentBytes(os.Getpid())
	if err != nil {
		return err
	}
	empty := collection()
	table, err := fill(n, args[2] == "prints")
	if err != nil {
		return err
	}
	debug.FreeOSMemory()
	after, _, err := measure.ResidentBytes(os.Getpid())
	if err != nil {
		return err
	}
	w := weight{Resident: float64(after - before), GC: collection(), Empty: empty}
	runtime.KeepAlive(table)
	return json.NewEncoder(os.Stdout).Encode(w)
}

// collection returns the CPU time of a full collection in nanoseconds: the
// smallest of some, since what else the machine does adds milliseconds.
func collection() float64 {
	least := math.Inf(1)
	for range 5 {
		stop := measure.Start()
		runtime.GC()
		least = min(least, float64(stop().CPU))
	}
	return least
}
