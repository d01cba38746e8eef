package ja4plus

import (
	"math"
	"testing"
	"time"
	"unsafe"
)

// step is one call of a SYNACKRetries test: at is the capture time.
type step struct {
	at   time.Duration
	do   string // "synack", "client", "reset"
	want string // "" means no event
}

// Each repeated SYN-ACK, until the client answers, makes the value longer by
// the delay in whole seconds; a reset of the server ends it.
func TestSYNACKRetries(t *testing.T) {
	const s = time.Second
	base := "65535_2-1-3_1460_6"
	tests := []struct {
		name  string
		steps []step
	}{
		{"answered at once", []step{{0, "synack", base}, {s, "client", ""}, {2 * s, "synack", ""}}},
		{"the two examples of the text", []step{
			{0, "synack", base}, {1 * s, "synack", base + "_1"}, {3 * s, "synack", base + "_1-2"},
			{7 * s, "synack", base + "_1-2-4"}, {15 * s, "synack", base + "_1-2-4-8"},
			{21 * s, "reset", base + "_1-2-4-8-R6"}, {22 * s, "synack", ""}, {23 * s, "reset", ""}}},
		{"delays are rounded to the nearest second", []step{
			{0, "synack", base}, {1499 * time.Millisecond, "synack", base + "_1"},
			{2999 * time.Millisecond, "synack", base + "_1-2"}}},
		{"half a second is one, less is none", []step{
			{0, "synack", base}, {s/2 - 1, "synack", base + "_0"}, {s - 1, "synack", base + "_0-1"}}},
		{"a reset without repetition adds nothing", []step{{0, "synack", base}, {s, "reset", ""}, {2 * s, "synack", ""}}},
		{"a bare reset is no JA4TS", []step{{0, "reset", ""}, {s, "synack", ""}}},
		{"a client that answers ends it before the reset", []step{
			{0, "synack", base}, {s, "synack", base + "_1"}, {2 * s, "client", ""}, {3 * s, "reset", ""}}},
		{"120 seconds of silence are allowed", []step{{0, "synack", base}, {120 * s, "synack", base + "_120"}}},
		{"more than 120 seconds end it", []step{{0, "synack", base}, {120*s + 1, "synack", ""}, {121 * s, "synack", ""}}},
		{"a reset after more than 120 seconds adds nothing", []step{
			{0, "synack", base}, {s, "synack", base + "_1"}, {121*s + 1, "reset", ""}}},
		{"one captured out of order adds nothing", []step{
			{5 * s, "synack", base}, {4 * s, "synack", ""}, {6 * s, "synack", base + "_1"}, {5 * s, "reset", ""}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r SYNACKRetries
			for i, st := range tt.steps {
				var got string
				var ok bool
				switch st.do {
				case "synack":
					o := optMSS1460
					if i == 0 {
						o = options(optMSS1460, optNop, optScale6)
					}
					got, ok = r.SYNACK(int64(st.at), uint16(65535-i), o)
				case "client":
					r.Answered()
				case "reset":
					got, ok = r.Reset(int64(st.at))
				}
				if got != st.want || ok != (st.want != "") {
					t.Errorf("step %d (%s at %v) = %q, %v; want %q", i, st.do, st.at, got, ok, st.want)
				}
			}
		})
	}
}

// At most ten delays are listed, but a reset behind them still counts, from
// the last SYN-ACK on.
func TestSYNACKRetriesListsTenDelays(t *testing.T) {
	var r SYNACKRetries
	last := ""
	for i := range 15 {
		if v, ok := r.SYNACK(int64(i)*int64(time.Second), 1, nil); ok {
			last = v
		}
	}
	const want = "1_00_00_00_1-1-1-1-1-1-1-1-1-1"
	if last != want {
		t.Errorf("after 15 SYN-ACKs %q, want %q", last, want)
	}
	if got, _ := r.Reset(int64(16 * time.Second)); got != want+"-R2" {
		t.Errorf("Reset = %q, want %q", got, want+"-R2")
	}
	if !r.Done() {
		t.Error("not done after a reset")
	}
}

func TestSYNACKRetriesSurvivesAbsurdTimes(t *testing.T) {
	var r SYNACKRetries
	r.SYNACK(math.MinInt64, 1, nil)
	if v, ok := r.SYNACK(math.MaxInt64, 1, nil); ok || !r.Done() {
		t.Errorf("a difference beyond 64 bits gave %q, %v; done %v", v, ok, r.Done())
	}
}

func TestStateSizes(t *testing.T) {
	for _, tt := range []struct {
		name      string
		got, want uintptr
	}{
		{"SYNACKRetries", unsafe.Sizeof(SYNACKRetries{}), 32},
		{"TCPLatency", unsafe.Sizeof(TCPLatency{}), 32},
		{"SSHWindow", unsafe.Sizeof(SSHWindow{}), 24},
		{"sshCounts", unsafe.Sizeof(sshCounts{}), sshBlock},
		{"QUICLatency", unsafe.Sizeof(QUICLatency{}), 32},
	} {
		if tt.got > tt.want {
			t.Errorf("%s has %d bytes, want at most %d", tt.name, tt.got, tt.want)
		}
	}
}
