package jet

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
)

// serverLog turns what the server says into lines of ours: a level and words for
// an operator, with what the server said beside them. What nobody can act on is a
// line for those who debug: notices, how an index is made anew after a crash, and
// writes that failed, which the collector tells of as soon as they matter.
type serverLog struct {
	logger *slog.Logger
	last   atomic.Pointer[string] // newest error, for who is told that something failed but not why
	fatal  atomic.Bool            // the server cannot go on
}

// saying is how one kind of lines of the server is passed on.
type saying struct {
	parts   []string // a line of this kind has one of them
	level   slog.Level
	message string
}

// sayings are the kinds of warnings and errors, the first that fits counts; the
// words are those of nats-server 2.15.
var sayings = []saying{
	{
		parts: []string{"metafile", "checksum file", "Error recreating stream", "unsupported stream"},
		level: slog.LevelError, message: "the description of the log or the feed is damaged: stop, and restore the data directory from a backup",
	},
	{
		// Its own files, made anew from the messages: that is how it starts after a
		// crash, or after a write failed. It is not what the messages are in.
		parts: []string{"Stream state ", "from index errored", "state is outdated", "will rebuild", "rebuilding", "UpdateConfig took", "WriteFullState took"},
		level: slog.LevelDebug, message: "jetstream makes an index anew",
	},
	{
		// Append returns them, and the log and the feed say what follows.
		parts: []string{"write error", "failed to store a msg", "permission denied", "out of space", "out of resources", "resource limits exceeded"},
		level: slog.LevelDebug, message: "jetstream cannot write",
	},
	{
		parts: []string{"indexCacheBuf corrupt", "loadBlock error", "checkMsgs:", "Error loading msg", "Partial cache", "Cache lookup for sequence"},
		level: slog.LevelWarn, message: "a file of the log or the feed is damaged",
	},
	{
		parts: []string{"took too long", "processing time", "drift of"},
		level: slog.LevelDebug, message: "jetstream is slow",
	},
}

// say passes on a line of the server, at the given level when it is of no kind
// that is known.
func (l *serverLog) say(level slog.Level, said string) {
	message := "jetstream warns"
	for i := range sayings {
		if s := &sayings[i]; s.fits(said) {
			level, message = s.level, s.message
			break
		}
	}
	l.logger.Log(context.Background(), level, message, slog.String("says", strings.TrimSpace(said)))
}

func (s *saying) fits(said string) bool {
	for _, p := range s.parts {
		if strings.Contains(said, p) {
			return true
		}
	}
	return false
}

// why adds to err what the server said last.
func (l *serverLog) why(err error) error {
	if said := l.last.Load(); said != nil {
		return fmt.Errorf("%w: %s", err, *said)
	}
	return err
}

// Noticef drops what the server says of itself, a dozen lines at each start, but
// for those who debug.
func (l *serverLog) Noticef(format string, v ...any) {
	l.logger.Debug("jetstream", slog.String("says", strings.TrimSpace(fmt.Sprintf(format, v...))))
}

func (l *serverLog) Warnf(format string, v ...any) {
	l.say(slog.LevelWarn, fmt.Sprintf(format, v...))
}

func (l *serverLog) Errorf(format string, v ...any) {
	said := fmt.Sprintf(format, v...)
	l.last.Store(&said)
	l.say(slog.LevelError, said)
}

// Fatalf does not end the process: what cannot go on shows in the next call, with
// why.
func (l *serverLog) Fatalf(format string, v ...any) {
	said := fmt.Sprintf(format, v...)
	l.last.Store(&said)
	l.fatal.Store(true)
	l.logger.Debug("jetstream cannot go on", slog.String("says", said))
}

func (l *serverLog) Debugf(string, ...any) {}
func (l *serverLog) Tracef(string, ...any) {}
