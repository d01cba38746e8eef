package service

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/log"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// Limits of what a probe may say about itself.
const (
	maxProbeIDLen   = 128
	sessionIDLen    = 16
	maxTextLen      = 255
	maxInterfaces   = 64
	maxLabels       = 32
	maxLabelKeyLen  = 63
	schemaVersion   = 1
	maxPushKeyLen   = 128
	maxSubscriberID = 128
)

// checkHello says what is wrong with a Hello, and whose session it begins.
func checkHello(h *whorlv1.Hello) (log.Session, error) {
	if err := checkProbeID("hello.probe_id", h.GetProbeId()); err != nil {
		return log.Session{}, err
	}
	if n := len(h.GetSessionId()); n != sessionIDLen {
		return log.Session{}, badLength("hello.session_id", n, fmt.Sprintf("%d random bytes", sessionIDLen))
	}
	if [sessionIDLen]byte(h.GetSessionId()) == ([sessionIDLen]byte{}) {
		return log.Session{}, badField(ReasonBadField, "hello.session_id", "all zero", "16 random bytes")
	}
	network := networkOf(h.GetNetwork())
	if err := flow.CheckNetwork(network); err != nil {
		return log.Session{}, badField(ReasonBadField, "hello.network", network, "1 to 63 letters, digits, dots, dashes or underscores")
	}
	if h.GetSchemaVersion() > schemaVersion {
		return log.Session{}, badNumber("hello.schema_version", h.GetSchemaVersion(),
			fmt.Sprintf("at most %d, which is what this collector speaks", schemaVersion))
	}
	switch h.GetKind() {
	case whorlv1.SessionKind_SESSION_KIND_UNSPECIFIED, whorlv1.SessionKind_SESSION_KIND_LIVE, whorlv1.SessionKind_SESSION_KIND_REPLAY:
	default:
		return log.Session{}, badNumber("hello.kind", int(h.GetKind()), "LIVE or REPLAY")
	}
	if t := h.GetProbeTime(); t != nil && t.CheckValid() != nil {
		return log.Session{}, badField(ReasonBadField, "hello.probe_time", t.String(), "a time")
	}
	if err := checkDescription(h); err != nil {
		return log.Session{}, err
	}
	return log.Session{
		Probe: h.GetProbeId(), Network: network, ID: [sessionIDLen]byte(h.GetSessionId()),
		// Unless told that times are old, they are compared with ours.
		Live: h.GetKind() != whorlv1.SessionKind_SESSION_KIND_REPLAY,
	}, nil
}

// checkDescription bounds what is only shown.
func checkDescription(h *whorlv1.Hello) error {
	tooLong := func(field string, n, most int) error {
		return badLength(field, n, fmt.Sprintf("at most %d", most))
	}
	for _, s := range [...]struct{ field, text string }{
		{"hello.probe_version", h.GetProbeVersion()},
		{"hello.hostname", h.GetHostname()},
	} {
		if len(s.text) > maxTextLen {
			return tooLong(s.field, len(s.text), maxTextLen)
		}
	}
	if n := len(h.GetInterfaces()); n > maxInterfaces {
		return tooLong("hello.interfaces", n, maxInterfaces)
	}
	for i, name := range h.GetInterfaces() {
		if len(name) > maxTextLen {
			return tooLong(fmt.Sprintf("hello.interfaces[%d]", i), len(name), maxTextLen)
		}
	}
	if n := len(h.GetLabels()); n > maxLabels {
		return tooLong("hello.labels", n, maxLabels)
	}
	for k, v := range h.GetLabels() {
		if k == "" || len(k) > maxLabelKeyLen {
			return tooLong("hello.labels key", len(k), maxLabelKeyLen)
		}
		if len(v) > maxTextLen {
			return tooLong("hello.labels["+quote(k)+"]", len(v), maxTextLen)
		}
	}
	return nil
}

// checkProbeID accepts 1 to maxProbeIDLen letters, digits and . _ - : @ / , of
// ASCII: names that need no quotes in filters, shells and log lines, and that no
// two of look alike.
func checkProbeID(field, s string) error {
	want := fmt.Sprintf("1 to %d letters, digits or . _ - : @ / ,", maxProbeIDLen)
	if s == "" || len(s) > maxProbeIDLen {
		return badField(ReasonBadField, field, s, fmt.Sprintf("%s: it has %d bytes", want, len(s)))
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("._-:@/,", c) >= 0:
		default:
			return badField(ReasonBadField, field, s, fmt.Sprintf("%s: byte %d is %q", want, i+1, s[i:i+1]))
		}
	}
	return nil
}

// checkName accepts 1 to most bytes of printable text without blanks: what
// people type, and what may stand in a log line.
func checkName(field, s string, most int) error {
	want := fmt.Sprintf("1 to %d bytes of printable text without blanks", most)
	if s == "" || len(s) > most || !utf8.ValidString(s) {
		return badField(ReasonBadField, field, s, want)
	}
	for _, r := range s {
		if !unicode.IsGraphic(r) || unicode.IsSpace(r) {
			return badField(ReasonBadField, field, s, want)
		}
	}
	return nil
}

func networkOf(label string) string {
	if label == "" {
		return flow.DefaultNetwork
	}
	return label
}

// checkIdentity refuses a probe id that is not a name of the certificate the
// caller showed. Without client certificates everybody may be anybody.
func checkIdentity(ctx context.Context, field, probeID string) error {
	cert := clientCertificate(ctx)
	if cert == nil {
		return nil
	}
	names := append([]string{cert.Subject.CommonName}, cert.DNSNames...)
	if slices.Contains(names, probeID) {
		return nil
	}
	return failure(codes.PermissionDenied, ReasonWrongProbe,
		fmt.Sprintf("%s: %s is not a name of the client certificate of %s", field, quote(probeID), quote(names[0])),
		"field", field, "probe_id", clip(probeID))
}

// clientCertificate returns the verified certificate of the caller, nil when
// there is none.
func clientCertificate(ctx context.Context) *x509.Certificate {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0 {
		return nil
	}
	return info.State.VerifiedChains[0][0]
}
