package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kong"

	"github.com/whorl-net/whorl/internal/config"
	"github.com/whorl-net/whorl/internal/units"
)

// commandOnly are flags that make no sense in a file.
var commandOnly = []string{"help", "config", "print-config"}

// BeforeResolve reads the configuration file, once the flags are known that say
// which.
func (g *globalFlags) BeforeResolve(ctx *kong.Context, con *console) error {
	if ctx.Selected() == nil {
		return nil
	}
	file, err := findConfig(ctx, con)
	if err != nil || file == nil {
		return err
	}
	if err := file.Check(knownKeys(ctx.Model)); err != nil {
		return err
	}
	con.file = file
	ctx.AddResolver(&fileResolver{file: file})
	return nil
}

// findConfig reads the file that --config or its variable names, else the first
// that exists. nil without one.
func findConfig(ctx *kong.Context, con *console) (*config.File, error) {
	var named string
	for _, f := range ctx.Flags() {
		if f.Name == "config" {
			named, _ = ctx.FlagValue(f).(string)
		}
	}
	if named == "" {
		file, err := config.Find(config.Paths(con.getenv))
		return file, explainConfig(err, "without one: --config /dev/null")
	}
	file, err := config.Read(named)
	if isMissing(err) {
		return nil, failf(exitUsage, "%s: there is no such file", named)
	}
	return file, explainConfig(err, "")
}

// explainConfig says of a file that cannot be read what it was to be read for,
// and what helps if it was not asked for.
func explainConfig(err error, help string) error {
	var path *fs.PathError
	if !errors.As(err, &path) {
		return err
	}
	f := failf(orForbidden(exitUsage, err), "configuration file %s: %v", path.Path, path.Err)
	if help != "" {
		f.hint(help)
	}
	return f
}

// knownKeys are the flags that each section of a file may hold.
func knownKeys(app *kong.Application) map[string][]string {
	known := map[string][]string{}
	for _, cmd := range app.Children {
		known[cmd.Name] = []string{}
		for _, group := range cmd.AllFlags(false) {
			for _, f := range group {
				if slices.Contains(commandOnly, f.Name) {
					continue
				}
				known[cmd.Name] = append(known[cmd.Name], f.Name)
				if inClientSection(f) && !slices.Contains(known[config.ClientSection], f.Name) {
					known[config.ClientSection] = append(known[config.ClientSection], f.Name)
				}
			}
		}
	}
	return known
}

func inClientSection(f *kong.Flag) bool { return f.Group != nil && f.Group.Key == "client" }

// fileResolver gives kong the values of a file, below flags and environment.
type fileResolver struct{ file *config.File }

// Validate has nothing left to do: the file was checked when it was read.
func (r *fileResolver) Validate(*kong.Application) error { return nil }

// Resolve returns the text of a flag, nil when the file has none.
func (r *fileResolver) Resolve(ctx *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if v, ok := lookup(r.file, ctx, flag); ok && !inEnvironment(flag) {
		return v.Text, nil
	}
	return nil, nil
}

func lookup(file *config.File, ctx *kong.Context, flag *kong.Flag) (config.Value, bool) {
	if slices.Contains(commandOnly, flag.Name) {
		return config.Value{}, false
	}
	if v, ok := file.Lookup(ctx.Selected().Name, flag.Name); ok {
		return v, true
	}
	if inClientSection(flag) {
		return file.Lookup(config.ClientSection, flag.Name)
	}
	return config.Value{}, false
}

// inEnvironment reports whether a flag's variable is set: see nameEnvironment.
func inEnvironment(flag *kong.Flag) bool { return len(flag.Envs) > 0 }

// printConfig prints each flag of the selected command, its value, and where
// that came from.
func printConfig(w io.Writer, ctx *kong.Context, con *console) error {
	file, err := findConfig(ctx, con)
	if err != nil {
		return err
	}
	onCommandLine := map[*kong.Flag]bool{}
	for _, p := range ctx.Path {
		if p.Flag != nil && !p.Resolved {
			onCommandLine[p.Flag] = true
		}
	}
	var found map[string]string
	if d, ok := ctx.Selected().Target.Addr().Interface().(defaulter); ok {
		found = d.defaults(con)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, group := range ctx.Selected().AllFlags(false) {
		for _, f := range group {
			if slices.Contains(commandOnly, f.Name) {
				continue
			}
			source := "default"
			if v, ok := lookup(file, ctx, f); ok {
				source = fmt.Sprintf("%s:%d", file.Path, v.Line)
			}
			if inEnvironment(f) {
				source = f.Envs[0]
			}
			if onCommandLine[f] {
				source = "flag"
			}
			text, ok := found[f.Name]
			if !ok || source != "default" {
				text = valueText(f.Target)
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\n", f.Name, text, source)
		}
	}
	return tw.Flush()
}

// defaulter is a command with flags whose default is found out when it runs.
type defaulter interface {
	// defaults says what each of these flags stands for when it is not given.
	defaults(c *console) map[string]string
}

// valueText is a value as one would type it.
func valueText(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case string:
		return x
	case []string:
		return strings.Join(x, ",")
	case moment:
		return x.text
	case time.Duration:
		return units.Duration(x)
	case fmt.Stringer:
		return x.String()
	case map[string]string:
		pairs := make([]string, 0, len(x))
		for k, v := range x {
			pairs = append(pairs, k+"="+v)
		}
		slices.Sort(pairs)
		return strings.Join(pairs, ",")
	}
	return fmt.Sprint(v.Interface())
}

// flagAtFront finds the flag that a complaint is about.
var flagAtFront = regexp.MustCompile(`^--([a-z0-9-]+)`)

// origin says where the value came from that a complaint beginning with a flag
// is about; "" when it was typed.
func (c *console) origin(complaint string) string {
	m := flagAtFront.FindStringSubmatch(complaint)
	if m == nil || slices.ContainsFunc(c.args, func(arg string) bool { return arg == m[0] || strings.HasPrefix(arg, m[0]+"=") }) {
		return ""
	}
	if name := environmentName(m[1]); os.Getenv(name) != "" {
		return name
	}
	if c.file == nil {
		return ""
	}
	v, ok := c.file.Lookup(c.command, m[1])
	if !ok {
		v, ok = c.file.Lookup(config.ClientSection, m[1])
	}
	if !ok {
		return ""
	}
	return fmt.Sprintf("%s:%d", c.file.Path, v.Line)
}
