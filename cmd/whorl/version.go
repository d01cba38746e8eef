package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/whorl-net/whorl/internal/output"
)

// version is set by the linker of a release; otherwise the module's is shown.
var version = ""

// build is what this binary was made from.
type build struct{ Version, Commit, Go, API string }

func thisBuild() build {
	b := build{Version: version, Go: runtime.Version(), API: "whorl.v1"}
	info, ok := debug.ReadBuildInfo()
	if ok && b.Version == "" {
		b.Version = info.Main.Version
	}
	if b.Version == "" || b.Version == "(devel)" {
		b.Version = "devel"
	}
	if ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				b.Commit = s.Value
			}
		}
	}
	return b
}

// versionCmd prints what this binary is.
type versionCmd struct {
	Output output.Format `group:"output" short:"o" default:"table" placeholder:"FORMAT" help:"table, or json for scripts (default ${default})."`
}

func (*versionCmd) examples() []string {
	return []string{"whorl version", "whorl version -o json | jq -r .version"}
}

// Run prints it.
func (cmd *versionCmd) Run(_ context.Context, c *console) error {
	b := thisBuild()
	if cmd.Output == output.JSON || cmd.Output == output.JSONL {
		_, err := fmt.Fprintf(c.out, "{\"version\":%q,\"commit\":%q,\"go\":%q,\"api\":%q}\n", b.Version, b.Commit, b.Go, b.API)
		return err
	}
	line := "whorl " + b.Version
	if b.Commit != "" {
		line += " (" + b.Commit[:min(12, len(b.Commit))] + ")"
	}
	_, err := fmt.Fprintf(c.out, "%s, %s, %s\n", line, b.Go, b.API)
	return err
}
