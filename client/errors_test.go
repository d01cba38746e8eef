package client

import (
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What a stream finds wrong by itself says so without gRPC's words, and has the
// code for programs.
func TestTextOfAStream(t *testing.T) {
	err := fmt.Errorf("probe: %w", streamErrorf(codes.Aborted, "batch %d came out of order", 7))
	if err.Error() != "probe: batch 7 came out of order" || status.Code(err) != codes.Aborted {
		t.Errorf("%q, %v", err, status.Code(err))
	}
}

// The text of what came of a call is for people, its code and details for
// programs.
func TestTextOfACall(t *testing.T) {
	plain := errors.New("odd")
	for _, tc := range []struct {
		err  error
		want string
	}{
		{status.Error(codes.NotFound, "not tracked"), "collector h:1: not tracked"},
		{status.Error(codes.Unavailable, "error reading from server: EOF"), "collector h:1: the connection was cut: the other end closed it"},
		{status.Error(codes.Unavailable, "error reading from server: read tcp 127.0.0.1:1->127.0.0.1:2: read: connection reset by peer"), "collector h:1: the connection was cut: connection reset by peer"},
		{status.Error(codes.Unavailable, "keepalive ping failed to receive ACK within timeout"), "collector h:1: the connection was cut: the other end does not answer any more"},
		{plain, "collector h:1: odd"},
	} {
		got := &callError{addr: "h:1", err: tc.err}
		if got.Error() != tc.want {
			t.Errorf("%v:\n%s, want %s", tc.err, got, tc.want)
		}
		if status.Code(got) != status.Code(tc.err) || !errors.Is(got, tc.err) {
			t.Errorf("%v: code %v, want %v", tc.err, status.Code(got), status.Code(tc.err))
		}
	}
}
