package jet

import (
	"fmt"
	"log/slog"
)

// serverLog passes on what the server warns of. Its notices, a dozen at each
// start, are about things that we decide.
type serverLog struct{ logger *slog.Logger }

func (l *serverLog) Noticef(format string, v ...any) {
	l.logger.Debug("jetstream", slog.String("says", fmt.Sprintf(format, v...)))
}

func (l *serverLog) Warnf(format string, v ...any) {
	l.logger.Warn("jetstream", slog.String("says", fmt.Sprintf(format, v...)))
}

func (l *serverLog) Errorf(format string, v ...any) {
	l.logger.Error("jetstream", slog.String("says", fmt.Sprintf(format, v...)))
}

// Fatalf does not end the process: what cannot go on shows in the next call.
func (l *serverLog) Fatalf(format string, v ...any) { l.Errorf(format, v...) }

func (l *serverLog) Debugf(string, ...any) {}
func (l *serverLog) Tracef(string, ...any) {}
