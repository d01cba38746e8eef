package main

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/whorl-net/whorl/client"
)

// flagNames say what people typed where a collector names a field of a request.
// An index, as in group_by[0], is left aside.
var flagNames = map[string]string{
	"group_by":         "--by",
	"limit":            "--top",
	"order_by":         "--order",
	"fields":           "--fields",
	"filter":           "FILTER",
	"id":               "KEY",
	"uid":              "KEY",
	"tuple.network":    "--network",
	"network":          "--network",
	"type":             "--type",
	"pattern":          "PATTERN",
	"first_seen_after": "--since",
	"since":            "--since",
	"after_cursor":     "--resume",
	"subscriber":       "--subscriber",
	"hello.probe_id":   "--probe-id",
	"hello.network":    "--network",
	"hello.labels":     "--label",
	"hello.interfaces": "--interface",
}

// flagOf is the flag or argument behind a field of a request, and the field
// itself where there is none.
func flagOf(field string) string {
	name, _, _ := strings.Cut(field, "[")
	if flag, ok := flagNames[name]; ok {
		return flag
	}
	return field
}

// explainStatus says what a status of the collector means to people: err is it
// with what was said around it.
func (c *console) explainStatus(s *status.Status, err error) *failure {
	// Of a status as gRPC gave it, its own words go.
	text := strings.Replace(err.Error(), fmt.Sprintf("rpc error: code = %s desc = ", s.Code()), "", 1)
	switch s.Code() {
	case codes.InvalidArgument:
		return failf(exitUsage, "%s", c.inFlags(s, err, text))
	case codes.DeadlineExceeded:
		return failf(exitUnreachable, "%s", strings.Replace(text, "context deadline exceeded", "no answer in time", 1)).hint("wait longer: --timeout 30s")
	case codes.Unavailable:
		if client.Reason(err) == "" { // gRPC's own: a connection broke
			return failf(exitUnreachable, "%s", strings.Replace(text, s.Message(), "it closed the connection", 1)).hint(
				"it may have been stopped: whorl status says when it is back")
		}
		return failf(exitUnreachable, "%s", text)
	case codes.ResourceExhausted:
		return failf(exitUnreachable, "%s", text)
	case codes.PermissionDenied, codes.Unauthenticated:
		return failf(exitForbidden, "%s", text)
	case codes.OutOfRange:
		return explainCursor(err, text)
	case codes.AlreadyExists:
		return failf(exitFailed, "%s", text).hint("give this one another name: --probe-id NAME")
	case codes.Unimplemented:
		return failf(exitFailed, "%s", strings.Replace(text, s.Message(), "it does not know this call", 1)).hint(
			"is it a collector, and of this version? whorl status; whorl version", "it said: "+strings.Map(printableLine, s.Message()))
	}
	return failf(exitFailed, "%s", text)
}

// inFlags says a complaint about a field of a request in the words of the
// command line, and without the address: it would be one anywhere.
func (c *console) inFlags(s *status.Status, err error, text string) string {
	field := client.Details(err)["field"]
	rest, ok := strings.CutPrefix(s.Message(), field+": ")
	if field == "" || !ok {
		return text
	}
	flag := flagOf(field)
	if flag == field {
		return text
	}
	return fmt.Sprintf("%s: %s: %s", c.command, flag, rest)
}

// explainCursor says what to do about a cursor from which the feed does not go
// on.
func explainCursor(err error, text string) *failure {
	f := failf(exitIncomplete, "%s", text)
	if oldest := client.Details(err)["oldest_cursor"]; oldest != "" {
		return f.hint("start at the oldest that is kept: whorl watch --oldest", "or behind a gap:                  whorl watch --resume "+oldest)
	}
	return f
}

// printableLine keeps what is harmless in a line on a terminal: whoever answers
// on a port may say anything.
func printableLine(r rune) rune {
	if r < ' ' || r > '~' {
		return '?'
	}
	return r
}

// statusOf returns the gRPC status that err carries, with its own message.
func statusOf(err error) (*status.Status, bool) {
	var s interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &s) || s.GRPCStatus() == nil {
		return nil, false
	}
	return s.GRPCStatus(), true
}
