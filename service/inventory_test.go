package service

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/whorl-net/whorl/ja4"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// Patterns of the inventory are checked as those of filters are, and a whole
// value finds what is remembered of it. What no fingerprint can match is refused
// and not answered with nothing.
func TestInventoryPatterns(t *testing.T) {
	const (
		hello   = "t13d1516h2_8daaf6152771_02713d6af862"
		request = "ge11cn020000_9ed1ff1f7b03_cd8dafe26982_0123456789ab"
		kept    = "ge11cn020000_9ed1ff1f7b03"
		syn     = "64240_2-4-8-1-3_1460_7"
		synAck  = "65160_2-4-8-1-3_1460_7_1-2"
	)
	r := newRig(t, Config{})
	p, _ := r.report(helloOf("edge", "s"))
	batch := packets(1, time.Second, 1)
	for typ, value := range map[ja4.Type]string{ja4.TypeJA4: hello, ja4.TypeJA4H: request, ja4.TypeJA4T: syn, ja4.TypeJA4TS: synAck} {
		batch = withFingerprint(batch, typ, value)
	}
	p.batch(batch)
	p.acked(1)
	for _, tc := range []struct {
		typ, pattern string
		want         string // values, sorted
		refused      string // part of the message
	}{
		{pattern: "", want: "64240_2-4-8-1-3_1460_7 65160_2-4-8-1-3_1460_7 " + kept + " " + hello},
		{pattern: hello, want: hello},
		{pattern: "t13d*_*_02713d6af862", want: hello},
		{typ: "ja4", pattern: "t13d*", want: hello},
		{pattern: request, want: kept},
		{pattern: kept, want: kept},
		{typ: "ja4h", pattern: request, want: kept},
		{typ: "ja4h", pattern: kept, want: kept},
		{typ: "ja4h", pattern: "ge11*_9ed1*", want: kept},
		{typ: "ja4h", pattern: "ge11*_*_*_*", want: kept},
		{typ: "ja4h", pattern: "ge11*_*_*_0123*", refused: "narrows by parts 3 and 4"},
		{typ: "ja4ts", pattern: synAck, want: "65160_2-4-8-1-3_1460_7"},
		{pattern: synAck, want: "65160_2-4-8-1-3_1460_7"},
		{pattern: "65160_*_*_*_1-2", want: "65160_2-4-8-1-3_1460_7"},
		{pattern: "*_*_1460_7", want: "64240_2-4-8-1-3_1460_7 65160_2-4-8-1-3_1460_7"},
		{pattern: "abc", want: ""},
		{pattern: "t13d**", refused: `pattern[0]: "t13d**" is not a fingerprint`},
		{typ: "ja4", pattern: "t13d*x", refused: `pattern[0]: "t13d*x" has 1 part, a ja4 fingerprint has 3`},
		{typ: "ja4", pattern: "a_b_c_*", refused: "has 4 parts, a ja4 fingerprint has 3"},
		{pattern: "a_b_c_d_e_f_*", refused: "has 7 parts, as no fingerprint has"},
		{typ: "ja4l", refused: "type that is remembered"},
		{typ: "ja5", refused: "a fingerprint type such as"},
	} {
		req := &whorlv1.ListFingerprintsRequest{Type: tc.typ}
		if tc.pattern != "" {
			req.Pattern = []string{tc.pattern}
		}
		resp, err := r.status.ListFingerprints(t.Context(), req)
		if tc.refused != "" {
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), tc.refused) {
				t.Errorf("%s %q: %v, want a refusal: %s", tc.typ, tc.pattern, err, tc.refused)
			}
			continue
		}
		var got []string
		for _, f := range resp.GetFingerprints() {
			got = append(got, f.GetValue())
		}
		slices.Sort(got)
		if err != nil || strings.Join(got, " ") != tc.want {
			t.Errorf("%s %q: %v, %v; want %s", tc.typ, tc.pattern, got, err, tc.want)
		}
		if tc.pattern == "" {
			continue
		}
		counted, err := r.status.ForgetFingerprints(t.Context(), &whorlv1.ForgetFingerprintsRequest{Type: tc.typ, Pattern: req.Pattern})
		if err != nil || counted.GetMatched() != uint64(len(got)) {
			t.Errorf("%s %q: forget would forget %v, %v; want %d", tc.typ, tc.pattern, counted, err, len(got))
		}
	}

	many := make([]string, 64)
	for i := range many {
		many[i] = fmt.Sprintf("ge11cn02000%d_9ed1ff1f7b03_a_%d", i%10, i)
	}
	if _, err := r.status.ListFingerprints(t.Context(), &whorlv1.ListFingerprintsRequest{Pattern: many}); err != nil {
		t.Errorf("as many patterns as a filter may have: %v", err)
	}
	if _, err := r.status.ListFingerprints(t.Context(), &whorlv1.ListFingerprintsRequest{Pattern: append(many, "x")}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("one more: %v, want a refusal", err)
	}

	// What is forgotten is what was shown.
	resp, err := r.status.ForgetFingerprints(t.Context(), &whorlv1.ForgetFingerprintsRequest{Pattern: []string{request}, Confirm: true})
	if err != nil || resp.GetMatched() != 1 {
		t.Errorf("forget a whole ja4h: %v, %v; want 1", resp, err)
	}
}
