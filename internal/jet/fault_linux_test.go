package jet

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// smallDisk mounts a file system of its own of that many bytes. It needs root.
func smallDisk(t *testing.T, bytes int64) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprint("size=", bytes)); err != nil {
		t.Skipf("cannot mount a file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill takes all that is free on the file system of dir.
func fill(t *testing.T, dir string) (release func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for p := make([]byte, 64<<10); ; {
		if n, err := f.Write(p); err != nil || n < len(p) {
			break
		}
	}
	f.Close()
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// A full disk takes nothing and loses nothing; what is there can be read; when
// there is room again the same messages are taken, each once, without a restart
// of the process.
func TestDiskFull(t *testing.T) {
	dir := smallDisk(t, 96<<20)
	srv := start(t, filepath.Join(dir, "jetstream"))
	s := open(t, srv, StreamConfig{MaxBytes: 64 << 20})
	const size = 256 << 10
	next := uint64(1)
	for round := range 2 {
		for range 10 {
			insist(t, s, next, size)
			next++
		}
		release := fill(t, dir)
		began := time.Now()
		for time.Since(began) < time.Second {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			_, err := s.Append(ctx, message(next, size))
			cancel()
			if err == nil {
				next++ // it still fitted
				continue
			}
			if round == 0 && testing.Verbose() {
				t.Logf("after %v: %v", time.Since(began), err)
			}
			time.Sleep(200 * time.Millisecond)
		}
		if m, err := s.Read(t.Context(), 1); err != nil || m.Number != 1 {
			t.Errorf("reading from a full disk: %d, %v", m.Number, err)
		}
		release()
		began = time.Now()
		insist(t, s, next, size)
		next++
		t.Logf("round %d: goes on %v after there is room, at message %d", round, time.Since(began), next)
	}
	all(t, s, next-1, size)
	srv.Stop()
	srv = start(t, filepath.Join(dir, "jetstream"))
	all(t, open(t, srv, StreamConfig{MaxBytes: 64 << 20}), next-1, size)
}
