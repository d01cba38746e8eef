// Package metrics shows the state of a collector to Prometheus.
//
// There is nothing to count here: a collector counts already, and answers
// GetStatus with it. A scrape asks once and translates. So a packet costs
// nothing more, and what an operator reads here is what whorl status says.
//
// Labels come from closed sets of this program (causes, states, places where
// something is dropped) or of the operator's own files (rules). There is none
// that an outsider can fill: no address, no fingerprint, no name of a probe.
// What differs from probe to probe is shown as a sum or as the largest;
// whorl probes has each.
package metrics
