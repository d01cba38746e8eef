package jet

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func start(t testing.TB, dir string) *Server {
	t.Helper()
	s, err := Start(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// open opens the stream test, 256 MiB unless told otherwise.
func open(t testing.TB, s *Server, cfg StreamConfig) *Stream {
	t.Helper()
	cfg.Name, cfg.Share = "test", 1
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 256 << 20
	}
	st, err := s.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func state(t testing.TB, s *Stream) State {
	t.Helper()
	st, err := s.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// Messages of every size come back as they were, also after a restart, and keep
// their numbers when older ones are purged.
func TestMessagesComeBack(t *testing.T) {
	dir := t.TempDir()
	srv := start(t, dir)
	s := open(t, srv, StreamConfig{})
	sizes := []int{0, 1, 100, 1 << 10, 1 << 16, 1 << 20, MaxMessageBytes}
	check := func(s *Stream, from int) {
		t.Helper()
		for i := from; i < len(sizes); i++ {
			m, err := s.Read(t.Context(), uint64(i+1))
			if err != nil || m.Number != uint64(i+1) || !bytes.Equal(m.Data, bytes.Repeat([]byte{byte(i)}, sizes[i])) {
				t.Errorf("message %d: number %d, %d bytes of %d, %v", i+1, m.Number, len(m.Data), sizes[i], err)
			}
		}
		if _, err := s.Read(t.Context(), uint64(len(sizes)+1)); !errors.Is(err, ErrNone) {
			t.Errorf("behind the newest: %v, want ErrNone", err)
		}
	}
	if st := state(t, s); st.First != 1 || st.Last != 0 || st.Messages != 0 {
		t.Errorf("empty: %+v", st)
	}
	if _, err := s.Read(t.Context(), 1); !errors.Is(err, ErrNone) {
		t.Errorf("reading an empty stream: %v, want ErrNone", err)
	}
	for i, size := range sizes {
		if n, err := s.Append(t.Context(), bytes.Repeat([]byte{byte(i)}, size)); err != nil || n != uint64(i+1) {
			t.Fatal(n, err)
		}
	}
	if _, err := s.Append(t.Context(), make([]byte, MaxMessageBytes+1)); err == nil {
		t.Error("a message that is too large was taken")
	}
	check(s, 0)
	if err := s.Purge(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	srv.Stop()
	s = open(t, start(t, dir), StreamConfig{})
	check(s, 3)
	if m, err := s.Read(t.Context(), 1); err != nil || m.Number != 4 {
		t.Errorf("the first message left is %d, %v, want 4", m.Number, err)
	}
	if st := state(t, s); st.First != 4 || st.Last != uint64(len(sizes)) || st.Messages != uint64(len(sizes)-3) {
		t.Errorf("%+v", st)
	}
}

// A stream that is full refuses until something is purged, or drops the oldest.
func TestFullStream(t *testing.T) {
	const size = 64 << 10
	srv := start(t, t.TempDir())
	s := open(t, srv, StreamConfig{MaxBytes: 10 * size})
	n := uint64(0)
	var err error
	for {
		if _, err = s.Append(t.Context(), message(n+1, size)); err != nil {
			break
		}
		n++
	}
	if !errors.Is(err, ErrFull) || n < 8 {
		t.Fatalf("after %d messages: %v, want ErrFull", n, err)
	}
	if err := s.Purge(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Append(t.Context(), message(n+1, size)); err != nil || got != n+1 {
		t.Errorf("after a purge: %d, %v", got, err)
	}

	other, err := srv.Open(t.Context(), StreamConfig{Name: "other", MaxBytes: 10 * size, Share: 1, DropOldest: true, MaxAge: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(30) {
		if _, err := other.Append(t.Context(), message(i+1, size)); err != nil {
			t.Fatal(err)
		}
	}
	if st := state(t, other); st.Last != 30 || st.First < 20 || st.Bytes > st.MaxBytes {
		t.Errorf("%+v", st)
	}
}

// A stream never takes more of the disk than its share, and one that exists is not
// made smaller than it is.
func TestStreamFitsTheDisk(t *testing.T) {
	dir := t.TempDir()
	srv := start(t, dir)
	free, known := freeBytes(dir)
	if !known {
		t.Skip("the free space is not known here")
	}
	s, err := srv.Open(t.Context(), StreamConfig{Name: "log", MaxBytes: 1 << 50, Share: 0.25})
	if err != nil {
		t.Fatal(err)
	}
	if st := state(t, s); st.MaxBytes > free*3/10 || st.MaxBytes < free/5 {
		t.Errorf("%d of %d bytes free are given to a quarter", st.MaxBytes, free)
	}
	if _, err := s.Append(t.Context(), make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if s, err = srv.Open(t.Context(), StreamConfig{Name: "log", MaxBytes: 1000, Share: 0.25}); err != nil {
		t.Fatal(err)
	}
	if st := state(t, s); st.Messages != 1 || st.MaxBytes < st.Bytes {
		t.Errorf("a stream was cut: %+v", st)
	}
	if _, err := srv.Open(t.Context(), StreamConfig{Name: "tiny", MaxBytes: 1 << 30, Share: 1e-9}); err == nil || !strings.Contains(err.Error(), "has room for") {
		t.Errorf("a stream without room: %v", err)
	}
}

// Somebody else who writes to the stream is noticed: nothing is stored at a place
// other than the one expected.
func TestForeignWriter(t *testing.T) {
	srv := start(t, t.TempDir())
	a, b := open(t, srv, StreamConfig{}), open(t, srv, StreamConfig{})
	if _, err := a.Append(t.Context(), message(1, 80)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := b.Append(t.Context(), message(2, 80)); err == nil {
			t.Fatal("a writer that does not know of message 1 wrote message 1")
		}
	}
	if _, err := b.Append(t.Context(), message(2, 80)); !errors.Is(err, ErrConflict) {
		t.Errorf("got %v, want ErrConflict", err)
	}
	if st := state(t, a); st.Last != 1 {
		t.Errorf("%+v", st)
	}
}

// An append whose answer got lost is found by the next try, and stored once.
func TestLostAnswer(t *testing.T) {
	srv := start(t, t.TempDir())
	s := open(t, srv, StreamConfig{})
	for n := uint64(1); n <= 20; n++ {
		ctx, cancel := context.WithCancel(t.Context())
		if n%2 == 0 {
			go cancel() // somewhere in the middle of it
		}
		for {
			got, err := s.Append(ctx, message(n, 80))
			cancel()
			if err == nil {
				if got != n {
					t.Fatalf("message %d was stored as %d", n, got)
				}
				break
			}
			ctx = t.Context()
		}
	}
	all(t, s, 20, 80)
}

// A message whose sync is not known to have succeeded counts only when its file
// was written and synced again.
func TestFoundMessageIsSynced(t *testing.T) {
	srv := start(t, t.TempDir())
	s := open(t, srv, StreamConfig{})
	insist(t, s, 1, 4096)
	if _, err := s.publish(t.Context(), srv.live, message(2, 4096)); err != nil {
		t.Fatal(err)
	}
	s.unsettled = true // as if the answer had been lost
	dir := srv.cfg.Dir
	srv.cfg.Dir = t.TempDir() // where no file of the stream can be synced
	for range 2 {
		if n, err := s.Append(t.Context(), message(2, 4096)); err == nil {
			t.Fatalf("message %d counts without a sync", n)
		}
	}
	srv.cfg.Dir = dir
	if n, err := s.Append(t.Context(), message(2, 4096)); err != nil || n != 2 {
		t.Fatal(n, err)
	}
	insist(t, s, 3, 4096)
	all(t, s, 3, 4096)
	srv.Stop()
	all(t, open(t, start(t, dir), StreamConfig{}), 3, 4096)
}

// The engine is started again in the middle of it: readers and the writer go on.
func TestRestartOfTheEngine(t *testing.T) {
	srv := start(t, t.TempDir())
	s := open(t, srv, StreamConfig{})
	for n := range uint64(10) {
		insist(t, s, n+1, 80)
	}
	var readers sync.WaitGroup
	ended := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
				}
				if m, err := s.Read(t.Context(), 5); err != nil || m.Number != 5 {
					t.Errorf("read %d, %v", m.Number, err)
					return
				}
			}
		})
	}
	if !srv.mend(srv.live, errors.New("a test")) {
		t.Fatal("the engine was not started again")
	}
	insist(t, s, 11, 80)
	close(ended)
	readers.Wait()
	all(t, s, 11, 80)
	srv.Stop()
	if _, err := s.Append(t.Context(), nil); !errors.Is(err, ErrStopped) {
		t.Errorf("after the end: %v, want ErrStopped", err)
	}
	if _, err := s.Read(t.Context(), 1); !errors.Is(err, ErrStopped) {
		t.Errorf("after the end: %v, want ErrStopped", err)
	}
}

// Where a server cannot keep anything it does not start, and says why.
func TestStartRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Start(Config{Dir: file}); err == nil {
		s.Stop()
		t.Error("started in a file")
	}
}

// An engine that cannot use its directory says so at once, and why.
func TestStartSaysWhy(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "jetstream"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	s, err := Start(Config{Dir: dir})
	if err == nil {
		s.Stop()
		t.Fatal("started where there is a file in the way")
	}
	if !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "not a directory") || time.Since(began) > startWithin/4 {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
}

// What the server says comes with a level and words of ours: what nobody can act
// on is for those who debug, and what is not known is passed on as it is meant.
// None of it ends the process.
func TestServerLog(t *testing.T) {
	for _, c := range []struct {
		say         func(l *serverLog)
		level, want string
	}{
		{func(l *serverLog) { l.Noticef("Server is ready") }, "DEBUG", "Server is ready"},
		{func(l *serverLog) { l.Warnf("Filestore [log] Stream state too short (%d bytes)", 0) }, "DEBUG", "makes an index anew"},
		{func(l *serverLog) {
			l.Warnf("Filestore [feed] Stream state outdated, last block has additional entries, will rebuild")
		}, "DEBUG", "makes an index anew"},
		{func(l *serverLog) {
			l.Warnf("Filestore [log] Recovering stream state from index errored: prior state file")
		}, "DEBUG", "makes an index anew"},
		{func(l *serverLog) {
			l.Errorf("JetStream failed to store a msg on stream '$G > log': write 3.blk: read-only file system")
		}, "DEBUG", "cannot write"},
		{func(l *serverLog) {
			l.Errorf("JetStream stream '$G > log' critical write error: sync 3.blk: input/output error")
		}, "DEBUG", "cannot write"},
		{func(l *serverLog) {
			l.Warnf("Internal subscription on %q took too long: 2.5s", "$JS.API.DIRECT.GET.feed")
		}, "DEBUG", "slow"},
		{func(l *serverLog) {
			l.Warnf("Filestore [log] indexCacheBuf corrupt record state in 1.blk: dlen 3")
		}, "WARN", "is damaged"},
		{func(l *serverLog) { l.Warnf("  Stream metafile %q: checksums do not match", "meta.inf") }, "ERROR", "backup"},
		{func(l *serverLog) {
			l.Errorf("  Error recreating stream %q: open 1.blk: permission denied", "log")
		}, "ERROR", "backup"},
		{func(l *serverLog) { l.Warnf("something new %d", 2) }, "WARN", "something new 2"},
		{func(l *serverLog) { l.Errorf("something bad %d", 3) }, "ERROR", "something bad 3"},
		{func(l *serverLog) { l.Fatalf("fatal %d", 4) }, "DEBUG", "fatal 4"},
	} {
		var out strings.Builder
		l := &serverLog{logger: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))}
		l.Debugf("debug")
		l.Tracef("trace")
		c.say(l)
		if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level="+c.level+" ") || !strings.Contains(got, c.want) {
			t.Errorf("got %q, want one line of level %s with %q", got, c.level, c.want)
		}
	}
	l := &serverLog{logger: slog.New(slog.DiscardHandler)}
	l.Fatalf("no room")
	if err := l.why(errors.New("not ready")); !l.fatal.Load() || !strings.Contains(err.Error(), "no room") {
		t.Errorf("after Fatalf: %v", err)
	}
}

// After a pause a few writes go at once, then one in each interval.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Pace{Every: 100 * time.Millisecond, Burst: 3}
		count := func(d time.Duration) (n int) {
			for end := time.Now().Add(d); time.Now().Before(end); {
				if delay := p.Delay(time.Now()); delay > 0 {
					time.Sleep(delay)
					continue
				}
				p.Began(time.Now())
				n++
			}
			return n
		}
		if n := count(time.Second); n != 12 {
			t.Errorf("%d writes in the first second, want 12", n)
		}
		if n := count(time.Second); n != 10 {
			t.Errorf("%d writes in the next second, want 10", n)
		}
		// Writes that do not wait, because they are large, hold nothing back for long.
		for range 1000 {
			p.Began(time.Now())
		}
		if d := p.Delay(time.Now()); d > p.Every {
			t.Errorf("after a thousand writes at once the next waits %v, want at most %v", d, p.Every)
		}
		time.Sleep(time.Minute)
		if n := count(time.Second); n != 12 {
			t.Errorf("%d writes in a second after a pause, want 12", n)
		}
	})
}

// A search finds the last message before a place, whatever is missing or cannot be
// read, in few reads.
func TestSearch(t *testing.T) {
	for last := uint64(1); last <= 40; last++ {
		for want := uint64(1); want <= last; want++ {
			for _, gone := range []uint64{0, 2, 3, 7} { // each n-th is missing, or unreadable
				s := &sparse{last: last, gone: gone}
				got, err := Search(t.Context(), s, 1, last, func(m Message) Order {
					switch {
					case gone > 0 && m.Number%gone == 1:
						return Unreadable
					case m.Number <= want:
						return Before
					}
					return Behind
				})
				if err != nil {
					t.Fatal(err)
				}
				expected := want
				for expected > 1 && gone > 0 && (expected%gone == 0 || expected%gone == 1) {
					expected--
				}
				if got != expected || s.reads > 40 {
					t.Fatalf("%d messages, each %d. gone: found %d after %d reads, want %d", last, gone, got, s.reads, expected)
				}
			}
		}
	}
}

// sparse has messages 1 to last but for each gone-th.
type sparse struct {
	last, gone uint64
	reads      int
}

func (s *sparse) Read(_ context.Context, number uint64) (Message, error) {
	s.reads++
	for ; number <= s.last; number++ {
		if s.gone == 0 || number%s.gone != 0 {
			return Message{Number: number}, nil
		}
	}
	return Message{}, ErrNone
}

// What an engine knows of its streams is kept for the next start, but not what one
// believed whose write failed: it may count what is in no file.
func TestIndexOfAFailedEngineIsDropped(t *testing.T) {
	for _, failed := range []bool{false, true} {
		dir := filepath.Join(t.TempDir(), "a [name] that is no pattern")
		s := start(t, dir)
		st := open(t, s, StreamConfig{})
		for n := range uint64(5) {
			insist(t, st, n+1, childSize)
		}
		e := s.live
		if failed {
			s.mended = time.Now() // no restart at once
			s.mend(e, errors.New("a write failed"))
		}
		s.Stop()
		if _, err := os.Stat(filepath.Join(s.folder(st.name), "index.db")); (err == nil) == failed {
			t.Errorf("failed %v: the index: %v", failed, err)
		}
		st = open(t, start(t, dir), StreamConfig{})
		if st.last != 5 {
			t.Errorf("failed %v: it ends with message %d, want 5", failed, st.last)
		}
		all(t, st, 5, childSize)
		if err := st.server.syncBlocks(st.name, appendedIn); err != nil {
			t.Error(err)
		}
	}
}

// A message that was synced counts only when the file system still takes changes;
// until then it is not acknowledged, and it is stored once all the same.
func TestSyncIsNotBelievedAlone(t *testing.T) {
	s := open(t, start(t, t.TempDir()), StreamConfig{})
	insist(t, s, 1, childSize)
	check, readOnly := s.beat, errors.New("read-only file system")
	s.beat = func() error { return readOnly }
	if _, err := s.Append(t.Context(), message(2, childSize)); !errors.Is(err, readOnly) {
		t.Fatalf("a message was acknowledged that may be nowhere: %v", err)
	}
	if _, err := s.Append(t.Context(), message(2, childSize)); !errors.Is(err, readOnly) {
		t.Fatalf("a message was acknowledged that was found again and may be nowhere: %v", err)
	}
	s.beat = check
	insist(t, s, 2, childSize)
	insist(t, s, 3, childSize)
	all(t, s, 3, childSize)
}
