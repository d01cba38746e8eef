package service

import "github.com/whorl-net/whorl/ja4"

// KnownFor says what one fingerprint is known for on its own by the tables in
// force: the application, "" if none, and whether it condemns a connection.
func (c *Collector) KnownFor(t ja4.Type, value string) (app string, bad bool) {
	if c.knowledge == nil {
		return "", false
	}
	return c.knowledge.enricher.Tables().Value(t, value)
}
