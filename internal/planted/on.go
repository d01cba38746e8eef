//go:build whorl_planted

package planted

import (
	"fmt"
	"os"
	"slices"
)

// names are what WHORL_PLANTED may be set to.
var names = []string{"", "no-dedupe", "ack-before-fsync", "trim-before-checkpoint", "wall-clock-in-apply", "feed-after-checkpoint", "no-sync"}

// Bug is the name of the bug that is on, empty for none.
var Bug = chosen()

// The switches; see the build without the tag for what each does.
var (
	NoDedupe             = Bug == "no-dedupe"
	AckBeforeFsync       = Bug == "ack-before-fsync"
	TrimBeforeCheckpoint = Bug == "trim-before-checkpoint"
	WallClockInApply     = Bug == "wall-clock-in-apply"
	FeedAfterCheckpoint  = Bug == "feed-after-checkpoint"
	NoSync               = Bug == "no-sync"
)

// chosen reads the choice. A name that is not known would make a test pass that
// tested nothing, so it ends the program.
func chosen() string {
	name := os.Getenv("WHORL_PLANTED")
	if !slices.Contains(names, name) {
		fmt.Fprintf(os.Stderr, "WHORL_PLANTED=%s is not one of %q\n", name, names)
		os.Exit(2)
	}
	return name
}
