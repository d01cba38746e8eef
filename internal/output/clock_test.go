package output

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// A time of another day has its date, in the zone in which it is shown; a watch
// that runs over midnight sees the day change.
func TestDatesOfOtherDays(t *testing.T) {
	now := time.Date(2026, 11, 22, 23, 30, 0, 0, time.UTC)
	utc := Clock{Zone: time.UTC, Now: func() time.Time { return now }}
	east := Clock{Zone: time.FixedZone("east", 2*3600), Now: utc.Now}
	for _, tc := range []struct {
		clock Clock
		at    time.Time
		want  string
	}{
		{utc, now.Add(-time.Hour), "22:30:00"},
		{utc, now.Add(-24 * time.Hour), "2026-11-21 23:30:00"},
		{utc, now.Add(-365 * 24 * time.Hour), "2025-11-22 23:30:00"},
		{utc, now.Add(time.Hour), "2026-11-23 00:30:00"},
		{east, now.Add(-time.Hour), "00:30:00"},
		{east, now.Add(-2 * time.Hour), "2026-11-22 23:30:00"},
		{Clock{Zone: time.UTC}, now.Add(-24 * time.Hour), "23:30:00"},
	} {
		if got := tc.clock.text(timestamppb.New(tc.at)); got != tc.want {
			t.Errorf("%v: %s, want %s", tc.at, got, tc.want)
		}
	}
	now = now.Add(time.Hour)
	if got := utc.short(now.Add(-time.Hour)); got != "2026-11-22 23:30:00" {
		t.Errorf("behind midnight: %s, want yesterday's date", got)
	}
	if got := utc.text(nil); got != "" {
		t.Errorf("no time is %q", got)
	}
}
