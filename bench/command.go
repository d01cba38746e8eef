package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// ran is what a command used from its start to its end.
type ran struct {
	CPU, Wall time.Duration
	// Peak is the most memory it had, in bytes.
	Peak int64
	// Failure is why it did not end well, with what it printed; empty if it did.
	Failure string
}

// command runs a program to its end; its output goes nowhere. It runs as the
// child of a small process: the kernel counts the memory of the parent as that
// of the child until it has loaded its program, and this process is large.
func command(env []string, name string, args ...string) (r ran, err error) {
	c, err := startRoleIn(env, "command", append([]string{name}, args...)...)
	if err != nil {
		return r, err
	}
	if err := errors.Join(json.Unmarshal([]byte(c.line), &r), c.stop()); err != nil {
		return r, fmt.Errorf("run %s: %w", name, err)
	}
	if r.Failure != "" {
		return r, fmt.Errorf("run %s: %s", name, r.Failure)
	}
	return r, nil
}

// commandRole is that small process: it runs its arguments and prints what they
// used.
func commandRole(args []string) error {
	if len(args) == 0 {
		return errors.New("command: which?")
	}
	cmd := exec.Command(args[0], args[1:]...)
	out := &tail{max: 4 << 10}
	cmd.Stdout, cmd.Stderr = out, out
	start := time.Now()
	var r ran
	if err := cmd.Run(); err != nil {
		r.Failure = fmt.Sprintf("%v\n%s", err, out.Bytes())
	}
	r.Wall = time.Since(start)
	if s := cmd.ProcessState; s != nil {
		r.CPU = s.UserTime() + s.SystemTime()
		if u, ok := s.SysUsage().(*syscall.Rusage); ok {
			r.Peak = int64(u.Maxrss) << 10
		}
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(os.Stdout, "%s\n", b)
	return err
}

// tail keeps about the last max bytes that were written to it.
type tail struct {
	bytes.Buffer
	max int
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	if t.Len() > t.max {
		t.Next(t.Len() - t.max)
	}
	return t.Buffer.Write(p)
}
