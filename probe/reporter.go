package probe

import (
	"context"

	"github.com/whorl-net/whorl/flow"
)

// Reporter takes the batches of a probe. client.Reporter is one.
type Reporter interface {
	// Report takes what b holds. It may block, which holds the capture up. It
	// must not keep b, or anything that b refers to but strings, after it has
	// returned: the probe fills the same batch again. It may change b.
	//
	// b.Sequence counts the batches of this probe from 1; a reporter that
	// numbers sessions sets its own. Calls come one at a time, from any
	// goroutine. ctx does not end when that of Probe.Run does. After an error
	// the probe stops, and the batch counts as not reported.
	Report(ctx context.Context, b *flow.Batch) error
}
