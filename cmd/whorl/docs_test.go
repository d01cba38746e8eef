package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The configuration file that the documentation shows is one.
func TestConfigExampleOfTheDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/command.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(text)
	if block == nil {
		t.Fatal("docs/command.md shows no configuration file")
	}
	file := testFile(t, "config.yaml", block[1])
	for _, name := range []string{"WHORL_COLLECTOR", "WHORL_INTERFACE", "WHORL_IDLE_TIMEOUT_TCP"} {
		t.Setenv(name, "") // what the tester has set is not what is tested
	}
	for command, want := range map[string]string{
		"collector": `(?m)^idle-timeout-tcp +10m +.*config\.yaml:\d+$`,
		"probe":     `(?m)^interface +eth0,eth1 +.*config\.yaml:\d+$`,
		"list":      `(?m)^collector +col\.example\.net:4750 +.*config\.yaml:\d+$`,
	} {
		out, talk, code := onTerminal(t, t.Context(), nil, command, "--config", file, "--print-config")
		if code != exitOK || !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%s: exit %d, %s%s; want a line like %s", command, code, out, talk, want)
		}
	}
}

// Each command of the table in the documentation exists, and each that exists
// is in the table.
func TestCommandsAreInTheDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/command.md")
	if err != nil {
		t.Fatal(err)
	}
	var c cli
	parser, err := newParser(&c, &console{})
	if err != nil {
		t.Fatal(err)
	}
	section, _, _ := strings.Cut(string(text), "## FILTER")
	for _, name := range commands(parser) {
		if !regexp.MustCompile("(?m)^\\| [^|]*`" + name + "[ `]").MatchString(section) {
			t.Errorf("docs/command.md has no line for %s", name)
		}
	}
}
