package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/whorl-net/whorl/client"
	"github.com/whorl-net/whorl/internal/feed"
	"github.com/whorl-net/whorl/internal/output"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"github.com/whorl-net/whorl/service"
)

// watchCmd follows the feed.
type watchCmd struct {
	filterFlags

	Last       uint64 `group:"start" placeholder:"N" xor:"start" help:"Start N evictions ago, counted before filtering (default: now)."`
	Since      moment `group:"start" placeholder:"WHEN" xor:"start" help:"Start at an age such as 5m or a time such as 2026-11-22T12:00:00Z."`
	Oldest     bool   `group:"start" xor:"start" help:"Start at the oldest that is kept."`
	Resume     string `group:"start" placeholder:"CURSOR" xor:"start" help:"Start behind a cursor."`
	CursorFile string `group:"start" placeholder:"FILE" help:"Start behind the cursor in FILE if it exists, else as the other flags say, and keep it behind the lines written. What was written to a pipe counts as handled."`

	NoFollow    bool   `group:"end" help:"End when caught up."`
	Limit       uint64 `group:"end" placeholder:"N" help:"End after N evictions (default 0: never)."`
	Until       moment `group:"end" placeholder:"WHEN" help:"End at a time such as 2026-11-22T12:00:00Z, or after a while such as 5m from now."`
	Strict      bool   `group:"end" help:"End at the first gap, with exit code 6."`
	NoReconnect bool   `group:"end" help:"End when the stream is cut, with exit code 4."`

	Bad        bool   `group:"select" help:"Only what is known to be bad, or was found to be later: bad:true."`
	Heartbeats bool   `group:"select" help:"Show heartbeats too."`
	View       string `group:"select" default:"full" enum:"basic,full" placeholder:"VIEW" help:"basic (no history, no raw forms) or full (default ${default})."`
	Subscriber string `group:"select" placeholder:"NAME" help:"Name shown by whorl status."`
	outputFlags
	clientFlags
}

func (*watchCmd) examples() []string {
	return []string{
		"whorl watch --bad",
		"whorl watch 'new:true ja4:t13d*'",
		"whorl watch --cursor-file siem.cursor -o jsonl | siem-import",
	}
}

func (cmd *watchCmd) check() error {
	if cmd.Resume != "" {
		if _, err := feed.ParseGiven(cmd.Resume); err != nil {
			return fmt.Errorf("--resume: %w", err)
		}
	}
	return cmd.clientFlags.check()
}

// Run follows the feed until it is told to end.
func (cmd *watchCmd) Run(ctx context.Context, c *console) error {
	if cmd.Bad {
		cmd.Filter = append(cmd.Filter, "bad:true")
	}
	text, err := cmd.text(c, true)
	if err != nil {
		return err
	}
	kind := output.Events(cmd.clock(c))
	opts, err := c.options(&cmd.outputFlags, kind.Schema)
	if err != nil {
		return err
	}
	keeper, err := openCursor(cmd.CursorFile)
	if err != nil {
		return err
	}
	req := cmd.request(c, text, opts, keeper)
	if cmd.PrintRequest {
		return printRequest(c, req)
	}
	cl, err := cmd.dial(ctx, c)
	if err != nil {
		return err
	}
	defer cl.Close()
	if req.Start == nil && (cmd.Last > 0 || cmd.CursorFile != "") {
		// A feed that starts now has no cursor to keep before it says something.
		if err := startAtLast(ctx, cl, req, cmd.Last); err != nil {
			return err
		}
	}
	opts.Hold = tableLimit // a message is shown as a whole, see show
	f := &follower{cmd: cmd, c: c, keeper: keeper, format: opts.Format,
		out: output.NewWriter(c.out, kind, opts), cursor: req.GetAfterCursor(), read: req.GetAfterCursor()}
	if err := keeper.keep(f.cursor); err != nil {
		return err
	}
	ctx, cancel := cmd.untilThen(ctx, c, req, f)
	defer cancel()
	err = f.follow(ctx, cl, req)
	if client.Reason(err) == service.ReasonBadCursor && keeper.kept != "" {
		err = failf(exitUsage, "cursor file %s: %s is not a cursor of this feed, which ends at another", keeper.path, keeper.kept).hint(
			"it is of another collector, or of this one before its data directory was put back",
			"remove the file to start anew")
	}
	return f.end(err, text)
}

// request is what to ask for, but for --last, which needs the collector.
func (cmd *watchCmd) request(c *console, text string, opts output.Options, k *cursorFile) *whorlv1.WatchRequest {
	req := &whorlv1.WatchRequest{
		Filter: text, View: views[cmd.View], Limit: cmd.Limit, NoFollow: cmd.NoFollow, Subscriber: cmd.Subscriber,
	}
	if opts.Format.ForPeople() && opts.Select == nil {
		req.View = whorlv1.ConnectionView_CONNECTION_VIEW_BASIC
	}
	switch {
	case k.cursor != "":
		req.Start = &whorlv1.WatchRequest_AfterCursor{AfterCursor: k.cursor}
	case cmd.Resume != "":
		req.Start = &whorlv1.WatchRequest_AfterCursor{AfterCursor: cmd.Resume}
	case cmd.Since.set():
		req.Start = &whorlv1.WatchRequest_Since{Since: timestamppb.New(cmd.Since.on(c.now()))}
	case cmd.Oldest:
		req.Start = &whorlv1.WatchRequest_FromOldest{FromOldest: true}
	}
	return req
}

// untilThen makes the watch end at --until: by our clock if the collector's does
// not say so before. A time that has passed already ends it when it has caught up.
func (cmd *watchCmd) untilThen(ctx context.Context, c *console, req *whorlv1.WatchRequest, f *follower) (context.Context, context.CancelFunc) {
	if !cmd.Until.set() {
		return ctx, func() {}
	}
	until := cmd.Until.ahead(c.now())
	if until.Before(c.now()) {
		req.NoFollow = true
		return ctx, func() {}
	}
	f.until = until
	return context.WithDeadlineCause(ctx, until, errUntil)
}

// startAtLast makes req start n evictions before the newest (0: behind it), or
// at the oldest that is kept.
func startAtLast(ctx context.Context, cl *client.Client, req *whorlv1.WatchRequest, n uint64) error {
	status, err := cl.Status(ctx, &whorlv1.GetStatusRequest{})
	if err != nil {
		return err
	}
	newest, oldest := status.GetFeed().GetNewestCursor(), status.GetFeed().GetOldestCursor()
	epoch, text, ok := strings.Cut(newest, ".")
	sequence, err := strconv.ParseUint(text, 10, 64)
	if !ok || err != nil {
		return fmt.Errorf("collector %s: its newest cursor is %q, want EPOCH.SEQUENCE", cl.Addr(), newest)
	}
	first := uint64(0)
	if _, text, ok := strings.Cut(oldest, "."); ok {
		first, _ = strconv.ParseUint(text, 10, 64)
	}
	if sequence < n || sequence-n < first {
		req.Start = &whorlv1.WatchRequest_FromOldest{FromOldest: true}
		return nil
	}
	req.Start = &whorlv1.WatchRequest_AfterCursor{AfterCursor: fmt.Sprintf("%s.%d", epoch, sequence-n)}
	return nil
}

// follower is one run of watch.
type follower struct {
	cmd    *watchCmd
	c      *console
	out    *output.Writer[output.Event]
	format output.Format
	keeper *cursorFile
	until  time.Time // zero: no end
	read   string    // cursor behind the last event that was taken
	cursor string    // behind the last line shown
	cut    bool      // the feed was cut and has not been heard since
}

// errGap ends a strict watch.
var errGap = errors.New("a gap in the feed")

// errUntil ends a watch at its --until.
var errUntil = errors.New("the time to end has come")

func (f *follower) follow(ctx context.Context, cl *client.Client, req *whorlv1.WatchRequest) error {
	opts := []client.WatchOption{client.WithHeartbeats(), client.WithResumeNotice(func(err error, wait time.Duration) {
		if !f.cut {
			f.c.say("whorl: the feed was cut, resuming: %v", err)
		}
		f.cut = true
	})}
	if f.cmd.NoReconnect {
		opts = append(opts, client.WithoutResume())
	}
	for e, err := range cl.Watch(ctx, req, opts...) {
		if err != nil {
			return err
		}
		if err := f.show(e); err != nil {
			return err
		}
	}
	return nil
}

// show takes one event, and shows what there is at the end of each message.
func (f *follower) show(e client.Event) error {
	if f.cut {
		f.cut = false
		f.c.say("whorl: the feed is back")
	}
	if !f.until.IsZero() && e.ServerTime.After(f.until) {
		return errUntil
	}
	row := output.Event{Eviction: e.Eviction, Discovery: e.Discovery, Gap: e.Gap, Cursor: e.Cursor, ServerTime: e.ServerTime, Backlog: e.Backlog}
	if err := f.write(row, e.Heartbeat()); err != nil {
		return err
	}
	f.read = e.Cursor
	if e.Last {
		if err := f.flush(); err != nil {
			return err
		}
	}
	if e.Gap != nil && f.cmd.Strict {
		return errGap
	}
	return nil
}

// flush shows what was taken and keeps the cursor behind it, in this order: a
// cursor never stands behind a line that could not be written.
func (f *follower) flush() error {
	if err := f.out.Flush(); err != nil {
		return err
	}
	f.cursor = f.read
	return f.keeper.keep(f.cursor)
}

func (f *follower) write(row output.Event, heartbeat bool) error {
	switch {
	case heartbeat && !f.cmd.Heartbeats:
		return nil
	case row.Eviction == nil && f.format == output.CSV:
		f.c.say("%s", row.Remark())
		return nil
	case row.Eviction == nil && f.format.ForPeople():
		return f.out.Remark(row.Remark())
	}
	return f.out.Write(row)
}

// end closes the output and says how to go on.
func (f *follower) end(err error, text string) error {
	closeErr := f.flush()
	if closeErr == nil {
		closeErr = f.out.Close()
	}
	interrupted := errors.Is(err, errInterrupted)
	if f.cursor != "" && (interrupted || errors.Is(err, errGap)) && f.cmd.CursorFile == "" {
		f.c.say("next: whorl watch --resume %s%s", f.cursor, filterArgument(text))
	}
	switch {
	case errors.Is(err, errGap):
		return failf(exitIncomplete, "watch: %v", errGap)
	case err != nil && !interrupted && !errors.Is(err, errUntil):
		return err
	case closeErr != nil:
		return closeErr
	}
	return f.cmd.nothing(f.c, uint64(f.out.Count()), f.nothing(text))
}

// nothing is what to say when nothing was shown: something only if that was the
// end of what is kept.
func (f *follower) nothing(text string) string {
	cmd := f.cmd
	switch {
	case !cmd.NoFollow:
		return ""
	case cmd.Last == 0 && !cmd.Since.set() && !cmd.Oldest && cmd.Resume == "" && cmd.CursorFile == "":
		return "nothing: a watch starts now; from the beginning: whorl watch --oldest --no-follow" + filterArgument(text)
	case text != "":
		return "no eviction there matches"
	}
	return "no eviction there"
}
