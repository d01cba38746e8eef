package wire

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// ingestBatch is the number of IngestRequest.batch.
const ingestBatch = 2

// AppendIngestHeader appends what goes in front of an encoded batch of n bytes
// to make it a whorl.v1.IngestRequest: send Pieces{header, batch}.
func AppendIngestHeader(dst []byte, n int) []byte {
	dst = append(dst, ingestBatch<<3|byte(protowire.BytesType))
	return appendVarint(dst, uint64(n))
}

// SplitIngest looks at a whorl.v1.IngestRequest. If its message is a batch it
// returns the encoded batch, not nil and unchecked: a part of p but in odd
// cases. Otherwise it returns the decoded request.
func SplitIngest(p []byte) (batch []byte, other *whorlv1.IngestRequest, err error) {
	// The one form that probes send: one field and nothing behind it.
	if len(p) > 0 && p[0] == ingestBatch<<3|byte(protowire.BytesType) {
		if b, n := protowire.ConsumeBytes(p[1:]); n == len(p)-1 {
			return b, nil, nil
		}
	}
	// Repeated, merged or unknown fields: what protobuf says they mean.
	req := new(whorlv1.IngestRequest)
	if err := proto.Unmarshal(p, req); err != nil {
		return nil, nil, malformed("message", badEncoding)
	}
	if req.GetBatch() == nil {
		return nil, req, nil
	}
	if batch, err = proto.Marshal(req.GetBatch()); err != nil {
		return nil, nil, malformed("batch", badEncoding)
	}
	if batch == nil {
		batch = []byte{}
	}
	return batch, nil, nil
}
