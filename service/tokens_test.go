package service

import (
	"testing"

	"github.com/whorl-net/whorl/internal/feed"
	"github.com/whorl-net/whorl/internal/fuzzguard"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"github.com/whorl-net/whorl/tracker"
)

// A place comes out of a token as it went in.
func TestTokenRoundTrip(t *testing.T) {
	tokens := newTokens("7f3a9c")
	want := place{at: tracker.Cursor{Shard: 3, Slot: 1 << 30}, feedCursor: feed.Cursor{Epoch: "7f3a9c", Sequence: 8812}, now: 17}
	req := &whorlv1.AllRequest{Filter: "port:443"}
	req.PageToken = tokens.seal(req, want)
	got, err := tokens.open(req)
	if err != nil || got != want {
		t.Errorf("place %+v, %v; want %+v", got, err, want)
	}
}

// No token but our own opens anything, and none panics.
func FuzzTokens(f *testing.F) {
	tokens := newTokens("7f3a9c")
	real := tokens.seal(&whorlv1.AllRequest{}, place{now: 1})
	f.Add(real)
	f.Add("")
	f.Add("AQ")
	f.Fuzz(func(t *testing.T, token string) {
		fuzzguard.Watch(t)
		p, err := tokens.open(&whorlv1.AllRequest{PageToken: token})
		if err == nil && !p.first && token != real {
			t.Errorf("token %q opened %+v", token, p)
		}
	})
}
