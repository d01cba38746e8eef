package main

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
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

// flagsByName are the flags of all commands.
func flagsByName(t *testing.T) map[string][]*kong.Flag {
	t.Helper()
	var c cli
	parser, err := newParser(&c, &console{})
	if err != nil {
		t.Fatal(err)
	}
	flags := map[string][]*kong.Flag{}
	for _, cmd := range parser.Model.Children {
		for _, f := range flagsOf(cmd) {
			flags[f.Name] = append(flags[f.Name], f)
		}
	}
	return flags
}

// notOurs are flags of other programs that the documentation shows.
var notOurs = []string{"plaintext", "user", "now", "no-block", "count-only", "help"}

// Each flag that the documentation names exists, and the page about the command
// names each that exists.
func TestFlagsAreInTheDocs(t *testing.T) {
	flags := flagsByName(t)
	named := map[string]bool{}
	for _, page := range []string{"../../README.md", "../../docs/command.md", "../../docs/operations.md", "../../docs/reliability.md", "../../docs/tables.md", "../../docs/anomalies.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("(?:^|[\\s`(\\[/])--([a-z0-9]+(?:-[a-z0-9]+)*)").FindAllStringSubmatch(string(text), -1) {
			if flags[m[1]] == nil && !slices.Contains(notOurs, m[1]) {
				t.Errorf("%s names --%s, which no command has", page, m[1])
			}
			if strings.HasSuffix(page, "command.md") {
				named[m[1]] = true
			}
		}
	}
	page, err := os.ReadFile("../../docs/command.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, of := range flags {
		short := of[0].Short
		if !named[name] && (short == 0 || !regexp.MustCompile("`-"+string(short)+"[ `]").Match(page)) {
			t.Errorf("docs/command.md does not name --%s", name)
		}
	}
}

// A default that a table of the page about the command gives is the one of the
// flag.
func TestDefaultsOfTheDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/command.md")
	if err != nil {
		t.Fatal(err)
	}
	flags, checked := flagsByName(t), 0
	for _, m := range regexp.MustCompile("(?m)^\\| ((?:`--[a-z-]+(?: [A-Z:=]+)?` ?)+)\\| ((?:`[^`]+` ?)+)\\|").FindAllStringSubmatch(string(text), -1) {
		names := regexp.MustCompile("--([a-z-]+)").FindAllStringSubmatch(m[1], -1)
		defaults := regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(m[2], -1)
		for i, name := range names {
			want := defaults[min(i, len(defaults)-1)][1]
			if !slices.ContainsFunc(flags[name[1]], func(f *kong.Flag) bool { return f.Default == want || f.Default == want+"s" }) {
				t.Errorf("docs/command.md says that --%s is %s without one", name[1], want)
			}
			checked++
		}
	}
	if checked < 20 {
		t.Errorf("only %d defaults were found", checked)
	}
}

// The exit codes of the page are those of the program.
func TestExitCodesAreInTheDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/command.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range []int{exitOK, exitFailed, exitUsage, exitNothing, exitUnreachable, exitForbidden, exitIncomplete, exitKilled} {
		if !strings.Contains(string(text), "\n| "+strconv.Itoa(code)+" | ") {
			t.Errorf("docs/command.md has no exit code %d", code)
		}
	}
}
