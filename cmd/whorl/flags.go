package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/whorl-net/whorl/client"
	"github.com/whorl-net/whorl/internal/filter"
	"github.com/whorl-net/whorl/internal/output"
)

// outputFlags are those of every command that prints data.
type outputFlags struct {
	Output output.Format `group:"output" short:"o" default:"auto" placeholder:"FORMAT" help:"auto, table, compact, jsonl, json or csv (default auto: table on a terminal, jsonl elsewhere)."`
	Fields []string      `group:"output" placeholder:"NAME" help:"Only these fields; dots lead to inner ones."`
	UTC    bool          `group:"output" name:"utc" help:"Show times in UTC in tables (default: local time)."`
}

// clock says how tables show times.
func (f *outputFlags) clock(c *console) output.Clock {
	clock := output.Clock{Now: c.now}
	if f.UTC {
		clock.Zone = time.UTC
	}
	return clock
}

// clientFlags are those of every command that talks to a collector.
type clientFlags struct {
	Collector     string        `group:"client" default:"localhost:4750" placeholder:"HOST:PORT" help:"The collector (default ${default})."`
	TLSCA         string        `group:"client" name:"tls-ca" placeholder:"FILE" help:"Trust these authorities (default: those of the system)."`
	TLSCert       string        `group:"client" name:"tls-cert" placeholder:"FILE" help:"Present this certificate."`
	TLSKey        string        `group:"client" name:"tls-key" placeholder:"FILE" help:"Key of that certificate."`
	TLSServerName string        `group:"client" name:"tls-server-name" placeholder:"NAME" help:"Name in the collector's certificate (default: its host)."`
	TokenFile     string        `group:"client" placeholder:"FILE" help:"Send the bearer token in this file."`
	Insecure      bool          `group:"client" help:"No TLS beyond loopback."`
	Timeout       time.Duration `group:"client" default:"10s" placeholder:"DURATION" help:"For each call, and for the first answer of a stream (default ${default}; 0 no limit)."`
}

// check refuses flags that contradict one another.
func (f *clientFlags) check() error {
	switch {
	case (f.TLSCert == "") != (f.TLSKey == ""):
		return errors.New("--tls-cert and --tls-key go together")
	case f.Insecure && (f.TLSCA != "" || f.TLSCert != "" || f.TLSServerName != ""):
		return errors.New("--insecure contradicts the --tls flags")
	case f.Timeout < 0:
		return errors.New("--timeout is negative: want 0 or more")
	}
	return nil
}

// dial connects to the collector.
func (f *clientFlags) dial(ctx context.Context, c *console, more ...client.Option) (*client.Client, error) {
	opts := []client.Option{client.WithTimeout(f.Timeout), client.WithLogger(c.logger)}
	if f.Insecure {
		opts = append(opts, client.WithInsecure())
	}
	if f.TLSCA != "" {
		opts = append(opts, client.WithCA(f.TLSCA))
	}
	if f.TLSCert != "" {
		opts = append(opts, client.WithCertificate(f.TLSCert, f.TLSKey))
	}
	if f.TLSServerName != "" {
		opts = append(opts, client.WithServerName(f.TLSServerName))
	}
	if f.TokenFile != "" {
		opts = append(opts, client.WithTokenFile(f.TokenFile))
	}
	cl, err := client.Dial(ctx, f.Collector, append(opts, more...)...)
	if err == nil {
		return cl, nil
	}
	var dial *client.DialError
	if errors.As(err, &dial) {
		return nil, err
	}
	return nil, failf(orForbidden(exitUsage, err), "%v", err) // an address or a file that is wrong
}

// filterFlags are those of every command that takes a filter.
type filterFlags struct {
	Filter       []string `arg:"" optional:"" placeholder:"FILTER" help:"Words such as src:10.0.0.0/8 dst.port:443 ja4:t13d* -port:53 bad:true."`
	PrintRequest bool     `group:"output" help:"Print the request as JSON for grpcurl, then exit."`
	ExitStatus   bool     `group:"output" help:"Exit 3 when nothing matched."`
}

// text is the filter in one line, checked; feed allows the words of the feed.
func (f *filterFlags) text(c *console, feed bool) (string, error) {
	text := strings.Join(f.Filter, " ")
	_, err := filter.Compile(filter.Source{Text: text, Now: c.now().UnixNano(), Feed: feed})
	var bad *filter.Error
	if errors.As(err, &bad) {
		return "", explainFilter(text, bad)
	}
	return text, err
}

// nothing is the end of a command that found n things. Of none it says so: an
// empty answer looks like no answer. what may be empty.
func (f *filterFlags) nothing(c *console, n uint64, what string) error {
	if n > 0 {
		return nil
	}
	if what != "" {
		c.say("%s", what)
	}
	if f.ExitStatus {
		return &failure{code: exitNothing}
	}
	return nil
}

// noneLive says that the table has nothing, and where to look for what has left.
func noneLive(text string) string {
	what := "no live connection matches"
	if text == "" {
		what = "no live connection"
	}
	return what + "; those that ended: whorl watch --oldest --no-follow" + filterArgument(text)
}

// filterArgument is a filter as one types it behind a command, a blank before it.
func filterArgument(text string) string {
	switch {
	case text == "":
		return ""
	case text[0] == '-':
		return " -- " + shellLine([]string{text})
	}
	return " " + shellLine([]string{text})
}

// printRequest prints what grpcurl -d takes.
func printRequest(c *console, m proto.Message) error {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return fmt.Errorf("print the request: %w", err)
	}
	_, err = fmt.Fprintf(c.out, "%s\n", text)
	return err
}

// size is a number of bytes: 65536, 64KiB, 64MiB, 1GiB, or kB, MB, GB.
type size int64

var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// UnmarshalText reads a size.
func (s *size) UnmarshalText(text []byte) error {
	number, unit := strings.TrimSpace(string(text)), int64(1)
	for _, u := range sizeUnits {
		if n, ok := strings.CutSuffix(number, u.name); ok {
			number, unit = strings.TrimSpace(n), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return fmt.Errorf("%q is not a size such as 64MiB or 1GiB", text)
	}
	*s = size(n * unit)
	return nil
}

// String is the size with the largest binary unit that fits.
func (s size) String() string {
	for i := 3; i >= 0; i-- {
		if u := sizeUnits[i]; s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// moment is a time: RFC 3339, or an age such as 5m or 7d.
type moment struct {
	text string
	at   time.Time
	age  time.Duration
}

// UnmarshalText reads a moment.
func (m *moment) UnmarshalText(text []byte) error {
	m.text = string(text)
	if d, err := time.ParseDuration(m.text); err == nil && d >= 0 {
		m.age = d
		return nil
	}
	if days, ok := strings.CutSuffix(m.text, "d"); ok { // as in filters
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			m.age = time.Duration(n) * 24 * time.Hour
			return nil
		}
	}
	t, err := time.Parse(time.RFC3339Nano, m.text)
	if whole := wholeTime(m.text); err != nil && whole != "" {
		return fmt.Errorf("%q is not a whole time: want %s, or with a zone such as +02:00", text, whole)
	}
	if err != nil {
		return fmt.Errorf("%q is neither an age such as 5m or 7d nor a time such as 2026-11-22T12:00:00Z", text)
	}
	m.at = t
	return nil
}

func (m moment) set() bool { return m.text != "" }

// ahead returns the time it means if it is now and an age lies in the future.
func (m moment) ahead(now time.Time) time.Time {
	if m.at.IsZero() {
		return now.Add(m.age)
	}
	return m.at
}

// on returns the time it means if it is now.
func (m moment) on(now time.Time) time.Time {
	if m.at.IsZero() {
		return now.Add(-m.age)
	}
	return m.at
}
