package rpc

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// recheckEvery is how often at most a server looks whether its files changed.
const recheckEvery = time.Second

// maxPEMBytes bounds a certificate or key file.
const maxPEMBytes = 4 << 20

// ServerTLSFiles are the PEM files of a server.
type ServerTLSFiles struct {
	// Cert is the chain and Key its private key. Both or neither.
	Cert, Key string
	// ClientCA, when not empty, makes clients show a certificate that one of
	// these authorities signed.
	ClientCA string
}

// Empty reports whether no file is named: the server speaks in the clear.
func (f ServerTLSFiles) Empty() bool { return f == ServerTLSFiles{} }

// ServerTLS reads the files and returns a TLS 1.3 configuration that follows
// them: a handshake later than a second after the last look stats them, and
// reads them again when one has changed. Files that cannot be used then leave
// the certificates in place that worked; logger (nil discards) gets one line
// per change, good or bad.
//
// With empty files it returns nil, nil.
func ServerTLS(files ServerTLSFiles, logger *slog.Logger) (*tls.Config, error) {
	if files.Empty() {
		return nil, nil
	}
	if files.Cert == "" || files.Key == "" {
		return nil, errors.New("TLS: a certificate and its key go together, and a client CA needs both")
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	s := &serverFiles{files: files, logger: logger}
	s.stamp = s.look()
	config, err := s.read()
	if err != nil {
		return nil, err
	}
	s.config, s.checked = config, time.Now()
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{"h2"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.current(), nil },
	}, nil
}

// serverFiles is the newest usable configuration and what the files looked like
// when it was read.
type serverFiles struct {
	files  ServerTLSFiles
	logger *slog.Logger

	mu      sync.Mutex // guards what follows
	config  *tls.Config
	stamp   [3]fileStamp
	checked time.Time
}

// fileStamp changes when a file does. A file that is not there has the zero
// stamp.
type fileStamp struct {
	modified int64
	size     int64
}

func (s *serverFiles) current() *tls.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Sub(s.checked) < recheckEvery {
		return s.config
	}
	s.checked = now
	stamp := s.look()
	if stamp == s.stamp {
		return s.config
	}
	s.stamp = stamp
	config, err := s.read()
	if err != nil {
		s.logger.Error("TLS files changed and cannot be used: the old certificates stay", slog.Any("err", err))
		return s.config
	}
	s.logger.Info("TLS files changed: new certificates in use", slog.String("cert", s.files.Cert))
	s.config = config
	return config
}

func (s *serverFiles) look() (stamp [3]fileStamp) {
	for i, name := range []string{s.files.Cert, s.files.Key, s.files.ClientCA} {
		if name == "" {
			continue
		}
		if info, err := os.Stat(name); err == nil {
			stamp[i] = fileStamp{modified: info.ModTime().UnixNano(), size: info.Size()}
		}
	}
	return stamp
}

func (s *serverFiles) read() (*tls.Config, error) {
	cert, err := readPair(s.files.Cert, s.files.Key)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{"h2"},
		Certificates: []tls.Certificate{cert},
	}
	if s.files.ClientCA != "" {
		if config.ClientCAs, err = readCA(s.files.ClientCA); err != nil {
			return nil, err
		}
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return config, nil
}

// ClientTLSFiles are the PEM files of a client and the name it expects.
type ClientTLSFiles struct {
	// CA holds the authorities that may have signed the collector's
	// certificate. Empty: those of the system.
	CA string
	// Cert and Key, both or neither, are shown to a collector that asks. They
	// are read again at each handshake, so a renewed certificate is used from
	// the next connection on.
	Cert, Key string
	// ServerName is the name the collector's certificate must have. Empty: the
	// host that is dialled.
	ServerName string
}

// Empty reports whether nothing is set.
func (f ClientTLSFiles) Empty() bool { return f == ClientTLSFiles{} }

// ClientTLS returns a TLS 1.3 configuration for a client. Empty files are
// useful too: system authorities and no certificate of one's own.
func ClientTLS(files ClientTLSFiles) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: files.ServerName}
	if files.CA != "" {
		pool, err := readCA(files.CA)
		if err != nil {
			return nil, err
		}
		config.RootCAs = pool
	}
	if (files.Cert == "") != (files.Key == "") {
		return nil, errors.New("TLS: a certificate and its key go together")
	}
	if files.Cert != "" {
		if _, err := readPair(files.Cert, files.Key); err != nil {
			return nil, err
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert, err := readPair(files.Cert, files.Key)
			return &cert, err
		}
	}
	return config, nil
}

func readPair(certFile, keyFile string) (tls.Certificate, error) {
	certPEM, err := readPEM(certFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	keyPEM, err := readPEM(keyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("TLS: certificate %s with key %s: %w", certFile, keyFile, err)
	}
	return cert, nil
}

func readCA(file string) (*x509.CertPool, error) {
	pem, err := readPEM(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("TLS: %s holds no PEM certificate", file)
	}
	return pool, nil
}

func readPEM(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	if info.Size() > maxPEMBytes {
		return nil, fmt.Errorf("TLS: %s has %d bytes, want at most %d", file, info.Size(), maxPEMBytes)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return b, nil
}
