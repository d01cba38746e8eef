package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/whorl-net/whorl/internal/fuzzguard"
)

var known = map[string][]string{
	"client":    {"collector", "timeout"},
	"collector": {"listen", "idle-timeout-tcp", "shards"},
	"probe":     {"interface", "label", "network"},
}

// Each value is read as a flag takes it, whatever YAML makes of it.
func TestValues(t *testing.T) {
	f, err := Parse("c.yaml", []byte(`
# comment
client: {collector: col:4750}
collector:
  shards: 016
  idle-timeout-tcp: 10m
  listen: [a:1, "b,c:2"]
probe:
  network: yes
  label: {site: b, zone: a}
  interface:
    - eth0
    - eth1
`))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Check(known); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		section, key, text string
		line               int
	}{
		{"client", "collector", "col:4750", 3}, {"collector", "shards", "016", 5}, {"collector", "idle-timeout-tcp", "10m", 6},
		{"collector", "listen", `a:1,b\,c:2`, 7}, {"probe", "network", "yes", 9}, {"probe", "label", "site=b,zone=a", 10},
		{"probe", "interface", "eth0,eth1", 11},
	} {
		v, ok := f.Lookup(tc.section, tc.key)
		if !ok || v.Text != tc.text || v.Line != tc.line {
			t.Errorf("%s.%s: %q in line %d, want %q in line %d", tc.section, tc.key, v.Text, v.Line, tc.text, tc.line)
		}
	}
	if _, ok := f.Lookup("client", "timeout"); ok {
		t.Error("found a key that is not there")
	}
	if _, ok := (*File)(nil).Lookup("client", "collector"); ok {
		t.Error("found a key in no file")
	}
}

// Each mistake is named with its line, and with what was probably meant.
func TestMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"collector:\n  idle-timout-tcp: 1m\n":                       `c.yaml:2: collector has no key "idle-timout-tcp"; did you mean idle-timeout-tcp?`,
		"collector:\n  zzz: 1\n":                                    `c.yaml:2: collector has no key "zzz"`,
		"collecter:\n  shards: 1\n":                                 `c.yaml:1: there is no section "collecter"; did you mean collector?`,
		"probe: {network: a}\nprobe: {network: b}\n":                `c.yaml:2: section "probe" is there twice`,
		"probe:\n  network: a\n  network: b\n":                      `c.yaml:3: probe has the key "network" twice`,
		"probe:\n  network:\n":                                      `c.yaml:2: network has no value`,
		"probe:\n  interface: [[a]]\n":                              `c.yaml:2: interface: want a list of plain values`,
		"probe:\n  label: {a: {b: c}}\n":                            `c.yaml:2: label: want plain values`,
		"probe: [a]\n":                                              "c.yaml:1: section \"probe\": want keys and values below it, such as\n  client:\n    collector: col.example.net:4750",
		"- a\n":                                                     `c.yaml:1: want sections such as client: or collector:`,
		"probe:\n\tnetwork: a\n":                                    `c.yaml: line 2: found character that cannot start any token`,
		"a: &x [1]\nprobe:\n  interface: *x\n":                      "c.yaml:1: section \"a\": want keys and values below it, such as\n  client:\n    collector: col.example.net:4750",
		"probe:\n  interface: &x a\n  network: *x\n":                `c.yaml:3: network: want a value or a list of values`,
		"probe:\n  interface: " + strings.Repeat("x", maxFileBytes): "c.yaml: is longer than 1048576 bytes",
	} {
		f, err := Parse("c.yaml", []byte(text))
		if err == nil {
			err = f.Check(known)
		}
		var wrong *Error
		if !errors.As(err, &wrong) || err.Error() != want {
			t.Errorf("%.60q\n got %v\nwant %s", text, err, want)
		}
	}
}

// A file without anything in it is fine, and so is a section without keys.
func TestEmptyFiles(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "probe:\n", "probe: {}\n"} {
		f, err := Parse("c.yaml", []byte(text))
		if err == nil {
			err = f.Check(known)
		}
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// The first file that exists is taken, alone; none is no error.
func TestFind(t *testing.T) {
	env := map[string]string{"HOME": "/h"}
	get := func(name string) string { return env[name] }
	if got, want := Paths(get), []string{"/h/.config/whorl/config.yaml", "/etc/whorl/config.yaml"}; !slices.Equal(got, want) {
		t.Errorf("paths %v, want %v", got, want)
	}
	env["XDG_CONFIG_HOME"] = "/x"
	if got, want := Paths(get), []string{"/x/whorl/config.yaml", "/etc/whorl/config.yaml"}; !slices.Equal(got, want) {
		t.Errorf("paths %v, want %v", got, want)
	}
	dir := t.TempDir()
	second := filepath.Join(dir, "2.yaml")
	if err := os.WriteFile(second, []byte("probe: {network: lab}"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Find([]string{filepath.Join(dir, "1.yaml"), second})
	if err != nil || f == nil || f.Path != second {
		t.Errorf("Find: %+v, %v; want %s", f, err, second)
	}
	if f, err := Find([]string{filepath.Join(dir, "1.yaml")}); f != nil || err != nil {
		t.Errorf("Find without a file: %+v, %v; want nothing", f, err)
	}
}

// No file, however odd, does more than fail with an Error.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "client:\n  collector: a:1\n", "a: [1, {b: c}]\n", "&a [*a]", "a: &b {c: *b}", "? [a]\n: b\n", "a: !!binary x\n", "\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzguard.Watch(t)
		file, err := Parse("c.yaml", data)
		if err == nil {
			err = file.Check(known)
		}
		var wrong *Error
		if err != nil && !errors.As(err, &wrong) {
			t.Fatalf("%q: %v is no *Error", data, err)
		}
	})
}
