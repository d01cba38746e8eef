package rpc

import (
	"bytes"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// pack is data as a peer that knows other sizes of window would send it.
func pack(t testing.TB, data []byte, window int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// What was compressed comes back, also with readers and writers that were used
// before, and after messages that were damaged.
func TestCompressionComesBack(t *testing.T) {
	c := encoding.GetCompressor(Zstd)
	rng := rand.New(rand.NewPCG(1, 1))
	for n := range 50 {
		data := make([]byte, rng.IntN(200_000))
		for i := range data {
			data[i] = byte(rng.IntN(1 + n))
		}
		var packed bytes.Buffer
		w, err := c.Compress(&packed)
		if err != nil {
			t.Fatal(err)
		}
		for rest := data; len(rest) > 0; {
			k := min(len(rest), 1+rng.IntN(70_000))
			if _, err := w.Write(rest[:k]); err != nil {
				t.Fatal(err)
			}
			rest = rest[k:]
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if torn := packed.Len() / 2; torn > 20 {
			if _, err := unpack(c, packed.Bytes()[:torn]); err == nil {
				t.Error("half of a message was read")
			}
		}
		if got, err := unpack(c, packed.Bytes()); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes came back as %d, %v", len(data), len(got), err)
		}
	}
}

// unpack reads p as gRPC does.
func unpack(c encoding.Compressor, p []byte) ([]byte, error) {
	r, err := c.Decompress(bytes.NewReader(p))
	if err != nil {
		return nil, err
	}
	defer r.(io.Closer).Close()
	return io.ReadAll(io.LimitReader(r, MaxRecvBytes+1))
}

// A small message that becomes a huge one is refused, for little memory: neither
// what comes out nor how far back it refers is the sender's choice.
func TestCompressionBombs(t *testing.T) {
	s := NewServer(ServerConfig{})
	RegisterHealth(s)
	conn := serve(t, s, grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(1<<30)))
	req := &healthpb.HealthCheckRequest{Service: strings.Repeat("a", 64<<20)}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := healthpb.NewHealthClient(conn).Check(t.Context(), req, grpc.UseCompressor(Zstd))
	runtime.ReadMemStats(&after)
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a bomb: %v, want ResourceExhausted", err)
	}
	// The client takes some for the 64 MiB it has; the server at most a message.
	if took := after.TotalAlloc - before.TotalAlloc; took > 96<<20 {
		t.Errorf("it took %d MB", took>>20)
	}
	resp, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}, grpc.UseCompressor(Zstd))
	if err != nil || resp.GetStatus() == healthpb.HealthCheckResponse_SERVING {
		t.Errorf("a message that is compressed: %v, %v", resp, err)
	}

	c := encoding.GetCompressor(Zstd)
	noise := make([]byte, 3<<20)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	if _, err := unpack(c, pack(t, noise, 8<<20)); err == nil {
		t.Error("a message that refers 8 MiB back was read")
	}
	if got, err := unpack(c, pack(t, noise, windowBytes)); err != nil || !bytes.Equal(got, noise) {
		t.Errorf("a message that refers as far back as it may: %d bytes, %v", len(got), err)
	}
}

// Whatever a peer sends as compressed, it is read or refused.
func FuzzDecompress(f *testing.F) {
	f.Add([]byte{})
	f.Add(pack(f, []byte("some bytes, some bytes, some bytes"), 1<<10))
	f.Add(pack(f, make([]byte, 1<<20), windowBytes))
	f.Add(pack(f, make([]byte, 1<<10), 8<<20))
	c := encoding.GetCompressor(Zstd)
	f.Fuzz(func(t *testing.T, p []byte) {
		first, err := unpack(c, p)
		again, err2 := unpack(c, p)
		if (err == nil) != (err2 == nil) || !bytes.Equal(first, again) {
			t.Fatalf("%d bytes, %v; again %d bytes, %v", len(first), err, len(again), err2)
		}
	})
}
