package client

import (
	"context"
	"iter"

	"google.golang.org/protobuf/proto"

	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// All walks the live connections that match, page by page. A connection that is
// alive during the whole walk appears exactly once. An error ends the walk and
// is its last element. req is not changed; its PageToken says where to begin.
//
// Use Pages for the table size or the feed cursor of a walk, Export for dumps of
// a whole table.
func (c *Client) All(ctx context.Context, req *whorlv1.AllRequest) iter.Seq2[*whorlv1.Connection, error] {
	return func(yield func(*whorlv1.Connection, error) bool) {
		for page, err := range c.Pages(ctx, req) {
			if err != nil {
				yield(nil, err)
				return
			}
			for _, conn := range page.GetConnections() {
				if !yield(conn, nil) {
					return
				}
			}
		}
	}
}

// Pages is All in whole pages. Each holds the feed cursor that was taken before
// the walk began: a Watch that starts there misses no eviction of a connection
// listed here.
func (c *Client) Pages(ctx context.Context, req *whorlv1.AllRequest) iter.Seq2[*whorlv1.AllResponse, error] {
	return func(yield func(*whorlv1.AllResponse, error) bool) {
		req := proto.CloneOf(req)
		for {
			page, err := c.page(ctx, req)
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(page, nil) || page.GetNextPageToken() == "" {
				return
			}
			req.PageToken = page.GetNextPageToken()
		}
	}
}

func (c *Client) page(ctx context.Context, req *whorlv1.AllRequest) (*whorlv1.AllResponse, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	resp, err := c.tracker.All(ctx, req)
	return resp, c.callError(err)
}

// Export streams the whole table, in messages of many connections each. The
// last message, and no other, holds the feed cursor that was taken before the
// walk began; a walk without it is incomplete. An error ends the walk and is
// its last element. It takes as long as it takes: only ctx bounds it.
func (c *Client) Export(ctx context.Context, req *whorlv1.ExportRequest) iter.Seq2[*whorlv1.ExportResponse, error] {
	return func(yield func(*whorlv1.ExportResponse, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // a caller that stops early ends the stream
		stream, err := c.tracker.Export(ctx, req)
		if err != nil {
			yield(nil, c.callError(err))
			return
		}
		for {
			resp, err := stream.Recv()
			switch {
			case ended(err):
				return
			case err != nil:
				yield(nil, c.callError(err))
				return
			case !yield(resp, nil):
				return
			}
		}
	}
}
