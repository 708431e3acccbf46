// Package client is what an application keeps of Assetlane: one connection, calls with deadlines and repeats,
// the PUT to the store, and the watch. Copy it, or take it as a pattern.
package client

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	pb "example.com/assetlane/assetlanev1"
)

const (
	// CallLimit is the time that a call has, its repeats included.
	CallLimit = 30 * time.Second
	// CompleteLimit is longer: the server looks at every object, and may be making cuts.
	CompleteLimit = 2 * time.Minute

	firstPause   = 200 * time.Millisecond
	longestPause = 5 * time.Second
)

// Client is a connection to an Assetlane server, safe for concurrent use: keep one per process.
type Client struct {
	Uploads pb.UploadServiceClient
	Assets  pb.AssetServiceClient
	Access  pb.AccessServiceClient
	UID     string
	conn    *grpc.ClientConn
	web     *http.Client
}

// Dial prepares a connection; it is made with the first call. The environment says where to and as whom:
// ASSETLANE_TARGET (127.0.0.1:50151), ASSETLANE_UID (ann), ASSETLANE_TOKEN (a bearer token), and ASSETLANE_CA_FILE,
// a PEM file with the certificates to trust, which turns TLS on.
func Dial() (*Client, error) { return DialWithToken(os.Getenv("ASSETLANE_TOKEN")) }

// DialWithToken is Dial with this bearer token, such as the scoped token that a back end has made for a device.
func DialWithToken(token string) (*Client, error) {
	transport := insecure.NewCredentials()
	if file := os.Getenv("ASSETLANE_CA_FILE"); file != "" {
		var err error
		if transport, err = credentials.NewClientTLSFromFile(file, ""); err != nil {
			return nil, fmt.Errorf("ASSETLANE_CA_FILE: %w", err)
		}
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		// Notices a server that is gone without a word. The server allows a ping every ten seconds.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	}
	if token != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearer(token)))
	}
	conn, err := grpc.NewClient(cmp.Or(os.Getenv("ASSETLANE_TARGET"), "127.0.0.1:50151"), options...)
	if err != nil {
		return nil, err
	}
	return &Client{
		Uploads: pb.NewUploadServiceClient(conn),
		Assets:  pb.NewAssetServiceClient(conn),
		Access:  pb.NewAccessServiceClient(conn),
		UID:     cmp.Or(os.Getenv("ASSETLANE_UID"), "ann"),
		conn:    conn,
		web:     newWeb(),
	}, nil
}

// Close closes the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Call makes a call, and makes it again while the server is unavailable or busy, until the limit is over:
// every RPC of Assetlane is safe to repeat. The error is a *Refusal.
func Call[Q, R any](
	ctx context.Context,
	limit time.Duration,
	rpc func(context.Context, *Q, ...grpc.CallOption) (*R, error),
	request *Q,
) (*R, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for failures := 0; ; failures++ {
		reply, err := rpc(ctx, request)
		if err == nil {
			return reply, nil
		}
		refusal := refusalOf(err)
		if !refusal.Temporary() || !pause(ctx, failures, refusal.RetryAfter) {
			return nil, refusal
		}
	}
}

// pause waits as long as the server asked for, and a random time on top that grows with every failure, so that
// callers who were sent away together do not come back together. False: the context ended first.
func pause(ctx context.Context, failures int, atLeast time.Duration) bool {
	ceiling := min(longestPause, firstPause<<min(failures, 10))
	select {
	case <-ctx.Done():
		return false
	case <-time.After(atLeast + rand.N(ceiling)):
		return true
	}
}

// bearer sends the token with every call. Without TLS it travels in the clear: for loopback only.
type bearer string

// GetRequestMetadata returns the header.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity is false for the sake of `make run`, which serves loopback without TLS.
func (bearer) RequireTransportSecurity() bool { return false }
