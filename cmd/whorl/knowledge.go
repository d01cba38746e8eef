package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/whorl-net/whorl/service"
)

// knowledgeFlags say what a collector knows beside what it sees.
type knowledgeFlags struct {
	Enrich   bool          `group:"know" default:"true" help:"Say what fingerprints mean, and what is new and odd (default on)."`
	Apps     []string      `group:"know" placeholder:"FILE" help:"Tables of fingerprints and their applications, beside those built in; re-read on change."`
	KnownBad []string      `group:"know" placeholder:"FILE" help:"Tables of fingerprints that condemn a connection; re-read on change."`
	Rules    []string      `group:"know" placeholder:"FILE" help:"Rules for anomalies, and the allowlist; re-read on change. See whorl rules check."`
	Learn    time.Duration `group:"know" default:"24h" placeholder:"DURATION" help:"For so long, from its first packet on, nothing that a network shows is new (default ${default}; 0: everything is new once)."`
}

func (f *knowledgeFlags) checkKnowledge() error {
	switch {
	case f.Learn < 0:
		return errors.New("--learn: want 0 or more")
	case !f.Enrich && len(f.Apps)+len(f.KnownBad)+len(f.Rules) > 0:
		return errors.New("--apps, --known-bad and --rules are for --enrich")
	}
	return nil
}

func (f *knowledgeFlags) knowledge() service.Knowledge {
	return service.Knowledge{Apps: f.Apps, KnownBad: f.KnownBad, Rules: f.Rules, Learn: f.Learn, Off: !f.Enrich}
}

// reloadOnHangup makes col read its tables and rules again at each SIGHUP, until
// the returned function is called, which waits for the end of it.
func reloadOnHangup(c *console, col *service.Collector) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangups:
			}
			changed, err := col.Reload()
			if err != nil {
				c.logger.Error("reload: refused, what was in force stays", slog.Any("err", err))
				continue
			}
			c.logger.Info("reload", slog.String("changed", strings.Join(changed, ", ")))
		}
	})
	return func() {
		signal.Stop(hangups)
		cancel()
		wg.Wait()
	}
}
