// Package jet keeps sequences of messages on a disk, in a NATS JetStream server
// that runs inside the process and opens no socket.
//
// A Server is the engine: its folder, its connection, its recovery after the
// disk refused a write. A Stream is one sequence: opaque messages numbered from
// 1, appended one at a time, each synced to the disk before Append returns. What
// is said to be appended is there once and in order: a write whose outcome is
// not known is looked up before anything else is written.
//
// The package knows nothing of what messages say. Whoever needs to notice a
// message that is missing or damaged numbers what is in them.
package jet
