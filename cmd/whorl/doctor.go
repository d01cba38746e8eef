package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/whorl-net/whorl/client"
	"github.com/whorl-net/whorl/internal/output"
	"github.com/whorl-net/whorl/internal/rpc"
	"github.com/whorl-net/whorl/internal/units"
	"github.com/whorl-net/whorl/probe/live"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// doctorCmd checks this host and the collector.
type doctorCmd struct {
	outputFlags
	clientFlags
}

func (*doctorCmd) examples() []string {
	return []string{"whorl doctor", "whorl doctor --collector col.example.net:4750 -o jsonl"}
}

func (cmd *doctorCmd) check() error { return cmd.clientFlags.check() }

// Run makes every check and says what to do. It fails when one failed.
func (cmd *doctorCmd) Run(ctx context.Context, c *console) error {
	opts, err := c.options(&cmd.outputFlags, output.Findings().Schema)
	if err != nil {
		return err
	}
	findings := []output.Finding{checkCapture(), checkInterfaces()}
	findings = append(findings, cmd.checkCollector(ctx, c)...)
	opts.Hold = len(findings)
	w := output.NewWriter(c.out, output.Findings(), opts)
	failed := 0
	for _, f := range findings {
		if f.Result == output.Fail {
			failed++
		}
		if err := w.Write(f); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	if failed > 0 {
		return &failure{code: exitFailed} // said in the findings
	}
	return nil
}

// checkCapture tries whether this process may capture, on the loopback.
func checkCapture() output.Finding {
	f := output.Finding{Check: "capture permission"}
	name := "lo"
	if all, err := live.Interfaces(); err == nil {
		for _, i := range all {
			if i.Loopback {
				name = i.Name
			}
		}
	}
	ring, err := live.Open(live.Config{Interface: name, RingBytes: 2 << 20})
	if err == nil {
		ring.Close()
		f.Result, f.Detail = output.OK, "a ring can be opened"
		return f
	}
	f.Result, f.Detail = output.Warn, err.Error()
	switch {
	case errors.Is(err, live.ErrNotPermitted):
		f.Fix = "sudo setcap cap_net_raw+ep \"$(command -v whorl)\", or capture as root; files need neither"
	case errors.Is(err, live.ErrUnsupported):
		f.Fix = "read files with -r; live capture needs Linux"
	}
	return f
}

// checkInterfaces looks for something to capture.
func checkInterfaces() output.Finding {
	f := output.Finding{Check: "interfaces"}
	all, err := live.Interfaces()
	if err != nil {
		f.Result, f.Detail = output.Fail, err.Error()
		return f
	}
	var up []string
	for _, i := range all {
		if i.Up && !i.Loopback {
			up = append(up, i.Name)
		}
	}
	if len(up) == 0 {
		f.Result, f.Detail, f.Fix = output.Warn, "no interface but the loopback is up", "ip link set DEVICE up"
		return f
	}
	f.Result, f.Detail = output.OK, strings.Join(up, ", ")
	return f
}

// checkCollector asks the collector how it is.
func (cmd *doctorCmd) checkCollector(ctx context.Context, c *console) []output.Finding {
	reach := output.Finding{Check: "collector", Result: output.OK, Detail: cmd.Collector}
	start := time.Now()
	cl, err := cmd.dial(ctx, c)
	if err != nil {
		why := c.explain(err)
		reach.Result, reach.Detail = output.Fail, why.text
		reach.Fix = strings.Join(why.hints, "; ")
		var dial *client.DialError
		if cmd.Collector == client.DefaultAddr && errors.As(err, &dial) && rpc.Loopback(dial.Addr) {
			reach.Result = output.Warn // nobody said that there is one
		}
		return []output.Finding{reach}
	}
	defer cl.Close()
	status, err := cl.Status(ctx, &whorlv1.GetStatusRequest{})
	if err != nil {
		why := c.explain(err)
		reach.Result, reach.Detail, reach.Fix = output.Fail, why.text, strings.Join(why.hints, "; ")
		return []output.Finding{reach}
	}
	reach.Detail = fmt.Sprintf("%s answers in %s", cmd.Collector, units.Duration(time.Since(start).Round(time.Millisecond)))
	findings := []output.Finding{reach, checkState(status)}
	findings = append(findings, checkSums(ctx, cl, sumsEvery)...)
	findings = append(findings, checkRoom(status), checkDrops(status), checkDurability(status), checkKnowledge(status))
	probes, err := cl.Probes(ctx, &whorlv1.ListProbesRequest{IncludeGone: true})
	if err != nil {
		return append(findings, output.Finding{Check: "probes", Result: output.Fail, Detail: c.explain(err).text})
	}
	return append(findings, checkProbes(probes), checkReported(probes))
}

func checkRoom(s *whorlv1.GetStatusResponse) output.Finding {
	f := output.Finding{Check: "room", Result: output.OK,
		Detail: fmt.Sprintf("%s of %s connections", output.Number(s.GetConnections()), output.Number(s.GetMaxConnections()))}
	if s.GetMaxConnections() > 0 && s.GetConnections() > s.GetMaxConnections()/10*9 {
		f.Result, f.Fix = output.Warn, "connections leave early, cause capacity: raise --max-connections and --max-memory"
	}
	return f
}

func checkDrops(s *whorlv1.GetStatusResponse) output.Finding {
	f := output.Finding{Check: "drops", Result: output.OK, Detail: "nothing was dropped"}
	var texts []string
	for _, d := range s.GetDrops() {
		if d.GetCount() > 0 {
			texts = append(texts, fmt.Sprintf("%s %s", d.GetWhere(), output.Number(d.GetCount())))
		}
	}
	if len(texts) > 0 {
		f.Result, f.Detail, f.Fix = output.Warn, strings.Join(texts, ", "), "whorl status shows all counters"
	}
	return f
}

// checkKnowledge says whether the newest tables and rules are in force.
func checkKnowledge(s *whorlv1.GetStatusResponse) output.Finding {
	f := output.Finding{Check: "tables and rules", Result: output.OK, Detail: "in force"}
	switch e := s.GetEnrichment(); {
	case e == nil:
		f.Detail = "off"
	case e.GetRefused() != "":
		f.Result, f.Detail = output.Fail, "the newest files were refused, those before are in force: "+e.GetRefused()
		f.Fix = "mend the file; it is read again when it changes"
	}
	return f
}

// checkState says what the collector does now.
func checkState(s *whorlv1.GetStatusResponse) output.Finding {
	f := output.Finding{Check: "state", Result: output.OK, Detail: s.GetState()}
	switch s.GetState() {
	case "restoring":
		f.Result, f.Detail = output.Warn, fmt.Sprintf("restoring, record %s of %s",
			output.Number(s.GetRestore().GetPosition()), output.Number(s.GetRestore().GetToPosition()))
	case "refusing":
		f.Result, f.Detail = output.Fail, "it takes nothing in: "+s.GetLog().GetError()
		f.Fix = "make room on the disk of " + s.GetDataDir() + "; it goes on by itself"
	}
	return f
}

func checkDurability(s *whorlv1.GetStatusResponse) output.Finding {
	f := output.Finding{Check: "durability", Result: output.OK, Detail: s.GetDurability()}
	if s.GetDurability() == "memory" {
		f.Detail = "memory: nothing survives a restart of the collector"
		return f
	}
	f.Detail += " in " + s.GetDataDir()
	if n := s.GetCheckpoint().GetFailures(); n > 0 {
		f.Result, f.Detail = output.Warn, fmt.Sprintf("%s, %s could not be written", f.Detail, output.Plural(n, "checkpoint"))
		f.Fix = "the log of the collector says why; until one can be written the log grows"
	}
	return f
}

// maxClockOffset is how far a probe's clock may be off before people wonder
// about times.
const maxClockOffset = 2 * time.Second

func checkProbes(probes []*whorlv1.Probe) output.Finding {
	gone := 0
	var texts []string
	for _, p := range probes {
		if p.GetState() == whorlv1.ProbeState_PROBE_STATE_GONE {
			gone++
			continue
		}
		if n := p.GetPacketsLost() + p.GetPacketsDropped(); n > 0 {
			texts = append(texts, fmt.Sprintf("%s lost or dropped %s", p.GetProbeId(), output.Plural(n, "packet")))
		}
		if d := p.GetClockOffset().AsDuration(); d.Abs() > maxClockOffset {
			texts = append(texts, fmt.Sprintf("the clock of %s is off by %s", p.GetProbeId(), units.Duration(d.Round(time.Millisecond))))
		}
		if p.GetState() == whorlv1.ProbeState_PROBE_STATE_LAGGING {
			texts = append(texts, p.GetProbeId()+" lags behind")
		}
	}
	f := output.Finding{Check: "probes", Result: output.OK, Detail: output.Plural(uint64(len(probes)-gone), "probe") + " connected"}
	if gone > 0 {
		f.Detail += fmt.Sprintf(", %d gone (whorl probes --gone)", gone)
	}
	if len(texts) > 0 {
		f.Result, f.Detail, f.Fix = output.Warn, strings.Join(texts, ", "), "a larger --ring or --fanout; time synchronisation"
	}
	return f
}
