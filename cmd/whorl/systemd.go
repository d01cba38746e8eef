package main

import "github.com/coreos/go-systemd/v22/daemon"

// What a unit with Type=notify is told: that it serves or captures, and that it
// was told to end. Elsewhere nobody listens and nothing happens.
const (
	nowReady    = daemon.SdNotifyReady
	nowStopping = daemon.SdNotifyStopping
)

// tellSystemd says how this process is doing to the service manager that
// started it.
func (c *console) tellSystemd(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		c.logger.Warn("systemd is not told", "state", state, "err", err)
	}
}
