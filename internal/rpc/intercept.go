package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/selector"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

func unaryInterceptors(cfg ServerConfig) []grpc.UnaryServerInterceptor {
	return []grpc.UnaryServerInterceptor{
		logging.UnaryServerInterceptor(logTo(cfg.Logger), loggingOptions()...),
		markMethodUnary,
		recovery.UnaryServerInterceptor(recovery.WithRecoveryHandlerContext(onPanic(cfg))),
		limitUnary(cfg.Large),
		gateUnary(cfg),
		statusUnary(cfg),
	}
}

func streamInterceptors(cfg ServerConfig) []grpc.StreamServerInterceptor {
	loud := selector.MatchFunc(func(_ context.Context, c interceptors.CallMeta) bool {
		return !slices.Contains(cfg.Quiet, c.FullMethod())
	})
	return []grpc.StreamServerInterceptor{
		selector.StreamServerInterceptor(
			logging.StreamServerInterceptor(logTo(cfg.Logger), loggingOptions()...), loud),
		recoverStream(cfg),
		limitStream,
		gateStream(cfg),
		statusStream(cfg),
	}
}

// loggingOptions has a call logged once, when it ends: who, what, which code,
// how long. Payloads stay out: addresses and fingerprints are personal data.
func loggingOptions() []logging.Option {
	return []logging.Option{
		logging.WithLogOnEvents(logging.FinishCall),
		logging.WithDurationField(logging.DurationToDurationField),
		logging.WithLevels(level),
		logging.WithDisableLoggingFields(logging.ComponentFieldKey, logging.MethodTypeFieldKey, logging.SystemTag[0]),
	}
}

// level keeps what callers do wrong or ask in vain at debug: an outsider must
// not be able to fill the log. What is our fault is an error.
func level(c codes.Code) logging.Level {
	switch c {
	case codes.Internal, codes.Unknown, codes.DataLoss:
		return logging.LevelError
	default:
		return logging.LevelDebug
	}
}

func logTo(l *slog.Logger) logging.Logger {
	return logging.LoggerFunc(func(ctx context.Context, lvl logging.Level, msg string, fields ...any) {
		l.Log(ctx, slog.Level(lvl), msg, fields...)
	})
}

type methodKey struct{}

// markMethodUnary puts the method where the recovery handler can find it; for
// streams grpc does so itself.
func markMethodUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	return handler(context.WithValue(ctx, methodKey{}, info.FullMethod), req)
}

// recoverStream is recovery.StreamServerInterceptor with the method known.
func recoverStream(cfg ServerConfig) grpc.StreamServerInterceptor {
	handle := onPanic(cfg)
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		with := recovery.StreamServerInterceptor(recovery.WithRecoveryHandlerContext(
			func(ctx context.Context, p any) error {
				return handle(context.WithValue(ctx, methodKey{}, info.FullMethod), p)
			}))
		return with(srv, ss, info, handler)
	}
}

// onPanic logs a panic with its stack here and lets nothing of it out. Without
// a handler the text and the whole stack would travel to the caller.
func onPanic(cfg ServerConfig) recovery.RecoveryHandlerFuncContext {
	return func(ctx context.Context, p any) error {
		method, _ := ctx.Value(methodKey{}).(string)
		cfg.Logger.LogAttrs(ctx, slog.LevelError, "recovered from a panic",
			slog.String("method", method), slog.Any("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
		if cfg.OnPanic != nil {
			cfg.OnPanic(method)
		}
		return status.Error(codes.Internal, "internal error")
	}
}

// limitUnary refuses queries beyond MaxQueryBytes. grpc has one limit per
// server, and batches need a larger one.
func limitUnary(large []string) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if !slices.Contains(large, info.FullMethod) {
			if err := checkSize(req); err != nil {
				return nil, err
			}
		}
		return handler(ctx, req)
	}
}

// limitStream does the same for the one request of a server stream. A stream
// the client writes to is left alone: its service bounds each message.
func limitStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if info.IsClientStream {
		return handler(srv, ss)
	}
	return handler(srv, &limitedStream{ss})
}

type limitedStream struct{ grpc.ServerStream }

func (s *limitedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return checkSize(m)
}

func gateUnary(cfg ServerConfig) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if cfg.Gate != nil {
			if err := cfg.Gate(info.FullMethod); err != nil {
				return nil, err
			}
		}
		return handler(ctx, req)
	}
}

func gateStream(cfg ServerConfig) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if cfg.Gate != nil {
			if err := cfg.Gate(info.FullMethod); err != nil {
				return err
			}
		}
		return handler(srv, ss)
	}
}

func statusUnary(cfg ServerConfig) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		resp, err := handler(ctx, req)
		if err != nil && cfg.Status != nil {
			err = cfg.Status(info.FullMethod, err)
		}
		return resp, err
	}
}

func statusStream(cfg ServerConfig) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		err := handler(srv, ss)
		if err != nil && cfg.Status != nil {
			err = cfg.Status(info.FullMethod, err)
		}
		return err
	}
}

func checkSize(req any) error {
	m, ok := req.(proto.Message)
	if !ok {
		return nil
	}
	if n := proto.Size(m); n > MaxQueryBytes {
		return status.Errorf(codes.ResourceExhausted, "request has %d bytes, want at most %d", n, MaxQueryBytes)
	}
	return nil
}
