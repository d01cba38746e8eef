package service

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/analyst"
	"github.com/whorl-net/whorl/internal/filter"
	"github.com/whorl-net/whorl/internal/pattern"
	"github.com/whorl-net/whorl/ja4"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// inventoryQuery is what ListFingerprints and ForgetFingerprints have in common.
type inventoryQuery interface {
	GetType() string
	GetPattern() []string
	GetNetwork() string
}

// maxPatternBytes bounds one pattern.
const maxPatternBytes = flow.MaxValueLen + 1

// inventoryMatch compiles q to a function; nil matches everything.
func inventoryMatch(q inventoryQuery) (func(*analyst.Fingerprint) bool, error) {
	var tests []func(*analyst.Fingerprint) bool
	if name := q.GetType(); name != "" {
		typ, err := ja4.ParseType(name)
		if err != nil {
			return nil, badField(ReasonBadField, "type", name, "a fingerprint type such as ja4 or ja4h")
		}
		tests = append(tests, func(f *analyst.Fingerprint) bool { return f.Type == typ })
	}
	if network := q.GetNetwork(); network != "" {
		if err := flow.CheckNetwork(network); err != nil {
			return nil, badField(ReasonBadField, "network", network, fmt.Sprintf("1 to %d letters, digits, dots, dashes or underscores", flow.MaxNetworkLen))
		}
		tests = append(tests, func(f *analyst.Fingerprint) bool { return f.Network == network })
	}
	if n := len(q.GetPattern()); n > 2*filter.MaxPatterns { // inventoryPatterns may have doubled them
		return nil, badLength("pattern", n, fmt.Sprintf("at most %d", filter.MaxPatterns))
	}
	var patterns []pattern.Pattern
	for i, text := range q.GetPattern() {
		p, err := pattern.Parse(text)
		if err != nil || text == "" || len(text) > maxPatternBytes {
			return nil, badField(ReasonBadField, fmt.Sprintf("pattern[%d]", i), text,
				"a fingerprint, or a pattern in which * is any letters of a part, such as t13d*_*_02713d6af862, or at the end any tail, such as t13d*")
		}
		patterns = append(patterns, p)
	}
	if len(patterns) > 0 {
		tests = append(tests, func(f *analyst.Fingerprint) bool {
			for i := range patterns {
				if patterns[i].Match(f.Value) {
					return true
				}
			}
			return false
		})
	}
	if len(tests) == 0 {
		return nil, nil
	}
	return func(f *analyst.Fingerprint) bool {
		for _, test := range tests {
			if !test(f) {
				return false
			}
		}
		return true
	}, nil
}

// errNothingKnown refuses questions to a collector that was told to know
// nothing.
func errNothingKnown() error {
	return failure(codes.FailedPrecondition, ReasonUnavailable, "this collector runs with --enrich=false: it remembers no fingerprints, and has no tables and no rules")
}

// ListFingerprints returns one page of what networks have shown, in the order of
// first sight.
func (ss *statusService) ListFingerprints(_ context.Context, req *whorlv1.ListFingerprintsRequest) (*whorlv1.ListFingerprintsResponse, error) {
	k := ss.c.knowledge
	if k == nil {
		return nil, errNothingKnown()
	}
	size := req.GetPageSize()
	if size > maxPageSize {
		return nil, badNumber("page_size", size, "1 to 5000, or 0 for 500")
	}
	if size == 0 {
		size = defaultPageSize
	}
	patterns, err := inventoryPatterns(req)
	if err != nil {
		return nil, err
	}
	match, err := inventoryMatch(&whorlv1.ListFingerprintsRequest{Type: req.GetType(), Pattern: patterns, Network: req.GetNetwork()})
	if err != nil {
		return nil, err
	}
	if t := req.GetFirstSeenAfter(); t != nil {
		if t.CheckValid() != nil {
			return nil, badField(ReasonBadField, "first_seen_after", t.String(), "a valid time")
		}
		since := t.AsTime().UnixNano()
		match = both(match, func(f *analyst.Fingerprint) bool { return f.FirstSeen >= since })
	}
	tables := k.enricher.Tables()
	if req.GetBadOnly() {
		match = both(match, func(f *analyst.Fingerprint) bool {
			_, bad := tables.Value(f.Type, f.Value)
			return bad
		})
	}
	after, err := ss.tokens.openAfter(req, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	page, next := k.analyst.Fingerprints(after, int(size), match)
	resp := &whorlv1.ListFingerprintsResponse{}
	for i := range page {
		f := &page[i]
		app, bad := tables.Value(f.Type, f.Value)
		resp.Fingerprints = append(resp.Fingerprints, &whorlv1.KnownFingerprint{
			Type: f.Type.String(), Value: toValid(f.Value), Network: f.Network,
			FirstSeen: timestamppb.New(time.Unix(0, f.FirstSeen)), LastSeen: timestamppb.New(time.Unix(0, f.LastSeen)),
			Connections: f.Connections, IdentifiedApp: app, IsKnownBad: bad, Learned: f.Learned,
			FirstConnectionId: f.FirstID(), FirstConnectionUid: f.FirstUID.String(), FirstProbeId: f.FirstProbe,
		})
	}
	if next != 0 {
		resp.NextPageToken = ss.tokens.sealAfter(req, next)
	}
	return resp, nil
}

func both(a, b func(*analyst.Fingerprint) bool) func(*analyst.Fingerprint) bool {
	if a == nil {
		return b
	}
	return func(f *analyst.Fingerprint) bool { return a(f) && b(f) }
}

// ReloadConfig reads tables and rules again.
func (ss *statusService) ReloadConfig(context.Context, *whorlv1.ReloadConfigRequest) (*whorlv1.ReloadConfigResponse, error) {
	k := ss.c.knowledge
	if k == nil {
		return nil, errNothingKnown()
	}
	changed, err := k.load()
	k.say(changed, err)
	if err != nil {
		return nil, badConfig(err)
	}
	k.reload.Lock()
	defer k.reload.Unlock()
	return &whorlv1.ReloadConfigResponse{ConfigHash: k.configHash(), Changed: changed}, nil
}

// sealAfter makes the token for the page of ListFingerprints behind after.
func (t *tokens) sealAfter(req *whorlv1.ListFingerprintsRequest, after uint64) string {
	b := binary.BigEndian.AppendUint64([]byte{tokenVersion}, after)
	b = append(b, t.sumAfter(req, b)...)
	return base64.RawURLEncoding.EncodeToString(append(b, t.epoch...))
}

// openAfter reads the token of req; 0 begins.
func (t *tokens) openAfter(req *whorlv1.ListFingerprintsRequest, token string) (after uint64, err error) {
	if token == "" {
		return 0, nil
	}
	const place = 1 + 8
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(token) > maxTokenLen || len(b) < place+tokenSum || b[0] != tokenVersion ||
		!hmac.Equal(b[place:place+tokenSum], t.sumAfter(req, b[:place])) {
		return 0, badField(ReasonBadToken, "page_token", token, "the next_page_token of the page before, of this life of the collector and with the same type, pattern, network and times")
	}
	return binary.BigEndian.Uint64(b[1:]), nil
}

// sumAfter binds a place to what must not change from page to page.
func (t *tokens) sumAfter(req *whorlv1.ListFingerprintsRequest, place []byte) []byte {
	same := proto.CloneOf(req)
	same.PageSize, same.PageToken = math.MaxUint32, ""
	mac := hmac.New(sha256.New, t.key[:])
	mac.Write(place)
	// A request that was unmarshalled can be marshalled.
	encoded, _ := proto.MarshalOptions{Deterministic: true}.Marshal(same)
	mac.Write(encoded)
	return mac.Sum(nil)[:tokenSum]
}
