package rpc

import (
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/grpc/encoding"
)

// Zstd names the compression that both sides know, as in grpc-encoding.
const Zstd = "zstd"

// windowBytes is how far back a compressed message may refer, and so about what
// one takes to be read: a peer that asks for more is refused. Messages of a probe
// are smaller.
const windowBytes = 512 << 10

// gRPC asks for this at initialization: its table of compressors is read without
// a lock by every call of the process.
func init() { encoding.RegisterCompressor(&compressor{}) }

// compressor is zstd for gRPC, which bounds what comes out by the limit of a
// message, and does so while it is unpacked. Safe for concurrent use.
type compressor struct{ writers, readers sync.Pool }

// Name implements encoding.Compressor.
func (*compressor) Name() string { return Zstd }

// Compress implements encoding.Compressor.
func (c *compressor) Compress(w io.Writer) (io.WriteCloser, error) {
	z, ok := c.writers.Get().(*writer)
	if !ok {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(windowBytes), zstd.WithLowerEncoderMem(true))
		if err != nil {
			return nil, err
		}
		z = &writer{Encoder: e, pool: &c.writers}
	}
	z.Reset(w)
	return z, nil
}

// writer goes back to where it came from when it is closed.
type writer struct {
	*zstd.Encoder
	pool *sync.Pool
}

func (w *writer) Close() error {
	err := w.Encoder.Close()
	w.pool.Put(w)
	return err
}

// Decompress implements encoding.Compressor.
func (c *compressor) Decompress(r io.Reader) (io.Reader, error) {
	z, ok := c.readers.Get().(*reader)
	if !ok {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(windowBytes))
		if err != nil {
			return nil, err
		}
		z = &reader{decoder: d, pool: &c.readers}
	}
	if err := z.decoder.Reset(r); err != nil {
		z.Close()
		return nil, err
	}
	return z, nil
}

// reader goes back to where it came from when it is closed, which gRPC does.
type reader struct {
	decoder *zstd.Decoder
	pool    *sync.Pool
}

func (r *reader) Read(p []byte) (int, error) { return r.decoder.Read(p) }

// Close lets go of the message.
func (r *reader) Close() error {
	if err := r.decoder.Reset(nil); err != nil {
		return err
	}
	r.pool.Put(r)
	return nil
}
