package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/whorl-net/whorl/client"
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/output"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// getCmd shows one live connection.
type getCmd struct {
	Key     string `arg:"" placeholder:"KEY" help:"What id prints, in either direction, such as tcp/10.0.0.5:51312-93.184.216.34:443; or a uid."`
	Network string `group:"select" placeholder:"NAME" help:"Network of KEY, if KEY names none (default: default)."`
	outputFlags
	clientFlags
}

func (*getCmd) examples() []string {
	return []string{
		"whorl get tcp/10.0.0.5:51312-93.184.216.34:443",
		"whorl get tcp/10.0.0.5:51312-93.184.216.34:443@berlin | jq .fingerprints",
	}
}

// target returns the request and, unless KEY is a uid, the key.
func (cmd *getCmd) target() (*whorlv1.GetRequest, *flow.Key, error) {
	if !strings.Contains(cmd.Key, "/") {
		if cmd.Network != "" {
			return nil, nil, failf(exitUsage, "get: %q is a uid, which belongs to one network: leave --network out", cmd.Key)
		}
		return &whorlv1.GetRequest{Target: &whorlv1.GetRequest_Uid{Uid: cmd.Key}}, nil, nil
	}
	id := cmd.Key
	if cmd.Network != "" {
		if strings.Contains(id, "@") {
			return nil, nil, failf(exitUsage, "get: %s names a network: leave --network out", id)
		}
		id += "@" + cmd.Network
	}
	key, network, err := flow.ParseID(id)
	if err != nil {
		return nil, nil, failf(exitUsage, "get: %v", err)
	}
	return &whorlv1.GetRequest{Target: &whorlv1.GetRequest_Id{Id: key.ID(network)}}, &key, nil
}

// Run gets and shows it.
func (cmd *getCmd) Run(ctx context.Context, c *console) error {
	kind := output.Connections(cmd.clock())
	opts, err := c.options(&cmd.outputFlags, kind.Schema)
	if err != nil {
		return err
	}
	opts.Document = true
	req, key, err := cmd.target()
	if err != nil {
		return err
	}
	req.Fields = opts.Select.Top()
	cl, err := cmd.dial(ctx, c)
	if err != nil {
		return err
	}
	defer cl.Close()
	conn, err := cl.Get(ctx, req)
	if s, ok := statusOf(err); err != nil && ok && s.Code() == codes.NotFound {
		return cmd.notTracked(err, key, c.now())
	}
	if err != nil {
		return err
	}
	w := output.NewWriter(c.out, kind, opts)
	if err := w.Write(conn); err != nil {
		return err
	}
	return w.Close()
}

// notTracked says when it left and how to see it, if that is known.
func (cmd *getCmd) notTracked(err error, key *flow.Key, now time.Time) error {
	f := failf(exitNothing, "get %s: not tracked now", cmd.Key)
	if key != nil && cmd.Network == "" && !strings.Contains(cmd.Key, "@") {
		f.hint(fmt.Sprintf("in network %s; another: %s@NETWORK", flow.DefaultNetwork, cmd.Key))
	}
	details := client.Details(err)
	at, timeErr := time.Parse(time.RFC3339Nano, details["evicted_at"])
	if timeErr != nil {
		return f
	}
	text := fmt.Sprintf("evicted %s ago (%s)", output.Ago(now.Sub(at)), details["cause"])
	if now.Sub(at) > 24*time.Hour { // of a replay, whose time is that of its capture
		text = fmt.Sprintf("evicted at %s (%s)", at.UTC().Format(time.RFC3339), details["cause"])
	}
	if key != nil {
		text += fmt.Sprintf(": whorl watch --last 1000 --no-follow 'ip:%s port:%d'", key.A, key.APort)
	}
	return f.hint(text)
}
