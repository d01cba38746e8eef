package ja4plus

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/whorl-net/whorl/internal/fuzzguard"
)

// options concatenates option bytes.
func options(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

var (
	optMSS1460     = []byte{2, 4, 0x05, 0xb4}
	optScale6      = []byte{3, 3, 6}
	optTimestamps  = []byte{8, 10, 0, 0, 0, 1, 0, 0, 0, 0}
	optSACKAllowed = []byte{4, 2}
	optNop         = []byte{1}
	optEnd         = []byte{0}
)

// JA4T has the window, every option kind, the MSS and the window scale; what
// is missing is 00, and so is a scale of zero.
func TestSYN(t *testing.T) {
	tests := []struct {
		name    string
		window  uint16
		options []byte
		want    string
	}{
		{"macOS", 65535, options(optMSS1460, optNop, optScale6, optNop, optNop, optTimestamps, optSACKAllowed, optEnd, optEnd), "65535_2-1-3-1-1-8-4-0-0_1460_6"},
		{"MSS alone", 1024, optMSS1460, "1024_2_1460_00"},
		{"no options", 65535, nil, "65535_00_00_00"},
		{"window zero", 0, nil, "0_00_00_00"},
		{"scale zero is like none", 8192, options(optMSS1460, []byte{3, 3, 0}), "8192_2-3_1460_00"},
		{"scale has no padding", 8192, options(optMSS1460, []byte{3, 3, 14}), "8192_2-3_1460_14"},
		{"MSS has two digits at least", 1, []byte{2, 4, 0, 5}, "1_2_05_00"},
		{"MSS zero", 1, []byte{2, 4, 0, 0}, "1_2_00_00"},
		{"each NOP counts", 1, []byte{1, 1, 1}, "1_1-1-1_00_00"},
		{"end of list and its zero padding", 1, []byte{1, 0, 0, 0}, "1_1-0-0-0_00_00"},
		{"what is not zero behind the end stops", 1, []byte{1, 0, 0, 1, 0}, "1_1-0-0_00_00"},
		{"an MSS behind the end does not count", 1, options([]byte{0}, optMSS1460), "1_0_00_00"},
		{"length 0 ends the list", 1, []byte{1, 8, 0, 1}, "1_1_00_00"},
		{"length 1 ends the list", 1, []byte{1, 8, 1, 1}, "1_1_00_00"},
		{"an option past the header ends the list", 1, []byte{1, 8, 10, 0, 0}, "1_1_00_00"},
		{"a kind without length ends the list", 1, []byte{1, 8}, "1_1_00_00"},
		{"a broken first option leaves nothing", 1, []byte{2, 1}, "1_00_00_00"},
		{"the last MSS counts", 1, options(optMSS1460, []byte{2, 4, 0x02, 0x18}), "1_2-2_536_00"},
		{"an MSS of another length is listed only", 1, options([]byte{2, 3, 9}, []byte{1}), "1_2-1_00_00"},
		{"one of another length does not undo an MSS", 1, options(optMSS1460, []byte{2, 2}), "1_2-2_1460_00"},
		{"a scale of another length is listed only", 1, []byte{3, 4, 7, 7}, "1_3_00_00"},
		{"the last scale counts", 1, []byte{3, 3, 7, 3, 3, 2}, "1_3-3_00_2"},
		{"unknown kinds", 1, []byte{254, 4, 1, 2, 34, 2}, "1_254-34_00_00"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := SYN(tt.window, tt.options); got != tt.want {
				t.Errorf("SYN(%d, %x) = %s, want %s", tt.window, tt.options, got, tt.want)
			}
			if got := SYNACK(tt.window, tt.options); got != tt.want {
				t.Errorf("SYNACK(%d, %x) = %s, want %s", tt.window, tt.options, got, tt.want)
			}
		})
	}
}

// Nothing behind the 40 option bytes of a header is looked at, so a value is
// never longer than 127 bytes.
func TestSYNIsBounded(t *testing.T) {
	if got, want := SYN(1, bytes.Repeat([]byte{1}, 1000)), "1_"+strings.Repeat("1-", 39)+"1_00_00"; got != want {
		t.Errorf("SYN of 1000 NOPs = %s, want %s", got, want)
	}
	if _, ok := MSS(append(bytes.Repeat([]byte{1}, 40), optMSS1460...)); ok {
		t.Error("MSS behind byte 40 was found")
	}
}

// MSS reports the MSS that JA4T shows.
func TestMSS(t *testing.T) {
	tests := []struct {
		options []byte
		want    uint16
		ok      bool
	}{
		{nil, 0, false},
		{optMSS1460, 1460, true},
		{options(optMSS1460, []byte{2, 4, 0, 0}), 0, true},
		{[]byte{2, 3, 9}, 0, false},
		{options(optEnd, optMSS1460), 0, false},
	}
	for _, tt := range tests {
		if got, ok := MSS(tt.options); got != tt.want || ok != tt.ok {
			t.Errorf("MSS(%x) = %d, %v; want %d, %v", tt.options, got, ok, tt.want, tt.ok)
		}
	}
}

func TestAppendTCPDoesNotAllocate(t *testing.T) {
	o := options(optMSS1460, optNop, optScale6, optNop, optNop, optTimestamps, optSACKAllowed, optEnd, optEnd)
	dst := make([]byte, 0, 128)
	if n := testing.AllocsPerRun(100, func() {
		AppendTCP(dst, 65535, o)
		MSS(o)
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func FuzzSYN(f *testing.F) {
	f.Add(uint16(65535), options(optMSS1460, optNop, optScale6, optEnd, optEnd))
	f.Add(uint16(1), []byte{1, 0, 0, 1, 0})
	f.Add(uint16(1), []byte{2, 4, 0, 5, 8, 1})
	f.Fuzz(func(t *testing.T, window uint16, o []byte) {
		fuzzguard.Watch(t)
		got := SYN(window, o)
		if len(got) > 127 || strings.Count(got, "_") != 3 {
			t.Errorf("SYN(%d, %x) = %s", window, o, got)
		}
		mss, ok := MSS(o)
		if want := fmt.Sprintf("%02d", mss); strings.Split(got, "_")[2] != want || !ok && mss != 0 {
			t.Errorf("SYN(%d, %x) = %s, but MSS = %d, %v", window, o, got, mss, ok)
		}
	})
}

// BenchmarkSYN: one SYN of macOS; the value is the only allocation.
func BenchmarkSYN(b *testing.B) {
	o := options(optMSS1460, optNop, optScale6, optNop, optNop, optTimestamps, optSACKAllowed, optEnd, optEnd)
	b.ReportAllocs()
	var value string
	for b.Loop() {
		value = SYN(65535, o)
	}
	_ = value
}
