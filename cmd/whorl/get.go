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

// target returns the request and, unless KEY is a uid, the key and its network.
func (cmd *getCmd) target() (req *whorlv1.GetRequest, key *flow.Key, network string, err error) {
	if !strings.Contains(cmd.Key, "/") {
		if cmd.Network != "" {
			return nil, nil, "", failf(exitUsage, "get: %q is a uid, which belongs to one network: leave --network out", cmd.Key)
		}
		return &whorlv1.GetRequest{Target: &whorlv1.GetRequest_Uid{Uid: cmd.Key}}, nil, "", nil
	}
	id := cmd.Key
	if cmd.Network != "" {
		if strings.Contains(id, "@") {
			return nil, nil, "", failf(exitUsage, "get: %s names a network: leave --network out", id)
		}
		id += "@" + cmd.Network
	}
	parsed, network, err := flow.ParseID(id)
	if err != nil {
		return nil, nil, "", failf(exitUsage, "get: %v", err)
	}
	return &whorlv1.GetRequest{Target: &whorlv1.GetRequest_Id{Id: parsed.ID(network)}}, &parsed, network, nil
}

// Run gets and shows it.
func (cmd *getCmd) Run(ctx context.Context, c *console) error {
	kind := output.Connections(cmd.clock(c))
	opts, err := c.options(&cmd.outputFlags, kind.Schema)
	if err != nil {
		return err
	}
	opts.Document = true
	req, key, network, err := cmd.target()
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
		f := cmd.notTracked(err, key, network, c.now())
		if key != nil && cmd.Network == "" && !strings.Contains(cmd.Key, "@") {
			f.hint(cmd.elsewhere(ctx, cl, key)...)
		}
		return f
	}
	if err != nil {
		return err
	}
	if opts.Format == output.Table && opts.Select == nil {
		return showDetails(c, output.ConnectionDetails(conn, cmd.clock(c)), opts)
	}
	w := output.NewWriter(c.out, kind, opts)
	if err := w.Write(conn); err != nil {
		return err
	}
	return w.Close()
}

// showDetails shows one connection to people: a name and a value in each line.
func showDetails(c *console, lines []output.Detail, opts output.Options) error {
	opts.Hold, opts.NoHeader = len(lines), true
	w := output.NewWriter(c.out, output.Details(), opts)
	for _, line := range lines {
		if err := w.Write(line); err != nil {
			return err
		}
	}
	return w.Close()
}

// notTracked says when it left and how to see it, if that is known.
func (cmd *getCmd) notTracked(err error, key *flow.Key, network string, now time.Time) *failure {
	f := failf(exitNothing, "get %s: not tracked now", cmd.Key)
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
		words := fmt.Sprintf("ip:%s port:%d", key.A, key.APort)
		if network != flow.DefaultNetwork {
			words += " network:" + network
		}
		text += fmt.Sprintf(": whorl watch --last 1000 --no-follow '%s'", words)
	}
	return f.hint(text)
}

// maxElsewhere is how many networks are named in which a key is live.
const maxElsewhere = 3

// elsewhere says in which networks key is live: who names none means the one
// called default. When that cannot be found out nothing is said.
func (cmd *getCmd) elsewhere(ctx context.Context, cl *client.Client, key *flow.Key) (hints []string) {
	words := fmt.Sprintf("proto:%d ip:%s ip:%s", key.Protocol, key.A, key.B)
	resp, err := cl.Count(ctx, &whorlv1.CountRequest{Filter: words, GroupBy: []string{"network"}, Limit: 10 * maxElsewhere})
	if err != nil {
		return nil
	}
	for _, group := range resp.GetGroups() {
		network := group.GetKey()[0]
		req := &whorlv1.GetRequest{Target: &whorlv1.GetRequest_Id{Id: key.ID(network)}, Fields: []string{"id"}}
		if _, err := cl.Get(ctx, req); err != nil {
			continue
		}
		if hints = append(hints, fmt.Sprintf("it is live in network %s: whorl get %s", network, shellLine([]string{cmd.Key + "@" + network}))); len(hints) == maxElsewhere {
			break
		}
	}
	if len(hints) == 0 {
		return []string{"nor in any other network"}
	}
	return hints
}
