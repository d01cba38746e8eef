//go:build e2e

package faults

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whorl-net/whorl/client"
)

// A disk that fails every call for a while, because it is read-only or broken or
// has no room, stops what is taken in and nothing else. When it works again the
// collector goes on by itself, and everything is counted once.
func TestOutages(t *testing.T) {
	dir := t.TempDir()
	c := newCollector(t, dir, often...)
	w := &warden{t: t, dir: dir, broken: make(map[string]bool)}
	c.guard = w.guard
	c.start()
	a := startAuditor(t, c.addr, 2, 30_000)
	f := startFeeder(t, dial(t, c.addr), client.ReporterConfig{}, 4*floorRate/3)
	for range scaled(1, 3) {
		for _, e := range []syscall.Errno{unix.EROFS, unix.EIO, unix.ENOSPC, unix.EDQUOT} {
			underLoad(t, c, f)
			w.fails(e)
			stalled(t, f)
			refuses(t, c, f)
			w.fails(0)
			begin := time.Now()
			if !f.await(uint64(floorRate), time.Minute) {
				t.Fatalf("%v is over, and nothing is acknowledged: %+v", e, f.reporter.Stats())
			}
			t.Logf("a second's load is acknowledged %v after %v was over", time.Since(begin).Round(10*time.Millisecond), e)
		}
	}
	c.kill()
	c.guard = nil
	c.start()
	clean(t, c, f.finish(time.Minute), a.verdict(f, time.Minute), counted(t, dial(t, c.addr), f))
}

// A file system that an error made read-only, as ext4 does, takes nothing until it
// is mounted anew, which takes a restart; nothing is acknowledged meanwhile, and
// nothing lost.
func TestReadOnly(t *testing.T) {
	d := newDisk(t, 512)
	c := newCollector(t, filepath.Join(d.dir, "data"), often...)
	c.start()
	defer c.kill()
	a := startAuditor(t, c.addr, 2, 30_000)
	f := startFeeder(t, dial(t, c.addr), client.ReporterConfig{}, 4*floorRate/3)
	for range scaled(1, 5) {
		underLoad(t, c, f)
		d.turnReadOnly()
		stalled(t, f)
		refuses(t, c, f)
		c.kill()
		d.powerOn()
		c.start()
	}
	clean(t, c, f.finish(time.Minute), a.verdict(f, time.Minute), counted(t, dial(t, c.addr), f))
	c.kill()
}

// A file system that turns read-only and back while a collector uses it needs no
// restart. A kernel lets nobody do that to files that are open for writing, but for
// an error it found; whether that can be undone without mounting it anew depends on
// its version. Where neither is possible TestOutages shows the same with the answers
// that such a file system gives.
func TestRemounted(t *testing.T) {
	d := newDiskOf(t, 512, false) // an aborted journal is final
	c := newCollector(t, filepath.Join(d.dir, "data"), often...)
	c.start()
	defer c.kill()
	a := startAuditor(t, c.addr, 2, 30_000)
	f := startFeeder(t, dial(t, c.addr), client.ReporterConfig{}, 4*floorRate/3)
	for i := range scaled(2, 6) {
		underLoad(t, c, f)
		if busy := d.remount("ro"); busy != nil {
			if i == 0 {
				t.Logf("by hand: %v", busy)
			}
			d.turnReadOnly()
		}
		stalled(t, f)
		refuses(t, c, f)
		if final := d.remount("rw"); final != nil {
			t.Skipf("no way back to writing without mounting it anew, which takes a restart: %v", final)
		}
		begin := time.Now()
		if !f.await(uint64(floorRate), time.Minute) {
			t.Fatalf("it can be written again, and nothing is acknowledged: %+v", f.reporter.Stats())
		}
		t.Logf("a second's load is acknowledged %v after it was writable again", time.Since(begin).Round(10*time.Millisecond))
	}
	c.kill()
	c.start()
	clean(t, c, f.finish(time.Minute), a.verdict(f, time.Minute), counted(t, dial(t, c.addr), f))
	c.kill()
}

// remount makes the disk read-only ("ro") or writable again ("rw") as it is used.
func (d *disk) remount(how string) error {
	if out, err := exec.Command("mount", "-o", "remount,"+how, d.dir).CombinedOutput(); err != nil {
		return fmt.Errorf("remount,%s: %w %s", how, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// turnReadOnly has the kernel find an error in the file system.
func (d *disk) turnReadOnly() {
	d.t.Helper()
	device, err := exec.Command("findmnt", "-no", "SOURCE", d.dir).Output()
	if err != nil {
		d.t.Skipf("findmnt: %v", err)
	}
	name := filepath.Base(strings.TrimSpace(string(device)))
	if err := os.WriteFile(filepath.Join("/sys/fs/ext4", name, "trigger_fs_error"), []byte("a fault on purpose"), 0); err != nil {
		d.t.Skipf("no error can be caused: %v", err)
	}
}

// A disk that answers nothing for a while, and then all of it, is waited for:
// nothing is acknowledged, queries go on, and it needs no restart.
func TestDiskHangs(t *testing.T) {
	d := newDisk(t, 512)
	c := newCollector(t, filepath.Join(d.dir, "data"), often...)
	c.start()
	defer c.kill()
	a := startAuditor(t, c.addr, 2, 30_000)
	f := startFeeder(t, dial(t, c.addr), client.ReporterConfig{}, 4*floorRate/3)
	for i := range scaled(1, 5) {
		underLoad(t, c, f)
		if out, err := exec.Command("fsfreeze", "-f", d.dir).CombinedOutput(); err != nil {
			t.Skipf("fsfreeze: %v %s", err, out)
		}
		thaw := func() { exec.Command("fsfreeze", "-u", d.dir).Run() }
		defer thaw() // or a failure would leave what cannot be killed
		stalled(t, f)
		cl := dial(t, c.addr)
		if st := status(t, cl); st.GetConnections() == 0 {
			t.Errorf("queries while the disk hangs: %v", st)
		}
		time.Sleep(time.Duration(scaled(2, 10*i)) * time.Second)
		if before := f.acked(); before != f.acked() {
			t.Error("something was acknowledged while the disk hangs")
		}
		thaw()
		if !f.await(uint64(floorRate), time.Minute) {
			t.Fatalf("the disk answers again, and nothing is acknowledged: %+v", f.reporter.Stats())
		}
	}
	c.kill()
	c.start()
	clean(t, c, f.finish(time.Minute), a.verdict(f, time.Minute), counted(t, dial(t, c.addr), f))
	c.kill()
}
