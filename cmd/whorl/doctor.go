package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/whorl-net/whorl/client"
	"github.com/whorl-net/whorl/internal/output"
	"github.com/whorl-net/whorl/internal/rpc"
	"github.com/whorl-net/whorl/internal/units"
	"github.com/whorl-net/whorl/probe/capture"
	"github.com/whorl-net/whorl/probe/live"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// doctorCmd checks this host and the collector.
type doctorCmd struct {
	Spool string `group:"select" placeholder:"DIR" help:"The spool of a probe on this host too: whose it is, what waits there, what was damaged."`
	outputFlags
	clientFlags
}

func (*doctorCmd) examples() []string {
	return []string{"whorl doctor", "whorl doctor --collector col.example.net:4750 -o jsonl", "whorl doctor --spool /var/spool/whorl"}
}

func (cmd *doctorCmd) check() error { return cmd.clientFlags.check() }

// Run makes every check and says what to do. It fails when one failed.
func (cmd *doctorCmd) Run(ctx context.Context, c *console) error {
	opts, err := c.options(&cmd.outputFlags, output.Findings().Schema)
	if err != nil {
		return err
	}
	findings := []output.Finding{checkCapture(), checkInterfaces()}
	if cmd.Spool != "" {
		findings = append(findings, c.checkSpool(cmd.Spool))
	}
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
	return judgeInterfaces(all, live.LinkType)
}

// maxNamedInterfaces is how many interfaces are named: a host of containers has
// thousands.
const maxNamedInterfaces = 32

// judgeInterfaces says which of all are up, and of which of those the packets
// cannot be read: linkType fails for them.
func judgeInterfaces(all []live.Interface, linkType func(name string) (capture.LinkType, error)) output.Finding {
	f := output.Finding{Check: "interfaces", Result: output.OK}
	var up, wrong []string
	outward := false
	for _, i := range all {
		if !i.Up {
			continue
		}
		if _, err := linkType(i.Name); err != nil && !errors.Is(err, live.ErrUnsupported) {
			wrong = append(wrong, err.Error())
			continue
		}
		up = append(up, i.Name)
		outward = outward || !i.Loopback
	}
	f.Detail = "up: " + listed(up, ", ")
	if len(wrong) > 0 {
		f.Result, f.Detail = output.Warn, f.Detail+"; "+listed(wrong, "; ")
		f.Fix = "capture the others by name: whorl probe -i NAME -i NAME"
	}
	if !outward {
		f.Result, f.Detail, f.Fix = output.Warn, "no interface but the loopback is up", "ip link set DEVICE up"
	}
	return f
}

// listed joins at most maxNamedInterfaces words and says how many there are more.
func listed(words []string, separator string) string {
	if more := len(words) - maxNamedInterfaces; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(words[:maxNamedInterfaces], separator), more)
	}
	return strings.Join(words, separator)
}

// checkSpool says what lies in the spool of a probe.
func (c *console) checkSpool(dir string) output.Finding {
	f := output.Finding{Check: "spool", Result: output.OK}
	if _, err := os.Stat(dir); err != nil {
		f.Result, f.Detail = output.Fail, "spool "+plainPath(err)
		return f
	}
	info, waiting, err := client.DescribeSpool(dir)
	if err != nil {
		f.Result, f.Detail = output.Fail, plainPath(err)
		return f
	}
	f.Detail = "nothing waits in " + dir
	if waiting {
		kind := "files"
		if info.Live {
			kind = "live traffic"
		}
		f.Detail = fmt.Sprintf("%s of probe %s, network %s (%s) in %s", output.Bytes(info.Bytes), info.ProbeID, info.Network, kind, dir)
		if info.Bytes > 0 {
			f.Result, f.Fix = output.Warn, "its probe sends them when it starts; or: "+c.sendSpoolLine(dir, false)
		}
	}
	if n := info.DamagedSegments; n > 0 {
		f.Result = output.Warn
		f.Detail += fmt.Sprintf("; %s set aside, as *.damaged (the newest 4 are kept)", output.Plural(n, "damaged segment"))
		f.Fix = strings.TrimPrefix(f.Fix+"; look after the disk, then remove them", "; ")
	}
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
	findings = append(findings, checkRoom(status), checkDrops(status), checkLate(status), checkDurability(status), checkKnowledge(status))
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

// checkLate says whether packets came that moved no clock.
func checkLate(s *whorlv1.GetStatusResponse) output.Finding {
	f := output.Finding{Check: "packet times", Result: output.OK, Detail: "no packet was late"}
	if n := s.GetPacketsLate(); n > 0 {
		f.Result = output.Warn
		f.Detail = output.Plural(n, "packet") + " came later than an idle timeout of their network's clock, or from its future"
		f.Fix = "a --network of its own for each replay; time synchronisation for live probes"
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
