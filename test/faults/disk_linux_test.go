//go:build e2e

package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
	"unsafe"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/whorl-net/whorl/client"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// disk is an ext4 file system in a file, whose power can be cut.
type disk struct {
	t     testing.TB
	image string
	dir   string
	// journal says that it has one; without, nothing is kept in memory for long.
	journal bool
}

// newDisk makes a disk of so many MiB and mounts it, or skips the test where that
// is not possible.
func newDisk(t testing.TB, mib int64) *disk {
	t.Helper()
	return newDiskOf(t, mib, true)
}

// newDiskOf is newDisk with a journal or without.
func newDiskOf(t testing.TB, mib int64, journal bool) *disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a file system takes root")
	}
	d := &disk{t: t, journal: journal, image: filepath.Join(t.TempDir(), "image"), dir: filepath.Join(t.TempDir(), "disk")}
	f, err := os.Create(d.image)
	if err == nil {
		err = errors.Join(f.Truncate(mib<<20), f.Close(), os.Mkdir(d.dir, 0o700))
	}
	if err != nil {
		t.Fatal(err)
	}
	feature := "has_journal"
	if !journal {
		feature = "^" + feature
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-O", feature, d.image).CombinedOutput(); err != nil {
		t.Skipf("mkfs.ext4: %v %s", err, out)
	}
	if err := d.mount(); err != nil {
		t.Skipf("a loop device cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { d.unmount() })
	return d
}

// mount mounts it; what is not synced stays in memory for minutes.
func (d *disk) mount() error {
	options := "loop,errors=remount-ro"
	if d.journal {
		options += ",commit=300"
	}
	out, err := exec.Command("mount", "-o", options, d.image, d.dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mount: %w %s", err, out)
	}
	return nil
}

func (d *disk) unmount() error {
	var err error
	var out []byte
	for range 50 { // the kernel may still be letting go of a killed process
		if out, err = exec.Command("umount", d.dir).CombinedOutput(); err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("umount: %w %s", err, out)
}

// cutPower drops everything that is not on the disk: from now on each call on it
// fails with EIO, and nothing more is written.
func (d *disk) cutPower() {
	d.t.Helper()
	f, err := os.Open(d.dir)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	const ext4Shutdown = 0x8004587d // EXT4_IOC_SHUTDOWN
	noLogFlush := uint32(2)
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&noLogFlush))); errno != 0 {
		d.t.Skipf("the file system cannot be shut down: %v", errno)
	}
}

// powerOn is the disk after the power came back. Nobody may use it meanwhile.
func (d *disk) powerOn() {
	d.t.Helper()
	if err := errors.Join(d.unmount(), d.mount()); err != nil {
		d.t.Fatal(err)
	}
}

// refuses checks a collector whose disk takes nothing: it says so, answers
// queries, and acknowledges nothing.
func refuses(t *testing.T, c *collector, f *feeder) {
	t.Helper()
	cl := dial(t, c.addr)
	said := false
	for deadline := time.Now().Add(20 * time.Second); !said && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		st, err := c.health(context.Background(), whorlv1.IngestService_ServiceDesc.ServiceName)
		said = err == nil && st == healthv1.HealthCheckResponse_NOT_SERVING
	}
	st := status(t, cl)
	if !said || st.GetState() != "refusing" || st.GetLog().GetError() == "" {
		t.Errorf("the disk takes nothing; health NOT_SERVING %v, state %q, error %q", said, st.GetState(), st.GetLog().GetError())
	}
	t.Logf("the collector says: %s", st.GetLog().GetError())
	if _, err := cl.Count(t.Context(), &whorlv1.CountRequest{}); err != nil {
		t.Errorf("a query while the disk takes nothing: %v", err)
	}
	before := f.acked()
	time.Sleep(time.Second)
	if after := f.acked(); after != before {
		t.Errorf("%d packets were acknowledged while nothing can be stored", after-before)
	}
}

// powerCuts cuts the power n times under load and returns what is wrong.
func powerCuts(t *testing.T, c *collector, d *disk, n int) (wrong []string) {
	a := startAuditor(t, c.addr, 2, 30_000)
	f := startFeeder(t, dial(t, c.addr), client.ReporterConfig{}, 4*floorRate/3)
	rng := rand.New(rand.NewPCG(23, 23))
	for i := range n {
		if rate, ok := f.load(floorRate, 30*time.Second); !ok {
			return append(wrong, fmt.Sprintf("the load is %.0f packets/s, want %.0f", rate, floorRate))
		}
		time.Sleep(time.Duration(rng.IntN(2000)) * time.Millisecond)
		d.cutPower()
		if i == 0 && c.bug == "" {
			refuses(t, c, f)
		}
		c.kill()
		d.powerOn()
		if _, err := c.tryStart(); err != nil {
			return append(wrong, err.Error())
		}
		if c.bug != "" && len(a.complaints()) > 0 {
			break
		}
	}
	if wrong = f.finish(time.Minute); len(wrong) > 0 {
		return append(wrong, a.complaints()...)
	}
	wrong = append(a.verdict(f, time.Minute), counted(t, dial(t, c.addr), f)...)
	t.Logf("%d power cuts: %s", n, describe(f, a))
	return wrong
}

// When the power fails, what was acknowledged is on the disk: nothing is lost and
// nothing counted twice. Without the syncs the same test sees the loss.
func TestPowerLoss(t *testing.T) {
	t.Run("sync", func(t *testing.T) {
		d := newDisk(t, 1024)
		c := newCollector(t, filepath.Join(d.dir, "data"), often...)
		c.start()
		defer c.kill()
		clean(t, c, powerCuts(t, c, d, scaled(2, 20)))
		c.kill()
	})
	t.Run("no sync", func(t *testing.T) {
		if !long {
			t.Skip("it takes another build: WHORL_FAULTS=long")
		}
		d := newDisk(t, 1024)
		c := newCollector(t, filepath.Join(d.dir, "data"), often...)
		c.plant("no-sync")
		c.start()
		defer c.kill()
		wrong := powerCuts(t, c, d, 2)
		if len(wrong) == 0 {
			t.Error("without syncs nothing was lost: the power cut shows nothing")
		} else {
			t.Logf("noticed: %s", wrong[0])
		}
		c.kill()
	})
}

// A disk that is full stops what is taken in and nothing else; when there is room
// again it goes on by itself, and everything is counted once.
func TestDiskFull(t *testing.T) {
	d := newDisk(t, 512)
	c := newCollector(t, filepath.Join(d.dir, "data"), "--checkpoint-every", "2s")
	c.start()
	defer c.kill()
	a := startAuditor(t, c.addr, 2, 30_000)
	f := startFeeder(t, dial(t, c.addr), client.ReporterConfig{}, 4*floorRate/3)
	for range scaled(1, 5) {
		underLoad(t, c, f)
		ballast := filepath.Join(d.dir, "ballast")
		fillUp(t, ballast)
		stalled(t, f)
		refuses(t, c, f)
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if !f.await(uint64(floorRate), time.Minute) {
			t.Fatalf("there is room again, and nothing is acknowledged: %+v", f.reporter.Stats())
		}
		t.Logf("a second's load is acknowledged %v after there was room", time.Since(begin).Round(10*time.Millisecond))
	}
	c.kill()
	c.start()
	clean(t, c, f.finish(time.Minute), a.verdict(f, time.Minute), counted(t, dial(t, c.addr), f))
	c.kill()
}

// fillUp writes a file until the disk is full, and keeps it full.
func fillUp(t testing.TB, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := make([]byte, 1<<20)
	for size := len(p); size > 0; {
		if _, err := f.Write(p[:size]); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// stalled waits until nothing has been acknowledged for two seconds; room that
// became free meanwhile is used first.
func stalled(t testing.TB, f *feeder) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); {
		before := f.acked()
		time.Sleep(2 * time.Second)
		if f.acked() == before {
			return
		}
	}
	t.Fatal("the disk is full, and batches are acknowledged")
}
