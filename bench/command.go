package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/whorl-net/whorl/bench/measure"
)

// ran is what a command used from its start to its end.
type ran struct {
	CPU, Wall time.Duration
	// Peak is the most memory it had, in bytes.
	Peak int64
	// Mark is what it had used at a place in the file it reads; zero if nobody
	// asked for one or it did not get there.
	Mark mark
	// Failure is why it did not end well, with what it printed; empty if it did.
	Failure string
}

// mark is what a command had used when it had read a file up to Offset.
type mark struct {
	CPU, Wall time.Duration
	Offset    int64
}

// task is what a small process is to run.
type task struct {
	Command []string
	// A mark is made when the command has read File up to Offset; none if File is
	// empty.
	File   string
	Offset int64
}

// command runs a program to its end; its output goes nowhere.
func command(env []string, name string, args ...string) (ran, error) {
	return task{Command: append([]string{name}, args...)}.run(env)
}

// run runs t to its end as the child of a small process: the kernel counts the
// memory of the parent as that of the child until it has loaded its program,
// and this process is large.
func (t task) run(env []string) (r ran, err error) {
	asked, err := json.Marshal(t)
	if err != nil {
		return r, err
	}
	c, err := startRoleIn(env, "command", string(asked))
	if err != nil {
		return r, err
	}
	if err := errors.Join(json.Unmarshal([]byte(c.line), &r), c.stop()); err != nil {
		return r, fmt.Errorf("run %s: %w", t.Command[0], err)
	}
	if r.Failure != "" {
		return r, fmt.Errorf("run %s: %s", t.Command[0], r.Failure)
	}
	return r, nil
}

// commandRole is that small process: it runs a task and prints what that used. If
// its standard input ends first, the parent is gone, and so is what it runs.
func commandRole(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("command: %d arguments", len(args))
	}
	var t task
	if err := json.Unmarshal([]byte(args[0]), &t); err != nil {
		return err
	}
	if len(t.Command) == 0 {
		return errors.New("command: which?")
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin) // ends with this process at the latest
		cancel()
	}()
	cmd := exec.CommandContext(ctx, t.Command[0], t.Command[1:]...)
	measure.Bind(cmd)
	out := &tail{max: 4 << 10}
	cmd.Stdout, cmd.Stderr = out, out
	start := time.Now()
	var r ran
	err := cmd.Start()
	if err == nil {
		marked := t.watch(cmd.Process.Pid, start)
		err = cmd.Wait()
		r.Mark = marked()
	}
	if err != nil {
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

// watch looks every few milliseconds how far process pid has read. The result ends
// that and returns the mark.
func (t task) watch(pid int, start time.Time) func() mark {
	if t.File == "" {
		return func() mark { return mark{} }
	}
	var m mark
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			if at := offset(pid, t.File); at >= t.Offset {
				if cpu, err := measure.ProcessCPU(pid); err == nil {
					m = mark{CPU: cpu, Wall: time.Since(start), Offset: at}
				}
				return
			}
			select {
			case <-ended:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	return func() mark {
		close(ended)
		<-done
		return m
	}
}

// offset is how far process pid has read the file at path; 0 if it has not opened
// it.
func offset(pid int, path string) int64 {
	files, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	for _, f := range files {
		if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, f.Name())); err != nil || to != path {
			continue
		}
		info, _ := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, f.Name()))
		var at int64
		if _, err := fmt.Fscanf(bytes.NewReader(info), "pos:%d", &at); err == nil {
			return at
		}
	}
	return 0
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
