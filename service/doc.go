// Package service is the collector: four gRPC services over a tracker, a log
// and a feed.
//
// A Collector is made from a Config and does everything inside Run. Batches go
// to the log first; one goroutine, the applier, reads the log and is the only
// one that submits to the tracker and that changes the session table. So what
// the tracker holds, and which batch is a duplicate, is a function of the log.
// Connections that leave the tracker are encoded once into the feed.
//
// This is the only package that knows status codes: toStatus turns the errors
// of everything below into statuses, and each refused request names the field
// and what would have been accepted.
package service
