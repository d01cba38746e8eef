package client

import (
	"context"
	"iter"

	"google.golang.org/protobuf/proto"

	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// Fingerprints walks the inventory: what each network has shown, since when and
// how often. Fingerprints that are first seen during the walk may or may not
// appear in it. An error ends the walk and is its last element. req is not
// changed; its PageToken says where to begin.
func (c *Client) Fingerprints(ctx context.Context, req *whorlv1.ListFingerprintsRequest) iter.Seq2[*whorlv1.KnownFingerprint, error] {
	return func(yield func(*whorlv1.KnownFingerprint, error) bool) {
		req := proto.CloneOf(req)
		for {
			page, err := c.fingerprintPage(ctx, req)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, f := range page.GetFingerprints() {
				if !yield(f, nil) {
					return
				}
			}
			if page.GetNextPageToken() == "" {
				return
			}
			req.PageToken = page.GetNextPageToken()
		}
	}
}

func (c *Client) fingerprintPage(ctx context.Context, req *whorlv1.ListFingerprintsRequest) (*whorlv1.ListFingerprintsResponse, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	resp, err := c.status.ListFingerprints(ctx, req)
	return resp, c.callError(err)
}

// Forget makes the collector forget when fingerprints were first seen, so that
// they are new again, and returns how many they are. Without Confirm it only
// counts them.
func (c *Client) Forget(ctx context.Context, req *whorlv1.ForgetFingerprintsRequest) (matched uint64, err error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	resp, err := c.status.ForgetFingerprints(ctx, req)
	return resp.GetMatched(), c.callError(err)
}

// Reload makes the collector read its tables and rules again, all or nothing.
// When a file is refused, the error names it, the line and the reason, and what
// was in force stays.
func (c *Client) Reload(ctx context.Context) (*whorlv1.ReloadConfigResponse, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	resp, err := c.status.ReloadConfig(ctx, &whorlv1.ReloadConfigRequest{})
	return resp, c.callError(err)
}
