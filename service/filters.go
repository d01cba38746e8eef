package service

import (
	"errors"
	"strconv"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/whorl-net/whorl/internal/filter"
	"github.com/whorl-net/whorl/internal/wire"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// filtered is what every request with a filter has.
type filtered interface {
	GetFilter() string
	GetInclude() []*whorlv1.ConnectionFilter
	GetExclude() []*whorlv1.ConnectionFilter
}

// compileFilter compiles the filters of a request; src has what is not in it.
// Errors are of type *filter.Error.
func compileFilter(req filtered, src filter.Source) (*filter.Filter, error) {
	src.Text, src.Include, src.Exclude = req.GetFilter(), req.GetInclude(), req.GetExclude()
	return filter.Compile(src)
}

// badFilter reports a filter that does not compile: its field, and the column in
// a line of text.
func badFilter(err error) error {
	var e *filter.Error
	if !errors.As(err, &e) {
		return err
	}
	meta := map[string]string{"field": e.Field}
	for k, v := range map[string]string{"word": e.Word, "suggestion": e.Suggestion} {
		if v != "" {
			meta[k] = toValid(v)
		}
	}
	if e.Column > 0 {
		meta["column"] = strconv.Itoa(e.Column)
	}
	text := toValid(e.Error())
	return withDetails(
		status.New(codes.InvalidArgument, text),
		&errdetails.ErrorInfo{Reason: ReasonBadFilter, Domain: ErrorDomain, Metadata: meta},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: e.Field, Description: text},
		}},
	)
}

// projected is what every request has that says which parts are wanted.
type projected interface {
	GetView() whorlv1.ConnectionView
	GetFields() []string
}

// projection reads view, fields and, where the request has them, the types.
func projection(req projected) (wire.Projection, error) {
	var types []string
	if t, ok := req.(interface{ GetFingerprintTypes() []string }); ok {
		types = t.GetFingerprintTypes()
	}
	p, err := wire.NewProjection(req.GetView(), req.GetFields(), types)
	if err != nil {
		return p, badMalformed(err)
	}
	return p, nil
}

// badMalformed reports a *wire.MalformedError.
func badMalformed(err error) error {
	var e *wire.MalformedError
	if !errors.As(err, &e) {
		return err
	}
	return withDetails(
		status.New(codes.InvalidArgument, toValid(e.Error())),
		&errdetails.ErrorInfo{Reason: ReasonBadField, Domain: ErrorDomain, Metadata: map[string]string{"field": e.Field}},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: e.Field, Description: toValid(e.Problem)},
		}},
	)
}
