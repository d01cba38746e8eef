package client

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// A collector that cannot be reached is away from the first attempt on, which a
// Reporter that has not tried yet does not say.
func TestReporterSaysThatTheCollectorIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := Dial(t.Context(), "127.0.0.1:1", WithLazy(), WithDialer(func(context.Context, string) (net.Conn, error) {
			return nil, errors.New("nobody there")
		}))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		r := mustReporter(t, c, ReporterConfig{})
		if r.Stats().Away {
			t.Error("it is away before anybody has tried")
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		time.Sleep(time.Minute) // by the bubble's clock
		if s := r.Stats(); !s.Away || s.Connected || s.SentPackets != 0 {
			t.Errorf("%+v, want away", s)
		}
		stop()
		<-ended
	})
}
