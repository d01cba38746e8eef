package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/whorl-net/whorl/bench/measure"
)

// roles are what this program does when it runs as a process of its own. Each
// prints one line when it is ready and ends when its standard input does.
var roles = map[string]func(args []string) error{
	"receive": func([]string) error { return serveFrames(receiveOnly) },
	"decode":  func([]string) error { return serveFrames(receiveDecode) },
	"track":   func([]string) error { return serveFrames(receiveTrack) },
	"message": func([]string) error { return serveMessages() },
	"apply":   applyRole,
	"command": commandRole,
	"feeder":  feederRole,
}

// child is a process that was started here.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
	// line is the first it said.
	line string
}

// startRole starts this program in a role.
func startRole(role string, args ...string) (*child, error) {
	return startRoleIn(nil, role, args...)
}

// startRoleIn is startRole with an environment; nil is that of this process.
func startRoleIn(env []string, role string, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, append([]string{"-role", role}, args...)...)
	cmd.Env, cmd.Stderr = env, os.Stderr
	return start(cmd, cmd.StdoutPipe, func(string) bool { return true })
}

// start starts cmd, which ends with this process, and waits for a line that ready
// likes on the pipe.
func start(cmd *exec.Cmd, pipe func() (io.ReadCloser, error), ready func(line string) bool) (*child, error) {
	out, err := pipe()
	if err != nil {
		return nil, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	measure.Bind(cmd)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{cmd: cmd, stdin: in}
	var said []string
	sc := bufio.NewScanner(out)
	for sc.Scan() {
		if ready(sc.Text()) {
			c.line = strings.TrimSpace(sc.Text())
			go io.Copy(io.Discard, out) // ends with the process
			return c, nil
		}
		said = append(said, sc.Text())
	}
	in.Close()
	err = fmt.Errorf("%s ended before it was ready", strings.Join(cmd.Args, " "))
	return nil, errors.Join(err, cmd.Wait(), errors.New(strings.Join(said, "\n")))
}

// cpu is what the child has used so far.
func (c *child) cpu() (time.Duration, error) { return measure.ProcessCPU(c.cmd.Process.Pid) }

// stop ends the child and waits for it. The error is that of its exit.
func (c *child) stop() error {
	c.stdin.Close()
	timer := time.AfterFunc(30*time.Second, func() { c.cmd.Process.Kill() })
	defer timer.Stop()
	return c.cmd.Wait()
}

// ready says what the parent waits for, then returns when the parent is gone or
// wants no more.
func ready(line string) {
	fmt.Println(line)
	io.Copy(io.Discard, os.Stdin)
}

// onLoopback listens on a free port.
func onLoopback() (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
}
