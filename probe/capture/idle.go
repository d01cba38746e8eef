package capture

import "errors"

// ErrIdle is what Next of a live source returns when no packet came for its
// poll interval. It is no end: call Next again. Sources that read files never
// return it.
var ErrIdle = errors.New("no packet for a while")
