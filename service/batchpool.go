package service

import (
	"sync"

	"github.com/whorl-net/whorl/flow"
)

// maxPooledRows keeps giants out of the pool: a batch under 32 KiB has about
// 4,000 rows.
const maxPooledRows = 16384

// batchPool lends memory for decoded batches.
type batchPool struct{ pool sync.Pool }

// get returns an empty batch.
func (p *batchPool) get() *flow.Batch {
	if b, ok := p.pool.Get().(*flow.Batch); ok {
		return b
	}
	return new(flow.Batch)
}

// put takes back a batch that nobody reads any more; nil is allowed.
func (p *batchPool) put(b *flow.Batch) {
	if b == nil || cap(b.Flow) > maxPooledRows || cap(b.Flows) > maxPooledRows || cap(b.Fingerprints) > maxPooledRows {
		return
	}
	b.Reset()
	p.pool.Put(b)
}
