package anomaly

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/whorl-net/whorl/internal/fuzzguard"
)

const ownRule = "rules:\n- id: own\n  severity: low\n  text: x\n"

// What is wrong with a file is said with its line, and nothing of it is used.
func TestRefused(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"no YAML", "a: b: c", "rules.yaml: yaml: mapping values are not allowed"},
		{"a list", "- a", "rules.yaml:1: the file is not a list of keys and values"},
		{"an unknown section", "rule:\n- id: x", `rules.yaml:1: the file has no key "rule": it has allow, builtin, rules, version; did you mean rules?`},
		{"another version", "version: 2", "rules.yaml:1: version is 2, want a whole number from 1 to 1"},
		{"a section twice", "rules: []\nrules: []", "rules.yaml:2: the file has rules twice"},
		{"an unknown built-in rule", "builtin:\n  port-scn: {}", `rules.yaml:2: builtin has no key "port-scn"`},
		{"an unknown setting", "builtin:\n  port-scan:\n    treshold: 3", `rules.yaml:3: port-scan has no key "treshold": it has enabled, keys, severity, threshold, window; did you mean threshold?`},
		{"a setting of another rule", "builtin:\n  reverse-ssh: {threshold: 3}", `rules.yaml:2: reverse-ssh has no key "threshold"`},
		{"a threshold of none", "builtin:\n  port-scan: {threshold: 0}", "rules.yaml:2: threshold is 0, want a whole number from 1 to 16777216"},
		{"a negative threshold", "builtin:\n  port-scan: {threshold: -1}", "rules.yaml:2: threshold is -1"},
		{"a window without unit", "builtin:\n  port-scan: {window: 60}", `rules.yaml:2: window is "60", want a time from 1s to 24h, such as 90s or 5m`},
		{"a window too long", "builtin:\n  port-scan: {window: 25h}", `rules.yaml:2: window is "25h"`},
		{"a severity", "builtin:\n  port-scan: {severity: bad}", `rules.yaml:2: severity is "bad", want low, medium, high or critical`},
		{"a switch", "builtin:\n  port-scan: {enabled: maybe}", `rules.yaml:2: enabled is "maybe", want true or false`},
		{"a score", "builtin:\n  beacon-fast: {score: 7}", "rules.yaml:2: score is 7, want 0.5 to 1"},
		{"no number as score", "builtin:\n  beacon-fast: {score: NaN}", "rules.yaml:2: score is NaN"},
		{"intervals", "builtin:\n  beacon-fast: {intervals: 17}", "rules.yaml:2: intervals is 17, want a whole number from 4 to 16"},
		{"a range", "builtin:\n  beacon-fast: {shortest: 2m}", "rules.yaml:2: beacon-fast: shortest is 2m, longest 1m"},
		{"a port", "builtin:\n  beacon-fast: {except-ports: [70000]}", "rules.yaml:2: except-ports is 70000"},
		{"a prefix", "builtin:\n  tunnel-mss: {networks: [10.0.0.0]}", `rules.yaml:2: networks: "10.0.0.0" is not a prefix such as 10.0.0.0/8`},
		{"a list for one value", "builtin:\n  port-scan: {threshold: [1]}", "rules.yaml:2: threshold has no single value"},
		{"an alias", "rules: &a []\n", "rules.yaml:1: anchors and aliases are not supported"},
		{"no id", "rules:\n- severity: low\n  text: x\n  filter: port:1", "rules.yaml:2: a rule has no id"},
		{"a bad id", "rules:\n- id: Own\n", `rules.yaml:2: id "Own": want lower-case letters, digits and -`},
		{"the id of a built-in rule", "rules:\n- id: port-scan\n", "rules.yaml:2: there is a rule port-scan already"},
		{"no severity", "rules:\n- id: own\n  text: x\n  filter: port:1", "rules.yaml:2: rule own has no severity: low, medium, high or critical"},
		{"no text", "rules:\n- id: own\n  severity: low\n  filter: port:1", "rules.yaml:2: rule own has no text"},
		{"a place that is none", ownRule[:len(ownRule)-2] + "'{source}'\n  filter: port:1", "rules.yaml:4: text: {source} is not one of {src}"},
		{"an open place", ownRule[:len(ownRule)-2] + "'{src'\n  filter: port:1", "rules.yaml:4: text: {src has no }"},
		{"nothing to look for", ownRule, "rules.yaml:2: rule own has neither a filter nor something to count"},
		{"a filter", ownRule + "  filter: prt:1", `rules.yaml:5: filter, column 1: "prt" is not a filter word; did you mean port?`},
		{"a filter that looks at rules", ownRule + "  filter: new:true", "rules.yaml:5: filter: the word new works in no rule"},
		{"a filter that looks at the clock", ownRule + "  filter: after:5m", "rules.yaml:5: filter: the word after works in no rule"},
		{"enrichment while counting", ownRule + "  key: src\n  threshold: 1\n  window: 1m\n  filter: -app:Go", "rules.yaml:8: filter: the word app is not known while a connection is only counted"},
		{"no key", ownRule + "  threshold: 1\n  window: 1m", "rules.yaml:2: rule own counts, but has no key such as [src]"},
		{"no window", ownRule + "  key: src\n  threshold: 1", "rules.yaml:2: rule own counts, but lacks threshold or window"},
		{"a key", ownRule + "  key: source\n  threshold: 1\n  window: 1m", `rules.yaml:5: key: "source" is not a field`},
		{"a prefix of a port", ownRule + "  key: dst.port/8\n  threshold: 1\n  window: 1m", `rules.yaml:5: key: "dst.port/8" is not a field`},
		{"a prefix too long", ownRule + "  key: src/33\n  threshold: 1\n  window: 1m", `rules.yaml:5: key: "src/33" is not a field`},
		{"a trigger", ownRule + "  on: closed\n  key: src\n  threshold: 1\n  window: 1m", `rules.yaml:5: on: "closed" is neither opened nor a fingerprint type`},
		{"fingerprints of opened connections", ownRule + "  distinct: fp\n  key: src\n  threshold: 1\n  window: 1m", "rules.yaml:2: rule own counts fingerprints (fp): say which, as in on: [ja4]"},
		{"too much state", ownRule + "  key: src\n  distinct: dst\n  threshold: 300\n  window: 1m\n  keys: 1048576", "rules.yaml: the rules may come to remember"},
		{"everything allowed", "allow:\n- id: x", "rules.yaml:2: an allow entry that names nothing would silence everything"},
		{"known-bad allowed", "allow:\n- rules: known-bad", "rules.yaml:2: known-bad is not silenced as a whole"},
		{"known-bad with rules", "allow:\n- known-bad: x\n  rules: port-scan", "rules.yaml:2: an allow entry with known-bad silences these entries only"},
		{"a rule that is not there", "allow:\n- rules: portscan", `rules.yaml:2: there is no rule "portscan" before this entry`},
		{"too large", "#" + strings.Repeat("x", MaxFileBytes), "rules.yaml: has 1048577 bytes, at most 1048576"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rs, err := Load(File{"rules.yaml", []byte(tt.text)})
			var mistake *Error
			if err == nil || rs != nil || !errors.As(err, &mistake) {
				t.Fatalf("rules %v, error %v", rs, err)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v\nwant %s", err, tt.want)
			}
		})
	}
}

// All mistakes of a file are said at once, up to twenty.
func TestAllMistakes(t *testing.T) {
	_, err := Load(File{"rules.yaml", []byte("builtin:\n  port-scan: {threshold: 0, window: x}\nallow:\n- id: x\n")})
	if n := strings.Count(err.Error(), "\n") + 1; n != 3 {
		t.Errorf("%d mistakes, want 3:\n%v", n, err)
	}
	_, err = Load(File{"rules.yaml", []byte("allow:\n" + strings.Repeat("- id: x\n", 50))})
	if n := strings.Count(err.Error(), "\n") + 1; n != 21 {
		t.Errorf("%d lines, want 21", n)
	}
}

// Files are joined; a rule cannot be there twice, nor settings of one.
func TestSeveralFiles(t *testing.T) {
	one := File{"one.yaml", []byte("builtin: {port-scan: {threshold: 5}}\nrules:\n- {id: own, severity: low, text: x, filter: 'port:1'}\n")}
	two := File{"two.yaml", []byte("rules:\n- {id: other, severity: low, text: x, filter: 'port:1'}\nallow:\n- rules: [own, other]\n")}
	rs, err := Load(one, two, File{"empty.yaml", nil}, File{"version.yaml", []byte("version: 1\n")})
	if err != nil || rs.Rule("own") == nil || rs.Rule("other").Source != "two.yaml" || !rs.Allows() {
		t.Fatal(rs, err)
	}
	if _, err := Load(one, one); err == nil || !strings.Contains(err.Error(), "port-scan has settings already") || !strings.Contains(err.Error(), "there is a rule own already") {
		t.Errorf("the same file twice: %v", err)
	}
}

// LoadFiles says which file cannot be read.
func TestLoadFiles(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "rules.yaml")
	if _, err := LoadFiles(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := os.WriteFile(name, []byte("builtin: {port-scan: {enabled: false}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	rs, err := LoadFiles(name)
	if err != nil || rs.Rule(rulePortScan) != nil || len(rs.All()) != 15 {
		t.Errorf("%v, %v", rs, err)
	}
	if err := os.WriteFile(name, make([]byte, MaxFileBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadFiles(name); err == nil || !strings.Contains(err.Error(), "at most 1048576") {
		t.Errorf("a file too large: %v", err)
	}
}

// The state of the built-in rules stays under 80 MiB.
func TestStateBytes(t *testing.T) {
	if n := Builtin().StateBytes(); n < 1<<20 || n > 80<<20 {
		t.Errorf("the built-in rules may take %d MB", n>>20)
	}
}

// Whatever the file is, Load ends with rules that work or with an error.
func FuzzLoad(f *testing.F) {
	f.Add([]byte("builtin:\n  port-scan: {threshold: 5, window: 2h, severity: critical, enabled: true, keys: 64}\n"))
	f.Add([]byte("builtin:\n  beacon-fast: {score: 0.8, intervals: 5, shortest: 1s, longest: 2s, except-ports: [1, 2]}\n  tunnel-mss: {networks: [10.0.0.0/8]}\n"))
	f.Add([]byte(ownRule + "  key: [src/24, dst.port]\n  on: [ja4, opened]\n  distinct: sni\n  threshold: 3\n  window: 1m\n  sliding: true\n  filter: '-port:53 ja4:t13*'\n"))
	f.Add([]byte("allow:\n- {id: x, rules: [port-scan], filter: 'src:10.0.0.0/8'}\n- known-bad: [a, b]\n"))
	f.Add([]byte("a: &a [*a, *a]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzguard.Watch(t)
		rs, err := Load(File{"f", data})
		if err != nil {
			var mistake *Error
			if !errors.As(err, &mistake) {
				t.Errorf("error %v is not an *Error", err)
			}
			return
		}
		if rs.StateBytes() > 64<<20 {
			return
		}
		e := NewEngine(rs, 1)
		s := bad()
		for i := range 8 {
			ev := opened("10.0.0.5", "192.0.2.1", uint16(i), 0)
			e.Event(ev, 0, func(*Raised) {})
			e.Event(shown("10.0.0.5", "192.0.2.1", 1, 1, "v", 0), 0, func(*Raised) {})
		}
		rs.Judge(s, nil, nil)
	})
}

// The file in the documentation is one that works, and every built-in rule has
// its line there with its severity.
func TestDocumentation(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "anomalies.md"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	_, file, _ := strings.Cut(text, "```yaml\n")
	file, _, _ = strings.Cut(file, "```")
	if rs := load(t, file); rs.Rule("telnet-fan-out") == nil || rs.Rule(ruleBeaconSlow) != nil || !rs.Allows() {
		t.Error("the file of the documentation does not say what it says")
	}
	names := []string{"", "low", "medium", "high", "critical"}
	for _, r := range Builtin().All() {
		if line := "| `" + r.ID + "` | " + names[r.Severity] + " | "; !strings.Contains(text, line) {
			t.Errorf("there is no line %q", line)
		}
	}
}
