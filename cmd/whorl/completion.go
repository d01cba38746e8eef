package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// completionCmd prints a completion script, made from the command line itself.
type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" placeholder:"SHELL" help:"bash, zsh or fish."`
}

func (*completionCmd) examples() []string {
	return []string{"source <(whorl completion bash)", "whorl completion fish >~/.config/fish/completions/whorl.fish"}
}

// Run prints it.
func (cmd *completionCmd) Run(_ context.Context, c *console) error {
	parser, err := newParser(&cli{}, c)
	if err != nil {
		return err
	}
	var b strings.Builder
	switch cmd.Shell {
	case "bash":
		bashCompletion(&b, parser.Model)
	case "zsh":
		zshCompletion(&b, parser.Model)
	case "fish":
		fishCompletion(&b, parser.Model)
	}
	_, err = io.WriteString(c.out, b.String())
	return err
}

// flagsOf lists the flags of a command in the order of its help.
func flagsOf(cmd *kong.Command) []*kong.Flag { return slices.Concat(cmd.AllFlags(true)...) }

// choices are the values of a flag that has few, nil for others.
func choices(f *kong.Flag) []string {
	switch {
	case f.Enum != "":
		return strings.Split(f.Enum, ",")
	case f.Name == "types", f.Name == "type":
		return typeNames()
	case f.Name == "output":
		return []string{"auto", "table", "compact", "jsonl", "json", "csv"}
	}
	return nil
}

// namesFile reports whether the value of a flag is a file or a directory.
func namesFile(f *kong.Flag) bool { return f.PlaceHolder == "FILE" || f.PlaceHolder == "DIR" }

// flagPattern is the pattern in bash for the word before the value of a flag.
func flagPattern(cmd *kong.Command, f *kong.Flag) string {
	pattern := cmd.Name + ":--" + f.Name
	if f.Short != 0 {
		pattern += "|" + cmd.Name + ":-" + string(f.Short)
	}
	return pattern
}

func bashCompletion(b *strings.Builder, app *kong.Application) {
	var names []string
	for _, cmd := range app.Children {
		names = append(names, cmd.Name)
	}
	fmt.Fprintf(b, `# bash completion for whorl
_whorl() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} cmd= words= i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in
      %s) cmd=${COMP_WORDS[i]}; break ;;
    esac
  done
  case $cmd:$prev in
`, strings.Join(names, "|"))
	for _, cmd := range app.Children {
		for _, f := range flagsOf(cmd) {
			switch c := choices(f); {
			case c != nil:
				fmt.Fprintf(b, "    %s) COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return ;;\n", flagPattern(cmd, f), strings.Join(c, " "))
			case namesFile(f): // without a word of ours bash completes files
				fmt.Fprintf(b, "    %s) COMPREPLY=(); return ;;\n", flagPattern(cmd, f))
			}
		}
	}
	fmt.Fprintf(b, "  esac\n  case $cmd in\n    '') words='%s --help' ;;\n", strings.Join(names, " "))
	for _, cmd := range app.Children {
		var words []string
		for _, f := range flagsOf(cmd) {
			words = append(words, "--"+f.Name)
		}
		for _, p := range cmd.Positional {
			words = append(words, strings.Split(p.Enum, ",")...)
		}
		if len(cmd.Positional) > 0 && cmd.Positional[0].Name == "file" {
			fmt.Fprintf(b, "    %s) [[ $cur == -* ]] || { COMPREPLY=(); return; } ;;& # files\n", cmd.Name)
		}
		fmt.Fprintf(b, "    %s) words='%s' ;;\n", cmd.Name, strings.TrimSpace(strings.Join(words, " ")))
	}
	b.WriteString(`  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o bashdefault -o default -F _whorl whorl
`)
}

func zshCompletion(b *strings.Builder, app *kong.Application) {
	quote := func(s string) string {
		return strings.NewReplacer("'", "'\\''", "[", "\\[", "]", "\\]", ":", "\\:").Replace(s)
	}
	b.WriteString("#compdef whorl\n_whorl() {\n  local line state\n  _arguments -C '1: :->command' '*:: :->rest'\n" +
		"  case $state in\n    command)\n      local -a commands=(\n")
	for _, cmd := range app.Children {
		fmt.Fprintf(b, "        '%s:%s'\n", cmd.Name, quote(cmd.Help))
	}
	b.WriteString("      )\n      _describe command commands ;;\n    rest)\n      case $line[1] in\n")
	for _, cmd := range app.Children {
		fmt.Fprintf(b, "        %s) _arguments", cmd.Name)
		for _, f := range flagsOf(cmd) {
			spec := fmt.Sprintf("--%s[%s]", f.Name, quote(f.Help))
			switch c := choices(f); {
			case c != nil:
				spec += fmt.Sprintf(":%s:(%s)", f.Name, strings.Join(c, " "))
			case !f.IsBool() && !f.IsCounter():
				spec += fmt.Sprintf(":%s:_files", f.Name)
			}
			fmt.Fprintf(b, " \\\n          '%s'", spec)
		}
		if len(cmd.Positional) > 0 && cmd.Positional[0].Enum != "" {
			fmt.Fprintf(b, " \\\n          '1:%s:(%s)'", cmd.Positional[0].Name, strings.ReplaceAll(cmd.Positional[0].Enum, ",", " "))
		} else {
			b.WriteString(" \\\n          '*:file:_files'")
		}
		b.WriteString(" ;;\n")
	}
	b.WriteString("      esac ;;\n  esac\n}\n_whorl \"$@\"\n")
}

func fishCompletion(b *strings.Builder, app *kong.Application) {
	quote := func(s string) string { return strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), "'", `\'`) }
	b.WriteString("# fish completion for whorl\n")
	for _, cmd := range app.Children {
		fmt.Fprintf(b, "complete -c whorl -f -n __fish_use_subcommand -a %s -d '%s'\n", cmd.Name, quote(cmd.Help))
	}
	for _, cmd := range app.Children {
		for _, f := range flagsOf(cmd) {
			fmt.Fprintf(b, "complete -c whorl -n '__fish_seen_subcommand_from %s' -l %s", cmd.Name, f.Name)
			if f.Short != 0 {
				fmt.Fprintf(b, " -s %c", f.Short)
			}
			switch c := choices(f); {
			case c != nil:
				fmt.Fprintf(b, " -x -a '%s'", strings.Join(c, " "))
			case !f.IsBool() && !f.IsCounter():
				b.WriteString(" -r")
			}
			fmt.Fprintf(b, " -d '%s'\n", quote(f.Help))
		}
		for _, p := range cmd.Positional {
			if p.Enum != "" {
				fmt.Fprintf(b, "complete -c whorl -f -n '__fish_seen_subcommand_from %s' -a '%s'\n", cmd.Name, strings.ReplaceAll(p.Enum, ",", " "))
			}
		}
	}
}
