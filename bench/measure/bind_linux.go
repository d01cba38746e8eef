package measure

import (
	"os/exec"
	"syscall"
)

// Bind makes cmd, which has not been started, end when this process does,
// whichever way: it is killed then. Strictly, when the thread that starts it ends,
// so start it from a goroutine that does not end locked to its thread.
func Bind(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
}
