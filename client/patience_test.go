package client

import (
	"context"
	"errors"
	"net"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A Reporter that must connect tries for as long as ConnectWithin says, tells
// once that it waits, and is content with a collector that comes meanwhile or is
// busy restoring.
func TestReporterWaitsForItsFirstConnection(t *testing.T) {
	const within = 30 * time.Second
	for _, tc := range []struct {
		name  string
		comes time.Duration // when the collector lets it in
		ok    bool
	}{
		{"in time", 20 * time.Second, true},
		{"too late", time.Hour, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				s := &ingest{refuse: func(int) error {
					if time.Since(begin) < tc.comes {
						return status.Error(codes.Unavailable, "restoring")
					}
					return nil
				}}
				var waits []time.Duration
				backs := 0
				r := mustReporter(t, serve(t, s.register), ReporterConfig{
					MustConnect: true, ConnectWithin: within,
					OnWait: func(err error, patience time.Duration) {
						if status.Code(err) != codes.Unavailable {
							t.Errorf("it waits because of %v", err)
						}
						waits = append(waits, patience)
					},
					OnBack: func(time.Duration) { backs++ },
				})
				ended := running(t, r)
				if err := r.Report(t.Context(), testBatch(1)); err != nil {
					t.Fatal(err)
				}
				err := r.Finish(t.Context(), false)
				<-ended
				took := time.Since(begin)
				if (err == nil) != tc.ok || len(waits) != 1 || waits[0] > within || waits[0] < within-time.Second {
					t.Errorf("after %v: %v, told to wait %v; want once, up to %v", took, err, waits, within)
				}
				if !tc.ok && (status.Code(err) != codes.Unavailable || took < within || took > within+time.Second) {
					t.Errorf("it gave up after %v with %v, want after %v", took, err, within)
				}
				if tc.ok && backs != 1 {
					t.Errorf("told %d times that the collector is there, want 1", backs)
				}
			})
		})
	}
}

// Who is not there is waited for, what waiting does not mend is not.
func TestReporterDoesNotWaitForWhatNeverHeals(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		wait bool
	}{
		{"refused", syscall.ECONNREFUSED, true},
		{"resolver does not answer", &net.DNSError{Err: "server misbehaving", Name: "h", IsTemporary: true}, true},
		{"no such name", &net.DNSError{Err: "no such host", Name: "h", IsNotFound: true}, false},
		{"certificate refused", ErrCertificateRefused, false},
		{"a web server", ErrNotGRPC, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl, err := Dial(t.Context(), "localhost:4750", WithLazy(), WithDialer(func(context.Context, string) (net.Conn, error) { return nil, tc.err }))
				if err != nil {
					t.Fatal(err)
				}
				defer cl.Close()
				begin := time.Now()
				r := mustReporter(t, cl, ReporterConfig{MustConnect: true, ConnectWithin: time.Minute})
				err = <-running(t, r)
				if took := time.Since(begin); !errors.Is(err, tc.err) || (took >= time.Minute) != tc.wait {
					t.Errorf("%v after %v, want %v and waited %v", err, took, tc.err, tc.wait)
				}
			})
		})
	}
}

// A collector that keeps no fingerprints of some types says so, and it is told
// once, however many streams there are.
func TestReporterTellsWhatTheCollectorRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &ingest{refuses: []string{"ja4s", "ja4h"}, cut: func(stream, batch int) bool { return stream == 1 }}
		var told [][]string
		r := mustReporter(t, serve(t, s.register), ReporterConfig{OnRefused: func(types []string) { told = append(told, types) }})
		ended := running(t, r)
		if err := r.Report(t.Context(), testBatch(1)); err != nil {
			t.Fatal(err)
		}
		if err := r.Finish(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		<-ended
		if len(told) != 1 || !slices.Equal(told[0], s.refuses) || s.streams != 2 {
			t.Errorf("told %v over %d streams, want once, %v, over 2", told, s.streams, s.refuses)
		}
	})
}
