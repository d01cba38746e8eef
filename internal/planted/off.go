//go:build !whorl_planted

package planted

// The switches, all off in this build.
const (
	// Bug is the name of the bug that is on, empty for none.
	Bug = ""
	// NoDedupe applies batches that were applied before.
	NoDedupe = false
	// AckBeforeFsync tells probes that a batch is durable when it has arrived.
	AckBeforeFsync = false
	// TrimBeforeCheckpoint trims the log as soon as it is applied.
	TrimBeforeCheckpoint = false
	// WallClockInApply applies the log at the time of the day.
	WallClockInApply = false
	// FeedAfterCheckpoint completes checkpoints before the feed is on disk.
	FeedAfterCheckpoint = false
	// NoSync writes the log and the feed without a sync.
	NoSync = false
)
