// Command peer is the other end of the recorded clients: one server that
// speaks every version of HTTP, and one client made of Go's net/http.
//
//	peer serve CERT KEY   HTTP/1.1 and h2c on 80, TLS on 443 (any group) and
//	                      8443 (P-384 alone, so that most hellos are answered
//	                      with a HelloRetryRequest), HTTP/3 on UDP 443 and
//	                      8443 (where each client is sent a Retry first)
//	peer get URL          one request, certificate unchecked, keys to
//	                      $SSLKEYLOGFILE
//	peer get3 URL         the same by HTTP/3 on QUIC version 1
//	peer get3v2 URL       the same by HTTP/3 on QUIC version 2
//
// It is a module of its own: nothing of it is part of Whorl, and HTTP/3 is no
// dependency of it.
package main

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "serve":
		return serve(args[1], args[2])
	case len(args) == 2 && args[0] == "get":
		return get(args[1], func(c *tls.Config) http.RoundTripper {
			return &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: true}
		})
	case len(args) == 2 && args[0] == "get3":
		return get(args[1], overQUIC(quic.Version1))
	case len(args) == 2 && args[0] == "get3v2":
		return get(args[1], overQUIC(quic.Version2))
	}
	return fmt.Errorf("want serve CERT KEY, get URL, get3 URL or get3v2 URL")
}

// serve listens until one of its servers fails or the process is stopped.
func serve(certFile, keyFile string) error {
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return fmt.Errorf("load certificate: %w", err)
	}
	secure := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	picky := secure.Clone()
	picky.CurvePreferences = []tls.CurveID{tls.CurveP384}
	var clear, both http.Protocols
	clear.SetHTTP1(true)
	clear.SetUnencryptedHTTP2(true)
	both.SetHTTP1(true)
	both.SetHTTP2(true)
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<!doctype html><title>whorl</title><link rel=icon href=data:,><p>%s %s\n", r.Proto, r.URL.Path)
	})
	plain := &http.Server{Addr: ":80", Handler: answer, Protocols: &clear, ReadHeaderTimeout: 10 * time.Second}
	web := &http.Server{Addr: ":443", Handler: answer, Protocols: &both, TLSConfig: secure, ReadHeaderTimeout: 10 * time.Second}
	retry := &http.Server{Addr: ":8443", Handler: answer, Protocols: &both, TLSConfig: picky, ReadHeaderTimeout: 10 * time.Second}
	h3 := &http3.Server{Addr: ":443", Handler: answer, TLSConfig: http3.ConfigureTLSConfig(secure), QUICConfig: bothVersions}
	doubting, err := listenDoubting(":8443", http3.ConfigureTLSConfig(secure))
	if err != nil {
		return err
	}
	failed := make(chan error, 5)
	go func() { failed <- plain.ListenAndServe() }()
	go func() { failed <- web.ListenAndServeTLS("", "") }()
	go func() { failed <- retry.ListenAndServeTLS("", "") }()
	go func() { failed <- h3.ListenAndServe() }()
	go func() { failed <- h3.ServeListener(doubting) }()
	return <-failed
}

var bothVersions = &quic.Config{Versions: []quic.Version{quic.Version1, quic.Version2}}

// listenDoubting listens for QUIC on addr and answers each new client with a
// Retry.
func listenDoubting(addr string, config *tls.Config) (*quic.EarlyListener, error) {
	at, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, err
	}
	conn, err := net.ListenUDP("udp", at)
	if err != nil {
		return nil, err
	}
	transport := &quic.Transport{Conn: conn, VerifySourceAddress: func(net.Addr) bool { return true }}
	return transport.ListenEarly(config, bothVersions)
}

// overQUIC returns a maker of transports for HTTP/3 on one version of QUIC.
func overQUIC(v quic.Version) func(*tls.Config) http.RoundTripper {
	return func(c *tls.Config) http.RoundTripper {
		return &http3.Transport{TLSClientConfig: c, QUICConfig: &quic.Config{Versions: []quic.Version{v}}}
	}
}

// get asks for url once, as a program of a few lines would.
func get(url string, over func(*tls.Config) http.RoundTripper) error {
	keys, err := os.OpenFile(cmp.Or(os.Getenv("SSLKEYLOGFILE"), os.DevNull), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer keys.Close()
	// Neither certificate nor keys matter: only what is on the wire does.
	transport := over(&tls.Config{InsecureSkipVerify: true, KeyLogWriter: keys})
	client := &http.Client{Timeout: 10 * time.Second, Transport: transport}
	r, err := client.Get(url)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return err
	}
	if c, ok := transport.(io.Closer); ok { // HTTP/3 says farewell
		return c.Close()
	}
	client.CloseIdleConnections()
	return nil
}
