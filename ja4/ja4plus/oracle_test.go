package ja4plus

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/whorl-net/whorl/ja4"
)

// oracle is where the expected values of recorded captures lie, beside the
// project. They are not part of it.
const oracle = "../../../shared/oracle/expected"

type expectation struct {
	Type         string
	Values, Raw  []string
	RawOriginal  []string          `json:"raw_original_order"`
	SessionTypes map[string]string `json:"ssh_session_types"`
	MSS          []uint16          `json:"mss_values"`
}

func expectations(t *testing.T) []expectation {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(oracle, "*.json"))
	if err != nil || len(files) == 0 {
		t.Skipf("no expected values in %s", oracle)
	}
	var all []expectation
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var doc struct {
			Expect   []expectation
			Disputed []struct {
				Type, Value string
				Adopted     bool
			}
		}
		if err := json.Unmarshal(b, &doc); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all = append(all, doc.Expect...)
		for _, d := range doc.Disputed {
			if d.Adopted {
				all = append(all, expectation{Type: d.Type, Values: []string{d.Value}})
			}
		}
	}
	return all
}

// A request rebuilt from each published raw form gives the published value, the
// same raw form, and the published form in original order.
func TestOracleJA4H(t *testing.T) {
	checked := 0
	for _, e := range expectations(t) {
		if e.Type != "ja4h" {
			continue
		}
		for i, raw := range e.RawOriginal {
			names, cookies := splitRaw(t, raw)
			var r Request
			method := map[string]string{"ge": "GET", "po": "POST", "co": "CONNECT"}[raw[:2]]
			r.Reset(method, raw[2:4])
			for _, name := range names {
				value := "x"
				if strings.EqualFold(name, "accept-language") {
					value = strings.TrimRight(raw[8:12], "0")
				}
				r.Add(name, value)
			}
			if raw[4] == 'c' {
				r.Add("Cookie", strings.Join(cookies, "; "))
			}
			if raw[5] == 'r' {
				r.Add("Referer", "x")
			}
			got := r.Event()
			if got.Value != e.Values[i] || got.Raw != e.Raw[i] {
				t.Errorf("%s gives %+v\nwant %s\nraw %s", raw, got, e.Values[i], e.Raw[i])
			}
			if got := r.OriginalOrder(); got.Value != raw {
				t.Errorf("original order %s\nwant %s", got.Value, raw)
			}
			checked++
		}
	}
	t.Logf("%d requests", checked)
	if checked == 0 {
		t.Error("no ja4h among the expected values")
	}
}

// splitRaw returns the header names and the cookie pairs of a ja4h_ro. Names
// of cookies may hold underscores; the pairs repeat the names, which tells
// where they begin.
func splitRaw(t *testing.T, raw string) (names, cookies []string) {
	t.Helper()
	head, rest, _ := strings.Cut(raw[13:], "_")
	if head != "" {
		names = strings.Split(head, ",")
	}
	for i := range len(rest) {
		if rest[i] != '_' {
			continue
		}
		keys, pairs := strings.Split(rest[:i], ","), rest[i+1:]
		if rest[:i] == "" && pairs == "" {
			return names, nil
		}
		if cookies := splitPairs(keys, pairs); len(cookies) == len(keys) {
			return names, cookies
		}
	}
	t.Fatalf("cannot split %s", raw)
	return nil, nil
}

// splitPairs cuts pairs at the commas before the keys in order, nil if they do
// not fit.
func splitPairs(keys []string, pairs string) (cookies []string) {
	for i, key := range keys {
		if !strings.HasPrefix(pairs, key+"=") {
			return nil
		}
		end := len(pairs)
		if i+1 < len(keys) {
			if end = strings.Index(pairs, ","+keys[i+1]+"="); end < 0 {
				return nil
			}
		}
		cookies = append(cookies, pairs[:end])
		pairs = strings.TrimPrefix(pairs[end:], ",")
	}
	return cookies
}

// The session types that are published for JA4SSH values.
func TestOracleSSHSession(t *testing.T) {
	for _, e := range expectations(t) {
		for value, want := range e.SessionTypes {
			if got := SSHSessionType(value); got != want {
				t.Errorf("SSHSessionType(%s) = %q, want %q", value, got, want)
			}
		}
	}
}

// Options rebuilt from each expected JA4T and JA4TS give it again, and the MSS.
func TestOracleJA4T(t *testing.T) {
	for _, e := range expectations(t) {
		if e.Type != ja4.TypeJA4T.String() && e.Type != ja4.TypeJA4TS.String() {
			continue
		}
		for i, value := range e.Values {
			window, options := tcpHeader(t, value)
			if got := SYN(window, options); got != value {
				t.Errorf("SYN(%d, %x) = %s, want %s", window, options, got, value)
			}
			if got, _ := MSS(options); i < len(e.MSS) && got != e.MSS[i] {
				t.Errorf("MSS of %s = %d, want %d", value, got, e.MSS[i])
			}
		}
	}
}

// tcpHeader builds a header that has the given JA4T.
func tcpHeader(t *testing.T, value string) (window uint16, options []byte) {
	t.Helper()
	part := strings.Split(value, "_")
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("%s: %v", value, err)
		}
		return n
	}
	if part[1] == "00" {
		return uint16(number(part[0])), nil
	}
	for kind := range strings.SplitSeq(part[1], "-") {
		switch k := number(kind); k {
		case 0, 1:
			options = append(options, byte(k))
		case 2:
			mss := number(part[2])
			options = append(options, 2, 4, byte(mss>>8), byte(mss))
		case 3:
			options = append(options, 3, 3, byte(number(part[3])))
		case 8:
			options = append(options, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0)
		default:
			options = append(options, byte(k), 2)
		}
	}
	return uint16(number(part[0])), options
}
