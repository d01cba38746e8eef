package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/whorl-net/whorl/internal/metrics"
	"github.com/whorl-net/whorl/internal/rpc"
	"github.com/whorl-net/whorl/service"
)

// defaultAdmin is where the admin server listens unless told otherwise. If it
// is taken, by another collector of this host perhaps, one goes on without.
const defaultAdmin = "127.0.0.1:9750"

// adminOff turns the admin server off.
const adminOff = "off"

func checkAdmin(addr string, insecure bool) error {
	if addr == adminOff {
		return nil
	}
	if !listenable(addr) {
		return fmt.Errorf("--admin-listen %s: want HOST:PORT with a port 0..65535, or off", addr)
	}
	return rpc.CheckListen(addr, false, insecure)
}

// adminServer answers GET /healthz (the process lives), /readyz (the collector
// serves) and /metrics over HTTP, and profiles if asked to. A nil adminServer is
// one that is off.
type adminServer struct {
	listener net.Listener
	mux      *http.ServeMux
	server   http.Server
	ready    atomic.Bool
	logger   *slog.Logger
}

// admin opens the admin address; nil when it is off.
func (f *collectorFlags) admin(c *console) (*adminServer, error) {
	if f.AdminListen == adminOff {
		return nil, nil
	}
	l, err := rpc.Listen(f.AdminListen)
	if errors.Is(err, syscall.EADDRINUSE) && f.AdminListen == defaultAdmin {
		c.logger.Warn("the admin address is taken: going on without", "addr", f.AdminListen)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	mux := http.NewServeMux()
	a := &adminServer{listener: l, mux: mux, logger: c.logger}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", a.readyz)
	if f.Pprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	a.server = http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10}
	return a, nil
}

func (a *adminServer) readyz(w http.ResponseWriter, _ *http.Request) {
	if !a.ready.Load() {
		http.Error(w, "not ready", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

// about is what a line about the collector says of it.
func (a *adminServer) about() string {
	if a == nil {
		return ""
	}
	return fmt.Sprintf(", http://%s (health, metrics)", a.listener.Addr())
}

// during serves while col runs, and returns what that returns. It is ready from
// when the collector is until ctx ends, so that a balancer looks elsewhere while
// the collector restores or drains.
func (a *adminServer) during(ctx context.Context, col *service.Collector) error {
	if a == nil {
		return col.Run(ctx)
	}
	a.mux.Handle("GET /metrics", metrics.Handler(col, a.logger))
	served := make(chan error, 1)
	go func() { served <- a.server.Serve(a.listener) }()
	inside, cancel := context.WithCancel(ctx)
	var following sync.WaitGroup
	following.Go(func() {
		select {
		case <-col.Ready():
			a.ready.Store(inside.Err() == nil)
		case <-inside.Done():
		}
		<-inside.Done()
		a.ready.Store(false)
	})
	err := col.Run(ctx)
	cancel()
	following.Wait()
	a.server.Close()
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("admin: %w", serveErr))
	}
	return err
}
