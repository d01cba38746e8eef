package rpc

import (
	"crypto/tls"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// DialOptions returns what a client of a collector dials with: limits,
// keepalive that a collector puts up with, and reconnecting within 5 s. With a
// nil config it speaks in the clear; whether that is allowed is decided by
// CheckDial. grpc.NewClient takes them and connects when first used.
func DialOptions(config *tls.Config) []grpc.DialOption {
	creds := insecure.NewCredentials()
	if config != nil {
		creds = credentials.NewTLS(config)
	}
	return []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(MaxSendBytes),
			grpc.MaxCallSendMsgSize(MaxRecvBytes),
		),
		grpc.WithMaxHeaderListSize(maxHeaderBytes),
		// Finds half-open connections: a collector that lost its power, a
		// firewall that forgot us.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time:    keepaliveTime,
			Timeout: keepaliveTimeout,
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay:  backoffBase,
				Multiplier: backoffFactor,
				Jitter:     backoffJitter,
				MaxDelay:   backoffMax,
			},
			MinConnectTimeout: minConnectTimeout,
		}),
	}
}

// CheckDial refuses to speak to addr in the clear beyond loopback, unless
// insecure spells it out. The error is an *ExposureError.
func CheckDial(addr string, withTLS, insecure bool) error {
	if withTLS || insecure || Loopback(addr) {
		return nil
	}
	return &ExposureError{Addr: addr}
}
