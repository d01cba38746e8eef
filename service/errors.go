package service

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/whorl-net/whorl/internal/feed"
	"github.com/whorl-net/whorl/internal/log"
	"github.com/whorl-net/whorl/tracker"
)

// ErrorDomain is the domain of every ErrorInfo this package sends.
const ErrorDomain = "whorl.v1"

// Reasons of ErrorInfo. They are API: never renamed, never reused.
const (
	ReasonBadField       = "BAD_FIELD"       // a request field must be fixed; metadata: field, got, want
	ReasonBadFilter      = "BAD_FILTER"      // metadata: field, column, word, suggestion
	ReasonBadAddress     = "BAD_ADDRESS"     // as BAD_FIELD
	ReasonBadID          = "BAD_ID"          // as BAD_FIELD
	ReasonBadCursor      = "BAD_CURSOR"      // as BAD_FIELD
	ReasonBadToken       = "BAD_TOKEN"       // as BAD_FIELD
	ReasonBadMessage     = "BAD_MESSAGE"     // a stream message out of turn or unreadable
	ReasonNotTracked     = "NOT_TRACKED"     // metadata when evicted lately: evicted_cursor, evicted_sequence, evicted_at, cause
	ReasonTokenEpoch     = "TOKEN_EPOCH"     // the page token is of an earlier life of the collector
	ReasonCursorGone     = "CURSOR_GONE"     // metadata: oldest_cursor, and lost_count when known
	ReasonProbeTaken     = "PROBE_TAKEN"     // another session of this probe id is live; metadata: probe_id
	ReasonSuperseded     = "SUPERSEDED"      // a newer stream of this session took over
	ReasonTooManyProbes  = "TOO_MANY_PROBES" // metadata: limit
	ReasonTooManyReaders = "TOO_MANY_READERS"
	ReasonTooManyGroups  = "TOO_MANY_GROUPS"
	ReasonTooManyNames   = "TOO_MANY_NAMES" // more networks or probe ids than the tracker keeps apart
	ReasonSlowReader     = "SLOW_READER"    // metadata: resume_cursor
	ReasonTooLarge       = "TOO_LARGE"
	ReasonDraining       = "DRAINING"
	ReasonLogFull        = "LOG_FULL"
	ReasonLogUnwritable  = "LOG_UNWRITABLE" // nothing can be made durable now
	ReasonRestoring      = "RESTORING"      // the collector has just started and reads its state
	ReasonWrongProbe     = "WRONG_PROBE"    // the probe id is not a name of the certificate
	ReasonBadConfig      = "BAD_CONFIG"     // a file of tables or rules was refused; metadata: file, line
	ReasonUnavailable    = "NOT_IN_THIS_BUILD"
)

// badField reports one request field the caller must fix. field is its path in
// the request; want says what would have been accepted.
func badField(reason, field, got, want string) error {
	return withDetails(
		status.Newf(codes.InvalidArgument, "%s: %s is not %s", field, quote(got), want),
		&errdetails.ErrorInfo{
			Reason: reason, Domain: ErrorDomain,
			Metadata: map[string]string{"field": field, "got": clip(got), "want": want},
		},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: field, Description: "want " + want},
		}},
	)
}

// badNumber is badField for a number.
func badNumber[T ~uint32 | ~uint64 | ~int64 | ~int](field string, got T, want string) error {
	return withDetails(
		status.Newf(codes.InvalidArgument, "%s: %d is not %s", field, got, want),
		&errdetails.ErrorInfo{
			Reason: ReasonBadField, Domain: ErrorDomain,
			Metadata: map[string]string{"field": field, "got": fmt.Sprint(got), "want": want},
		},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: field, Description: "want " + want},
		}},
	)
}

// badLength is badField for something too long, too short or too many.
func badLength(field string, got int, want string) error {
	return withDetails(
		status.Newf(codes.InvalidArgument, "%s: has length %d, want %s", field, got, want),
		&errdetails.ErrorInfo{
			Reason: ReasonBadField, Domain: ErrorDomain,
			Metadata: map[string]string{"field": field, "got": strconv.Itoa(got), "want": want},
		},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: field, Description: "want length " + want},
		}},
	)
}

// failure is a status with a reason, metadata in pairs, and nothing else.
func failure(code codes.Code, reason, message string, pairs ...string) error {
	return withDetails(status.New(code, message), info(reason, pairs))
}

// retryLater is a failure that goes away by itself: the caller may try again
// after the delay.
func retryLater(code codes.Code, reason string, after time.Duration, message string, pairs ...string) error {
	return withDetails(status.New(code, message), info(reason, pairs),
		&errdetails.RetryInfo{RetryDelay: durationpb.New(after)})
}

func info(reason string, pairs []string) *errdetails.ErrorInfo {
	i := &errdetails.ErrorInfo{Reason: reason, Domain: ErrorDomain}
	if len(pairs) > 0 {
		i.Metadata = make(map[string]string, len(pairs)/2)
		for k := 0; k+1 < len(pairs); k += 2 {
			i.Metadata[pairs[k]] = pairs[k+1]
		}
	}
	return i
}

// withDetails attaches details. A detail that cannot be marshalled is our bug;
// the status without it is still right.
func withDetails(s *status.Status, details ...protoadapt.MessageV1) error {
	with, err := s.WithDetails(details...)
	if err != nil {
		return s.Err()
	}
	return with.Err()
}

// retryDelay is what RetryInfo says where nothing better is known; the client's
// own backoff is jittered on top.
const retryDelay = time.Second

// errDraining refuses new work while the collector shuts down.
func errDraining() error {
	return retryLater(codes.Unavailable, ReasonDraining, retryDelay, "the collector is shutting down: try again, elsewhere if you can")
}

// toStatus is the one place where the errors of the parts below become statuses.
// A status stays what it is. What is not known here is our bug: it must be logged,
// for the status tells nothing of our inside.
func toStatus(err error) (_ error, known bool) {
	if _, ok := status.FromError(err); ok {
		return err, true
	}
	switch {
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, "the call was cancelled"), true
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, "the deadline of the call passed"), true
	case errors.Is(err, errStopping), errors.Is(err, feed.ErrClosed),
		errors.Is(err, log.ErrClosed), errors.Is(err, tracker.ErrStopped):
		return errDraining(), true
	case errors.Is(err, log.ErrUnavailable):
		return errUnwritable(), true
	case errors.Is(err, log.ErrTooLarge):
		return failure(codes.ResourceExhausted, ReasonTooLarge, "the batch is larger than the log of this collector"), true
	case errors.Is(err, tracker.ErrFull):
		return failure(codes.ResourceExhausted, ReasonTooManyNames, "no room for another network or probe id"), true
	}
	return status.Error(codes.Internal, "internal error"), false
}

// quote is strconv.Quote of at most 80 bytes: what a caller sent comes back
// readable and bounded.
func quote(s string) string { return strconv.Quote(clip(s)) }

func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return toValid(s)
	}
	return toValid(s[:most]) + "..."
}

// toValid makes s fit for a proto string.
func toValid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// reasonOf returns the reason of an error that this package made, "" otherwise.
func reasonOf(err error) string {
	for _, d := range status.Convert(err).Details() {
		if i, ok := d.(*errdetails.ErrorInfo); ok {
			return i.GetReason()
		}
	}
	return ""
}
