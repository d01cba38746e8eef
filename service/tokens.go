package service

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/whorl-net/whorl/internal/feed"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"github.com/whorl-net/whorl/tracker"
)

// tokens makes and reads page tokens. A token holds a place and is bound, by a
// keyed sum, to this life of the collector and to the request without its page
// size: a token of another filter is refused, not misunderstood.
//
// Layout before base64: 1 byte version, 4 bytes shard, 4 slot, 8 feed sequence,
// 8 start of the walk, 16 sum, then the epoch.
type tokens struct {
	epoch string
	key   [32]byte
}

const (
	tokenVersion = 1
	tokenPlace   = 1 + 4 + 4 + 8 + 8
	tokenSum     = 16
	maxTokenLen  = 256
)

func newTokens(epoch string) *tokens {
	t := &tokens{epoch: epoch}
	rand.Read(t.key[:]) // never fails
	return t
}

// seal makes the token for the page behind p.
func (t *tokens) seal(req *whorlv1.AllRequest, p place) string {
	b := make([]byte, 0, tokenPlace+tokenSum+len(t.epoch))
	b = append(b, tokenVersion)
	b = binary.BigEndian.AppendUint32(b, p.at.Shard)
	b = binary.BigEndian.AppendUint32(b, p.at.Slot)
	b = binary.BigEndian.AppendUint64(b, p.feedCursor.Sequence)
	b = binary.BigEndian.AppendUint64(b, uint64(p.now))
	b = append(b, t.sum(req, b)...)
	b = append(b, t.epoch...)
	return base64.RawURLEncoding.EncodeToString(b)
}

// open reads the token of req; a request without one begins a walk.
func (t *tokens) open(req *whorlv1.AllRequest) (place, error) {
	token := req.GetPageToken()
	if token == "" {
		return place{first: true}, nil
	}
	bad := func() (place, error) {
		return place{}, badField(ReasonBadToken, "page_token", token, "the next_page_token of the page before, with the same filter, fields and view")
	}
	if len(token) > maxTokenLen {
		return bad()
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) < tokenPlace+tokenSum || b[0] != tokenVersion {
		return bad()
	}
	if string(b[tokenPlace+tokenSum:]) != t.epoch {
		return place{}, failure(codes.Aborted, ReasonTokenEpoch,
			"page_token: it is of an earlier life of this collector, whose table is gone: start again with the first page",
			"field", "page_token")
	}
	if !hmac.Equal(b[tokenPlace:tokenPlace+tokenSum], t.sum(req, b[:tokenPlace])) {
		return bad()
	}
	return place{
		at:         tracker.Cursor{Shard: binary.BigEndian.Uint32(b[1:]), Slot: binary.BigEndian.Uint32(b[5:])},
		feedCursor: feed.Cursor{Epoch: t.epoch, Sequence: binary.BigEndian.Uint64(b[9:])},
		now:        int64(binary.BigEndian.Uint64(b[17:])),
	}, nil
}

// sum binds a place to everything in req that must not change from page to page.
func (t *tokens) sum(req *whorlv1.AllRequest, place []byte) []byte {
	same := &whorlv1.AllRequest{
		Filter: req.GetFilter(), Include: req.GetInclude(), Exclude: req.GetExclude(),
		View: req.GetView(), Fields: req.GetFields(), FingerprintTypes: req.GetFingerprintTypes(),
	}
	mac := hmac.New(sha256.New, t.key[:])
	mac.Write(place)
	// A request that was unmarshalled can be marshalled.
	encoded, _ := proto.MarshalOptions{Deterministic: true}.Marshal(same)
	mac.Write(encoded)
	return mac.Sum(nil)[:tokenSum]
}
