package output

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// Clock says how times are shown to people. The zero Clock shows local times
// without the date.
type Clock struct {
	// Zone is the time zone; nil is local.
	Zone *time.Location
	// Now tells which day is today: times of other days are shown with their
	// date. nil shows no dates.
	Now func() time.Time
}

const (
	timeOfDay  = "15:04:05"
	dateOfTime = "2006-01-02 15:04:05"
)

// in is t in the zone of the clock.
func (c Clock) in(t time.Time) time.Time {
	if c.Zone == nil {
		return t.Local()
	}
	return t.In(c.Zone)
}

// short shows a time of today as hour, minute and second, any other with its
// date.
func (c Clock) short(t time.Time) string {
	t = c.in(t)
	if c.Now == nil {
		return t.Format(timeOfDay)
	}
	now := c.in(c.Now())
	if t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format(timeOfDay)
	}
	return t.Format(dateOfTime)
}

// text is short of a time that may be missing.
func (c Clock) text(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return c.short(t.AsTime())
}

// long shows a time with its date, and to the microsecond.
func (c Clock) long(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return c.in(t.AsTime()).Format("2006-01-02 15:04:05.000000 -07:00")
}
