package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc/test/bufconn"

	"github.com/whorl-net/whorl/internal/log"
	"github.com/whorl-net/whorl/tracker"
)

// settings are those that decide when a connection is evicted. A log must be
// applied again under the settings it was applied under the first time: what the
// feed holds already would otherwise not be what comes out of it.
type settings struct {
	MaxConnections int              `json:"max_connections"`
	MaxMemoryBytes int64            `json:"max_memory_bytes"`
	Timeouts       tracker.Timeouts `json:"timeouts_ns"`
	LiveHold       time.Duration    `json:"live_hold_ns"`
	ReplayHold     time.Duration    `json:"replay_hold_ns"`
	MaxNetworks    int              `json:"max_networks"`
	MaxProbes      int              `json:"max_probes"`
}

func settingsOf(c *tracker.Config) settings {
	return settings{
		MaxConnections: c.MaxConnections, MaxMemoryBytes: c.MaxMemoryBytes, Timeouts: c.Timeouts,
		LiveHold: c.LiveHold, ReplayHold: c.ReplayHold, MaxNetworks: c.MaxNetworks, MaxProbes: c.MaxProbes,
	}
}

func (s *settings) apply(c *tracker.Config) {
	c.MaxConnections, c.MaxMemoryBytes, c.Timeouts = s.MaxConnections, s.MaxMemoryBytes, s.Timeouts
	c.LiveHold, c.ReplayHold, c.MaxNetworks, c.MaxProbes = s.LiveHold, s.ReplayHold, s.MaxNetworks, s.MaxProbes
}

// underSettings puts the settings of cfg in force. When the life before had
// others and left a log that is to be applied again, that is done first, under
// its own settings. The result, which takes the place of s, is to be closed also
// when there is an error.
func (s *storage) underSettings(cfg *Config) (*storage, error) {
	data, err := s.dir.Settings()
	if err != nil {
		return s, err
	}
	mine := settingsOf(&cfg.Tracker)
	if data != nil {
		var before settings
		if err := json.Unmarshal(data, &before); err != nil {
			return s, fmt.Errorf("data directory %s: settings: %w", cfg.DataDir, err)
		}
		if before == mine {
			return s, nil
		}
		if s.behind() {
			cfg.Logger.Warn("the settings have changed since a life that was not ended properly: its log is applied under its own settings first",
				slog.Any("before", before), slog.Any("now", mine))
			old := *cfg
			before.apply(&old.Tracker)
			if err := settle(old, s); err != nil { // closes s
				return s, fmt.Errorf("apply the log under the settings before: %w", err)
			}
			if s, err = onDisk(cfg); err != nil {
				return s, err
			}
		}
		s.settingsChanged = true
	}
	text, err := json.MarshalIndent(mine, "", "  ")
	if err != nil {
		return s, err
	}
	return s, s.dir.SaveSettings(append(text, '\n'))
}

// behind reports whether the log holds records that are in no checkpoint.
func (s *storage) behind() bool {
	rounds := s.folder.Rounds()
	if len(rounds) == 0 {
		return s.log.Stats().Last > 0
	}
	newest, err := s.folder.Verify(rounds[0])
	return err != nil || log.Position(newest.Oldest) < s.log.Stats().Last
}

// settle restores a collector that nobody can reach, and ends it as soon as it
// could serve: that leaves a checkpoint at the end of the log.
func settle(cfg Config, s *storage) error {
	cfg.Listeners = []net.Listener{bufconn.Listen(1)}
	c, err := newCollector(cfg, s)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-c.Ready():
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := c.Run(ctx); err != nil {
		return err
	}
	if newest, _, _ := c.checkpointer.state(); newest.Oldest != uint64(c.log.Stats().Last) {
		return errors.New("no checkpoint could be written at its end")
	}
	return nil
}
