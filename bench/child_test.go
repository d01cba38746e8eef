package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sleeper is a command that leaves its process number in a file and sleeps.
func sleeper(file string) []string {
	return []string{"sh", "-c", "echo $$ >" + file + "; echo up >&2; exec sleep 60"}
}

// parentRole starts one child of each kind, as a benchmark does, and waits.
func parentRole(args []string) error {
	command := sleeper(filepath.Join(args[0], "command"))
	go task{Command: command}.run(nil)
	collector := sleeper(filepath.Join(args[0], "collector"))
	cmd := exec.Command(collector[0], collector[1:]...)
	if _, err := start(cmd, cmd.StderrPipe, func(string) bool { return true }); err != nil {
		return err
	}
	c, err := startRole("receive")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(args[0], "receive"), fmt.Appendln(nil, c.cmd.Process.Pid), 0o600); err != nil {
		return err
	}
	ready("up")
	return nil
}

// written waits for the process number in a file.
func written(t *testing.T, file string) int {
	t.Helper()
	for range 500 {
		b, _ := os.ReadFile(file)
		if line, whole := strings.CutSuffix(string(b), "\n"); whole {
			pid, err := strconv.Atoi(line)
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
		time.Sleep(20 * time.Millisecond) // real: another process writes
	}
	t.Fatalf("nothing was started that writes %s", file)
	return 0
}

// gone waits until a process has ended; nobody may have asked for its status.
func gone(pid int) error {
	for range 500 {
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return nil
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if errors.Is(err, os.ErrNotExist) || strings.Contains(string(stat), ") Z ") {
			return nil
		}
		time.Sleep(20 * time.Millisecond) // real: another process ends
	}
	return fmt.Errorf("process %d still runs", pid)
}

// When a benchmark is killed, nothing that it has started stays: not a role, not a
// collector, not a command that runs under a role.
func TestChildrenEndWithTheParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("a collector is tied to its parent on Linux only") // nothing to see elsewhere
	}
	dir := t.TempDir()
	parent, err := startRole("parent", dir)
	if err != nil {
		t.Fatal(err)
	}
	children := map[string]int{}
	for _, name := range []string{"command", "collector", "receive"} {
		children[name] = written(t, filepath.Join(dir, name))
	}
	if err := parent.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := parent.stop(); err == nil {
		t.Error("the parent was not killed")
	}
	for name, pid := range children {
		if err := gone(pid); err != nil {
			t.Errorf("%s: %v", name, err)
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// A command that is measured ends when the one who asked for it closes the pipe,
// as the end of a process does everywhere.
func TestCommandEndsWithThePipe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-role", "command", `{"Command":["sh","-c","echo $$ >`+file+`; exec sleep 60"]}`)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, io.Discard
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := written(t, file)
	in.Close()
	if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), "killed") {
		t.Errorf("it said %q, %v; want that it was killed", out.String(), err)
	}
	if err := gone(pid); err != nil {
		t.Error(err)
		syscall.Kill(pid, syscall.SIGKILL)
	}
}
