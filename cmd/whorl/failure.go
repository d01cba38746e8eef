package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/whorl-net/whorl/client"
	"github.com/whorl-net/whorl/internal/config"
	"github.com/whorl-net/whorl/internal/filter"
	"github.com/whorl-net/whorl/internal/output"
	"github.com/whorl-net/whorl/internal/rpc"
	"github.com/whorl-net/whorl/probe/bpf"
	"github.com/whorl-net/whorl/probe/capture"
	"github.com/whorl-net/whorl/probe/live"
)

// The exit codes. They are part of the command's contract.
const (
	exitOK          = 0
	exitFailed      = 1   // at run time; doctor found something wrong
	exitUsage       = 2   // wrong usage, filter or configuration; nothing was started
	exitNothing     = 3   // not tracked; with --exit-status: nothing matched
	exitUnreachable = 4   // collector unreachable, not ready, or too slow
	exitForbidden   = 5   // not permitted, by the collector or by the system
	exitIncomplete  = 6   // finished, but something is missing
	exitKilled      = 130 // a second SIGINT: stopped without draining
)

// failure is an error as people see it: one line, up to four more that say
// where and what to type, and an exit code.
type failure struct {
	code  int
	text  string // empty: the exit code says it all
	hints []string
}

func (f *failure) Error() string { return f.text }

// failf returns a failure without hints. Errors among args are shown by
// plainPath.
func failf(code int, format string, args ...any) *failure {
	for i, arg := range args {
		if err, ok := arg.(error); ok {
			args[i] = plainPath(err)
		}
	}
	return &failure{code: code, text: fmt.Sprintf(format, args...)}
}

// hint returns f with more lines.
func (f *failure) hint(lines ...string) *failure {
	f.hints = append(f.hints, lines...)
	return f
}

// report shows err and returns the exit code.
func (c *console) report(err error) int {
	if err == nil || errors.Is(err, errInterrupted) || errors.Is(err, syscall.EPIPE) {
		return exitOK
	}
	f := c.explain(err)
	if f.text != "" {
		fmt.Fprintf(c.err, "whorl: %s\n", f.text)
		for _, line := range f.hints {
			fmt.Fprintf(c.err, "  %s\n", line)
		}
	}
	return f.code
}

// explain turns any error into a failure. It is the one place that knows what
// errors of the packages below mean to people.
func (c *console) explain(err error) *failure {
	var (
		known    *failure
		dial     *client.DialError
		words    *filter.Error
		packets  *bpf.Error
		file     *capture.FileError
		field    *output.FieldError
		settings *config.Error
		exposed  *rpc.ExposureError
		sequence *client.SequenceError
	)
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &words) && words.Column == 0:
		return failf(exitUsage, "%v", words)
	case errors.As(err, &dial):
		return c.explainDial(dial)
	case errors.As(err, &packets):
		return explainBPF(packets)
	case errors.As(err, &file):
		return explainFile(file)
	case errors.As(err, &field):
		return explainField(field)
	case errors.As(err, &settings):
		return failf(exitUsage, "%v", settings)
	case errors.As(err, &exposed):
		return failf(exitUsage, "%v", exposed)
	case errors.Is(err, live.ErrNotPermitted):
		return c.explainCapability(err)
	case errors.Is(err, live.ErrNoInterface):
		return failf(exitFailed, "%v", err).hint("those there are: whorl probe -D")
	case errors.Is(err, syscall.EADDRINUSE):
		return failf(exitFailed, "%s", strings.TrimSuffix(err.Error(), ": bind: "+syscall.EADDRINUSE.Error())+": the address is in use").hint(
			hintLine("another here?", "whorl status"),
			hintLine("or elsewhere:", "--listen 127.0.0.1:PORT, --admin-listen 127.0.0.1:PORT"))
	case errors.Is(err, fs.ErrPermission):
		return failf(exitForbidden, "%v", err)
	case errors.As(err, &sequence):
		return failf(exitIncomplete, "%v", err)
	case errors.Is(err, context.DeadlineExceeded):
		return failf(exitUnreachable, "%v", err)
	}
	if s, ok := statusOf(err); ok {
		return c.explainStatus(s, err)
	}
	return failf(exitFailed, "%v", err)
}

// explainDial says why there is no connection to the collector.
func (c *console) explainDial(err *client.DialError) *failure {
	var (
		errno     syscall.Errno
		dns       *net.DNSError
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		notTLS    tls.RecordHeaderError
	)
	f := failf(exitUnreachable, "collector %s: %v", err.Addr, err.Err)
	here := hintLine("or point here:", fmt.Sprintf("whorl %s --collector HOST:PORT   (or WHORL_COLLECTOR=HOST:PORT)", c.command))
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		f.text = fmt.Sprintf("collector %s: no answer in time", err.Addr)
		return f.hint("wait longer:   --timeout 30s", here)
	case errors.As(err, &authority):
		f.text = fmt.Sprintf("collector %s: its certificate is signed by an authority that is not trusted here", err.Addr)
		if cert := authority.Cert; cert != nil && cert.Issuer.String() != "" {
			f.text += fmt.Sprintf(" (%q)", cert.Issuer.String())
		}
		return f.hint("trust it: --tls-ca FILE")
	case errors.As(err, &host):
		names := certificateNames(host.Certificate)
		f.text = fmt.Sprintf("collector %s: its certificate is not for %s but for %s", err.Addr, host.Host, strings.Join(names, ", "))
		return f.hint("expect that name: --tls-server-name " + names[0])
	case errors.As(err, &notTLS):
		f.text = fmt.Sprintf("collector %s: it does not speak TLS", err.Addr)
		return f.hint("if that is meant: --insecure")
	case errors.Is(err, client.ErrCertificateRefused):
		f.code = exitForbidden
		return f.hint("present one it knows: --tls-cert FILE --tls-key FILE")
	case errors.Is(err, client.ErrNotGRPC):
		return f.hint("the port for gRPC is that of --listen, 4750 by default; 9750 is for health and metrics")
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		f.text = fmt.Sprintf("collector %s: it closed the connection at once", err.Addr)
		return f.hint("does it want TLS? --tls-ca FILE")
	case errors.As(err, &dns):
		f.text = fmt.Sprintf("collector %s: there is no host %s", err.Addr, dns.Name)
		if !dns.IsNotFound {
			f.text = fmt.Sprintf("collector %s: cannot look up host %s: %s", err.Addr, dns.Name, dns.Err)
		}
		return f.hint(here)
	case errors.As(err, &errno):
		f.text = fmt.Sprintf("collector %s: %v", err.Addr, errno)
	}
	if rpc.Loopback(err.Addr) {
		return f.hint(hintLine("start one:", "whorl collector"), here)
	}
	return f
}

// maxNames is how many names of a certificate are shown.
const maxNames = 4

// certificateNames are the names a certificate is for, at least one.
func certificateNames(cert *x509.Certificate) []string {
	var names []string
	if cert != nil {
		for _, name := range cert.DNSNames {
			names = append(names, shellLine([]string{strings.Map(printable, name)}))
		}
		for _, ip := range cert.IPAddresses {
			names = append(names, ip.String())
		}
	}
	if len(names) == 0 {
		return []string{"NAME"}
	}
	return names[:min(len(names), maxNames)]
}

// printable keeps what is harmless on a terminal: a certificate may say anything.
func printable(r rune) rune {
	if r <= ' ' || r > '~' {
		return '?'
	}
	return r
}

// hintLine is a hint whose command is aligned with that of other hints.
func hintLine(what, command string) string { return fmt.Sprintf("%-14s %s", what, command) }

// explainFilter points at the word of a connection filter that is wrong.
func explainFilter(text string, err *filter.Error) *failure {
	f := failf(exitUsage, "%v", err).hint(pointAt(text, err.Column)...)
	if hint := habitOf(text, err); hint != "" {
		return f.hint(hint)
	}
	if word := filterFor(err.Word); word != "" && strings.HasSuffix(err.Problem, "is not a filter word") {
		return f.hint("did you mean " + word + "?")
	}
	if err.Suggestion == "" && strings.HasSuffix(err.Problem, "is not a filter word") {
		f.hint("filter words: " + filterNames())
	}
	return f
}

// pointAt shows a line and a caret under the character at column, from 1.
func pointAt(line string, column int) []string {
	if column < 1 || strings.ContainsAny(line, "\n\r") {
		return nil
	}
	return []string{line, strings.Repeat(" ", column-1) + "^"}
}

// explainBPF points at the word of a capture filter that is wrong.
func explainBPF(err *bpf.Error) *failure {
	f := failf(exitUsage, "%v", err)
	if _, statErr := os.Stat(err.Word); err.Word != "" && statErr == nil {
		return f.hint(pointAt(err.Filter, err.Column)...).hint("it is the name of a file: give -r once per file")
	}
	return f.hint(pointAt(err.Filter, err.Column)...).hint(fmt.Sprintf(
		"any tcpdump filter works this way: tcpdump -i eth0 -ddd '%s' >f.bpf; whorl probe -i eth0 --bpf-file f.bpf", err.Filter))
}

// orForbidden is the exit code of an error: code, unless the system did not
// permit what was tried.
func orForbidden(code int, err error) int {
	if errors.Is(err, fs.ErrPermission) {
		return exitForbidden
	}
	return code
}

// explainFile says what is wrong with a capture file.
func explainFile(err *capture.FileError) *failure {
	f := failf(orForbidden(exitFailed, err), "%v", err)
	if errors.Is(err, capture.ErrTruncated) {
		f.code = exitIncomplete
	}
	if err.Packet > 1 && brokenOff(err) {
		f.hint(fmt.Sprintf("the %s before it count", output.Plural(err.Packet-1, "packet")))
	}
	return f
}

// brokenOff reports whether err, of reading a capture, leaves what was before it.
func brokenOff(err error) bool {
	return errors.Is(err, capture.ErrTruncated) || errors.Is(err, capture.ErrMalformed)
}

func explainField(err *output.FieldError) *failure {
	f := failf(exitUsage, "--fields: %v", err)
	if err.Suggestion != "" {
		f.text += "; did you mean " + err.Suggestion + "?"
	}
	return f.hint("there are: " + strings.Join(err.Known, ","))
}

// explainCapability says how to be allowed to capture.
func (c *console) explainCapability(err error) *failure {
	self, e := os.Executable()
	if e != nil {
		self = "whorl"
	}
	return failf(exitForbidden, "%v", err).hint(
		"grant it once:     sudo setcap cap_net_raw+ep "+self,
		"or just this time: sudo whorl "+shellLine(c.args))
}

// shellLine is a command line as one would type it.
func shellLine(args []string) string {
	words := make([]string, len(args))
	for i, arg := range args {
		words[i] = arg
		if arg == "" || strings.ContainsAny(arg, " \t\n'\"\\$`*?[](){}<>|&;~#!") {
			words[i] = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

// plainPath is the text of err without the name of the call that a path was
// given to, which says nothing to people, and with the path once: "f: permission
// denied".
func plainPath(err error) string {
	var path *fs.PathError
	if !errors.As(err, &path) {
		return err.Error()
	}
	before, after, found := strings.Cut(err.Error(), path.Op+" "+path.Path+": ")
	switch {
	case !found:
		return err.Error()
	case strings.HasSuffix(before, path.Path+": "):
		return before + after
	}
	return before + path.Path + ": " + after
}

// isMissing reports whether a file is not there.
func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
