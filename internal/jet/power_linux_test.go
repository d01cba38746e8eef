package jet

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// ext4Disk is an ext4 file system in a file.
type ext4Disk struct{ image, dir string }

func newDisk(t *testing.T) *ext4Disk {
	t.Helper()
	d := &ext4Disk{image: filepath.Join(t.TempDir(), "image"), dir: t.TempDir()}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.image, 256<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", d.image).CombinedOutput(); err != nil {
		t.Skipf("no file system to cut the power of: mkfs.ext4: %v: %s", err, out)
	}
	d.mount(t)
	t.Cleanup(func() { d.unmount(t) })
	return d
}

func (d *ext4Disk) mount(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("mount", "-o", "loop,commit=300", d.image, d.dir).CombinedOutput(); err != nil {
		t.Skipf("no file system to cut the power of: mount: %v: %s", err, out)
	}
}

func (d *ext4Disk) unmount(t *testing.T) {
	t.Helper()
	var err error
	for range 50 {
		if err = syscall.Unmount(d.dir, 0); err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("unmount %s: %v", d.dir, err)
}

// cutPower makes the file system forget what was not synced: from now on it
// writes nothing, its journal neither, and every call fails.
func (d *ext4Disk) cutPower(t *testing.T) {
	t.Helper()
	const (
		shutdown   = 0x8004587d // EXT4_IOC_SHUTDOWN: _IOR('X', 125, __u32)
		noLogFlush = 2
	)
	f, err := os.Open(d.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flags := uint32(noLogFlush)
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), shutdown, uintptr(unsafe.Pointer(&flags))); errno != 0 {
		t.Skipf("the file system cannot be shut down: %v", errno)
	}
}

// A power loss takes nothing that was acknowledged; without the sync of each
// write it does, so the test would notice.
func TestPowerLoss(t *testing.T) {
	for _, noSync := range []bool{false, true} {
		t.Run(fmt.Sprint("nosync=", noSync), func(t *testing.T) {
			lost := uint64(0)
			for range 2 {
				d := newDisk(t)
				dir := filepath.Join(d.dir, "jetstream")
				last := writeUntil(t, dir, 100, noSync, func(p *os.Process) {
					d.cutPower(t)
					p.Kill()
				})
				d.unmount(t)
				d.mount(t)
				s := start(t, dir)
				st := open(t, s, StreamConfig{MaxBytes: 128 << 20})
				all(t, st, st.last, childSize)
				if st.last < last {
					lost += last - st.last
				}
				t.Logf("%d acknowledged, %d there", last, st.last)
				s.Stop()
			}
			switch {
			case !noSync && lost > 0:
				t.Errorf("%d acknowledged messages were lost", lost)
			case noSync && lost == 0:
				t.Error("nothing was lost without a sync: this test shows nothing")
			}
		})
	}
}

// A disk that fails takes nothing from then on; what it had taken is there when it
// works again.
func TestDiskFails(t *testing.T) {
	d := newDisk(t)
	dir := filepath.Join(d.dir, "jetstream")
	srv := start(t, dir)
	st := open(t, srv, StreamConfig{MaxBytes: 128 << 20})
	for n := range uint64(50) {
		insist(t, st, n+1, childSize)
	}
	d.cutPower(t)
	for range 3 {
		began := time.Now()
		_, err := st.Append(t.Context(), message(51, childSize))
		if err == nil {
			t.Fatal("a failed disk took a message")
		}
		if !strings.Contains(err.Error(), "input/output") || time.Since(began) > 5*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	}
	srv.Stop()
	d.unmount(t)
	d.mount(t)
	st = open(t, start(t, dir), StreamConfig{MaxBytes: 128 << 20})
	if st.last != 50 {
		t.Fatalf("%d messages, want 50", st.last)
	}
	all(t, st, 50, childSize)
	insist(t, st, 51, childSize)
	st.server.Stop() // before the file system goes
}
