// Command whorl tracks the connections of many networks and their JA4+
// fingerprints. See whorl --help; every sub-command has a file of its own here.
//
// Standard output is data and standard error is talk. Exit codes are listed in
// failure.go.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"
)

func main() { os.Exit(realMain()) }

// realMain runs the command on the real terminal.
func realMain() int {
	// A pipe that closes early is an error of a write, not the end of us.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := interruptible(context.Background())
	defer stop()
	return run(ctx, os.Args[1:], &console{
		out: os.Stdout, err: os.Stderr,
		outTerminal: term.IsTerminal(int(os.Stdout.Fd())),
		errTerminal: term.IsTerminal(int(os.Stderr.Fd())),
		now:         time.Now, getenv: os.Getenv,
	})
}

// errInterrupted is the cause of a context that SIGINT or SIGTERM ended.
var errInterrupted = errors.New("interrupted")

// interruptible returns a context that the first SIGINT or SIGTERM ends, with
// errInterrupted. A second SIGINT ends the process at once, without draining.
func interruptible(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		first := true
		for {
			select {
			case <-done:
				return
			case s := <-signals:
				if !first && s == os.Interrupt {
					fmt.Fprintln(os.Stderr, "whorl: stopped without draining")
					os.Exit(exitKilled)
				}
				first = false
				cancel(errInterrupted)
			}
		}
	})
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		wg.Wait()
		cancel(nil)
	}
}
