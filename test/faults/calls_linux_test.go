//go:build e2e

package faults

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// warden decides, call by call, what becomes of the system calls with which a
// process changes the files below a directory: the process runs under a seccomp
// filter that asks before each. All other calls pass.
//
// It is the real program with real files; only the answers of the kernel differ.
type warden struct {
	t   testing.TB
	dir string

	mu     sync.Mutex // guards all below
	counts [deedKinds]int
	plan   plan
	struck string // the call that was hit, empty before
	since  time.Time
	broken map[string]bool // files whose next write fails: half of one was written
	outage syscall.Errno   // what every call fails with meanwhile, 0 for none
}

// fails has every call fail with e from now on; 0 ends that.
func (w *warden) fails(e syscall.Errno) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.outage = e
}

// deed is what a call does.
type deed int

const (
	deedWrite    deed = iota // write, pwrite64, writev, pwritev
	deedSync                 // fsync, fdatasync
	deedRename               // renameat, renameat2
	deedCreate               // openat that makes a file, mkdirat
	deedTruncate             // ftruncate
	deedRemove               // unlinkat
	deedKinds
)

var deedNames = [deedKinds]string{"write", "sync", "rename", "create", "truncate", "remove"}

// fate is what becomes of the call that a plan names.
type fate int

const (
	fateNone  fate = iota
	fateFails      // EIO, once
	fateFull       // ENOSPC, it and all that need room for a while
	fateShort      // half of it is written, the rest fails with ENOSPC
	fateKill       // the process is killed before it
	fateTorn       // half of it is written, the process is killed
	fateDone       // it is done, and the process is killed before it knows
	fateKinds
)

var fateNames = [fateKinds]string{"none", "EIO", "full for a while", "short write", "kill before", "torn write and kill", "kill behind"}

// plan hits one call.
type plan struct {
	deed deed
	nth  int // from 1; 0 hits none
	fate fate
}

// fullFor is how long the disk stays full.
const fullFor = 1200 * time.Millisecond

func (p plan) String() string {
	return fmt.Sprintf("%s %d: %s", deedNames[p.deed], p.nth, fateNames[p.fate])
}

// wardenEnv tells the test binary that it is to become a process under a filter.
const wardenEnv = "WHORL_FAULTS_FILTERED"

func TestMain(m *testing.M) {
	if os.Getenv(wardenEnv) != "" {
		fmt.Fprintln(os.Stderr, "under a filter:", becomeFiltered())
		os.Exit(125)
	}
	os.Exit(m.Run())
}

// filtered are the calls that are asked about. Go uses no others for these.
var filtered = []uint32{
	unix.SYS_WRITE, unix.SYS_PWRITE64, unix.SYS_WRITEV, unix.SYS_PWRITEV, unix.SYS_FSYNC, unix.SYS_FDATASYNC,
	unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_OPENAT, unix.SYS_MKDIRAT, unix.SYS_FTRUNCATE, unix.SYS_UNLINKAT,
}

// becomeFiltered installs the filter, sends its other end through descriptor 3
// and runs the program of the arguments in this process. It returns errors only.
func becomeFiltered() error {
	runtime.LockOSThread()
	arch := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]
	if arch == 0 {
		return errors.New("no filter for " + runtime.GOARCH)
	}
	prog := []unix.SockFilter{ // load arch; another passes; load number; compare
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 4},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 1, K: arch},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
	}
	for i, nr := range filtered {
		prog = append(prog, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: uint8(len(filtered) - i), K: nr})
	}
	prog = append(prog, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF})
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	// A call that is being decided on is not restarted by a signal: it would be
	// counted, and half written, twice.
	flags := uintptr(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&fprog)))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	if err := unix.Sendmsg(3, []byte{0}, unix.UnixRights(int(fd)), nil, 0); err != nil {
		return fmt.Errorf("send the listener: %w", err)
	}
	unix.CloseOnExec(3)
	env := os.Environ()
	for i, e := range env {
		if strings.HasPrefix(e, wardenEnv+"=") {
			env = append(env[:i], env[i+1:]...)
			break
		}
	}
	return syscall.Exec(os.Args[1], os.Args[1:], env)
}

// guard has cmd, which is not started yet, run under the filter, and starts it.
// What is decided on its calls ends when the process does.
func (w *warden) guard(cmd *exec.Cmd) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	self, err := os.Executable()
	if err != nil {
		theirs.Close()
		return err
	}
	cmd.Args = append([]string{self, cmd.Path}, cmd.Args[1:]...)
	cmd.Path, cmd.Env, cmd.ExtraFiles = self, append(cmd.Env, wardenEnv+"=1"), []*os.File{theirs}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return err
	}
	listener, err := receiveDescriptor(ours)
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		return fmt.Errorf("no listener: %w", err)
	}
	go w.watch(listener, cmd.Process.Pid)
	return nil
}

// receiveDescriptor waits for one.
func receiveDescriptor(f *os.File) (int, error) {
	c, err := net.FileConn(f)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	oob := make([]byte, unix.CmsgSpace(4))
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, n, _, _, err := c.(*net.UnixConn).ReadMsgUnix(make([]byte, 1), oob)
	if err != nil {
		return 0, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return 0, fmt.Errorf("%d control messages: %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return 0, fmt.Errorf("%d descriptors: %w", len(fds), err)
	}
	return fds[0], nil
}

// notice is struct seccomp_notif, reply struct seccomp_notif_resp.
type notice struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type reply struct {
	id    uint64
	value int64
	err   int32
	flags uint32
}

// watch decides until the process has ended.
func (w *warden) watch(listener, pid int) {
	defer unix.Close(listener)
	for {
		poll := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, 1000); err != nil && err != unix.EINTR {
			return
		}
		if poll[0].Revents&unix.POLLHUP != 0 {
			return // nobody is left; POLLERR means a signal
		}
		if poll[0].Revents&unix.POLLIN == 0 {
			continue
		}
		var n notice
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n))); errno != 0 {
			continue // it was killed meanwhile
		}
		r := w.decide(&n, pid)
		r.id = n.id
		for errno := unix.EINTR; errno == unix.EINTR; { // a signal must not leave it without an answer
			_, _, errno = unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&r)))
		}
	}
}

var passes = reply{flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}

func failsWith(e syscall.Errno) reply { return reply{err: -int32(e)} }

// decide answers one call of a process.
func (w *warden) decide(n *notice, pid int) reply {
	what, path, ours := w.look(n)
	if !ours {
		return passes
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[what]++
	if w.outage != 0 {
		return failsWith(w.outage)
	}
	p := w.plan
	if w.struck != "" {
		switch {
		case p.fate == fateFull && time.Since(w.since) < fullFor && (what == deedWrite || what == deedCreate):
			return failsWith(unix.ENOSPC)
		case what == deedWrite && w.broken[path]:
			delete(w.broken, path)
			return failsWith(unix.ENOSPC)
		}
		return passes
	}
	if what != p.deed || w.counts[what] != p.nth || p.fate == fateNone {
		return passes
	}
	w.struck, w.since = fmt.Sprintf("%s of %s", deedNames[what], strings.TrimPrefix(path, w.dir)), time.Now()
	switch p.fate {
	case fateFails:
		return failsWith(unix.EIO)
	case fateFull:
		return failsWith(unix.ENOSPC)
	case fateShort, fateTorn:
		half, err := writeHalf(n, pid)
		if err != nil {
			w.t.Errorf("%v: %v", p, err)
			return passes
		}
		if p.fate == fateShort {
			w.broken[path] = true
			if half == 0 {
				return failsWith(unix.ENOSPC)
			}
			return reply{value: int64(half)}
		}
	case fateDone:
		// What is to be renamed may not be there: the caller finds that out so.
		if err := do(n, pid, what); err != nil && !errors.Is(err, unix.ENOENT) {
			w.t.Errorf("%v: %v", p, err)
		}
	}
	unix.Kill(pid, unix.SIGKILL)
	return failsWith(unix.EIO) // nobody reads it
}

// look says what a call does and to which file, and whether that is below the
// directory.
func (w *warden) look(n *notice) (what deed, path string, ours bool) {
	switch n.nr {
	case unix.SYS_WRITE, unix.SYS_PWRITE64, unix.SYS_WRITEV, unix.SYS_PWRITEV:
		what, path = deedWrite, fileOf(n.pid, n.args[0])
	case unix.SYS_FSYNC, unix.SYS_FDATASYNC:
		what, path = deedSync, fileOf(n.pid, n.args[0])
	case unix.SYS_FTRUNCATE:
		what, path = deedTruncate, fileOf(n.pid, n.args[0])
	case unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2:
		what, path = deedRename, textOf(n.pid, n.args[3])
	case unix.SYS_MKDIRAT:
		what, path = deedCreate, textOf(n.pid, n.args[1])
	case unix.SYS_UNLINKAT:
		what, path = deedRemove, textOf(n.pid, n.args[1])
	case unix.SYS_OPENAT:
		if n.args[2]&unix.O_CREAT == 0 {
			return 0, "", false
		}
		what, path = deedCreate, textOf(n.pid, n.args[1])
	}
	return what, path, path == w.dir || strings.HasPrefix(path, w.dir+string(filepath.Separator))
}

// fileOf is the path behind a descriptor of a thread.
func fileOf(tid uint32, fd uint64) string {
	path, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, int32(fd)))
	return path
}

// memoryOf copies from the memory of a thread's process.
func memoryOf(tid uint32, at, size uint64) ([]byte, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mem", tid))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p := make([]byte, size)
	n, err := f.ReadAt(p, int64(at))
	if n > 0 {
		err = nil
	}
	return p[:n], err
}

// textOf is the path that an argument points to. The program gives absolute ones.
func textOf(tid uint32, at uint64) string {
	var text []byte
	for len(text) < unix.PathMax {
		p, err := memoryOf(tid, at+uint64(len(text)), 128)
		if err != nil {
			break
		}
		if i := strings.IndexByte(string(p), 0); i >= 0 {
			return string(append(text, p[:i]...))
		}
		text = append(text, p...)
	}
	return ""
}

// theirs is a copy of a descriptor of the process, with its place in the file.
func theirs(pid int, fd uint64) (int, error) {
	handle, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(handle)
	return unix.PidfdGetfd(handle, int(int32(fd)), 0)
}

// content is what a writing call has to write.
func content(n *notice) ([]byte, error) {
	if n.nr == unix.SYS_WRITE || n.nr == unix.SYS_PWRITE64 {
		return memoryOf(n.pid, n.args[1], n.args[2])
	}
	vectors, err := memoryOf(n.pid, n.args[1], 16*n.args[2])
	if err != nil {
		return nil, err
	}
	var all []byte
	for ; len(vectors) >= 16; vectors = vectors[16:] {
		p, err := memoryOf(n.pid, binary.NativeEndian.Uint64(vectors), binary.NativeEndian.Uint64(vectors[8:]))
		if err != nil {
			return nil, err
		}
		all = append(all, p...)
	}
	return all, nil
}

// writeHalf does half of a writing call in the name of the process.
func writeHalf(n *notice, pid int) (int, error) {
	p, err := content(n)
	if err != nil {
		return 0, err
	}
	return writeFor(n, pid, p[:len(p)/2])
}

func writeFor(n *notice, pid int, p []byte) (int, error) {
	fd, err := theirs(pid, n.args[0])
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if n.nr == unix.SYS_PWRITE64 || n.nr == unix.SYS_PWRITEV {
		return unix.Pwrite(fd, p, int64(n.args[3]))
	}
	return unix.Write(fd, p)
}

// do does all of a call in the name of the process.
func do(n *notice, pid int, what deed) error {
	switch what {
	case deedWrite:
		p, err := content(n)
		if err == nil {
			_, err = writeFor(n, pid, p)
		}
		return err
	case deedSync:
		fd, err := theirs(pid, n.args[0])
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Fsync(fd)
	case deedRename:
		return os.Rename(textOf(n.pid, n.args[1]), textOf(n.pid, n.args[3]))
	case deedRemove:
		if err := os.Remove(textOf(n.pid, n.args[1])); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	return fmt.Errorf("a %s is not done for another process", deedNames[what])
}
