package client

import (
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The text of what came of a call is for people, its code and details for
// programs.
func TestTextOfACall(t *testing.T) {
	plain := errors.New("odd")
	for _, tc := range []struct {
		err  error
		want string
	}{
		{status.Error(codes.NotFound, "not tracked"), "collector h:1: not tracked"},
		{status.Error(codes.Unavailable, "error reading from server: EOF"), "collector h:1: the connection was cut: error reading from server: EOF"},
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
