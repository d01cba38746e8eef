package ja4

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/whorl-net/whorl/ja4/internal/notation"
)

// Every value that the reference captures give for a client hello is the hash
// of its raw form, and parses. The reference data lie beside the project and
// may be absent.
func TestReferenceValues(t *testing.T) {
	files, _ := filepath.Glob("../../shared/oracle/expected/*.json")
	if len(files) == 0 {
		t.Skip("no reference data in ../../shared/oracle/expected")
	}
	type entry struct {
		Type   string
		Values []string
		Value  string
		Raw    any
	}
	checked := 0
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var doc struct {
			Expect        []entry
			ReferenceOnly []entry `json:"reference_only"`
		}
		if err := json.Unmarshal(b, &doc); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, e := range append(doc.Expect, doc.ReferenceOnly...) {
			kind := strings.TrimSuffix(e.Type, "_abc")
			typ, err := ParseType(kind)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			values, raws := e.Values, textList(e.Raw)
			if e.Value != "" {
				values = append(values, e.Value)
			}
			for i, value := range values {
				if _, err := Parse(typ, value); err != nil {
					t.Errorf("%s: %v", filepath.Base(name), err)
				}
				if typ != TypeJA4 && typ != TypeJA4O || i >= len(raws) {
					continue
				}
				if got := hashRaw(raws[i]); got != value {
					t.Errorf("%s: %s hashes to %s, want %s", filepath.Base(name), raws[i], got, value)
				}
				checked++
			}
		}
	}
	if checked < 300 {
		t.Errorf("checked %d values, want several hundred", checked)
	}
}

// textList reads a JSON string or list of strings.
func textList(v any) (out []string) {
	switch v := v.(type) {
	case string:
		out = append(out, v)
	case []any:
		for _, e := range v {
			s, _ := e.(string)
			out = append(out, s)
		}
	}
	return out
}

// hashRaw hashes the two lists of an unhashed JA4.
func hashRaw(raw string) string {
	a, rest, _ := strings.Cut(raw, "_")
	b, c, _ := strings.Cut(rest, "_")
	v := notation.AppendHash([]byte(a+"_"), []byte(b))
	return string(notation.AppendHash(append(v, '_'), []byte(c)))
}
