package spool

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ext4 makes a file system in a file and returns how to mount it, at dir.
func ext4(t *testing.T) (dir string, mount func() error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a file system takes root")
	}
	image, dir := filepath.Join(t.TempDir(), "image"), filepath.Join(t.TempDir(), "disk")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 64<<20), os.Mkdir(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", image).CombinedOutput(); err != nil {
		t.Skipf("mkfs.ext4: %v: %s", err, out)
	}
	return dir, func() error {
		return exec.Command("mount", "-o", "loop,commit=300,errors=remount-ro", image, dir).Run()
	}
}

// findError has the kernel find an error in the file system at dir, which makes it
// read-only.
func findError(t *testing.T, dir string) {
	t.Helper()
	device, err := exec.Command("findmnt", "-no", "SOURCE", dir).Output()
	if err != nil {
		t.Skipf("findmnt: %v", err)
	}
	name := filepath.Join("/sys/fs/ext4", filepath.Base(strings.TrimSpace(string(device))), "trigger_fs_error")
	if err := os.WriteFile(name, []byte("a fault on purpose"), 0); err != nil {
		t.Skipf("no error can be caused: %v", err)
	}
}

func unmount(t *testing.T, dir string) {
	t.Helper()
	var err error
	for range 50 {
		if err = syscall.Unmount(dir, 0); err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("unmount: %v", err)
}

// What was taken before a file system turned read-only because of an error is
// there when it is mounted anew, also when the sync of it was under way.
func TestReadOnly(t *testing.T) {
	dir, mount := ext4(t)
	if err := mount(); err != nil {
		t.Skipf("a loop device cannot be mounted here: %v", err)
	}
	mounted := true
	defer func() {
		if mounted {
			unmount(t, dir)
		}
	}()
	rounds := 8
	if os.Getenv("WHORL_FAULTS") == "long" {
		rounds = 100
	}
	next, taken := uint64(1), uint64(0)
	for round := range rounds {
		s, found, err := Open(filepath.Join(dir, "spool"), owner)
		if err != nil {
			t.Fatal(err)
		}
		have := uint64(0)
		for _, r := range found {
			if !r.Lost() {
				have = r.Last
			}
		}
		if have < taken {
			kill(t, s)
			t.Fatalf("round %d: batches up to %d are there, up to %d were taken", round, have, taken)
		}
		_, next = s.Session()
		refused := make(chan error, 1)
		go func() {
			for {
				if err := s.Reserve(next); err != nil {
					refused <- err
					return
				}
				if _, err := s.Append([]Record{batch(next)}); err != nil {
					refused <- err
					return
				}
				taken = next
				next++
				if err := s.Forget(next - min(next-1, 50)); err != nil {
					refused <- err
					return
				}
			}
		}()
		time.Sleep(time.Duration(10+7*(round%11)) * time.Millisecond)
		findError(t, dir)
		select {
		case err := <-refused:
			if round == 0 {
				t.Logf("%d batches were taken, then: %v", taken, err)
			}
		case <-time.After(10 * time.Second):
			kill(t, s) // which ends the goroutine
			t.Fatalf("a read-only file system takes batches: %v", <-refused)
		}
		kill(t, s)
		unmount(t, dir)
		mounted = false
		if err := mount(); err != nil {
			t.Fatal(err)
		}
		mounted = true
	}
}
