package service

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/whorl-net/whorl/internal/analyst"
	"github.com/whorl-net/whorl/internal/filter"
	"github.com/whorl-net/whorl/internal/pattern"
	"github.com/whorl-net/whorl/ja4"
)

// inventoryPatterns returns the patterns of q in terms of what is remembered: of
// a ja4h the first two parts, of a ja4ts the first four. It refuses what could
// match nothing: a type that is not remembered, and a pattern with a number of
// parts that no value has. What it returns means the same for ever, so that it
// can be logged; how to read one is checked by inventoryMatch.
func inventoryPatterns(q inventoryQuery) ([]string, error) {
	if n := len(q.GetPattern()); n > filter.MaxPatterns {
		return nil, badLength("pattern", n, fmt.Sprintf("at most %d", filter.MaxPatterns))
	}
	typ, err := ja4.ParseType(q.GetType())
	if q.GetType() == "" || err != nil {
		typ = 0
	} else if _, remembered := analyst.Remembered(typ, ""); !remembered {
		return nil, badField(ReasonBadField, "type", q.GetType(),
			"a type that is remembered: ja4, ja4s, ja4h, ja4x, ja4t, ja4ts, ja4d or ja4d6; values of the others hardly ever come again")
	}
	var patterns []string
	for i, text := range q.GetPattern() {
		p, err := pattern.Parse(text)
		switch {
		case err != nil:
			patterns = append(patterns, text)
		case typ != 0:
			err := fitsRemembered(&p, typ)
			if err == nil && typ == ja4.TypeJA4H && !p.Exact() {
				err = narrowsByCookies(text)
			}
			if err != nil {
				return nil, badPattern(i, text, err)
			}
			cut, _ := analyst.Remembered(typ, text)
			patterns = append(patterns, cut)
		default:
			if err := fitsAnything(&p); err != nil {
				return nil, badPattern(i, text, err)
			}
			patterns = append(patterns, text)
			// A whole ja4h has its own shape, a pattern could be one of a ja4t; five
			// parts are those of a ja4ts.
			switch n := strings.Count(text, "_"); {
			case n == 3 && p.Exact():
				text, _ = analyst.Remembered(ja4.TypeJA4H, text)
				patterns = append(patterns, text)
			case n == 4:
				text, _ = analyst.Remembered(ja4.TypeJA4TS, text)
				patterns = append(patterns, text)
			}
		}
	}
	return patterns, nil
}

// fitsRemembered is Fits for what is remembered of a type.
func fitsRemembered(p *pattern.Pattern, typ ja4.Type) error {
	if parts, _ := p.Parts(); typ == ja4.TypeJA4H && len(parts) == 2 {
		return nil
	}
	return p.Fits(typ)
}

// narrowsByCookies returns an error for a pattern of a whole ja4h that says more
// of the cookies than that there are such parts: they are not remembered, and who
// forgets some would forget all.
func narrowsByCookies(text string) error {
	if parts := strings.Split(text, "_"); len(parts) == 4 && (parts[2] != "*" || parts[3] != "*") {
		return errors.New("narrows by parts 3 and 4, the cookies, which are not remembered: want * for both")
	}
	return nil
}

// fitsAnything returns an error if no type is remembered whose values p fits.
func fitsAnything(p *pattern.Pattern) error {
	for typ := ja4.TypeJA4; typ < ja4.NumTypes; typ++ {
		if _, remembered := analyst.Remembered(typ, ""); remembered && fitsRemembered(p, typ) == nil {
			return nil
		}
	}
	parts, _ := p.Parts()
	return fmt.Errorf("has %d parts, as no fingerprint has that is remembered", len(parts))
}

// badPattern reports a pattern; the text of err goes on behind it.
func badPattern(i int, text string, err error) error {
	field := fmt.Sprintf("pattern[%d]", i)
	return withDetails(
		status.Newf(codes.InvalidArgument, "%s: %s %v", field, quote(text), err),
		&errdetails.ErrorInfo{
			Reason: ReasonBadField, Domain: ErrorDomain,
			Metadata: map[string]string{"field": field, "got": clip(text), "want": err.Error()},
		},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: field, Description: err.Error()},
		}},
	)
}
