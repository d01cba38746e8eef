package main

import (
	"strings"
	"testing"

	"github.com/whorl-net/whorl/internal/filter"
)

// Every word that help shows is one, with the value that help shows, and no
// other word is left out.
func TestFilterHelpIsTrue(t *testing.T) {
	for _, w := range filterWords {
		for name := range strings.FieldsSeq(w.name) {
			if _, err := filter.Compile(filter.Source{Text: name + ":" + w.value, Now: 1e18, Feed: true}); err != nil {
				t.Errorf("%s:%s: %v", name, w.value, err)
			}
		}
	}
	for _, text := range []string{"bytes:<=1000", "bytes:10-20", "ja4t:64240*", "proto:icmp", "proto:17", "after:2026-11-22T12:00:00Z", "cause:idle,closed,capacity,flush"} {
		if _, err := filter.Compile(filter.Source{Text: text, Now: 1e18, Feed: true}); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	for name := range strings.FieldsSeq(filterNames()) {
		_, err := filter.Compile(filter.Source{Text: name, Now: 1e18, Feed: true})
		if err == nil || strings.Contains(err.Error(), "is not a filter word") {
			t.Errorf("%s: %v, want only its value to be missing", name, err)
		}
	}
}
