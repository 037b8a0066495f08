// Package client shows how the servers are reached: addresses, CA and token come from the
// environment.
package client

import (
	"context"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// CallTime is the deadline of each unary call.
const CallTime = 30 * time.Second

// Segment connects to the server of users and segments.
func Segment() (*grpc.ClientConn, error) {
	return connect("HERALD_SEGMENT_TARGET", "127.0.0.1:50051")
}

// Campaign connects to the server of campaigns, events and tokens.
func Campaign() (*grpc.ClientConn, error) {
	return connect("HERALD_CAMPAIGN_TARGET", "127.0.0.1:50052")
}

// connect goes to the address that the variable names, with TLS if HERALD_TLS_CA is set.
func connect(variable, address string) (*grpc.ClientConn, error) {
	if given := os.Getenv(variable); given != "" {
		address = given
	}
	transport := insecure.NewCredentials()
	if ca := os.Getenv("HERALD_TLS_CA"); ca != "" {
		var err error
		if transport, err = credentials.NewClientTLSFromFile(ca, ""); err != nil {
			return nil, err
		}
	}
	return grpc.NewClient(
		address,
		grpc.WithTransportCredentials(transport),
		// grpc-go sends no pings more often than every 10 s
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 4 * time.Second}),
		grpc.WithUnaryInterceptor(withDeadline),
	)
}

// withDeadline gives each unary call a deadline, unless it has its own.
func withDeadline(
	ctx context.Context, method string, request, answer any,
	conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	if _, has := ctx.Deadline(); !has {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, CallTime)
		defer cancel()
	}
	return invoke(ctx, method, request, answer, conn, options...)
}

// WithToken gives the calls of a context this token; none if it is empty.
func WithToken(ctx context.Context, token string) context.Context {
	if token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// ErrorInfo returns the reason of an error and its metadata; an empty one for gRPC's own errors.
func ErrorInfo(err error) *errdetails.ErrorInfo {
	for _, detail := range status.Convert(err).Details() {
		if info, is := detail.(*errdetails.ErrorInfo); is {
			return info
		}
	}
	return &errdetails.ErrorInfo{}
}
