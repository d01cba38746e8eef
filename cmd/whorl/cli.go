package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/whorl-net/whorl/internal/suggest"
)

// cli is the whole command line. The order is that of the help.
type cli struct {
	globalFlags

	Collector  collectorCmd    `cmd:"" help:"Take batches from probes, track, answer, serve the feed."`
	Probe      probeCmd        `cmd:"" help:"Capture an interface or read files, and report to a collector."`
	Run        runCmd          `cmd:"" help:"Collector and probe in one process, for first use."`
	FP         fpCmd           `cmd:"" name:"fp" help:"Print the fingerprints of capture files."`
	Get        getCmd          `cmd:"" help:"Show one live connection."`
	Count      countCmd        `cmd:"" help:"Count live connections, also by groups."`
	List       listCmd         `cmd:"" help:"List live connections."`
	Watch      watchCmd        `cmd:"" help:"Follow the feed of evicted connections."`
	Inventory  fingerprintsCmd `cmd:"" name:"fingerprints" help:"Show, or forget, which fingerprints each network has shown."`
	Flush      flushCmd        `cmd:"" help:"Evict live connections through the feed."`
	Status     statusCmd       `cmd:"" help:"Show the state of the collector."`
	Probes     probesCmd       `cmd:"" help:"Show the fleet of probes."`
	Reload     reloadCmd       `cmd:"" help:"Make the collector read its tables and rules again."`
	Rules      rulesCmd        `cmd:"" help:"Check rules for anomalies, or try them on captures."`
	Doctor     doctorCmd       `cmd:"" help:"Check this host and the collector, and say what to do."`
	Selftest   selftestCmd     `cmd:"" help:"Run the embedded conformance vectors of every fingerprint type."`
	Completion completionCmd   `cmd:"" help:"Print a completion script."`
	Version    versionCmd      `cmd:"" help:"Print version, commit, Go and API package."`
}

// globalFlags are there for all commands.
type globalFlags struct {
	Config      string `group:"all" placeholder:"FILE" help:"Configuration file (default: the first that exists of $XDG_CONFIG_HOME/whorl/config.yaml and /etc/whorl/config.yaml)."`
	PrintConfig bool   `group:"all" help:"Print each effective value and where it came from, then exit."`
	Quiet       bool   `group:"all" short:"q" help:"Errors only on standard error."`
	Verbose     int    `group:"all" short:"v" type:"counter" help:"Say more; repeat for still more."`
	LogFormat   string `group:"all" enum:"text,json" default:"text" placeholder:"FORMAT" help:"Logs on standard error: text or json (default ${default})."`
	Color       string `group:"all" enum:"auto,always,never" default:"auto" placeholder:"WHEN" help:"Colours: auto, always or never (default ${default}; auto obeys NO_COLOR)."`
}

// command is what every sub-command is.
type command interface {
	Run(ctx context.Context, c *console) error
}

// exampler is a command with two lines to paste, shown at the end of its help.
type exampler interface{ examples() []string }

// checker is a command whose flags can contradict one another.
type checker interface{ check() error }

var groups = []kong.Group{
	{Key: "capture", Title: "Capture:"},
	{Key: "types", Title: "Fingerprints:"},
	{Key: "report", Title: "Reporting:"},
	{Key: "listen", Title: "Listening:"},
	{Key: "keep", Title: "What survives a restart:"},
	{Key: "table", Title: "Table and feed:"},
	{Key: "know", Title: "What is known:"},
	{Key: "start", Title: "Where to start:"},
	{Key: "end", Title: "When to end:"},
	{Key: "select", Title: "What to show:"},
	{Key: "output", Title: "Output:"},
	{Key: "client", Title: "The collector to talk to:"},
	{Key: "all", Title: "All commands:"},
}

// errHelped ends parsing after help was printed.
var errHelped = errors.New("help was printed")

// newParser builds the command line into c.
func newParser(c *cli, con *console, extra ...kong.Option) (*kong.Kong, error) {
	opts := append([]kong.Option{
		kong.Name("whorl"),
		kong.Description("Tracks connections of many networks and their JA4+ fingerprints."),
		kong.Writers(con.out, con.err),
		kong.ExplicitGroups(groups),
		kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 110, NoExpandSubcommands: true, FlagsLast: true, Compact: true}),
		kong.Help(printHelp),
		kong.Exit(func(int) { panic(errHelped) }), // kong knows no other way out of --help
		kong.PostBuild(nameEnvironment),
		kong.ValueFormatter(flagHelp),
		kong.Bind(con),
	}, extra...)
	return kong.New(c, opts...)
}

// nameEnvironment gives every flag its environment variable. An empty one is as
// good as none.
func nameEnvironment(k *kong.Kong) error {
	return kong.Visit(k.Model.Node, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok && flag.Name != "help" {
			name := environmentName(flag.Name)
			if os.Getenv(name) == "" {
				return next(nil)
			}
			flag.Envs = []string{name}
			flag.Value.Tag.Envs = flag.Envs
		}
		return next(nil)
	})
}

// environmentName is the variable of a flag.
func environmentName(flag string) string {
	return "WHORL_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// flagHelp is the help text of a flag. The environment variable follows from
// its name, so it is said once, at the end, and not in every line.
func flagHelp(value *kong.Value) string { return value.Help }

// printHelp is kong's help with the groups in our order, and with commands to
// paste at its end.
func printHelp(opts kong.HelpOptions, ctx *kong.Context) error {
	var text bytes.Buffer
	stdout := ctx.Stdout
	ctx.Stdout = &text
	err := kong.DefaultHelpPrinter(opts, ctx)
	ctx.Stdout = stdout
	if err != nil {
		return err
	}
	if _, err := io.WriteString(stdout, inGroupOrder(text.String())); err != nil {
		return err
	}
	if node := ctx.Selected(); node != nil && takesFilter(node) {
		fmt.Fprint(ctx.Stdout, "\n"+filterHelp())
	}
	fmt.Fprintln(ctx.Stdout, "\nEvery flag is also an environment variable: --log-format is WHORL_LOG_FORMAT.")
	lines := []string{"whorl fp capture.pcap", "sudo whorl run -i eth0"}
	if node := ctx.Selected(); node != nil {
		e, ok := node.Target.Addr().Interface().(exampler)
		if !ok {
			return nil
		}
		lines = e.examples()
	}
	fmt.Fprintln(ctx.Stdout, "\nExamples:")
	for _, line := range lines {
		fmt.Fprintln(ctx.Stdout, "  "+line)
	}
	return nil
}

// takesFilter reports whether a command takes a connection filter.
func takesFilter(node *kong.Node) bool {
	switch node.Target.Addr().Interface().(type) {
	case *listCmd, *countCmd, *watchCmd, *flushCmd:
		return true
	}
	return false
}

// inGroupOrder sorts the groups of flags in a help text: kong has them in the
// order in which it meets them, those of all commands first.
func inGroupOrder(help string) string {
	paragraphs := strings.Split(strings.TrimSuffix(help, "\n"), "\n\n")
	rank := func(p string) int {
		return slices.IndexFunc(groups, func(g kong.Group) bool { return strings.HasPrefix(p, g.Title+"\n") })
	}
	first := slices.IndexFunc(paragraphs, func(p string) bool { return rank(p) >= 0 })
	if first < 0 {
		return help
	}
	end := first
	for end < len(paragraphs) && rank(paragraphs[end]) >= 0 {
		end++
	}
	slices.SortStableFunc(paragraphs[first:end], func(a, b string) int { return rank(a) - rank(b) })
	return strings.Join(paragraphs, "\n\n") + "\n"
}

// run parses args, runs the command and returns the exit code.
func run(ctx context.Context, args []string, con *console) int {
	var c cli
	con.logger = slog.New(slog.DiscardHandler)
	selected, err := parse(&c, con, args)
	switch {
	case errors.Is(err, errHelped):
		return exitOK
	case err != nil:
		return con.report(err)
	}
	con.configure(&c.globalFlags)
	cmd := selected.Selected().Target.Addr().Interface().(command)
	var wrong error
	if ch, ok := cmd.(checker); ok {
		wrong = ch.check()
	}
	switch {
	case c.PrintConfig && (wrong == nil || errors.Is(wrong, errNothingToRead)):
		return con.report(printConfig(con.out, selected, con))
	case wrong != nil:
		return con.report(usage(con, wrong))
	}
	return con.report(cmd.Run(ctx, con))
}

// usage makes an error of flags one of wrong usage.
func usage(c *console, err error) error {
	if f := c.explain(err); f.code != exitFailed {
		return f
	}
	f := failf(exitUsage, "%s: %v", c.command, err)
	if from := c.origin(err.Error()); from != "" {
		f.hint("it comes from " + from)
	}
	return f.hint("see: whorl " + c.command + " --help")
}

// parse reads arguments, environment and configuration file.
func parse(c *cli, con *console, args []string) (ctx *kong.Context, err error) {
	parser, err := newParser(c, con)
	if err != nil {
		return nil, fmt.Errorf("command line: %w", err)
	}
	defer func() {
		if cause := recover(); cause != nil {
			if cause != errHelped {
				panic(cause)
			}
			ctx, err = nil, errHelped
		}
	}()
	args = habits(args)
	con.command, con.args = commandOf(parser, args), args
	ctx, err = parser.Parse(args)
	if err != nil {
		return nil, explainParse(con, parser, err)
	}
	return ctx, nil
}

// habits are the words that other commands take: help COMMAND and --version.
func habits(args []string) []string {
	switch {
	case len(args) == 0:
		return []string{"--help"}
	case args[0] == "help":
		return append(slices.Clone(args[1:]), "--help")
	case args[0] == "--version":
		return append([]string{"version"}, args[1:]...)
	}
	return args
}

// commandOf is the name of the sub-command in args, "COMMAND" without one.
func commandOf(k *kong.Kong, args []string) string {
	for _, arg := range args {
		for _, child := range k.Model.Children {
			if child.Name == arg {
				return arg
			}
		}
	}
	return "COMMAND"
}

// explainParse makes a failure of kong's errors.
func explainParse(con *console, parser *kong.Kong, err error) error {
	help := "see: " + strings.Replace("whorl "+con.command+" --help", " COMMAND", "", 1)
	if f := con.explain(err); f.code != exitFailed {
		return f
	}
	text := err.Error()
	if word, ok := strings.CutPrefix(text, "unknown flag "); ok {
		word, _, _ = strings.Cut(word, ",")
		return unknownFlag(con, parser, word).hint(help)
	}
	if word, ok := strings.CutPrefix(text, "unexpected argument "); ok {
		word, _, _ = strings.Cut(word, ",")
		if con.command == "COMMAND" {
			return failf(exitUsage, "there is no command %s%s", word, didYouMean(word, commands(parser))).hint(help)
		}
	}
	text = reword(text)
	from := con.origin(text)
	if con.command != "COMMAND" {
		text = con.command + ": " + text
	}
	f := failf(exitUsage, "%s", text)
	if from != "" {
		f.hint("it comes from " + from)
	}
	return f.hint(help)
}

// wordings are what kong says about values, and what people understand.
var wordings = []struct {
	kong *regexp.Regexp
	ours string
}{
	{regexp.MustCompile(`^(\S+): expected .* but got "EOL" \(<EOL>\)$`), "$1 needs a value"},
	{regexp.MustCompile(`^(\S+): expected .* but got "(-\d[^"]*)" \(short flag.*\).*$`), "$1: a value that begins with - stands behind a =: $1=$2"},
	{regexp.MustCompile(`^(\S+): expected .* but got ("[^"]*") \((?:short|long) flag.*\)$`), "$1 needs a value, and $2 is a flag"},
	{regexp.MustCompile(`^(\S+): expected (?:a valid \d+ bit )?u?int(?: value)? but got ("[^"]*").*$`), "$1: want a whole number, not $2"},
	{regexp.MustCompile(`^(\S+): expected duration but got ("[^"]*").*$`), "$1: want a duration such as 10s or 5m, not $2"},
	{regexp.MustCompile(`^(\S+): expected "<key>=<value>" but got ("[^"]*").*$`), "$1: want K=V, not $2"},
	{regexp.MustCompile(`^expected "(.*)"$`), "it wants $1"},
	{regexp.MustCompile(`^<(\S+)> must be one of "(.*)" but got ("[^"]*").*$`), "<$1>: want one of \"$2\", not $3"},
}

// arguments are words of kong's such as <file>, which we write FILE.
var arguments = regexp.MustCompile(`<[a-z]+>`)

// reword says a complaint of kong's about a value in our words.
func reword(text string) string {
	for _, w := range wordings {
		if w.kong.MatchString(text) {
			text = w.kong.ReplaceAllString(text, w.ours)
			return arguments.ReplaceAllStringFunc(text, func(word string) string { return strings.ToUpper(strings.Trim(word, "<>")) })
		}
	}
	return text
}

// unknownFlag says which flag may have been meant, or that a filter was.
func unknownFlag(con *console, parser *kong.Kong, word string) *failure {
	f := failf(exitUsage, "%s: there is no flag %s", con.command, word)
	if con.command == "COMMAND" {
		return failf(exitUsage, "there is no flag %s before a command", word)
	}
	if con.command == "fp" && (word == "-r" || word == "--read") {
		return f.hint("files need no flag: whorl fp FILE")
	}
	for _, cmd := range parser.Model.Children {
		if cmd.Name != con.command {
			continue
		}
		var names []string
		for _, flag := range flagsOf(cmd) {
			names = append(names, "--"+flag.Name)
		}
		if slices.Contains(names, word) {
			return failf(exitUsage, "%s stands before its command; want whorl %s %[1]s", word, con.command)
		}
		f.text += didYouMean(word, names)
		if takesFilter(cmd) && !strings.HasPrefix(word, "--") {
			if i := slices.IndexFunc(con.args, func(arg string) bool { return strings.HasPrefix(arg, word) }); i >= 0 {
				word = con.args[i] // of which kong names the first letter alone
			}
			f.hint("a filter that starts with - needs -- before it: whorl " + con.command + " -- '" + strings.ReplaceAll(word, "'", `'\''`) + "'")
		}
	}
	return f
}

func commands(parser *kong.Kong) []string {
	var names []string
	for _, cmd := range parser.Model.Children {
		names = append(names, cmd.Name)
	}
	return names
}

// didYouMean ends a sentence about a word that is not in a list.
func didYouMean(word string, known []string) string {
	if near := suggest.Nearest(word, known); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}
