package jet

import (
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
)

// serverLog passes on what the server warns of. Its notices, a dozen at each
// start, are about things that we decide.
type serverLog struct {
	logger *slog.Logger
	last   atomic.Pointer[string] // newest error, for who is told that something failed but not why
	fatal  atomic.Bool            // the server cannot go on
}

// why adds to err what the server said last.
func (l *serverLog) why(err error) error {
	if said := l.last.Load(); said != nil {
		return fmt.Errorf("%w: %s", err, *said)
	}
	return err
}

func (l *serverLog) Noticef(format string, v ...any) {
	l.logger.Debug("jetstream", slog.String("says", fmt.Sprintf(format, v...)))
}

// Warnf passes warnings on, but for those of a start after a crash, which say
// that an index is made anew: that is what happens then.
func (l *serverLog) Warnf(format string, v ...any) {
	if strings.Contains(fmt.Sprintf(format, v...), "Recovering stream state from index errored") {
		l.Noticef(format, v...)
		return
	}
	l.logger.Warn("jetstream", slog.String("says", fmt.Sprintf(format, v...)))
}

func (l *serverLog) Errorf(format string, v ...any) {
	said := fmt.Sprintf(format, v...)
	l.last.Store(&said)
	l.logger.Error("jetstream", slog.String("says", said))
}

// Fatalf does not end the process: what cannot go on shows in the next call.
func (l *serverLog) Fatalf(format string, v ...any) {
	l.Errorf(format, v...)
	l.fatal.Store(true)
}

func (l *serverLog) Debugf(string, ...any) {}
func (l *serverLog) Tracef(string, ...any) {}
