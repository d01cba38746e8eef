package enrich

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/whorl-net/whorl/internal/fuzzguard"
	"github.com/whorl-net/whorl/ja4"
)

// A file says what its entries say; what it leaves out has the stated default,
// and in a file of what is known to be bad everything is, unless it says
// otherwise.
func TestParseTable(t *testing.T) {
	const text = `
# a comment
version: 1
disable: [icedid, qakbot-server]
entries:
  - id: one
    app: "Ärger & Co"
    match:
      ja4s: t130200_1301_a56c5b993250
      ja4: [t13d1516h2_8daaf6152771_02713d6af862, t13d1516h2_*_02713d6af862, t13d15*]
    note: two parts
    confidence: 100
  - {id: two.b_2-x, bad: true, match: {ja4t: 1024_2_1460_00}}
  - {id: three, bad: false, app: A, match: {ja4h: ge11cn020000_9ed1ff1f7b03}}
`
	for _, bad := range []bool{false, true} {
		table, err := ParseTable("own.yaml", []byte(text), bad)
		if err != nil {
			t.Fatal(err)
		}
		if len(table.Entries) != 3 || len(table.Disable) != 2 || table.Disable[1] != (Disabled{"qakbot-server", 4}) {
			t.Fatalf("%d entries, disabled %v", len(table.Entries), table.Disable)
		}
		one, two, three := table.Entries[0], table.Entries[1], table.Entries[2]
		if one.ID != "one" || one.App != "Ärger & Co" || one.Bad != bad || one.Note != "two parts" || one.Confidence != 100 || one.Line != 6 || one.Source != "own.yaml" {
			t.Errorf("with bad %v: %+v", bad, one)
		}
		if one.signature() != "ja4:t13d15*,t13d1516h2_*_02713d6af862,t13d1516h2_8daaf6152771_02713d6af862 ja4s:t130200_1301_a56c5b993250 " {
			t.Errorf("matches %s", one.signature())
		}
		if !two.Bad || two.App != "" || two.Confidence != DefaultConfidence || two.Line != 13 {
			t.Errorf("%+v", two)
		}
		if three.Bad || three.signature() != "ja4h:ge11cn020000_9ed1ff1f7b03_* " {
			t.Errorf("%+v: %s", three, three.signature())
		}
	}
}

// What is wrong is refused, with the line and the reason.
func TestParseTableRefuses(t *testing.T) {
	const good = "t13d1516h2_8daaf6152771_02713d6af862"
	entry := func(lines string) string { return "version: 1\nentries:\n- " + strings.ReplaceAll(lines, "\n", "\n  ") }
	for text, want := range map[string]string{
		"":                                  "own.yaml: is empty",
		"# nothing":                         "own.yaml: is empty",
		"- a":                               "own.yaml:1: the file: want keys and values: version, entries, disable",
		"entries: []":                       "own.yaml:1: has no version: begin it with version: 1",
		"version: 2":                        `own.yaml:1: version: "2" is not 1, the only one there is`,
		"version: 1\nentrys: []":            `own.yaml:2: the file has no key "entrys"; did you mean entries?`,
		"version: 1\nrules: []":             `own.yaml:2: the file has no key "rules"; it has version, entries, disable`,
		"version: 1\nversion: 1":            `own.yaml:2: the file has the key "version" twice`,
		"version: 1\nentries:":              "own.yaml:2: entries has no value",
		"version: 1\nentries: {a: b}":       "own.yaml:2: entries: want a list",
		"version: 1\nentries: [a]":          "own.yaml:2: an entry: want keys and values: id, app, bad, note, confidence, match",
		"version: 1\n---\nversion: 1":       "own.yaml:2: holds a second document: want one",
		"version: 1\nentries:\n\t- id: a":   "own.yaml:3: found character that cannot start any token",
		"version: 1\nentries: [":            "own.yaml:2: did not find expected node content",
		"version: 1\nentries: &a []\nb: *a": `own.yaml:3: the file has no key "b"`,
		"version: 1\nentries: *a":           "own.yaml: unknown anchor 'a' referenced",
		"version: &a 1\nentries: *a":        "own.yaml:2: entries: an alias (*name) is not taken: write it out",
		"version: 1\ndisable: []":           "own.yaml:2: disable is empty",
		"version: 1\ndisable: {a: b}":       "own.yaml:2: disable: want a plain value or a list of them",
		entry("app: A"):                     `own.yaml:3: id: "" is not 1 to 64 lower-case letters, digits, '.', '_' or '-'`,
		entry("id: a\nname: A"):             `own.yaml:4: an entry has no key "name"`,
		entry("id: a\nid: b"):               `own.yaml:4: an entry has the key "id" twice`,
		entry("id: A\nmatch: {ja4: " + good + "}\napp: A"):                               `own.yaml:3: entry A: id: "A" is not 1 to 64 lower-case letters, digits, '.', '_' or '-'`,
		entry("id: " + strings.Repeat("a", 65) + "\nmatch: {ja4: " + good + "}\napp: A"): `own.yaml:3: entry aaaa`,
		entry("id: a\nmatch: {ja4: " + good + "}"):                                       "own.yaml:3: entry a: it says nothing: want an app, or bad: true",
		entry("id: a\napp: A"):                 "own.yaml:3: entry a: match: names no fingerprint",
		entry("id: a\napp: A\nmatch: {}"):      "own.yaml:3: entry a: match: names no fingerprint",
		entry("id: a\napp: A\nmatch: " + good): "own.yaml:5: match: want keys and values: ja4, ja4s",
		entry("id: a\napp: [A]"):               "own.yaml:4: app: want a plain value",
		entry("id: a\napp: ~"):                 "own.yaml:4: app has no value",
		entry("id: a\nbad: yes"):               `own.yaml:4: bad: "yes" is neither true nor false`,
		entry("id: a\nconfidence: 0"):          `own.yaml:4: confidence: "0" is not a number from 1 to 100`,
		entry("id: a\nconfidence: 101"):        `own.yaml:4: confidence: "101" is not a number from 1 to 100`,
		entry("id: a\nconfidence: high"):       `own.yaml:4: confidence: "high" is not a number from 1 to 100`,
		entry("id: a\nmatch: {ja4: " + good + "}\napp: " + strings.Repeat("x", 129)):                                         "own.yaml:3: entry a: app: want at most 128 bytes of printable text",
		entry("id: a\nmatch: {ja4: " + good + "}\napp: \"a\\x1b[31m\""):                                                      "own.yaml:3: entry a: app: want at most 128 bytes of printable text",
		entry("id: a\nmatch: {ja4: " + good + "}\nbad: true\nnote: \"a\\nb\""):                                               "own.yaml:3: entry a: note: want at most 255 bytes of printable text",
		entry("id: a\nmatch: {ja5: x}"):                                                                                      `own.yaml:4: match has no key "ja5"; did you mean ja4?`,
		entry("id: a\nmatch: {ja4: []}"):                                                                                     "own.yaml:4: ja4 is empty",
		entry("id: a\nmatch: {ja4: [[a]]}"):                                                                                  "own.yaml:4: ja4: want a plain value or a list of them",
		entry("id: a\nmatch: {ja4: [" + strings.Repeat(good+",", 257) + "]}"):                                                "own.yaml:4: ja4 has 257 values, at most 256",
		entry("id: a\nmatch: {ja4: t13d1516h2}"):                                                                             `own.yaml:4: ja4: "t13d1516h2" is not a ja4 fingerprint: want _ at ""`,
		entry("id: a\nmatch: {ja4: T13d1516h2_8daaf6152771_02713d6af862}"):                                                   `own.yaml:4: ja4: "T13d1516h2_8daaf6152771_02713d6af862" is not a ja4 fingerprint: want one of tqd`,
		entry("id: a\nmatch: {ja4: ''}"):                                                                                     `own.yaml:4: ja4: "" is not a ja4 fingerprint`,
		entry("id: a\nmatch: {ja4: 't13d 516h2'}"):                                                                           `own.yaml:4: ja4: "t13d 516h2" is not a ja4 fingerprint`,
		entry("id: a\nmatch: {ja4: 't13**'}"):                                                                                `own.yaml:4: ja4: "t13**" has ** in it`,
		entry("id: a\nmatch: {ja4: 't13*15_x'}"):                                                                             `own.yaml:4: ja4: "t13*15_x" has 2 parts, a ja4 fingerprint has 3`,
		entry("id: a\nmatch: {ja4: '*'}"):                                                                                    `own.yaml:4: ja4: "*" names too much: want at least 4 letters beside * and _`,
		entry("id: a\nmatch: {ja4: 't13*'}"):                                                                                 `own.yaml:4: ja4: "t13*" names too much`,
		entry("id: a\nmatch: {ja4: '*_*_*'}"):                                                                                `own.yaml:4: ja4: "*_*_*" names too much`,
		entry("id: a\nmatch: {ja4: 't13d1516h2_*'}\napp: A"):                                                                 "",
		entry("id: a\nmatch: {ja4: '*_8daaf6152771'}"):                                                                       `own.yaml:4: ja4: "*_8daaf6152771" has 2 parts, a ja4 fingerprint has 3: end it with _* if more may follow`,
		entry("id: a\nmatch: {ja4: '*_*_8daaf6152771_a'}"):                                                                   `own.yaml:4: ja4: "*_*_8daaf6152771_a" has 4 parts, a ja4 fingerprint has 3`,
		entry("id: a\nmatch: {ja4: '" + strings.Repeat("a", 256) + "*'}"):                                                    `own.yaml:4: ja4: "` + strings.Repeat("a", 80) + `…" has 257 bytes, at most 255`,
		entry("id: a\nbad: true\nmatch: {ja4s: t130200_1301_a56c5b993250}"):                                                  "own.yaml:3: entry a: match: ja4s alone can name nobody: most servers share a handful of ja4s values; combine it with another type",
		entry("id: a\napp: A\nmatch: {ja4l: '*_64_*', ja4s: t130200_1301_a56c5b993250}"):                                     "own.yaml:5: ja4l: \"*_64_*\" names too much",
		entry("id: a\napp: A\nmatch: {ja4l: 1234_64, ja4s: t130200_1301_a56c5b993250}"):                                      "own.yaml:3: entry a: match: ja4s and ja4l alone can name nobody: most servers share a handful of ja4s values, and a latency is a distance, not a name",
		"version: 1\nentries:\n- {id: a, app: A, match: {ja4: " + good + "}}\n- {id: a, app: B, match: {ja4: " + good + "}}": `own.yaml:4: id "a" is taken by the entry of line 3`,
		"version: 1\n#" + strings.Repeat("x", MaxFileBytes):                                                                  "own.yaml: is longer than 8388608 bytes",
	} {
		_, err := ParseTable("own.yaml", []byte(text), false)
		var wrong *FileError
		switch {
		case want == "" && err == nil:
		case want == "" || !errors.As(err, &wrong) || !strings.HasPrefix(err.Error(), want):
			t.Errorf("%.100q:\n got %v\nwant %s", text, err, want)
		}
	}
}

// Each published form of a value is understood as what it stands for.
func TestParsePattern(t *testing.T) {
	for _, tc := range []struct {
		typ       ja4.Type
		text      string
		as        string
		yes, no   []string
		mustExact bool
	}{
		{typ: ja4.TypeJA4H, text: "po10nn060000_cdb958d032b0", as: "po10nn060000_cdb958d032b0_*", yes: []string{"po10nn060000_cdb958d032b0_a_b"}, no: []string{"po10nn060000_cdb958d032b0", "po10nn060000_cdb958d032b0a_b_c"}},
		{typ: ja4.TypeJA4H, text: "ge11nn030000_fe444ad14866_000000000000_000000000000", as: "ge11nn030000_fe444ad14866_000000000000_000000000000", mustExact: true},
		{typ: ja4.TypeJA4H, text: "ge11nn0300*", as: "ge11nn0300*", yes: []string{"ge11nn030000_a_b_c"}},
		{typ: ja4.TypeJA4TS, text: "29200_2-1-1-4-1-3_1460_3_*", as: "29200_2-1-1-4-1-3_1460_3_*", yes: []string{"29200_2-1-1-4-1-3_1460_3_1-2"}, no: []string{"29200_2-1-1-4-1-3_1460_3"}},
		{typ: ja4.TypeJA4TS, text: "*_2-1-1-4-1-3_*_3", as: "*_2-1-1-4-1-3_*_3", yes: []string{"1_2-1-1-4-1-3_2_3"}},
		{typ: ja4.TypeJA4T, text: "65535_00_00_00", as: "65535_00_00_00", mustExact: true},
		{typ: ja4.TypeJA4L, text: "*_1234", as: "*_1234", yes: []string{"1_1234"}},
	} {
		p, err := parsePattern(tc.typ, tc.text)
		if err != nil || p.String() != tc.as || p.Exact() != tc.mustExact {
			t.Errorf("%v %s: %q, exact %v, %v", tc.typ, tc.text, p.String(), p.Exact(), err)
		}
		for _, v := range tc.yes {
			if !p.Match(v) {
				t.Errorf("%v %s does not match %s", tc.typ, tc.text, v)
			}
		}
		for _, v := range tc.no {
			if p.Match(v) {
				t.Errorf("%v %s matches %s", tc.typ, tc.text, v)
			}
		}
	}
}

// A file that cannot be read is named with its path, and one that is wrong too.
func TestReadTable(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "own.yaml")
	if err := os.WriteFile(path, []byte("version: 1\nentries: [x]"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadTable(path, false); err == nil || !strings.HasPrefix(err.Error(), path+":2: an entry") {
		t.Errorf("got %v", err)
	}
	if _, err := ReadTable(filepath.Join(dir, "none.yaml"), false); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(path, []byte("version: 1\nentries:\n- {id: a, app: A, match: {ja4t: 1_2_3_4}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if table, err := ReadTable(path, false); err != nil || table.Source != "own.yaml" || table.Entries[0].Source != "own.yaml" {
		t.Errorf("got %+v, %v", table, err)
	}
}

// Whatever a file holds, it is refused in words or its entries keep the limits
// and can be compiled.
func FuzzParseTable(f *testing.F) {
	f.Add(builtinData)
	f.Add([]byte("version: 1\nentries:\n- {id: a, app: A, bad: true, match: {ja4: [t13d*, \"*_8daaf6152771_*\"], ja4s: t130200_1301_a56c5b993250}}\ndisable: x\n"))
	f.Add([]byte("version: &a 1\nentries: *a\n---\n"))
	f.Add([]byte("? [a]\n: {<<: {b: c}}\n"))
	f.Add([]byte("version: 1\nentries:\n  - id: !!binary aGFsbG8=\n    match: {ja4t: 1024_2_1460_00, ja4t: 0x1_2_3_4}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzguard.Watch(t)
		table, err := ParseTable("fuzz.yaml", data, len(data)%2 == 0)
		if err != nil {
			var wrong *FileError
			if !errors.As(err, &wrong) || wrong.File != "fuzz.yaml" || wrong.Line < 0 || wrong.Reason == "" || len(err.Error()) > 1000 {
				t.Fatalf("error %q", err)
			}
			return
		}
		for _, e := range table.Entries {
			if reason := e.check(); reason != "" {
				t.Fatalf("entry %+v was taken: %s", e, reason)
			}
		}
		tables, err := Compile(table.Entries)
		if err != nil {
			return
		}
		// An entry is found by its own values.
		for _, e := range table.Entries {
			for i, p := range e.Parts {
				for k := range p.Patterns {
					if x := &p.Patterns[k]; x.Exact() && !hasHit(tables.Hits(p.Type, x.String(), nil), e, i) {
						t.Fatalf("%s is not found by %q", e.ID, x)
					}
				}
			}
		}
	})
}

func hasHit(hits []Hit, e *Entry, part int) bool {
	for _, h := range hits {
		if h.Entry == e && h.Part == part {
			return true
		}
	}
	return false
}

// ExampleParseTable shows the least that a file needs.
func ExampleParseTable() {
	table, err := ParseTable("own.yaml", []byte(`
version: 1
entries:
  - id: backup
    app: Our backup
    match: {ja4: t13d191000_9dc949149365_e7c285222651, ja4t: 62727_2-4-8-1-3_8961_7}
`), false)
	fmt.Println(len(table.Entries), table.Entries[0].App, err)
	// Output: 1 Our backup <nil>
}
