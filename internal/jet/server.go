package jet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// MaxMessageBytes bounds one message. The server warns above it.
const MaxMessageBytes = 8<<20 - headroom

// headroom is what a message has beside its payload: the headers of a publish.
const headroom = 4 << 10

const (
	// startWithin bounds the start of the server: with some GB of many small
	// messages after a crash it takes seconds.
	startWithin = 2 * time.Minute
	// mendEvery is the least time between two restarts of the engine.
	mendEvery = time.Second
	// stopWithin bounds the end of an engine that hangs.
	stopWithin = 5 * time.Second
	// allStores and allMemory bound all streams together. Streams bound
	// themselves; the engine must not add limits of its own.
	allStores = 1 << 50
	allMemory = 64 << 20
)

// Errors of a Server and its streams.
var (
	// ErrStopped: the server was stopped.
	ErrStopped = errors.New("jetstream: stopped")
	// ErrFull: the stream takes no more until something is purged.
	ErrFull = errors.New("jetstream: stream is full")
	// ErrNone: there is no message at that number or behind it.
	ErrNone = errors.New("jetstream: no message")
	// ErrConflict: the stream is not as this process left it. Somebody else
	// writes to it, or it lost what it had acknowledged.
	ErrConflict = errors.New("jetstream: stream is not as it was left")
	// ErrHung: the engine does not answer. What it waits for may come, such as a
	// disk; see Server.Hung.
	ErrHung = errors.New("jetstream does not answer")
)

// Config says where a Server keeps its files.
type Config struct {
	// Dir is made if it does not exist. One process at a time may use it: the
	// caller holds a lock.
	Dir string
	// NoSync leaves out the sync of each write. What was appended then survives
	// the process but not the machine. It is for showing the difference.
	NoSync bool
	// Logger gets what the server warns of; nil drops it.
	Logger *slog.Logger
}

// Server is an embedded JetStream server. Make one with Start. All methods are
// safe for concurrent use.
type Server struct {
	cfg     Config
	hung    chan struct{} // closed when an engine hangs that has nothing to wait for
	looking atomic.Bool   // somebody finds out whether that is so, or has

	mu      sync.Mutex // guards all below; held during a restart
	live    *engine    // nil while the restart of a broken one does not succeed
	mended  time.Time  // last restart
	broken  error      // why live is nil, or will be
	doubted bool       // live has a write that failed: what it knows may be on no disk
	stopped bool
}

// engine is one life of the server and our connection to it.
type engine struct {
	server *server.Server
	conn   *nats.Conn
	js     jetstream.JetStream
	pulse  pulse
}

// Start starts a server and returns when its streams are recovered. Its
// goroutines end with Stop.
func Start(cfg Config) (*Server, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("start jetstream: %w", err)
	}
	if err := writable(cfg.Dir); err != nil {
		return nil, fmt.Errorf("start jetstream: %w", err)
	}
	s := &Server{cfg: cfg, hung: make(chan struct{})}
	var err error
	if s.live, err = s.startEngine(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Server) startEngine() (_ *engine, err error) {
	opts := &server.Options{
		ServerName: "whorl", DontListen: true, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: s.cfg.Dir, SyncAlways: !s.cfg.NoSync,
		JetStreamMaxStore: allStores, JetStreamMaxMemory: allMemory,
		MaxPayload: 8 << 20,
	}
	e := &engine{}
	if e.server, err = server.NewServer(opts); err != nil {
		return nil, fmt.Errorf("start jetstream in %s: %w", s.cfg.Dir, err)
	}
	said := &serverLog{logger: s.cfg.Logger}
	e.server.SetLoggerV2(said, false, false, false)
	defer func() {
		if err != nil {
			e.stop()
		}
	}()
	e.server.Start()
	// A server that cannot use its directory returns, and is never ready.
	if said.fatal.Load() || !e.server.ReadyForConnections(startWithin) || !e.server.JetStreamEnabled() {
		return nil, fmt.Errorf("start jetstream in %s: %w", s.cfg.Dir, said.why(errors.New("it is not ready")))
	}
	e.conn, err = nats.Connect("", nats.InProcessServer(e.server), nats.Name("whorl"), nats.NoReconnect(),
		nats.CustomInboxPrefix("_whorl"))
	if err != nil {
		return nil, fmt.Errorf("connect to jetstream in %s: %w", s.cfg.Dir, err)
	}
	if e.js, err = jetstream.New(e.conn); err != nil {
		return nil, fmt.Errorf("connect to jetstream in %s: %w", s.cfg.Dir, err)
	}
	return e, nil
}

// stop ends the engine and reports whether it has ended. One that hangs is left
// behind after stopWithin, one of which nobody knew after startWithin: it ends with
// the process.
func (e *engine) stop() bool {
	if e.conn != nil {
		e.conn.Close()
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		e.server.Shutdown()
		e.server.WaitForShutdown()
	}()
	patience := startWithin
	if e.pulse.since() > 0 {
		patience = stopWithin
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-stopped:
		return true
	case <-late.C:
		return false
	}
}

// engine returns the one that lives, and restarts it if it is down and the disk
// can be written again.
func (s *Server) engine() (*engine, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil, ErrStopped
	}
	if s.live == nil {
		s.restartLocked()
	}
	if s.live == nil {
		return nil, s.broken
	}
	return s.live, nil
}

// mend is told that old failed with err. Once a write of JetStream failed it
// refuses all others until it is started again; this does so, when the disk can
// be written. It reports whether there is an engine to try again with.
func (s *Server) mend(old *engine, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	if s.live != old {
		return s.live != nil // somebody did already
	}
	if errors.Is(err, ErrHung) {
		s.broken = err
		s.lookAtDisk(old)
		return false // it cannot be ended, and another must not be started beside it
	}
	s.broken, s.doubted = err, true
	s.restartLocked()
	return s.live != nil && s.live != old
}

// restartLocked replaces s.live. While the disk refuses writes, an engine that
// can be read is left as it is.
func (s *Server) restartLocked() {
	if time.Since(s.mended) < mendEvery {
		return
	}
	if err := writable(s.cfg.Dir); err != nil {
		s.broken = err
		return
	}
	s.mended = time.Now()
	if !s.endLocked() {
		s.broken = ErrHung // it has the files: another must not be started beside it
		if s.looking.CompareAndSwap(false, true) {
			close(s.hung)
		}
		return
	}
	if s.doubted {
		s.broken = errors.New("what a failed engine believed could not be removed")
		return
	}
	e, err := s.startEngine()
	if err != nil {
		s.broken = err
		return
	}
	s.cfg.Logger.Warn("jetstream was started again", slog.Any("err", s.broken))
	s.live, s.broken = e, nil
}

// Stop ends the server; what was appended is on the disk. It may be called more
// than once.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	if s.live != nil {
		switch err := s.live.healthy(); {
		case errors.Is(err, ErrHung):
			s.live.stop()
			s.live = nil
			return // it has the files
		case err != nil:
			s.doubted = true
		}
	}
	s.endLocked()
}

// endLocked ends the engine and makes up for what a failed one leaves behind: if
// that cannot be done it stays in doubt. It reports whether the engine has ended.
func (s *Server) endLocked() (ended bool) {
	if s.live != nil {
		if !s.live.stop() {
			return false
		}
		s.live = nil
	}
	if !s.doubted {
		return true
	}
	if err := s.dropIndexes(); err != nil {
		s.cfg.Logger.Error("an index of jetstream that cannot be trusted cannot be removed", slog.Any("err", err))
		return true
	}
	s.doubted = false
	return true
}

// writable tries whether dir takes a write and keeps it.
func writable(dir string) error {
	path := filepath.Join(dir, ".write-test")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(path)
	_, err = f.Write(make([]byte, 1<<20))
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("write to %s: %w", dir, err)
	}
	return nil
}

// wait sleeps for d or until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
