package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/whorl-net/whorl/bench/traffic"
)

// recording is a capture that was made for this run.
type recording struct {
	name  string
	cfg   traffic.Config
	path  string
	stats traffic.Stats
	size  int64
}

// String says what it is like.
func (r *recording) String() string {
	return fmt.Sprintf("%s, %d packets on %d connections, %.0f %% of them recorded handshakes and ends, %.0f bytes each on the wire, %.0f captured",
		r.name, r.stats.Packets, r.stats.Connections, 100*float64(r.stats.Recorded)/float64(r.stats.Packets),
		float64(r.stats.WireBytes)/float64(r.stats.Packets), float64(r.stats.CapturedBytes)/float64(r.stats.Packets))
}

// mixed is web traffic with 100 packets per connection, within a minute.
func (b *bench) mixed() (string, traffic.Config) {
	return "mixed", traffic.Config{Shape: traffic.Mixed, Packets: b.packets, Connections: b.packets / 100, Span: time.Minute}
}

// capture makes a recording, or returns the one that was made before.
func (b *bench) capture(name string, cfg traffic.Config) (*recording, error) {
	for _, r := range b.made {
		if r.name == name && r.cfg == cfg {
			return r, nil
		}
	}
	r := &recording{name: name, cfg: cfg, path: filepath.Join(b.dir, fmt.Sprintf("%d-%v.pcap", len(b.made), cfg.Shape))}
	if b.keep != "" {
		r.path = filepath.Join(b.keep, fmt.Sprintf("%v-%d-%d-%d-%v.pcap", cfg.Shape, cfg.Packets, cfg.Connections, cfg.Train, cfg.Span))
	}
	if err := r.make(b.keep != "", b.sample); err != nil {
		return nil, err
	}
	info, err := os.Stat(r.path)
	if err != nil {
		return nil, err
	}
	r.size = info.Size()
	b.made = append(b.made, r)
	return r, nil
}

// make writes the capture, unless it is to be kept and there from a run before:
// then a file beside it says what is in it.
func (r *recording) make(keep bool, s *traffic.Sample) (err error) {
	about := r.path + ".json"
	if keep {
		if data, err := os.ReadFile(about); err == nil {
			return json.Unmarshal(data, &r.stats)
		}
	}
	if r.stats, err = traffic.WriteFile(r.path, r.cfg, s); err != nil || !keep {
		return err
	}
	data, err := json.Marshal(r.stats)
	if err != nil {
		return err
	}
	return os.WriteFile(about, data, 0o644)
}

// forget removes a recording that is needed no more, unless it is to be kept.
func (b *bench) forget(r *recording) error {
	b.made = slices.DeleteFunc(b.made, func(m *recording) bool { return m == r })
	if b.keep != "" {
		return nil
	}
	return os.Remove(r.path)
}
