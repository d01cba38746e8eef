package client

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/whorl-net/whorl/internal/wire"
)

// frameBytes is what ingestRequest puts in front of a batch, at most.
const frameBytes = 24

// ingestRequest wraps an encoded Batch without a sequence into an IngestRequest
// with one. The result lies in dst, which is overwritten, if that has room.
func ingestRequest(dst []byte, sequence uint64, batch []byte) []byte {
	inner := protowire.SizeTag(1) + protowire.SizeVarint(sequence) + len(batch)
	size := protowire.SizeTag(2) + protowire.SizeBytes(inner)
	b := dst[:0]
	if cap(b) < size {
		b = make([]byte, 0, size)
	}
	b = wire.AppendIngestHeader(b, inner)
	b = protowire.AppendTag(b, 1, protowire.VarintType) // Batch.sequence
	b = protowire.AppendVarint(b, sequence)
	return append(b, batch...)
}
