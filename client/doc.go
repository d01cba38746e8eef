// Package client speaks to a Whorl collector.
//
// A Client is one connection to one collector, safe for use by many goroutines.
// It asks about live connections (Get, Count, All, Export), follows the feed of
// evicted ones (Watch), and asks how the collector is doing (Status, Probes).
// Requests and answers are the messages of whorl.v1, so whatever the contract
// knows can be asked; what this package adds is what is easily got wrong: TLS by
// default, paging, and resuming a feed so that nothing is missed or seen twice.
//
// A Reporter is the way of a probe to the collector: it numbers batches, keeps
// them until they are durable there, sends them again after a reconnect, and
// counts to the packet what it had to give up.
//
// Errors of calls carry the gRPC status of the collector (status.FromError finds
// it, Reason its reason) or a *DialError when the collector could not be reached.
//
// The package starts no goroutine that outlives the call, or the Client, that
// started it.
package client
